"""The broker: one MetaTrader account. Orders are sent once; what became of them is read from the account's books."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import structlog

from app.brokers.metatrader import lookups, marks, rows
from app.brokers.metatrader.books import Cause
from app.brokers.metatrader.credentials import Credentials
from app.brokers.metatrader.legs import Legs
from app.brokers.metatrader.lookups import LEGS
from app.brokers.metatrader.market import AccountMarket
from app.brokers.metatrader.marks import Handle
from app.brokers.metatrader.outcomes import GONE, NO_END, TOO_NEAR
from app.brokers.metatrader.session import OrderFault, Session
from app.brokers.metatrader.statements import Statements
from app.brokers.metatrader.wire import Record
from app.brokers.port import (
    ABSENT,
    AMBIGUOUS,
    CANNOT_SAY,
    Account,
    Balance,
    Holding,
    Permissions,
    Refused,
    Resting,
    Silence,
    Traits,
    Uncertain,
    Unreachable,
    VenueError,
)
from app.domain.holdings import Fill, Payment
from app.domain.market import Instrument, Quote
from app.domain.money import ZERO, exact, text
from app.domain.orders import (
    OrderKey,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    Side,
    TriggerSource,
)

log = structlog.get_logger(__name__)

PATIENCE: Final = (0.0, 0.2, 0.5, 1.0)
"""Seconds before each look at an order that was just sent: it may be shown a moment later."""

_GOOD: Final = "Specified"
_HEDGING: Final = "hedging"
_MAY_DRIFT: Final = Decimal("0.0005")
"""How far an expected price may be missed, as a fraction of it, where a broker fills at a price or not at all."""


class MetaTraderBroker:
    """One account at one broker, through one bridge."""

    def __init__(
        self, credentials: Credentials, traits: Traits, session: Session, now: Callable[[], datetime]
    ) -> None:
        self._credentials = credentials
        self._server: str | None = None
        self._traits = traits
        self._session = session
        self._now = now
        self._platform = session.platform
        self._market = AccountMarket(session, now)
        self._statements = Statements(session, self._market, now)
        self._legs = Legs(session, self._statements)
        self._sent: dict[str, datetime] = {}

    @property
    def traits(self) -> Traits:
        """How this venue behaves for this connection; whether it nets is known once the account was asked."""
        return self._traits

    @property
    def market_key(self) -> str:
        """Prices are the account's own: its group decides the spread, its currency what a lot is worth."""
        return f"{self._platform.id}:{self._credentials.identity}"

    def client_order_id(self, order_id: UUID, attempt: int) -> str:
        """The comment an attempt carries."""
        return marks.client_order_id(order_id, attempt)

    async def instruments(self, meant: Collection[str] = ()) -> Mapping[str, Instrument]:
        """The instruments that one of `meant` may mean, by the broker's own names. Raises VenueError."""
        return await self._market.instruments(meant)

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The present quotes; unknown symbols are left out. Raises VenueError."""
        return await self._market.quotes(symbols)

    async def references(self, source: TriggerSource, symbols: Sequence[str]) -> Mapping[str, Decimal]:
        """None: stops go by bid and ask here, and there is no choice."""
        del source, symbols
        return {}

    async def account(self) -> Account:
        """Balance, equity less credit, and free margin, in the account's currency. Raises VenueError."""
        as_of = self._now()
        summary = Record.of(await self._session.ask("AccountSummary"))
        currency = summary.text("currency").upper()
        if not currency:
            raise Uncertain("The bridge's answer shows no account.")
        # "Default" may be either, as may be what is not told: an account that may net is held for one that does.
        nets = self._platform.has_deals and summary.text("method").lower() != _HEDGING
        self._traits = replace(self._traits, netting=nets)
        is_investor = summary.flag("isInvestor") is True
        barred: str | None = None
        if is_investor:
            barred = "account_read_only"
        elif summary.flag("synced") is False:
            barred = "account_not_synced"
        leverage = summary.amount_or_none("leverage")
        return Account(
            identity=await self._identity(),
            balances={currency: Balance(summary.amount("freeMargin"), summary.amount("balance"))},
            equity={currency: _equity(summary)},
            permissions=Permissions(trade=not is_investor, withdraw=False),
            as_of=as_of,
            leverage=leverage if leverage else None,
            barred=barred,
        )

    async def _identity(self) -> str:
        """The account's own name, however its server was named to us, where the bridge says which server that is."""
        if self._server is None and self._platform.details is not None:
            try:
                told = await self._session.has(self._platform.details)
                self._server = (Record.of(told).text("serverName") or None) if told is not None else None
            except VenueError as failure:
                # An account that trades is not held up by what its server is called.
                log.info("server_not_told", platform=self._platform.id, reason=failure.message)
        return f"{self._platform.id}:{self._credentials.identity_at(self._server)}"

    async def place(self, request: OrderRequest) -> OrderReport:
        """Send one order, once. Raises Refused, Unreachable or Uncertain.

        A close names its position by `handle`; a stop and target are set on it, again and again if need be.
        """
        if request.handle is not None and request.type in LEGS:
            handle = Handle.read(request.handle)
            return await self._legs.attach(request.key, handle, lambda: self._check_fresh(request))
        if request.reduce_only and request.handle is None:
            raise Refused("An order that only reduces says which position it is for.")
        try:
            await self._session.ready()
            order = await (self._leaving(request) if request.handle else self._entering(request))
        except Uncertain as failure:
            # Nothing that acts has been sent yet.
            raise Unreachable(failure.message) from None
        self._check_fresh(request)
        self._note_sending(request)
        try:
            answer = await self._acted(request, order)
            taken = rows.order_in(Record.of(answer))
        except OrderFault as fault:
            if isinstance(fault.verdict, Uncertain):
                return await self._in_doubt(request, fault.verdict)
            raise fault.verdict from None
        except Uncertain as doubt:
            return await self._in_doubt(request, doubt)
        if taken <= 0:
            return await self._in_doubt(request, Uncertain("The bridge's answer has no ticket."))
        return await self._truth(request, str(taken))

    async def cancel(self, key: OrderKey) -> OrderReport:
        """Take an order back and report what became of it. Raises VenueError; Refused without such an order."""
        if key.handle is not None and key.type in LEGS:
            return await self._legs.detach(key, Handle.read(key.handle))
        seen = await self._statements.find(key)
        if seen is ABSENT:
            raise Refused("The broker has no such order.")
        if isinstance(seen, Silence):
            raise Uncertain("The broker cannot say which order that is.")
        if seen.status is not OrderStatus.OPEN:
            return seen
        # Only where the bridge has no request for pending orders alone: it closes what the order has opened meanwhile.
        # The comment makes that close ours.
        comment = {"comment": key.client_order_id} if self._platform.has_deals else {}
        try:
            await self._session.act(*self._platform.deletes, ticket=int(seen.exchange_order_id), **comment)
        except OrderFault as fault:
            if fault.bridge_code not in GONE:
                raise fault.verdict from None
        return await self._ended(replace(key, exchange_order_id=seen.exchange_order_id))

    async def find(self, key: OrderKey) -> OrderReport | Silence:
        """What the broker knows of one order. ABSENT only on a session that is proven healthy."""
        try:
            return await self._statements.find(key)
        except VenueError:
            return CANNOT_SAY

    async def survey(self, keys: Sequence[OrderKey]) -> Mapping[str, OrderReport | Silence]:
        """The same for many orders, in as few requests as there are."""
        try:
            return await self._statements.survey(keys)
        except VenueError:
            return dict.fromkeys((key.client_order_id for key in keys), CANNOT_SAY)

    async def holdings(self, handles: Collection[str] = ()) -> Sequence[Holding]:
        """Open lots, position by position. Raises VenueError; empty means flat."""
        return await self._statements.holdings(handles)

    async def conflict(self, symbol: str) -> str | None:
        """None: leverage and margin mode are the account's, and orders do with them."""
        del symbol
        return None

    async def fills(
        self, symbol: str, since: datetime, ours: Sequence[OrderKey], handle: str | None = None
    ) -> Sequence[Fill]:
        """What left positions in a symbol from `since` on, oldest first, without what our own exits took.

        Raises VenueError.
        """
        # An entry is no exit, and on MetaTrader 4 the ticket it opened is what is closed later.
        known = {key.exchange_order_id for key in ours if key.handle is not None}
        entries = [key.client_order_id for key in ours if key.handle is None]
        shown = await self._statements.positions(since)
        legs = [Handle.read(key.handle) for key in ours if key.handle and key.type in LEGS]
        guarded = frozenset[int]().union(*map(shown.family, legs))
        family = None if handle is None else shown.family(Handle.read(handle))
        currency = await self._market.currency()
        left = [
            (part.at, part)
            for part in shown.history.parts
            if part.symbol == symbol
            and part.at is not None
            and part.at >= since
            and (family is None or part.position in family)
            and str(part.order) not in known
            and not (part.position in guarded and part.cause in (Cause.STOP, Cause.TARGET))
        ]
        return [
            Fill(
                exchange_order_id=str(part.order),
                side=part.side,
                quantity=part.lots,
                price=part.price,
                time=at,
                fees={currency: part.fees} if part.fees else {},
                forced=part.cause is Cause.FORCED,
                profit=part.profit,
                funding=part.swap,
                # On MetaTrader 4 a closed ticket has the comment of its entry whoever closed it.
                ours=self._platform.has_deals and any(marks.names(part.comment, name) for name in entries),
            )
            for at, part in sorted(left, key=lambda one: one[0])
        ]

    async def payments(self, since: datetime) -> Sequence[Payment]:
        """None: swap is booked with what leaves a position."""
        del since
        return []

    async def resting(self, symbols: Sequence[str] | None) -> Sequence[Resting]:
        """Every pending order in these symbols, or in all; ours are told by their comment. Raises VenueError."""
        return [
            Resting(
                symbol=ticket.symbol,
                client_order_id=ticket.comment or None,
                exchange_order_id=str(ticket.number),
                side=ticket.side,
                quantity=ticket.lots,
            )
            for ticket in await self._statements.tickets()
            if ticket.is_pending and (symbols is None or ticket.symbol in symbols)
        ]

    async def close(self) -> None:
        """Stop keeping the session alive."""
        await self._session.close()

    async def _entering(self, request: OrderRequest) -> "_Sending":
        """How an entry is sent. Raises VenueError, while nothing has been sent."""
        listing = await self._market.listing(request.symbol)
        server = await self._session.server_time()
        parameters: dict[str, Any] = {
            "symbol": request.symbol,
            "operation": "Buy" if request.side is Side.BUY else "Sell",
            "volume": text(request.quantity),
            "price": "0",
            "slippage": 0,
            "stoploss": text(request.stop_loss or ZERO),
            "takeprofit": text(request.take_profit or ZERO),
            "comment": request.client_order_id,
            self._platform.magic: marks.magic_of(request.client_order_id),
        }
        if request.type is OrderType.LIMIT and request.price is not None:
            price = await self._market.price(request.symbol)
            if price.entering(request.side) * request.side.sign > request.price * request.side.sign:
                parameters["operation"] += "Limit"
                parameters["price"] = text(request.price)
                if request.expires_at is not None and listing.takes_expiration:
                    parameters["expiration"] = server.text(request.expires_at)
                    if self._platform.has_deals:
                        parameters["expirationType"] = _GOOD
                return _Sending(_SEND, parameters)
        elif request.type is not OrderType.MARKET:
            raise Refused(f"A {request.type} order belongs to a position here.")
        if listing.needs_price:
            parameters |= await self._expected(request, listing.point)
        return _Sending(_SEND, parameters)

    async def _acted(self, request: OrderRequest, order: "_Sending") -> Any:
        """The answer to an order. One that waits goes without its end where the broker takes none: we end it then.

        Raises VenueError.
        """
        try:
            return await self._session.act(*order.paths, **order.parameters)
        except OrderFault as fault:
            if order.waits and fault.bridge_code in TOO_NEAR:
                raise Unreachable(fault.message) from None
            endless = order.endless()
            if endless is None or fault.bridge_code not in NO_END:
                raise
        self._check_fresh(request)
        return await self._acted(request, endless)

    async def _leaving(self, request: OrderRequest) -> "_Sending":
        """How a part of a position is closed. Raises VenueError, while nothing has been sent."""
        handle = Handle.read(request.handle or "")
        ticket = (await self._statements.open_positions()).ticket(handle)
        if ticket is None:
            raise await self._why_gone(handle)
        parameters: dict[str, Any] = {
            "ticket": ticket.number,
            "lots": text(min(request.quantity, ticket.lots)),
            "price": "0",
            "slippage": 0,
        }
        if self._platform.has_deals:
            parameters["comment"] = request.client_order_id
        listing = await self._market.listing(request.symbol)
        if listing.needs_price:
            parameters |= await self._expected(request, listing.point)
        return _Sending(("OrderCloseSafe", "OrderClose"), parameters)

    async def _why_gone(self, handle: Handle) -> VenueError:
        """Why a position that is not open cannot be closed. Raises VenueError."""
        shown = await self._statements.lately()
        if shown.ticket(handle) is not None or shown.is_unaccounted(handle):
            return Unreachable("The position is not open, and the broker does not show yet how it ended.")
        return Refused("The position is not open at the broker.")

    async def _expected(self, request: OrderRequest, point: Decimal) -> dict[str, Any]:
        """The price that is expected, and how many points it may be missed by."""
        price = (await self._market.price(request.symbol)).entering(request.side)
        return {"price": text(price), "slippage": _points(price, point)}

    def _check_fresh(self, request: OrderRequest) -> None:
        if self._now() - request.signed_at > self._traits.validity:
            raise Unreachable("The request was held up; it is stale and was not sent.")

    def _note_sending(self, request: OrderRequest) -> None:
        """Remember an id for as long as its claim is fresh: the bridge knows no ids and would do it twice."""
        if request.client_order_id in self._sent:
            raise Uncertain("This attempt has been sent before; a look-up says what became of it.")
        stale = self._now() - self._traits.validity
        self._sent = {known: moment for known, moment in self._sent.items() if moment >= stale}
        self._sent[request.client_order_id] = request.signed_at

    async def _in_doubt(self, request: OrderRequest, doubt: VenueError) -> OrderReport:
        """One look at an order whose answer was lost: a find settles it, nothing else does."""
        seen = await self.find(request.key)
        if isinstance(seen, OrderReport):
            return seen
        raise doubt from None

    async def _truth(self, request: OrderRequest, taken: str) -> OrderReport:
        """What the account shows of an order that the bridge has taken under a number."""
        key = request.key
        for pause in PATIENCE:
            await asyncio.sleep(pause)
            try:
                shown = await self._statements.books(key.signed_at)
            except VenueError:
                continue
            seen = shown.report(key)
            if seen is AMBIGUOUS:
                raise Uncertain("The account shows more than one order that may be this one.")
            numbered = shown.report(replace(key, exchange_order_id=taken))
            for each in (numbered, seen):
                if isinstance(each, OrderReport):
                    return each
        if request.handle is None:
            # It has been taken, whatever the lists show: it is there, and never to be sent again.
            return lookups.resting(key, taken)
        raise Uncertain("The bridge took the order, and the account does not show it yet.")

    async def _ended(self, key: OrderKey) -> OrderReport:
        """What became of an order that was taken back; it may be shown as it was for a moment. Raises Uncertain."""
        for pause in PATIENCE:
            await asyncio.sleep(pause)
            seen = await self._statements.find(key)
            if isinstance(seen, OrderReport) and seen.status is not OrderStatus.OPEN:
                return seen
            if seen is ABSENT:
                return lookups.cancelled(key, key.exchange_order_id or "")
        raise Uncertain("The broker does not show yet what became of the order.")


class _Sending:
    """An order as it is put to the bridge, by the first request that the bridge has."""

    def __init__(self, paths: Sequence[str], parameters: Mapping[str, Any]) -> None:
        self.paths = paths
        self.parameters = parameters

    @property
    def waits(self) -> bool:
        """Whether it is a pending order."""
        return str(self.parameters.get("operation")).endswith("Limit")

    def endless(self) -> "_Sending | None":
        """The same without its end; None where it has none."""
        ends = {"expiration", "expirationType"}
        if ends.isdisjoint(self.parameters):
            return None
        kept = {name: value for name, value in self.parameters.items() if name not in ends}
        return _Sending(self.paths, kept)


_SEND: Final = ("OrderSendSafe", "OrderSend")


@exact
def _equity(summary: Record) -> Decimal:
    return summary.amount("equity") - (summary.amount_or_none("credit") or ZERO)


@exact
def _points(price: Decimal, point: Decimal) -> int:
    return int(price * _MAY_DRIFT / point) + 1


@exact
def _sum(one: Decimal, other: Decimal) -> Decimal:
    return one + other
