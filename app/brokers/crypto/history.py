"""History: what an account has traded, as the venue lists it, and which of it the venue forced. Asked rarely."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.brokers.crypto.markets import Listed, amount, decimal
from app.brokers.crypto.reports import Answer, fees_of, side_of
from app.brokers.crypto.ways import Profile
from app.brokers.port import Refused, Uncertain
from app.domain.holdings import Fill
from app.domain.money import ZERO, exact, trimmed


async def fills_of(
    exchange: Any, profile: Profile, listed: Listed, since: datetime, known: Collection[str]
) -> list[Fill]:
    """The newest trades of a symbol from `since` on, oldest first, without those of the orders `known`.

    Raises Refused where the venue lists none, and ccxt's errors.
    """
    if not exchange.has["fetchMyTrades"]:
        raise Refused("The venue does not list what an account has traded.")
    symbol = listed.instrument.symbol
    # Without a start venues answer with the newest, and those are asked for; with one, some with the oldest.
    trades = list(await exchange.fetch_my_trades(symbol, None, None, {}))
    forced: set[str] = set()
    for kind in profile.forced_types:
        found = await exchange.fetch_my_trades(symbol, None, None, {"execType": kind})
        forced |= {str(trade.get("id")) for trade in found}
        trades += found
    forced_orders = await _forced_orders(exchange, profile, symbol)
    by_id = {str(trade.get("id")): trade for trade in trades}
    fills = [
        _fill(trade, listed, profile, forced=name in forced or str(trade.get("order")) in forced_orders)
        for name, trade in by_id.items()
        if str(trade.get("order")) not in known
    ]
    recent = sorted((fill for fill in fills if fill.time >= since), key=lambda fill: fill.time)
    return await _with_charges(exchange, profile, listed, since, recent)


async def _forced_orders(exchange: Any, profile: Profile, symbol: str) -> set[str]:
    """The ids of orders by which the venue closed positions, where a method of the class lists them."""
    if profile.forced_orders is None:
        return set()
    rows = await getattr(exchange, profile.forced_orders)({"symbol": exchange.market_id(symbol)})
    return {str(row["orderId"]) for row in rows}


async def _with_charges(
    exchange: Any, profile: Profile, listed: Listed, since: datetime, fills: Sequence[Fill]
) -> list[Fill]:
    """What the venue charged for forcing, beside the trades' own fees, on the last of the forced ones."""
    last = max((number for number, fill in enumerate(fills) if fill.forced), default=None)
    if profile.forced_charges is None or last is None:
        return list(fills)
    method, kind = profile.forced_charges
    asked = {"symbol": exchange.market_id(listed.instrument.symbol), "incomeType": kind}
    rows = await getattr(exchange, method)(asked)
    fees = dict(fills[last].fees or {})
    for row in rows:
        if _moment(row["time"]) >= since:
            _charge(fees, str(row["asset"]), row["income"])
    return [
        replace(fill, fees=fees) if number == last and fill.fees is not None else fill
        for number, fill in enumerate(fills)
    ]


@exact
def _charge(fees: dict[str, Decimal], currency: str, income: object) -> None:
    """A negative income is what was paid."""
    fees[currency] = fees.get(currency, ZERO) - amount(income)


@exact
def _fill(trade: Answer, listed: Listed, profile: Profile, *, forced: bool) -> Fill:
    """One trade. Raises Uncertain where it leaves open what was traded."""
    quantity, price = decimal(trade.get("amount")), decimal(trade.get("price"))
    moment, side = trade.get("timestamp"), side_of(trade, profile)
    if not quantity or not price or not moment or side is None:
        raise Uncertain("The venue's trades do not say what was traded.")
    name = trade.get("order")
    return Fill(
        exchange_order_id=None if name is None else str(name),
        side=side,
        quantity=trimmed(listed.base(quantity)),
        price=price,
        time=_moment(moment),
        fees=fees_of(trade),
        forced=forced,
    )


def _moment(milliseconds: object) -> datetime:
    return datetime.fromtimestamp(int(str(milliseconds)) / 1000, UTC)


def symbols_held(positions: Sequence[Answer], markets: Mapping[str, Any]) -> Sequence[Answer]:
    """The positions that hold something. Raises Uncertain for one in a market that nothing is known of.

    A venue drops a delisted market from its tables before it settles what is held there: that is not flat.
    """
    held = [each for each in positions if amount(each.get("contracts")) != ZERO]
    if any(each.get("symbol") not in markets for each in held):
        raise Uncertain("The account holds something in a market that the venue no longer describes.")
    return held
