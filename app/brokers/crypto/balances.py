"""Balances: what an account holds, as a class of ccxt tells it, in the words of the port. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from app.brokers.crypto.markets import Listed, amount
from app.brokers.crypto.reports import Answer
from app.brokers.port import Balance, Holding
from app.domain.money import ZERO, exact
from app.domain.positions import PositionSide


@exact
def balances_of(balance: Answer) -> dict[str, Balance]:
    """What is held of each currency; those of which there is nothing are left out."""
    held: dict[str, Balance] = {}
    for currency, part in balance.items():
        if not isinstance(part, Mapping) or currency in ("info", "free", "used", "total", "debt"):
            continue
        total, free = amount(part.get("total")), amount(part.get("free"))
        if total != ZERO or free != ZERO:
            held[currency] = Balance(free=free, total=total)
    return held


@exact
def equity_of(balance: Answer, currency: str, total: Decimal) -> Decimal:
    """The wallet with unrealised profit: where a unified account tells it by coin, that; else the total."""
    info = balance.get("info")
    result = info.get("result") if isinstance(info, Mapping) else None
    for wallet in result.get("list", ()) if isinstance(result, Mapping) else ():
        for coin in wallet.get("coin", ()):
            if coin.get("coin") == currency and coin.get("equity") not in (None, ""):
                return amount(coin["equity"])
    return total


@exact
def positions_of(positions: Sequence[Answer], listings: Mapping[str, Listed]) -> list[Holding]:
    """Positions in base units; those of which there is nothing are left out."""
    held = []
    for position in positions:
        listed = listings.get(str(position.get("symbol")))
        contracts = amount(position.get("contracts"))
        if listed is None or contracts == ZERO:
            continue
        side = PositionSide.SHORT if position.get("side") == "short" else PositionSide.LONG
        held.append(Holding(listed.instrument.symbol, side, abs(listed.base(contracts))))
    return held


MONEY: Final = (
    "USDT",
    "USDC",
    "USD",
    "EUR",
    "GBP",
    "FDUSD",
    "TUSD",
    "DAI",
    "BUSD",
    "USDE",
    "PYUSD",
    "TRY",
    "BRL",
)
"""Currencies that coins are bought with, in the order in which a coin's symbol is chosen."""


def coins_of(balances: Mapping[str, Balance], listings: Mapping[str, Listed]) -> list[Holding]:
    """Coins by their symbol in the first currency they are listed against."""
    held = []
    for coin, balance in balances.items():
        symbol = next((f"{coin}/{money}" for money in MONEY if f"{coin}/{money}" in listings), None)
        if coin not in MONEY and symbol is not None and balance.total > ZERO:
            held.append(Holding(symbol, PositionSide.LONG, balance.total))
    return held
