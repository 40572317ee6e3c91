"""Rows: a bridge's lists, read into books. What cannot be read is an error, never passed over: it may be a position."""

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from app.brokers.metatrader.books import Cause, Ended, History, Opening, Part, Ticket, opening_of
from app.brokers.metatrader.wire import Record, ServerTime, Unreadable, records
from app.domain.money import ZERO
from app.domain.orders import OrderStatus, Side

_STOPPED: Final = re.compile(r"\[sl\b", re.IGNORECASE)
_TAKEN: Final = re.compile(r"\[tp\b", re.IGNORECASE)
_FORCED: Final = re.compile(r"^so[: ]|\[so\b", re.IGNORECASE)
_MONEY: Final = re.compile(
    r"balance|credit|charge|correction|bonus|commission|interest|dividend|tax|fee|agent|rebate", re.IGNORECASE
)
"""Types of what changes the account's money and is no trade."""

_POSITIONS: Final = frozenset({"buy", "sell"})
_PENDING: Final = frozenset(f"{way}{kind}" for way in _POSITIONS for kind in ("limit", "stop", "stoplimit"))
_INTO: Final = frozenset({"in", "inout"})
_OUT_OF: Final = frozenset({"out", "inout", "outby"})


def tickets(answer: Any, server: ServerTime) -> list[Ticket]:
    """The open tickets in an answer. Raises Unreadable for anything but a list of orders."""
    found = (ticket_in(each, server) for each in records(answer))
    return [ticket for ticket in found if ticket is not None]


def ticket_in(order: Record, server: ServerTime) -> Ticket | None:
    """One open order; None for what is no trade (balance, credit). Raises Unreadable for what may be one."""
    kind = (order.text("orderType") or order.text("type")).lower()
    side = _side_of(kind, _POSITIONS | _PENDING)
    if side is None:
        return None
    first = order.record("dealInternalIn")
    number = _number_of(order, "ticket")
    return Ticket(
        number=(first.whole("positionTicket") if first else 0) or number,
        symbol=order.text("symbol"),
        side=side,
        is_pending=kind in _PENDING,
        lots=order.amount("lots"),
        price=order.amount("openPrice"),
        stop=positive(order, "stopLoss"),
        target=positive(order, "takeProfit"),
        magic=order.whole("expertId") or order.whole("magicNumber"),
        comment=order.text("comment"),
        opened_at=server.read(order.text("openTime")),
        fees=fees_of(order),
        order=(first.whole("orderTicket") if first else 0) or number,
        deal=first.whole("ticketNumber") if first else 0,
    )


def _side_of(kind: str, known: Collection[str]) -> Side | None:
    """The direction that a type of order or deal names; None for what is no trade. Raises Unreadable.

    A type that is not known, or not told, may be that of a position: to pass it over is to say that it is not there.
    """
    if kind in known:
        return Side.BUY if kind.startswith("buy") else Side.SELL
    if _MONEY.search(kind):
        return None
    raise Unreadable("The bridge's answer has something of a type that is not known.")


def _number_of(record: Record, key: str) -> int:
    """What a trade is called by. Raises Unreadable without that."""
    number = record.whole(key)
    if number <= 0:
        raise Unreadable(f"The bridge's answer has a trade without its {key}.")
    return number


def order_in(answer: Record) -> int:
    """The order that was carried out, by the answer to it: that of its deal, else the ticket; 0 without one."""
    deal = answer.record("dealInternalOut") or answer.record("dealInternalIn")
    return (deal.whole("orderTicket") if deal else 0) or answer.whole("ticket")


def positive(record: Record, key: str) -> Decimal | None:
    """An amount above zero; None for zero, which stands for none."""
    found = record.amount_or_none(key)
    return found if found is not None and found > ZERO else None


def fees_of(record: Record) -> Decimal:
    """Commission, fee and taxes as what was paid: the broker books them as changes of the balance."""
    return -sum((record.amount_or_none(key) or ZERO for key in ("commission", "fee", "taxes")), ZERO)


def history_of_deals(answer: Any, server: ServerTime) -> History:
    """What MetaTrader 5 tells of the past. Raises Unreadable."""
    if isinstance(answer, list):
        told, is_whole = records(answer), True
        deals: list[Record] = []
    else:
        whole = Record.of(answer)
        if not isinstance(whole.raw("orders"), list):
            raise Unreadable("The bridge's answer is no history.")
        told, is_whole = whole.records("orders"), whole.flag("partialResponse") is not True
        deals = whole.records("internalDeals")
    if not deals:
        deals = [deal for order in told for deal in _deals_of(order)]
    openings: dict[int, Opening] = {}
    parts: dict[int, Part] = {}
    for deal in deals:
        side = _side_of(deal.text("type").lower().removeprefix("deal"), _POSITIONS)
        if side is None:
            continue
        direction = deal.text("direction").lower()
        if direction not in _INTO | _OUT_OF:
            raise Unreadable("The bridge's answer has a deal without its direction.")
        if direction in _INTO:
            opening = _opening(deal, side, server)
            openings[opening.deal] = opening
        if direction in _OUT_OF:
            part = _part(deal, side, server)
            parts[part.number] = part
    return History(tuple(openings.values()), tuple(parts.values()), is_whole=is_whole)


