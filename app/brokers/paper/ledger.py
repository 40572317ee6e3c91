"""An account's money: balances and net positions, what a fill does to them, and what may still be spent.

Every amount that enters a ledger is rounded once, to the 18 places a column keeps, and their sums are exact. So
money is conserved to the last decimal, in one settling or in many.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from app.brokers.paper.terms import WHOLE, Terms
from app.domain.market import Instrument, MarketType
from app.domain.money import ZERO, exact, stored
from app.domain.orders import Side


@dataclass(frozen=True, slots=True)
class Net:
    """The one-way position of a swap symbol. `quantity` is below zero for shorts.

    `cost` is Σ price × signed quantity of what is open, so `cost ÷ quantity` is the average entry.
    """

    quantity: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def entry_side(self) -> Side:
        """The order side that opened it."""
        return Side.SELL if self.quantity < ZERO else Side.BUY

    @exact
    def unrealized(self, mark: Decimal) -> Decimal:
        """Profit if it were closed at `mark`, before fees."""
        return self.quantity * mark - self.cost

    @exact
    def liquidated_at(self, leverage: Decimal, maintenance: Decimal) -> Decimal | None:
        """Where its own margin, the entry notional ÷ leverage, has shrunk to the maintenance margin; None for never.

        Each position stands for itself, as on isolated margin: what else the account holds does not save it.
        """
        size = abs(self.quantity)
        if not size:
            return None
        value, sign = abs(self.cost), self.entry_side.sign
        price = value * (1 - sign / leverage) / (size * (1 - sign * maintenance))
        return price if price > ZERO else None

    @exact
    def reducible_by(self, side: Side) -> Decimal:
        """The largest quantity of `side` that only reduces it."""
        return max(-self.quantity * side.sign, ZERO)


@dataclass(frozen=True, slots=True)
class Fill:
    """Quantity in base units, price in quote currency, and what the fee was."""

    side: Side
    quantity: Decimal
    price: Decimal
    fee_currency: str
    fee: Decimal


@dataclass(frozen=True, slots=True)
class Ledger:
    """Balances by currency (on swap the wallet) and net positions by swap symbol."""

    balances: Mapping[str, Decimal]
    nets: Mapping[str, Net] = field(default_factory=dict)

    def net(self, symbol: str) -> Net:
        """The position of a swap symbol; an empty one when there is none."""
        return self.nets.get(symbol, Net())


@exact
def fill_of(instrument: Instrument, side: Side, quantity: Decimal, price: Decimal, terms: Terms) -> Fill:
    """A fill with its fee."""
    if side is Side.BUY and terms.takes_base_fee(instrument):
        return Fill(side, quantity, price, instrument.base, stored(quantity * terms.fee_rate))
    return Fill(side, quantity, price, instrument.currency, stored(quantity * price * terms.fee_rate))


@exact
def booked(ledger: Ledger, instrument: Instrument, fill: Fill) -> Ledger:
    """The ledger after a fill: coins change hands on spot, a position is netted on swap."""
    if instrument.market_type is MarketType.SPOT:
        value = stored(fill.quantity * fill.price)
        changes = [
            (instrument.base, fill.quantity * fill.side.sign),
            (instrument.quote, -value * fill.side.sign),
        ]
        nets = ledger.nets
    else:
        net, realized = netted(ledger.net(instrument.symbol), fill.quantity * fill.side.sign, fill.price)
        changes = [(instrument.currency, realized)]
        nets = {**ledger.nets, instrument.symbol: net}
    return Ledger(_changed(ledger.balances, [*changes, (fill.fee_currency, -fill.fee)]), nets)


@exact
def netted(net: Net, quantity: Decimal, price: Decimal) -> tuple[Net, Decimal]:
    """A position after a fill of signed `quantity`, and the PnL it realised. An excess opens anew."""
    if net.quantity * quantity >= ZERO:
        return Net(net.quantity + quantity, net.cost + stored(quantity * price)), ZERO
    if abs(quantity) > abs(net.quantity):
        _, realized = netted(net, -net.quantity, price)
        opened, _ = netted(Net(), quantity + net.quantity, price)
        return opened, realized
    share = stored(net.cost * -quantity / net.quantity)
    return Net(net.quantity + quantity, net.cost - share), stored(-quantity * price) - share


@exact
def deposited(currency: str, amount: Decimal) -> Ledger:
    """A new account."""
    return Ledger({currency: stored(amount)})


@dataclass(frozen=True, slots=True)
class Claim:
    """What a resting order holds back of one currency."""

    currency: str
    amount: Decimal


@exact
def claim_of(
    instrument: Instrument,
    side: Side,
    quantity: Decimal,
    price: Decimal | None,
    *,
    reduces: bool,
    terms: Terms,
) -> Claim:
    """What a resting order over `quantity` keeps from being spent.

    Spot sells hold the coins, spot buys their cost with its fee, swaps margin and fee unless they reduce.
    """
    if instrument.market_type is MarketType.SPOT and side is Side.SELL:
        return Claim(instrument.base, quantity)
    if reduces or price is None:
        return Claim(instrument.currency, ZERO)
    fee_rate = ZERO if terms.takes_base_fee(instrument) else terms.fee_rate
    return Claim(instrument.currency, stored(quantity * price * (WHOLE / terms.leverage + fee_rate)))


@dataclass(frozen=True, slots=True)
class Standing:
    """One currency of an account. `free` may be below zero when a swap loses more than its margin leaves."""

    total: Decimal
    equity: Decimal
    free: Decimal


@dataclass(frozen=True, slots=True)
class Marked:
    """A swap position at the price it could be left at."""

    net: Net
    currency: str
    mark: Decimal


@exact
def standings(
    balances: Mapping[str, Decimal], marked: list[Marked], claims: list[Claim], leverage: Decimal
) -> dict[str, Standing]:
    """Every currency of an account: equity is total plus unrealised PnL, free equity minus margin and claims.

    Margin is the entry notional ÷ leverage.
    """
    found = {currency: Standing(total, total, total) for currency, total in balances.items()}
    for each in marked:
        unrealized = each.net.unrealized(each.mark)
        margin = stored(abs(each.net.cost) / leverage)
        known = found.get(each.currency, Standing(ZERO, ZERO, ZERO))
        found[each.currency] = replace(
            known, equity=known.equity + unrealized, free=known.free + unrealized - margin
        )
    for claim in claims:
        known = found.get(claim.currency, Standing(ZERO, ZERO, ZERO))
        found[claim.currency] = replace(known, free=known.free - claim.amount)
    return found


def _changed(balances: Mapping[str, Decimal], changes: list[tuple[str, Decimal]]) -> dict[str, Decimal]:
    changed = dict(balances)
    for currency, amount in changes:
        changed[currency] = changed.get(currency, ZERO) + amount
    return changed
