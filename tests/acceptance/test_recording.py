"""The main job on real input, as a user runs it: `engine up` on a recording, signals over HTTP, and the paper check.

Run with `-s` it prints what was traded. Whatever the moment at which this machine sends a signal, what has to come
of it follows from the recording: the tests read that by themselves, walk it, and calculate on paper.
"""

import asyncio
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from app.local import bearer_token
from app.settings import settings_from
from tests.acceptance.outside import Json, Source, Trader
from tests.acceptance.paper import Leg, Round, analytics, curve
from tests.acceptance.tape import FILE, Point, Tape
from tests.servers import reachable_directory
from tests.test_up import started

SPEED = 16
"""Candles a second."""
BALANCE = Decimal(10_000)
FEE_RATE = Decimal("0.001")
TERMS = {"prices": "recording", "balance": "10000", "currency": "USDT", "fee_percent": "0.1"}
STYLES = {"ann": ("swap", True), "ben": ("swap", False), "cid": ("spot", True)}
"""Owner to market type and native protection."""

IDEAS = (("buy", "0.5", "0.4"), ("sell", "0.5", "0.4"), ("buy", "0.6", "0.5"), ("sell", "0.6", "0.5"))
"""Direction, and the distances of stop and first target in per cent; the second target is twice as far."""
TRIES = 3
"""How often an idea is sent when the price has run away from it: two seconds of a busy machine are half an hour."""
RAN_AWAY = {"stop_already_passed": "stop_loss", "target_already_passed": "take_profits"}
"""Denials because of the price, and the level of the signal that it must have passed."""
PATIENCE = timedelta(seconds=5)
"""How long a signal's positions are left alone before they are closed by hand."""
MONEY = ("quantity", "entry_price", "exit_price", "gross_pnl", "fees", "realized_pnl")
WORDS = ("connection_id", "signal_id", "symbol", "side", "currency", "opened_at", "closed_at", "close_reason")
TICK = Decimal("0.01")
UNDER_WAY = ("pending", "sending")


@dataclass
class Market:
    """Everything one run works with."""

    tape: Tape
    source: Source
    traders: Sequence[Trader]


@dataclass(frozen=True)
class Traded:
    """A closed position as the engine reports it, beside what it must be."""

    trader: Trader
    position: Json
    round: Round
    story: str


async def test_signals_on_a_recording_become_positions_at_its_prices_and_analytics_that_agree() -> None:
    with reachable_directory() as directory:
        (directory / ".env").write_text("ENGINE_MONITOR_SECONDS=1\n")
        played = ("--candles", f"BTC/USDT={FILE}", "--speed", str(SPEED))
        async with started(directory, *played) as up:
            url, secret = up.printed(r"docs: (\S+)/docs"), up.printed(r"webhook secret: (\S+)")
            async with httpx.AsyncClient(base_url=url, timeout=20) as http:
                market = _market(up.data, http, secret)
                await _connect(market)
                for number, (direction, stop, target) in enumerate(IDEAS):
                    for again in range(TRIES):
                        if await _trade(
                            market, f"signal-{number}-{again}", direction, Decimal(stop), Decimal(target)
                        ):
                            break
                traded = [each for trader in market.traders for each in await _traded(market, trader)]
                _print_trades(traded)
                assert {each.position["close_reason"] for each in traded} >= {"take_profit", "stop_loss"}
                for trader in market.traders:
                    assert trader.protection in trader.seen
                    own = [each for each in traded if each.trader is trader]
                    await _check_analytics(trader, own)


def _market(data: Path, http: httpx.AsyncClient, secret: str) -> Market:
    values = {name: value for name, value in dotenv_values(data / "settings.env").items() if value}
    settings, now = settings_from(values), datetime.now(UTC)
    assert settings.candles_started_at is not None
    traders = [
        Trader(name, *style, http, bearer_token(settings, name, "user", timedelta(hours=1), now))
        for name, style in STYLES.items()
    ]
    return Market(Tape.read(settings.candles_started_at, SPEED), Source(http, secret), traders)


async def _connect(market: Market) -> None:
    for trader in market.traders:
        await market.source.send("subscription.updated", {"user_id": trader.name, "plans": ["gold"]})
        await trader.connect(TERMS)


