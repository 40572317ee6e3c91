"""Valuing: what a coin that a venue took its fee in costs at this moment, in the currency of the order."""

from collections.abc import Iterable, Mapping
from decimal import Decimal

import structlog

from app.brokers.port import Broker, VenueError
from app.desk import Desk
from app.domain.market import Instrument
from app.domain.money import exact, kept, stored
from app.domain.orders import OrderReport
from app.engine import naming
from app.store.orders import Order

log = structlog.get_logger(__name__)


async def rates_of(desk: Desk, broker: Broker, order: Order, report: OrderReport) -> Mapping[str, Decimal]:
    """The mid prices of coins in which a report tells more fees than are known; a coin nobody quotes is left out."""
    coins = {
        coin
        for coin, amount in report.fees.items()
        if coin not in (order.base, order.currency) and stored(amount) != kept(order.fees.get(coin, "0"))
    }
    if not coins:
        return {}
    try:
        symbols = _symbols(coins, order.currency, (await broker.instruments()).values())
        quotes = await broker.quotes(sorted(symbols.values()))
    except VenueError as failure:
        # The fee stays itemised, and what it was worth stays unknown: that is never a reason not to record a fill.
        names = await naming.looked_up(desk, order)
        log.warning("fee_not_valued", **names, coins=sorted(coins), reason=failure.message)
        return {}
    now = desk.now()
    return {
        coin: _mid(quote.bid, quote.ask)
        for coin, symbol in symbols.items()
        if (quote := quotes.get(symbol)) is not None and quote.is_usable(now, desk.quote_max_age)
    }


def _symbols(coins: set[str], currency: str, instruments: Iterable[Instrument]) -> dict[str, str]:
    """Where each coin is priced in the currency: on spot, else on a swap that is settled in it."""
    priced = [each for each in instruments if each.base in coins and each.quote == each.currency == currency]
    return {each.base: each.symbol for each in sorted(priced, key=lambda each: each.settle is None)}


@exact
def _mid(bid: Decimal, ask: Decimal) -> Decimal:
    return (bid + ask) / 2
