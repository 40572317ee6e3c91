"""The trade server conserves money and keeps its word, whatever is asked of it."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.money import ZERO, exact
from tests.venues.clock import Clock
from tests.venues.metatrader.accounts import Direction, Login, Method, Operation, Platform
from tests.venues.metatrader.instruments import LISTINGS, UNLISTED_RATES
from tests.venues.metatrader.server import Rejection, TradeServer, Wish

START = datetime(2026, 1, 1, tzinfo=UTC)

pairs = st.sampled_from(["EURUSD", "USDJPY", "XAUUSD"])
moves = st.integers(-300, 300)
lots = st.integers(1, 300).map(lambda steps: Decimal(steps) / 100)
sends = st.fixed_dictionaries(
    {
        "do": st.just("send"),
        "pair": pairs,
        "operation": st.sampled_from(Operation),
        "lots": lots,
        "price": moves,
        "stop": st.none() | moves,
        "target": st.none() | moves,
    }
)
walks = st.fixed_dictionaries({"do": st.just("move"), "pair": pairs, "price": moves, "gap": st.booleans()})
closes = st.fixed_dictionaries(
    {"do": st.just("close"), "number": st.integers(0, 9), "lots": st.none() | lots}
)
others = st.fixed_dictionaries({"do": st.sampled_from(["cancel", "modify", "roll"]), "price": moves})

ACCOUNTS = [
    (Platform.MT4, Method.HEDGING),
    (Platform.MT5, Method.HEDGING),
    (Platform.MT5, Method.NETTING),
]


def new_server(platform: Platform, method: Method, currency: str = "EUR") -> tuple[TradeServer, Login]:
    """A server on which time stands still, and an account that can be ruined."""
    server = TradeServer(
        platform,
        Clock(START),
        LISTINGS,
        name="Simbroker-Demo",
        utc_offset=timedelta(hours=2),
        unlisted_rates=UNLISTED_RATES,
    )
    login = Login(1, "secret", "look", platform, currency=currency, method=method, commission=Decimal("3.33"))
    server.open_login(login, Decimal(5000))
    return server, login


def carry_out(server: TradeServer, login: Login, action: dict[str, Any]) -> None:
    """Put one request to the server. Raises Rejection."""
    match action["do"]:
        case "send":
            market = server.markets[action["pair"]]

            def at(points: int | None) -> Decimal:
                return ZERO if points is None else market.bid + points * market.point

            stop_limit = at(action["price"] // 2) if "Limit" in action["operation"][7:] else ZERO
            wish = Wish(
                market=market,
                operation=action["operation"],
                lots=action["lots"],
                magic=7,
                price=at(action["price"]),
                stop_limit=stop_limit,
                stop_loss=at(action["stop"]),
                take_profit=at(action["target"]),
            )
            server.send(login, wish)
        case "move":
            market = server.markets[action["pair"]]
            server.move(market, market.bid + action["price"] * market.point, gap=action["gap"])
        case "close":
            held = list(login.positions.values())
            if action["number"] < len(held):
                server.close(login, held[action["number"]], action["lots"] or ZERO)
        case "cancel":
            for order in login.pending[:1]:
                server.cancel(order)
        case "modify":
            for position in list(login.positions.values())[:1]:
                level = position.market.bid + action["price"] * position.market.point
                server.modify(login, position.ticket, stop_loss=level, take_profit=ZERO)
        case _:
            server.roll_over()


@settings(max_examples=150, deadline=None)
@given(st.lists(sends | walks | closes | others, max_size=30), st.sampled_from(ACCOUNTS))
def test_money_is_conserved(actions: Sequence[dict[str, Any]], account: tuple[Platform, Method]) -> None:
    server, login = new_server(*account)
    for action in actions:
        with suppress(Rejection):
            carry_out(server, login, action)
        login.audit()
        for position in login.positions.values():
            at, sign = position.market.leaving(position.side), position.side.sign
            assert not position.stop_loss or at * sign > position.stop_loss * sign
            assert not position.take_profit or at * sign < position.take_profit * sign


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=6), st.sampled_from(ACCOUNTS), moves)
def test_parts_cost_what_the_whole_costs(
    parts: list[int], account: tuple[Platform, Method], points: int
) -> None:
    whole = sum(parts)
    results = []
    for pieces in ([whole], parts):
        server, login = new_server(*account, currency="USD")
        login.commission, login.money_digits = Decimal("3.5"), 8
        server.pay(login, Decimal(1_000_000))
        market = server.markets["EURUSD"]
        server.send(login, Wish(market, Operation.BUY, Decimal(whole) / 100, magic=7))
        server.roll_over()
        server.move(market, market.bid + points * market.point)
        for piece in pieces:
            [position] = login.positions.values()
            server.close(login, position, Decimal(piece) / 100)
        login.audit()
        assert login.positions == {}
        results.append(login.realized)
    assert results[0] == pytest.approx(results[1], abs=Decimal("0.000001"))


def test_a_turned_netting_position_has_the_ticket_of_the_order_that_turned_it() -> None:
    server, login = new_server(Platform.MT5, Method.NETTING)
    market = server.markets["EURUSD"]
    server.send(login, Wish(market, Operation.BUY, Decimal("0.1"), magic=1))
    turning = server.send(login, Wish(market, Operation.SELL, Decimal("0.3"), magic=2))
    assert list(login.positions) == [turning.ticket]
    assert [deal.direction for deal in login.deals[2:]] == [Direction.OUT, Direction.IN]
    login.audit()


@exact
def test_rates_go_directly_by_the_inverse_and_over_the_dollar() -> None:
    server, _ = new_server(Platform.MT5, Method.HEDGING)
    assert server.rate("EUR", "USD") == Decimal("1.10000")
    assert server.rate("USD", "EUR") == 1 / Decimal("1.10010")
    assert server.rate("JPY", "GBP") == server.rate("JPY", "USD") * server.rate("USD", "GBP")
    assert server.rate("SEK", "USD") == Decimal("0.095")
    with pytest.raises(LookupError):
        server.rate("ZAR", "USD")
