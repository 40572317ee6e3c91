"""Families: on MetaTrader 4 a partial close ends a ticket and gives the rest another one; together they are a position.

Comments say which came from which: "to #" on what was closed, "from #" on the rest. A rest that is closed in part
itself loses its "from #" to its own "to #", so that only both together tell the whole descent. Pure.
"""

from collections.abc import Iterable, Mapping

from app.brokers.metatrader.books import Part, Ticket

Descent = Mapping[int, int]
"""By ticket, the one whose rest it is; tickets are numbered as they come."""


def descent(open_tickets: Iterable[Ticket], parts: Iterable[Part]) -> Descent:
    """What the comments on both sides say."""
    found: dict[int, int] = {}
    tickets: list[Ticket | Part] = [*open_tickets, *parts]
    for each in tickets:
        if each.came_from is not None:
            found[each.number] = each.came_from
        if isinstance(each, Part) and each.rest is not None:
            found[each.rest] = each.number
    return {rest: origin for rest, origin in found.items() if origin < rest}


def root(ticket: int, origins: Descent) -> int:
    """The ticket that an order opened, of which this one is what is left."""
    while ticket in origins:
        ticket = origins[ticket]
    return ticket


def family(ticket: int, origins: Descent) -> frozenset[int]:
    """All tickets that one has been or become, itself among them."""
    ours = root(ticket, origins)
    return frozenset(each for each in (ticket, *origins, *origins.values()) if root(each, origins) == ours)
