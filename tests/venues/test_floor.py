"""The floor conserves money and keeps its word, whatever is asked of it."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.money import ZERO
from app.domain.orders import Side
from tests.venues.accounts import Account, FeeRates, FeesIn
from tests.venues.clock import Clock
from tests.venues.exchange import LISTINGS
from tests.venues.floor import Floor, Rejection, Why, trigger_for
from tests.venues.orders import Attached, Kind, Order, Status, Trigger

FEES = FeeRates(Decimal("0.0002"), Decimal("0.0007"))

prices = st.integers(1_500_000, 2_500_000).map(lambda cents: Decimal(cents) / 100)
quantities = st.integers(1, 300_000).map(lambda steps: Decimal(steps) / 100_000)
sides = st.sampled_from(Side)
kinds = st.sampled_from(Kind)
asks = st.fixed_dictionaries(
    {
        "do": st.just("order"),
        "kind": kinds,
        "side": sides,
        "quantity": quantities,
        "price": st.none() | prices,
        "trigger": st.none() | prices,
        "reduce_only": st.booleans(),
        "fraction": st.sampled_from([Decimal(1), Decimal("0.3")]),
        "stop": st.none() | prices,
    }
)
moves = st.fixed_dictionaries({"do": st.just("move"), "kind": kinds, "price": prices, "gap": st.booleans()})
cancels = st.fixed_dictionaries({"do": st.just("cancel"), "number": st.integers(0, 20)})


def new_floor(fees_in: FeesIn = FeesIn.RECEIVED) -> tuple[Floor, Account]:
    """A floor on which time stands still, and a rich account."""
    floor = Floor(Clock(datetime(2026, 1, 1, tzinfo=UTC)), LISTINGS, {Kind.SPOT: FEES, Kind.SWAP: FEES})
    deposits = {"USDT": Decimal(1_000_000), "BTC": Decimal(2), "BNB": Decimal(1)}
    account = floor.accounts["key"] = Account("key", "secret", 1, deposits, fees_in)
    return floor, account


def ask(floor: Floor, account: Account, wish: dict[str, Any]) -> None:
    """Put one order to the floor."""
    market = floor.markets[wish["kind"], "BTCUSDT"]
    is_swap = wish["kind"] is Kind.SWAP
    attached: tuple[Attached, ...] = ()
    if wish["stop"] is not None and is_swap and not wish["reduce_only"]:
        attached = (Attached(Trigger(wish["stop"], wish["side"] is Side.SELL), whole=False),)
    order = Order(
        market=market,
        client_id="",
        side=wish["side"],
        quantity=wish["quantity"],
        price=wish["price"],
        trigger=None if wish["trigger"] is None else trigger_for(market, wish["trigger"]),
        reduce_only=is_swap and wish["reduce_only"],
        fraction=wish["fraction"],
        attached=attached,
    )
    with suppress(Rejection):
        floor.place(account, order)


@settings(max_examples=150, deadline=None)
@given(st.lists(asks | moves | cancels, max_size=25), st.sampled_from(FeesIn))
def test_money_is_conserved(actions: Sequence[dict[str, Any]], fees_in: FeesIn) -> None:
    floor, account = new_floor(fees_in)
    for action in actions:
        match action["do"]:
            case "order":
                ask(floor, account, action)
            case "move":
                floor.move(floor.markets[action["kind"], "BTCUSDT"], action["price"], gap=action["gap"])
            case _:
                live = list(account.live.values())
                if action["number"] < len(live):
                    floor.cancel(account, live[action["number"]])
        account.audit()
        for order in account.live.values():
            assert order.is_live
            if order.status is Status.UNTRIGGERED and order.trigger is not None:
                assert not order.trigger.is_reached_by(order.market.price)
        assert account.locked("BTC") <= account.balances["BTC"]


def test_the_price_walks_through_levels_in_its_order() -> None:
    floor, account = new_floor()
    market = floor.markets[Kind.SWAP, "BTCUSDT"]
    near, far = (
        Order(market=market, client_id="", side=Side.BUY, quantity=Decimal(1), price=Decimal(price))
        for price in (19500, 19000)
    )
    for order in (far, near):
        floor.place(account, order)
    floor.move(market, Decimal(18000))
    assert [fill.order for fill in account.fills] == [near, far]
    assert [fill.price for fill in account.fills] == [19500, 19000]


def test_an_attached_stop_that_is_gapped_over_fires_at_once() -> None:
    floor, account = new_floor()
    market = floor.markets[Kind.SWAP, "BTCUSDT"]
    entry = Order(
        market=market,
        client_id="",
        side=Side.BUY,
        quantity=Decimal(1),
        price=Decimal(19500),
        attached=(Attached(Trigger(Decimal(19000), rising=False), whole=True),),
    )
    floor.place(account, entry)
    floor.move(market, Decimal(18000), gap=True)
    assert [fill.price for fill in account.fills] == [19500, 18000]
    assert account.open_positions == []


@pytest.mark.parametrize("rising", [True, False])
def test_a_trigger_that_is_passed_is_refused(rising: bool) -> None:
    floor, account = new_floor()
    market = floor.markets[Kind.SPOT, "BTCUSDT"]
    order = Order(
        market=market,
        client_id="",
        side=Side.SELL,
        quantity=Decimal(1),
        trigger=Trigger(market.price, rising),
    )
    with pytest.raises(Rejection) as rejection:
        floor.place(account, order)
    assert rejection.value.why is Why.WOULD_TRIGGER
    assert account.locked("BTC") == ZERO
