"""The broker: one account at one exchange, asked through its ccxt class and believed only where it proves something."""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

from app.brokers.crypto import brackets
from app.brokers.crypto.balances import balances_of, coins_of, equity_of, positions_of
from app.brokers.crypto.exchange import Call, Surroundings, calling
from app.brokers.crypto.funding import payments_of
from app.brokers.crypto.history import fills_of, symbols_held
from app.brokers.crypto.lookups import LookUps
from app.brokers.crypto.markets import Listed
from app.brokers.crypto.open_orders import OpenOrders
from app.brokers.crypto.outcomes import is_not_found, of_order, of_read
from app.brokers.crypto.permissions import Key, key_of, name_of
from app.brokers.crypto.profiles import venue_of
from app.brokers.crypto.public import PublicMarket
from app.brokers.crypto.reports import Answer, id_of
from app.brokers.crypto.requests import creation, listing, naming, needs_quote, room
from app.brokers.crypto.settings import VenueSettings, Wanted
from app.brokers.crypto.ways import LookUp, Profile, shaped
from app.brokers.limits.buckets import Urgency
from app.brokers.port import (
    ABSENT,
    CANNOT_SAY,
    Account,
    Holding,
    Refused,
    Resting,
    Silence,
    Traits,
    Uncertain,
    Unreachable,
    VenueError,
    identity_of_key,
)
from app.domain.exits import NativeStyle
from app.domain.holdings import Fill, Payment
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import ZERO, exact, floor_to_step, text
from app.domain.orders import (
    OrderKey,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    TriggerSource,
    client_order_id,
)

T = TypeVar("T")

PATIENCE: Final = (0.0, 0.1, 0.3, 0.8)
"""Seconds before each look at an order that was just sent or cancelled: some venues show it a moment later."""

LONGEST_LOOK: Final = 3.0
"""Seconds after which no further look is begun: a look-up may itself have waited for its turn."""

KEY_IS_KNOWN_FOR: Final = timedelta(minutes=5)
"""How long what a venue told of a key is believed."""

PASSED: Final = "order would trigger immediately"


@dataclass(frozen=True, slots=True)
class Terms:
    """What distinguishes this account."""

    exchange: str
    market_type: MarketType
    wanted: Wanted
    key_digest: str
    """Stands for the account where the venue does not name it."""