async def _trade(market: Market, id_: str, direction: str, stop: Decimal, target: Decimal) -> bool:
    """Publish a signal at the present price, three times over, and wait until all it opened is closed.

    False when the price had run away from it before somebody could enter.
    """
    sent_at = datetime.now(UTC)
    price, sign = market.tape.at(sent_at).price, 1 if direction == "buy" else -1

    def level(percent: Decimal) -> str:
        return str((price * (100 + sign * percent) / 100).quantize(TICK))

    data = {
        "id": id_,
        "symbol": "BTC/USDT",
        "direction": direction,
        "stop_loss": level(-stop),
        "take_profits": [
            {"price": level(target), "portion": "0.5"},
            {"price": level(2 * target), "portion": "0.5"},
        ],
        "plans": ["gold"],
    }
    first = await market.source.send("signal.published", data, webhook_id=f"{id_}-delivery")
    again = await market.source.send("signal.published", data, webhook_id=f"{id_}-delivery")
    anew = await market.source.send("signal.published", data)
    assert [receipt["status"] for receipt in (first, again, anew)] == ["accepted", "duplicate", "duplicate"]
    assert {receipt["signal_id"] for receipt in (first, again, anew)} == {first["signal_id"]}
    entered = True
    for trader in market.traders:
        execution = await _answered(trader, first["signal_id"])
        if trader.market_type == "spot" and direction == "sell":
            assert _outcome(execution) == ("denied", "short_not_supported", 0)
        elif execution["code"] in RAN_AWAY:
            assert _outcome(execution) == ("denied", execution["code"], 0)
            assert _ran_away(market.tape.between(sent_at, _time(execution["updated_at"])), data, execution)
            entered = False
        else:
            assert _outcome(execution) == ("executed", None, 1)
    await asyncio.gather(*(_left(trader) for trader in market.traders))
    return entered


async def _answered(trader: Trader, signal_id: str) -> Json:
    """The one execution that a signal becomes, when it has come to its end."""
    async with asyncio.timeout(20):
        while any(each["status"] in UNDER_WAY for each in await _executions(trader, signal_id)):
            await asyncio.sleep(0.1)
    [execution] = await _executions(trader, signal_id)
    return execution


def _outcome(execution: Json) -> tuple[str, str | None, int]:
    return execution["status"], execution["code"], execution["attempts"]


def _ran_away(since: Sequence[Point], data: Json, execution: Json) -> bool:
    """Whether the recording bears out that a level of the signal was passed before anybody could enter."""
    named = data[RAN_AWAY[execution["code"]]]
    level, is_target = (
        (Decimal(named), False) if isinstance(named, str) else (Decimal(named[0]["price"]), True)
    )
    beyond = 1 if (data["direction"] == "buy") == is_target else -1
    return any(point.price * beyond >= level * beyond for point in since)


async def _executions(trader: Trader, signal_id: str) -> list[Json]:
    return await trader.items("/v1/executions", signal_id=signal_id)


async def _left(trader: Trader) -> None:
    """Wait until nothing is open; what neither stop nor targets close in time is closed by hand."""
    by_hand = datetime.now(UTC) + PATIENCE
    async with asyncio.timeout(PATIENCE.total_seconds() + 20):
        while held := [each for each in await trader.items("/v1/positions") if each["status"] != "closed"]:
            trader.seen.update(each["protection"] for each in held)
            if datetime.now(UTC) > by_hand and held[0]["status"] == "open":
                await trader.post(f"/v1/positions/{held[0]['id']}/close")
            await asyncio.sleep(0.1)


async def _traded(market: Market, trader: Trader) -> list[Traded]:
    """The closed positions of an owner in the order they were closed, every price of them checked."""
    closed = sorted(await trader.items("/v1/positions"), key=lambda each: (each["closed_at"], each["id"]))
    return [_checked(market.tape, trader, await trader.get(f"/v1/positions/{each['id']}")) for each in closed]


def _checked(tape: Tape, trader: Trader, position: Json) -> Traded:
    """A position whose every fill is at a price of the recording, at its moment; and whose PnL is the one on paper."""
    filled = [order for order in position["orders"] if Decimal(order["filled_quantity"])]
    entries = [order for order in filled if order["purpose"] == "entry"]
    exits = sorted((order for order in filled if order["purpose"] != "entry"), key=_moment)
    assert len(entries) == 1
    opened_at = _moment(entries[0])
    entry = tape.at(opened_at).price
    round_ = Round(
        sign=1 if position["side"] == "long" else -1,
        quantity=Decimal(trader.quantity),
        entry=entry,
        exits=[Leg(Decimal(order["filled_quantity"]), _exit_price(tape, position, order)) for order in exits],
        fee_rate=FEE_RATE,
        opened_at=opened_at,
        closed_at=_moment(exits[-1]),
    )
    assert sum(leg.quantity for leg in round_.exits) == round_.quantity == Decimal(position["quantity"])
    assert Decimal(position["entry_price"]) == entry
    assert [Decimal(order["average_price"]) for order in exits] == [leg.price for leg in round_.exits]
    assert (position["opened_at"], position["closed_at"]) == (
        entries[0]["filled_at"],
        exits[-1]["filled_at"],
    )
    assert position["close_reason"] == exits[-1]["reason"]
    assert Decimal(position["gross_pnl"]) == round_.gross
    assert Decimal(position["fees"]) == round_.fees
    assert Decimal(position["realized_pnl"]) == round_.net
    assert position["pnl_complete"] is True
    return Traded(trader, position, round_, _story(tape, entries[0], exits))


