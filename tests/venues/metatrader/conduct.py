"""Conduct: what a client of a bridge must never ask of it, whatever the bridge makes of it."""

from collections import defaultdict

from app.domain.money import ZERO
from tests.venues.metatrader.venue import MetaTraderVenue
from tests.venues.metatrader.wire import Query
from tests.venues.wire import Intent

LARGEST_MAGIC = 2**31 - 1


def assert_sound(venue: MetaTraderVenue, *, may_take_stops_off: bool = False) -> None:
    """Prove of everything that came in that nobody meant harm by it.

    No position was closed without its lots being named, in the broker's steps; every entry carries a number that
    MetaTrader 4 keeps, and none was sent twice as it was. Unless somebody `may_take_stops_off`, nobody did.
    """
    for bridge in venue.bridges:
        assert bridge.lapses == []
        assert may_take_stops_off or bridge.bared == []
    sent: dict[tuple[str, str], list[frozenset[tuple[str, str]]]] = defaultdict(list)
    for request in venue.requests:
        query = Query(request.query)
        if request.intent is Intent.LEAVE:
            assert "volume" not in query, request.path
        if request.intent is not Intent.PLACE:
            continue
        magic = query.text("magic") or query.text("expertID")
        assert magic.isdecimal(), request.path
        assert 1 <= int(magic) <= LARGEST_MAGIC
        assert query.amount("volume") > ZERO
        said = frozenset({("path", request.path.lower()), *query.pairs})
        earlier = sent[request.host, f"{query.text('id')}/{magic}"]
        # Where a bridge has not the one request another follows, and where a broker takes no end the order goes
        # without; that the first was refused for certain is what the books prove, which hold it once.
        assert said not in earlier, f"{magic} was sent twice"
        earlier.append(said)
    # Of what a bridge carries out more than once by itself nobody else is guilty.
    if all(fault.conditions.copies == 1 for fault, _ in venue.faults.struck):
        assert [login.doubles() for login in venue.logins if login.doubles()] == []