class CryptoBroker:
    """One account. Several of them share market table, session and limits."""

    def __init__(
        self,
        terms: Terms,
        profile: Profile,
        traits: Traits,
        exchange: Any,
        market: PublicMarket,
        surroundings: Surroundings,
    ) -> None:
        self._terms = terms
        self._profile = profile
        self._traits = traits
        self._exchange = exchange
        self._market = market
        self._surroundings = surroundings
        self._look_ups = LookUps(exchange, profile, surroundings)
        self._open_orders = OpenOrders(exchange, profile, self._look_ups)
        self._venue_settings = VenueSettings(exchange, profile, terms.wanted, surroundings.now)
        self._key: tuple[datetime, Key] | None = None
        self._name: str | None = None
        self._sent: dict[str, datetime] = {}

    @property
    def traits(self) -> Traits:
        """How this venue behaves for this connection."""
        return self._traits

    @property
    def market_key(self) -> str:
        """Equal for all connections that see the same prices."""
        return self._market.key

    def client_order_id(self, order_id: UUID, attempt: int) -> str:
        """The id under which an attempt is sent, in the shape the venue takes."""
        return shaped(client_order_id(order_id, attempt), self._profile.client_id.shape)

    async def instruments(self, meant: Collection[str] = ()) -> Mapping[str, Instrument]:
        """Every instrument by its unified symbol. Raises VenueError."""
        del meant
        return await self._market.instruments()

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The present quotes; unknown symbols are left out. Raises VenueError."""
        return await self._market.quotes(symbols)

    async def references(self, source: TriggerSource, symbols: Sequence[str]) -> Mapping[str, Decimal]:
        """The present prices of a source; those unknown are left out. Raises VenueError."""
        return await self._market.references(self._profile.triggers[source], symbols)

    async def account(self) -> Account:
        """Balances, equity and permissions. Raises VenueError."""
        await self._ready()
        as_of = self._surroundings.now()
        with calling(Call()) as call:
            try:
                balance = await self._exchange.fetch_balance(self._balance_params())
                key = await self._known_key()
                identity = await self._identity(key)
                balances = balances_of(_told(balance, call))
                equity = {each: equity_of(balance, each, held.total) for each, held in balances.items()}
            except Exception as error:  # noqa: BLE001 - classes raise anything; each is told as what it proves
                raise of_read(error, call) from None
        return Account(
            identity=identity,
            balances=balances,
            equity=equity,
            permissions=key.permissions,
            as_of=as_of,
        )

    async def conflict(self, symbol: str) -> str | None:
        """Why leverage or margin mode are in the way of an entry, in words; None where not. Raises VenueError."""
        if self._terms.market_type is not MarketType.SWAP:
            return None
        await self._ready()
        with calling(Call(urgency=Urgency.ENTRY)) as call:
            try:
                return _told(await self._venue_settings.conflict(symbol), call)
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None

    async def place(self, request: OrderRequest) -> OrderReport:
        """Send one order, once, and report what the venue then shows. Raises Refused, Unreachable or Uncertain."""
        began = self._surroundings.now()
        try:
            listed = await self._listed(request.symbol)
            self._check_fresh(request)
            _check_size(request, listed.instrument)
            is_hedged = await self._settle_terms(request, listed)
            if await self._is_passed(request):
                raise Refused(PASSED)
            quote = await self._reckoning_quote(request)
        except Uncertain as failure:
            # What is in doubt is a question; the order has not been sent.
            raise Unreachable(failure.message, code=failure.code) from None
        self._note_sending(request)
        with calling(Call(urgency=_urgency(request), signed_at=request.signed_at)) as call:
            try:
                acknowledged = await self._send(request, listed, quote, is_hedged=is_hedged)
            except Exception as error:  # noqa: BLE001 - as above; a cancelled task passes through and stays unknown
                raise self._unless_switched(of_order(error, call, self._profile), began) from None
        return await self._unless_passed(request, await self._truth(request, acknowledged))

    async def cancel(self, key: OrderKey) -> OrderReport:
        """Take an order back and report what became of it. Raises VenueError; Refused without such an order."""
        await self._ready()
        failure: VenueError | None = None
        # Taking back is the first half of leaving.
        with calling(Call(urgency=Urgency.EXIT)) as call:
            try:
                await self._take_back(key)
            except Exception as error:  # noqa: BLE001 - as above
                failure = None if is_not_found(error) else of_read(error, call)
        seen = await self._look_again(key, Urgency.EXIT)
        if isinstance(seen, OrderReport) and seen.status is not OrderStatus.OPEN:
            return seen
        if failure is not None:
            raise failure
        if seen is ABSENT:
            raise Refused("The venue has no such order.")
        raise Uncertain("The venue does not show what became of the cancelled order.")

    async def find(self, key: OrderKey) -> OrderReport | Silence:
        """What the venue knows of one order. ABSENT only where a clean look-up proves it."""
        return await self._look(key, Urgency.PROTECTION)

    async def _look(self, key: OrderKey, urgency: Urgency) -> OrderReport | Silence:
        try:
            return await self._look_up(key, urgency)
        except VenueError:
            return CANNOT_SAY

    async def survey(self, keys: Sequence[OrderKey]) -> Mapping[str, OrderReport | Silence]:
        """The same for many orders: what rests untouched is seen in the open orders, the others one by one."""
        resting: dict[str, OrderReport] = {}
        rooms = {(key.symbol, tuple(sorted(listing(key.type, self._profile).items()))) for key in keys}
        for symbol, where in sorted(rooms):
            resting |= await self._untouched(symbol, dict(where), keys)
        rest = [key for key in keys if key.client_order_id not in resting]
        found = await asyncio.gather(*(self._look(key, Urgency.POLL) for key in rest))
        return resting | {key.client_order_id: each for key, each in zip(rest, found, strict=True)}

    async def holdings(self, handles: Collection[str] = ()) -> Sequence[Holding]:
        """Everything the account holds, in base units. Raises VenueError; empty means flat."""
        del handles  # positions have no names here
        listings = await self._ready()
        known = await self._market.known()
        with calling(Call()) as call:
            try:
                if self._terms.market_type is MarketType.SWAP:
                    held = symbols_held(await self._all_positions(), self._exchange.markets)
                    return positions_of(_told(held, call), known)
                balance = await self._exchange.fetch_balance(self._balance_params())
                return coins_of(balances_of(_told(balance, call)), listings)
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None

    async def fills(
        self, symbol: str, since: datetime, ours: Sequence[OrderKey], handle: str | None = None
    ) -> Sequence[Fill]:
        """The newest trades of the account in a symbol without those of `ours`. Raises VenueError."""
        del handle
        await self._ready()
        listed = (await self._market.known()).get(symbol)
        if listed is None:
            raise Refused(f"{symbol} is not known here.", code="symbol_unknown")
        with calling(Call()) as call:
            try:
                known = {name for key in ours for name in await self._look_ups.venue_ids(key)}
                return _told(await fills_of(self._exchange, self._profile, listed, since, known), call)
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None

    async def payments(self, since: datetime) -> Sequence[Payment]:
        """The funding charged and paid from `since` on, oldest first. Raises VenueError."""
        records = self._profile.funding
        if records is None:
            raise Refused("The venue does not list what it charges for holding.")
        await self._ready()
        clock = self._surroundings.clock
        with calling(Call()) as call:
            try:
                until = clock.at(self._surroundings.now())
                return _told(await payments_of(self._exchange, records, clock.at(since), until), call)
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None

    async def resting(self, symbols: Sequence[str] | None) -> Sequence[Resting]:
        """Every order that rests in these symbols, or in all, wherever its type lives. Raises VenueError."""
        if symbols is None and not self._profile.lists_all:
            raise Refused("The venue lists open orders symbol by symbol.")
        listings, known = await self._ready(), await self._market.known()
        asked = [None] if symbols is None else [symbol for symbol in symbols if symbol in listings]
        with calling(Call()) as call:
            try:
                return _told(await self._open_orders.resting(asked, known), call)
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None

    async def close(self) -> None:
        """Let go of the exchange object; session and markets are shared."""
        await self._exchange.close()

    async def _ready(self) -> Mapping[str, Listed]:
        """The listings, with the account's exchange object using the shared market table."""
        await self._market.lend(self._exchange)
        return await self._market.listings()

    async def _listed(self, symbol: str) -> Listed:
        listed = (await self._ready()).get(symbol)
        if listed is None:
            raise Refused(f"{symbol} is not listed here.", code="symbol_unknown")
        if listed.instrument.market_type is not self._terms.market_type:
            raise Refused(
                f"{symbol} cannot be traded on a {self._terms.market_type} account.", code="market_mismatch"
            )
        return listed

    async def _all_positions(self) -> Sequence[Answer]:
        """Every position the venue tells of. Raises ccxt's errors."""
        if not self._profile.settle_coins:
            found: Sequence[Answer] = await self._exchange.fetch_positions(None, {})
            return found
        asked = [{"settleCoin": coin} for coin in self._profile.settle_coins]
        return [each for params in asked for each in await self._exchange.fetch_positions(None, params)]

    def _check_fresh(self, request: OrderRequest) -> None:
        if self._surroundings.now() - request.signed_at > self._traits.validity:
            raise Unreachable("The request was held up; it is stale and was not sent.")

    async def _is_passed(self, request: OrderRequest) -> bool:
        """Whether the price is beyond a stop already, where the venue would not notice."""
        if request.trigger_price is None or not self._profile.infers_direction:
            return False
        quote = (await self.quotes([request.symbol])).get(request.symbol)
        if quote is None:
            raise Unreachable("There is no price to check the stop against; it was not sent.")
        return quote.entering(request.side) * request.side.sign >= request.trigger_price * request.side.sign

    async def _unless_passed(self, request: OrderRequest, report: OrderReport) -> OrderReport:
        """The report of an accepted order; a stop that the price went through on its way is taken back.

        Raises Refused for one taken back unfilled, else Uncertain: after acceptance nothing is "not executed".
        """
        try:
            if report.status is not OrderStatus.OPEN or not await self._is_passed(request):
                return report
            # It would wait for the price to come back.
            report = await self.cancel(replace(request.key, exchange_order_id=report.exchange_order_id))
        except VenueError as failure:
            raise Uncertain(
                f"The venue took the order; a look-up says what became: {failure.message}"
            ) from None
        if report.filled_quantity == ZERO:
            raise Refused(PASSED)
        return report

    def _note_sending(self, request: OrderRequest) -> None:
        """Remember an id for as long as its claim is fresh: venues accept the id of a closed order again."""
        signed_at, name = request.signed_at, request.client_order_id
        if name in self._sent:
            raise Uncertain("This attempt has been sent before; a look-up says what became of it.")
        stale = self._surroundings.now() - self._traits.validity
        self._sent = {known: moment for known, moment in self._sent.items() if moment >= stale}
        self._sent[name] = signed_at

    async def _settle_terms(self, request: OrderRequest, listed: Listed) -> bool:
        """Bring the venue's settings in line with the connection's; whether the account is hedged."""
        if listed.instrument.market_type is not MarketType.SWAP:
            return False
        with calling(Call(urgency=_urgency(request))) as call:
            try:
                is_conditional = self._profile.is_conditional(request.type)
                if is_conditional and await self._venue_settings.is_unified():
                    raise Refused("Stops of unified accounts are not known well enough to be left here.")
                if not request.reduce_only:
                    await self._venue_settings.prepare(request.symbol, call)
                # Where orders cannot name their side nobody asks: entries were refused, and exits only ever reduce.
                asks = self._profile.holds_hedged and not self._profile.names_side
                return asks and await self._venue_settings.is_hedged(request.symbol)
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None

    def _unless_switched(self, failure: VenueError, began: datetime) -> VenueError:
        """A refusal; one for a position mode that the account no longer has may be tried again in the present one."""
        words = self._profile.mode_words
        if not isinstance(failure, Refused) or words is None or words not in failure.message:
            return failure
        return Unreachable(failure.message) if self._venue_settings.doubt_mode(began) else failure

    async def _reckoning_quote(self, request: OrderRequest) -> Quote | None:
        """The quote that is a part of the order, where the venue wants its cost, or a price that bounds it."""
        if not needs_quote(request, self._profile):
            return None
        quote = (await self.quotes([request.symbol])).get(request.symbol)
        if quote is None:
            raise Unreachable("There is no price to reckon the cost by; it was not sent.")
        return quote

    async def _send(
        self, request: OrderRequest, listed: Listed, quote: Quote | None, *, is_hedged: bool
    ) -> str | None:
        """Create the order; the venue's id, or None for a bracket, which is found by ours. Raises ccxt's errors."""
        if request.type is OrderType.OCO and self._profile.style is NativeStyle.BRACKET:
            await brackets.place(self._exchange, request)
            return None
        create = creation(
            replace(request, signed_at=self._surroundings.clock.at(request.signed_at)),
            listed,
            self._profile,
            is_hedged=is_hedged,
            quote=quote,
            margin_mode=self._terms.wanted.margin_mode,
            leverage=self._terms.wanted.leverage,
        )
        order = await self._exchange.create_order(
            create.symbol, create.type, create.side, create.amount, create.price, create.params
        )
        name = id_of(order)
        if name is None:
            raise Uncertain("The venue's answer has no order id.")
        return name

    async def _truth(self, request: OrderRequest, acknowledged: str | None) -> OrderReport:
        """What became of an order that was just taken. Until the venue shows it, it stands open and unfilled."""
        key = replace(request.key, exchange_order_id=acknowledged)
        seen = await self._look_again(key, _urgency(request), until_final=request.type is OrderType.MARKET)
        if isinstance(seen, OrderReport):
            return seen
        # It was acknowledged: not being shown yet is a venue's read lag, never absence.
        if acknowledged is None:
            raise Uncertain("The venue took the order and does not show it yet.")
        return OrderReport(
            client_order_id=request.client_order_id,
            exchange_order_id=acknowledged,
            status=OrderStatus.OPEN,
            filled_quantity=ZERO,
            average_price=None,
        )

    async def _look_again(
        self, key: OrderKey, urgency: Urgency, *, until_final: bool = True
    ) -> OrderReport | Silence:
        """Look until the order is seen, and final where that is expected; else what the last look brought."""
        seen: OrderReport | Silence = CANNOT_SAY
        began = asyncio.get_running_loop().time()
        for wait in PATIENCE:
            if asyncio.get_running_loop().time() - began > LONGEST_LOOK:
                break
            await asyncio.sleep(wait)
            seen = await self._look(key, urgency)
            if isinstance(seen, OrderReport) and not (until_final and seen.status is OrderStatus.OPEN):
                return seen
        return seen

    async def _look_up(self, key: OrderKey, urgency: Urgency) -> OrderReport | Silence:
        """One look. Raises VenueError when it fails."""
        listed = (await self._ready()).get(key.symbol)
        if listed is None:
            return CANNOT_SAY
        with calling(Call(urgency=urgency)) as call:
            try:
                if key.type is OrderType.OCO and self._profile.style is NativeStyle.BRACKET:
                    seen = await self._look_ups.bracket(key, listed)
                    return CANNOT_SAY if seen is ABSENT and not call.is_clean else seen
                order = await self._look_ups.order(key)
                if order is None:
                    return ABSENT if self._profile.is_proven and call.is_clean else CANNOT_SAY
                return await self._look_ups.report(order, key, listed)
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None

    async def _take_back(self, key: OrderKey) -> None:
        """Cancel at the venue. Raises ccxt's errors."""
        if key.type is OrderType.OCO and self._profile.style is NativeStyle.BRACKET:
            await brackets.cancel(self._exchange, key.symbol, key.client_order_id)
            return
        look_up = self._profile.look_up_of(key.type)
        by_id = self._profile.is_conditional(key.type) and self._profile.conditional.cancels_by_id
        if look_up is not LookUp.LISTED and not by_id:
            # What goes for the venue's id where ours is given: never the text None.
            placeholder = None if look_up is LookUp.FILTERED else ""
            await self._exchange.cancel_order(placeholder, key.symbol, naming(key, self._profile))
            return
        name = key.exchange_order_id or id_of(await self._look_ups.order(key))
        if name is None:
            raise Uncertain("The venue does not show the order, so it cannot be named to be cancelled.")
        await self._exchange.cancel_order(name, key.symbol, room(key, self._profile))

    async def _untouched(
        self, symbol: str, where: dict[str, Any], keys: Sequence[OrderKey]
    ) -> dict[str, OrderReport]:
        """Orders of a symbol that rest unfilled, from one listing; none where it fails: they are asked singly."""
        listed = (await self._ready()).get(symbol)
        if listed is None:
            return {}
        with calling(Call()):
            try:
                orders = await self._exchange.fetch_open_orders(symbol, None, None, dict(where))
            except Exception:  # noqa: BLE001 - a listing is a saving; without it each order is looked up by itself
                return {}
        here = [key for key in keys if key.symbol == symbol]
        return self._open_orders.untouched(orders, where, here, listed)

    def _balance_params(self) -> dict[str, Any]:
        return {"type": self._profile.balance_type or self._terms.market_type.value}

    async def _known_key(self) -> Key:
        now = self._surroundings.now()
        if self._key is None or now - self._key[0] > KEY_IS_KNOWN_FOR:
            self._key = (now, await key_of(self._exchange, self._terms.market_type))
        return self._key[1]

    async def _identity(self, key: Key) -> str:
        """The account's name, asked for until it has been told once; else what stands for it. Raises ccxt's errors."""
        if self._name is None:
            self._name = key.identity or await name_of(self._exchange, self._terms.market_type)
        venue = venue_of(self._terms.exchange)
        if self._name is None:
            return identity_of_key(venue, self._terms.key_digest)
        return f"{venue}:{self._name}"