def _exit_price(tape: Tape, position: Json, order: Json) -> Decimal:
    """What an exit must have been filled at, by the recording."""
    moment = _moment(order)
    point = tape.at(moment)
    if order["purpose"] == "close":
        # The engine sold at market, at the point that was being played; before that its level had been reached.
        levels = {
            "stop_loss": position["stop_loss"],
            "take_profit": position["take_profits"][0]["price"],
        }
        since = tape.between(_time(position["opened_at"]), moment + timedelta(microseconds=1))
        assert order["reason"] == "manual" or _reaching(since, order, Decimal(levels[order["reason"]]))
        return point.price
    # The venue filled at the level the moment the price got there, or at the open of a candle that gapped through.
    level = Decimal(order["trigger_price"] if order["leg"] == "stop" else order["price"])
    assert tape.time(point.number) == moment
    assert _reaching([point], order, level)
    assert not _reaching(tape.between(_time(order["acknowledged_at"]), moment), order, level)
    price = point.price if point.opens else level
    assert point.low <= price <= point.high
    return price


def _reaching(points: Sequence[Point], order: Json, level: Decimal) -> list[Point]:
    """Those of the points at which an exit's level is reached: a sale's profit lies above, its stop below."""
    sign = 1 if (order["side"] == "sell") != (order["reason"] == "stop_loss") else -1
    return [point for point in points if point.price * sign >= level * sign]


async def _check_analytics(trader: Trader, traded: Sequence[Traded]) -> None:
    """Summary, days, curve, export and the venue's own balance agree with the rounds on paper, to the last digit."""
    rounds = [each.round for each in traded]
    expected = analytics(rounds, BALANCE)
    [summary] = await trader.items("/v1/analytics/summary")
    _print_summary(trader, summary)
    assert {name: _figure(summary[name]) for name in expected} == expected
    days = await trader.items("/v1/analytics/daily")
    assert sum(day["trades"] for day in days) == len(rounds)
    assert sum(Decimal(day["net_pnl"]) for day in days) == expected["net_pnl"]
    points = await trader.items("/v1/analytics/equity-curve")
    assert [
        {name: Decimal(point[name]) for name in ("balance", "net_pnl", "drawdown")} for point in points
    ] == [{name: row[name] for name in row if name != "peak"} for row in curve(rounds, BALANCE)]
    assert [_time(point["time"]) for point in points[1:]] == [each.closed_at for each in rounds]
    _check_export(await trader.text("/v1/analytics/trades.csv"), traded)
    account = await trader.get(f"/v1/connections/{trader.connections[0]}/balance")
    held = {each["currency"]: Decimal(each["total"]) for each in account["balances"]}
    assert held.pop("USDT") == curve(rounds, BALANCE)[-1]["balance"]
    assert not any(held.values())


def _check_export(text: str, traded: Sequence[Traded]) -> None:
    rows = list(csv.DictReader(io.StringIO(text)))
    for row, each in zip(rows, traded, strict=True):
        assert {name: Decimal(row[name]) for name in MONEY} == {
            "quantity": each.round.quantity,
            "entry_price": each.round.entry,
            "exit_price": each.round.exit,
            "gross_pnl": each.round.gross,
            "fees": each.round.fees,
            "realized_pnl": each.round.net,
        }
        assert {name: row[name] for name in WORDS} == {name: each.position[name] for name in WORDS}
        assert row["position_id"] == each.position["id"]


def _figure(value: Any) -> Decimal | int | None:
    """A figure as it was sent: amounts are decimal strings."""
    return Decimal(value) if isinstance(value, str) else value


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _moment(order: Json) -> datetime:
    """When an order was filled."""
    return _time(order["filled_at"])


def _print_trades(traded: Sequence[Traded]) -> None:
    lines = ["", "account             side   entry              exits"]
    for each in traded:
        account = f"{each.trader.name} {each.trader.market_type} {each.trader.protection}"
        pnl = f"PnL {each.position['realized_pnl']} reported, {each.round.net.normalize():f} on paper"
        lines += [f"{account:<18}  {each.position['side']:<5}  {each.story}", f"{'':<27}{pnl}"]
    sys.stdout.write("\n".join(lines) + "\n")


def _print_summary(trader: Trader, summary: Json) -> None:
    names = ("trades", "wins", "losses", "win_rate", "profit_factor", "fees", "net_pnl", "max_drawdown")
    figures = ", ".join(f"{name} {summary[name]}" for name in names)
    sys.stdout.write(f"{trader.name}: {figures}\n")


def _story(tape: Tape, entry: Json, exits: Sequence[Json]) -> str:
    """Entry and exits with the recorded time of each."""
    out = "; ".join(
        f"{order['reason']} {order['filled_quantity']} at {order['average_price']} ({_minute(tape, order)})"
        for order in exits
    )
    return f"{entry['average_price']:<9} ({_minute(tape, entry)})  {out}"


def _minute(tape: Tape, order: Json) -> str:
    return tape.at(_moment(order)).minute