def _deals_of(order: Record) -> Iterable[Record]:
    for key in ("dealInternalIn", "dealInternalOut"):
        if (deal := order.record(key)) is not None:
            yield deal
    yield from order.records("partialFillDeals")
    yield from order.records("partialCloseDeals")


def _deal_time(deal: Record, server: ServerTime) -> datetime | None:
    told = server.read(deal.text("openTimeAsDateTime"))
    return told or server.read_ms(deal.whole("openTimeMs"))


def _deal_price(deal: Record) -> Decimal:
    return positive(deal, "openPrice") or deal.amount("price")


def _opening(deal: Record, side: Side, server: ServerTime) -> Opening:
    return Opening(
        deal=_number_of(deal, "ticketNumber"),
        order=deal.whole("orderTicket"),
        position=deal.whole("positionTicket") or deal.whole("orderTicket"),
        symbol=deal.text("symbol"),
        side=side,
        lots=deal.amount("lots"),
        price=_deal_price(deal),
        fees=fees_of(deal),
        magic=deal.whole("expertId"),
        comment=deal.text("comment"),
        at=_deal_time(deal, server),
    )


def _part(deal: Record, side: Side, server: ServerTime) -> Part:
    return Part(
        number=_number_of(deal, "ticketNumber"),
        order=deal.whole("orderTicket") or deal.whole("ticketNumber"),
        position=deal.whole("positionTicket"),
        symbol=deal.text("symbol"),
        side=side,
        lots=deal.amount("lots"),
        price=_deal_price(deal),
        profit=deal.amount("profit"),
        fees=fees_of(deal),
        swap=deal.amount_or_none("swap") or ZERO,
        cause=cause_of(deal.text("placedType"), deal.text("comment")),
        magic=deal.whole("expertId"),
        comment=deal.text("comment"),
        at=_deal_time(deal, server),
    )


_CAUSES: Final = {"onsl": Cause.STOP, "ontp": Cause.TARGET, "onstopout": Cause.FORCED}


def cause_of(placed_type: str, comment: str) -> Cause:
    """Why a part was closed: the broker's own word for it, else what it writes into the comment."""
    if (told := _CAUSES.get(placed_type.lower())) is not None:
        return told
    if _STOPPED.search(comment):
        return Cause.STOP
    if _TAKEN.search(comment):
        return Cause.TARGET
    return Cause.FORCED if _FORCED.search(comment) else Cause.ORDER


def ended_of(answer: Any) -> list[Ended]:
    """The pending orders of MetaTrader 5 that came to nothing. Raises Unreadable."""
    states = {
        "cancelled": OrderStatus.CANCELLED,
        "rejected": OrderStatus.REJECTED,
        "expired": OrderStatus.EXPIRED,
    }
    return [
        Ended(
            each.whole("ticketNumber") or each.whole("ticket"),
            each.text("symbol"),
            each.whole("expertId"),
            each.text("comment"),
            states[each.text("state").lower()],
            None,
        )
        for each in records(answer)
        if each.text("state").lower() in states
    ]


def history_of_tickets(answer: Any, server: ServerTime) -> History:
    """What MetaTrader 4 tells of the past: closed tickets, each with its own opening. Raises Unreadable."""
    if isinstance(answer, dict):
        answer = Record.of(answer).raw("orders")
    openings: list[Opening] = []
    parts: list[Part] = []
    ended: list[Ended] = []
    for row in records(answer):
        ticket = ticket_in(row, server)
        if ticket is None:
            continue
        closed_at = server.read(row.text("closeTime"))
        if ticket.is_pending:
            ended.append(_ended(row, ticket, closed_at, server))
            continue
        openings.append(opening_of(ticket))
        parts.append(
            Part(
                number=ticket.number,
                order=ticket.number,
                position=ticket.number,
                symbol=ticket.symbol,
                side=ticket.side.opposite,
                lots=ticket.lots,
                price=row.amount("closePrice"),
                profit=row.amount("profit"),
                fees=ticket.fees,
                swap=row.amount_or_none("swap") or ZERO,
                cause=cause_of("", ticket.comment),
                magic=ticket.magic,
                comment=ticket.comment,
                at=closed_at,
                came_from=ticket.came_from,
            )
        )
    return History(tuple(openings), tuple(parts), tuple(ended))


def _ended(row: Record, ticket: Ticket, closed_at: datetime | None, server: ServerTime) -> Ended:
    ends_at = server.read(row.text("expiration"))
    lapsed = ends_at is not None and closed_at is not None and closed_at >= ends_at
    status = OrderStatus.EXPIRED if lapsed or "expir" in ticket.comment.lower() else OrderStatus.CANCELLED
    return Ended(ticket.number, ticket.symbol, ticket.magic, ticket.comment, status, closed_at)
