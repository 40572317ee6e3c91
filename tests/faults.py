"""A venue between us and a real one that loses requests, loses answers, or is silent, as it is told."""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

from app.brokers.directory import Access, Venue
from app.brokers.port import (
    CANNOT_SAY,
    Account,
    Broker,
    Holding,
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
from app.domain.orders import OrderKey, OrderReport, OrderRequest, TriggerSource


class Fault(Enum):
    """What happens to one placement."""

    ANSWER_LOST = "executed, and the answer is lost"
    REQUEST_LOST = "never arrives, and nobody can tell"
    NOT_EXECUTED = "certainly not executed"
    REFUSED = "refused"
    DIES = "our process dies after the request left"


class ProcessDied(BaseException):
    """Stands for a SIGKILL: nothing of ours runs after it."""


class FaultyVenue:
    """Opens the real venue's brokers with faults in between; one list of faults and one log for all of them."""

    def __init__(self, venue: Venue, pick: Callable[[OrderRequest], bool] = lambda _: True) -> None:
        self._venue = venue
        self.pick = pick
        """Which requests faults befall."""
        self.faults: deque[Fault] = deque()
        self.blind = False
        """No look-up is answered."""
        self.deaf = False
        """No cancellation is answered."""
        self.deadly = False
        """Our process dies when it asks for a cancellation."""
        self.refusal = Refused("no")
        """In what words it refuses."""
        self.closed: VenueError | None = None
        """What every question about the account is answered with."""
        self.secretive = False
        """No question about holdings is answered."""
        self.broken: UUID | None = None
        """The connection whose surveys end in an error that nobody foresaw."""
        self.placed: list[OrderRequest] = []

    async def open(self, access: Access) -> Broker:
        """The real broker behind the faults."""
        return FaultyBroker(await self._venue.open(access), self, access.connection_id)

    async def close(self) -> None:
        """Close the real venue."""
        await self._venue.close()

    def next_fault(self, request: OrderRequest) -> Fault | None:
        """The fault that befalls this request, if any."""
        return self.faults.popleft() if self.faults and self.pick(request) else None


class FaultyBroker:
    """A real broker; what is put to it may go wrong on the way there or back."""

    def __init__(self, broker: Broker, venue: FaultyVenue, connection_id: UUID | None = None) -> None:
        self._broker = broker
        self._venue = venue
        self._connection_id = connection_id

    @property
    def market_key(self) -> str:
        """The real broker's."""
        return self._broker.market_key

    @property
    def traits(self) -> Traits:
        """The real broker's."""
        return self._broker.traits

    def client_order_id(self, order_id: UUID, attempt: int) -> str:
        """The real broker's."""
        return self._broker.client_order_id(order_id, attempt)

    async def instruments(self, meant: Collection[str] = ()) -> Mapping[str, Instrument]:
        """The real broker's."""
        return await self._broker.instruments(meant)

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The real broker's."""
        return await self._broker.quotes(symbols)

    async def references(self, source: TriggerSource, symbols: Sequence[str]) -> Mapping[str, Decimal]:
        """The real broker's."""
        return await self._broker.references(source, symbols)

    async def account(self) -> Account:
        """The real broker's, unless the venue is closed to us."""
        if self._venue.closed is not None:
            raise self._venue.closed
        return await self._broker.account()

    async def conflict(self, symbol: str) -> str | None:
        """The real broker's."""
        return await self._broker.conflict(symbol)

    async def holdings(self, handles: Collection[str] = ()) -> Sequence[Holding]:
        """The real broker's, or no answer while the venue is secretive."""
        if self._venue.secretive:
            raise Uncertain("502 Bad Gateway")
        return await self._broker.holdings(handles)

    async def fills(
        self, symbol: str, since: datetime, ours: Sequence[OrderKey], handle: str | None = None
    ) -> Sequence[Fill]:
        """The real broker's."""
        return await self._broker.fills(symbol, since, ours, handle)

    async def payments(self, since: datetime) -> Sequence[Payment]:
        """The real broker's."""
        return await self._broker.payments(since)

    async def resting(self, symbols: Sequence[str] | None) -> Sequence[Resting]:
        """The real broker's."""
        return await self._broker.resting(symbols)

    async def cancel(self, key: OrderKey) -> OrderReport:
        """The real broker's, or no answer while the venue is deaf, or deadly."""
        if self._venue.deadly:
            raise ProcessDied
        if self._venue.deaf:
            raise Uncertain("connection reset")
        return await self._broker.cancel(key)

    async def survey(self, keys: Sequence[OrderKey]) -> Mapping[str, OrderReport | Silence]:
        """The real broker's, unless it is the broken one."""
        if self._connection_id is not None and self._venue.broken == self._connection_id:
            raise ZeroDivisionError
        return await self._broker.survey(keys)

    async def close(self) -> None:
        """The real broker's."""
        await self._broker.close()

    async def find(self, key: OrderKey) -> OrderReport | Silence:
        """The real broker's, or no answer while the venue is blind."""
        return CANNOT_SAY if self._venue.blind else await self._broker.find(key)

    async def place(self, request: OrderRequest) -> OrderReport:
        """The real broker's, with the next fault."""
        fault = self._venue.next_fault(request)
        if fault is Fault.REFUSED:
            raise self._venue.refusal
        if fault is Fault.NOT_EXECUTED:
            raise Unreachable("too many requests")
        if fault is Fault.REQUEST_LOST:
            raise Uncertain("connection reset")
        report = await self._broker.place(request)
        self._venue.placed.append(request)
        if fault is Fault.ANSWER_LOST:
            raise Uncertain("connection reset")
        if fault is Fault.DIES:
            raise ProcessDied
        return report