def digest_of(credentials: Mapping[str, str]) -> str:
    """A name for an account that gives nothing of its key away."""
    named = credentials.get("apiKey") or credentials.get("walletAddress") or credentials.get("uid")
    secret = named or "".join(value for _, value in sorted(credentials.items()))
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


def _told(answer: T, call: Call) -> T:
    """An answer of a call in which everything was one. Raises Uncertain: a proxy's page reads like "nothing"."""
    if not call.is_clean:
        raise Uncertain("The venue's answer cannot be read.")
    return answer


def _urgency(request: OrderRequest) -> Urgency:
    if request.type in (OrderType.STOP, OrderType.TAKE_PROFIT, OrderType.OCO):
        return Urgency.PROTECTION
    return Urgency.EXIT if request.reduce_only else Urgency.ENTRY


@exact
def _check_size(request: OrderRequest, instrument: Instrument) -> None:
    """The quantity is on the step and large enough: classes round, and we send only what was meant."""
    quantity, unit = request.quantity, instrument.base
    if quantity < instrument.min_quantity:
        raise Refused(
            f"{text(quantity)} {unit} is below the minimum of {text(instrument.min_quantity)} {unit}.",
            code="quantity_below_minimum",
        )
    if floor_to_step(quantity, instrument.quantity_step) != quantity:
        raise Refused(f"{text(quantity)} {unit} is no multiple of the step {text(instrument.quantity_step)}.")
