"""Venues that take no id of ours: an order in doubt stays in doubt there, whatever their lists show."""

from dataclasses import replace
from typing import Any, Final

import pytest

from app.brokers.crypto.catalogue import catalogue
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.tiers import COMPATIBLE
from app.brokers.port import CANNOT_SAY, Uncertain
from app.domain.market import MarketType
from app.domain.orders import OrderType, Side
from tests.desks import START
from tests.wire.classes import ASK, QUANTITY, driven
from tests.wire.table import ANSWERS
from tests.wire.transport import Sent

SPOT: Final = MarketType.SPOT
WITHOUT: Final = [each.id for each in catalogue().values() if each.client_order_ids.get(SPOT) is False]


def test_none_of_them_is_called_compatible() -> None:
    assert {"bitflyer", "bitbank", "luno"} <= set(WITHOUT)
    for exchange in WITHOUT:
        assert (exchange, SPOT) not in COMPATIBLE
        assert profile_of(exchange, SPOT).is_proven is False


@pytest.mark.parametrize("exchange", WITHOUT)
async def test_an_order_without_an_answer_stays_in_doubt(exchange: str) -> None:
    async with driven(exchange, SPOT, ANSWERS.get(exchange, {})) as opened:
        request = opened.request(OrderType.LIMIT, Side.BUY)
        with pytest.raises(Uncertain):
            await opened.broker.place(request)
        assert [each.method for each in opened.taken()].count("POST") == 1
        assert await opened.broker.find(request.key) is CANNOT_SAY


@pytest.mark.parametrize("is_there", [False, True], ids=["nothing", "one like it"])
async def test_a_list_without_our_id_proves_nothing_either_way(is_there: bool) -> None:
    """An order of the same symbol, side and size at bitFlyer may be the owner's own."""
    row = {
        "id": 138398,
        "child_order_id": "JOR20150707-084555-022523",
        "product_code": "BTCUSDT",
        "side": "BUY",
        "child_order_type": "LIMIT",
        "price": float(ASK),
        "average_price": 0,
        "size": float(QUANTITY),
        "child_order_state": "ACTIVE",
        "child_order_date": START.strftime("%Y-%m-%dT%H:%M:%S"),
        "child_order_acceptance_id": "JRF20150707-084552-031927",
        "outstanding_size": float(QUANTITY),
        "cancel_size": 0,
        "executed_size": 0,
        "total_commission": 0,
    }

    def answer(sent: Sent) -> Any:
        return ([row] if is_there else []) if "getchildorders" in sent.url else None

    async with driven("bitflyer", SPOT, {}) as opened:
        opened.line.venue = answer
        key = replace(opened.key(known=False), type=OrderType.LIMIT)
        assert await opened.broker.find(key) is CANNOT_SAY
        assert opened.taken(), "it has been looked for"
