"""What became of an order, from books as MetaTrader shows them: families of tickets, late histories, hands."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.brokers.metatrader.books import Cause, Ended, History, Opening, Part, Ticket
from app.brokers.metatrader.lookups import Books
from app.brokers.metatrader.marks import Handle, magic_of
from app.brokers.metatrader.positions import Positions
from app.brokers.metatrader.rows import history_of_deals, history_of_tickets, tickets
from app.brokers.metatrader.wire import ServerTime, Unreadable
from app.brokers.port import ABSENT, AMBIGUOUS, CANNOT_SAY, Silence
from app.domain.money import ZERO
from app.domain.orders import OrderKey, OrderReport, OrderStatus, OrderType, Side

D = Decimal
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ATHENS = ServerTime(timedelta(hours=2))
NAME, OTHER = "teabcdefghijklmnop", "tezyxwvutsrqponmlk"
MAGIC = magic_of(NAME)


def ticket(number: int, lots: str, comment: str = NAME, **other: Any) -> Ticket:
    """An open long position of ours at 1.1."""
    fields: dict[str, Any] = {
        "number": number,
        "symbol": "EURUSD",
        "side": Side.BUY,
        "is_pending": False,
        "lots": D(lots),
        "price": D("1.1"),
        "stop": None,
        "target": None,
        "magic": MAGIC,
        "comment": comment,
        "opened_at": NOON,
        "fees": ZERO,
        "order": number,
        "deal": 1,
    }
    return Ticket(**{**fields, **other})


def opening(order: int, lots: str, *, deal: int = 1, comment: str = NAME, **other: Any) -> Opening:
    """What an order of ours opened."""
    fields: dict[str, Any] = {
        "deal": deal,
        "order": order,
        "position": order,
        "symbol": "EURUSD",
        "side": Side.BUY,
        "lots": D(lots),
        "price": D("1.1"),
        "fees": ZERO,
        "magic": MAGIC,
        "comment": comment,
        "at": NOON,
    }
    return Opening(**{**fields, **other})


def part(number: int, lots: str, comment: str = "", **other: Any) -> Part:
    """What was closed: a deal of position 7, or a ticket with `position` equal to its number."""
    fields: dict[str, Any] = {
        "number": number,
        "order": number,
        "position": 7,
        "symbol": "EURUSD",
        "side": Side.SELL,
        "lots": D(lots),
        "price": D("1.2"),
        "profit": D(100) * D(lots),
        "fees": D(2) * D(lots),
        "swap": -D(lots),
        "cause": Cause.ORDER,
        "magic": 0,
        "comment": comment,
        "at": NOON,
    }
    return Part(**{**fields, **other})


def closed(number: int, lots: str, comment: str, *, magic: int = MAGIC) -> Part:
    """A closed ticket of MetaTrader 4."""
    origin = int(comment.removeprefix("from #")) if comment.startswith("from #") else None
    return part(number, lots, comment, position=number, magic=magic, came_from=origin)


def five(
    open_ones: Sequence[Ticket] = (),
    openings: Sequence[Opening] = (),
    parts: Sequence[Part] = (),
    ended: Sequence[Ended] = (),
) -> Books:
    """The books of a MetaTrader 5 account."""
    return Books(Positions(open_ones, History(openings, parts, ended), has_deals=True), "USD")


def four(open_ones: Sequence[Ticket] = (), parts: Sequence[Part] = ()) -> Books:
    """The books of a MetaTrader 4 account: a closed ticket tells its own opening."""
    openings = [
        opening(each.number, str(each.lots), deal=each.number, comment=each.comment, magic=each.magic)
        for each in parts
    ]
    return Books(Positions(open_ones, History(openings, parts), has_deals=False), "USD")


def entry(quantity: str = "0.5", **other: Any) -> OrderKey:
    """How an entry is asked about."""
    key = OrderKey(NAME, None, "EURUSD", OrderType.MARKET, NOON, quantity=D(quantity))
    return replace(key, **other)


def close(handle: Handle, quantity: str, **other: Any) -> OrderKey:
    """How a close is asked about."""
    key = OrderKey(NAME, None, "EURUSD", OrderType.MARKET, NOON, handle.text(), quantity=D(quantity))
    return replace(key, **other)


def stop(handle: Handle, price: str, exchange_order_id: str | None = None) -> OrderKey:
    """How a stop is asked about."""
    return OrderKey(
        NAME, exchange_order_id, "EURUSD", OrderType.STOP, NOON, handle.text(), trigger_price=D(price)
    )


def told(report: OrderReport | Silence) -> OrderReport:
    """A report, and nothing less."""
    assert isinstance(report, OrderReport), report
    return report


SEVEN = Handle(7, MAGIC, D("0.5"), 1)


class TestEntries:
    def test_a_comment_of_ours_is_proof_without_our_number(self) -> None:
        for magic in (0, 1_700_000_000):
            found = told(five(openings=[opening(7, "0.5", magic=magic)]).report(entry()))
            assert (found.exchange_order_id, found.filled_quantity) == ("7", D("0.5"))

    def test_our_number_is_proof_without_a_comment(self) -> None:
        assert told(five(openings=[opening(7, "0.5", comment="")]).report(entry())).exchange_order_id == "7"
        assert five(openings=[opening(7, "0.5", comment=OTHER)]).report(entry()) is ABSENT

    def test_what_is_bare_and_just_as_large_may_be_ours(self) -> None:
        bare = opening(7, "0.5", magic=0, comment="")
        assert five(openings=[bare]).report(entry()) is CANNOT_SAY
        assert five(openings=[replace(bare, lots=D("0.4"))]).report(entry()) is ABSENT
        assert five(openings=[replace(bare, at=NOON - timedelta(hours=1))]).report(entry()) is ABSENT

    def test_one_that_was_taken_is_never_absent(self) -> None:
        assert five().report(entry(exchange_order_id="7")) is CANNOT_SAY
        bare = opening(7, "0.5", magic=0, comment="")
        assert told(five(openings=[bare]).report(entry(exchange_order_id="7"))).exchange_order_id == "7"

    def test_two_of_them_are_for_a_person_who_names_one(self) -> None:
        shown = five(openings=[opening(7, "0.5"), opening(8, "0.5", deal=2)])
        assert shown.report(entry()) is AMBIGUOUS
        assert told(shown.report(entry(exchange_order_id="8"))).exchange_order_id == "8"

    def test_one_that_is_filled_in_part_and_waits_still_is_open(self) -> None:
        waits = ticket(7, "0.3", is_pending=True)
        key = entry(type=OrderType.LIMIT)
        found = told(five([waits], [opening(7, "0.2")]).report(key))
        assert (found.status, found.filled_quantity) == (OrderStatus.OPEN, D("0.2"))
        ended = Ended(7, "EURUSD", MAGIC, NAME, OrderStatus.CANCELLED, NOON)
        found = told(five((), [opening(7, "0.2")], (), [ended]).report(key))
        assert (found.status, found.filled_quantity) == (OrderStatus.CANCELLED, D("0.2"))
        found = told(five((), [opening(7, "0.2"), opening(7, "0.3", deal=2)]).report(key))
        assert (found.status, found.filled_quantity) == (OrderStatus.FILLED, D("0.5"))

    def test_a_ticket_that_nets_holds_no_more_of_ours_than_was_asked_for(self) -> None:
        assert told(five([ticket(7, "1.2")]).report(entry())).filled_quantity == D("0.5")

    def test_an_entry_of_which_parts_were_closed_is_found_whole(self) -> None:
        parts = [closed(7, "0.1", "to #8"), closed(8, "0.1", "to #9")]
        found = told(four([ticket(9, "0.3", "from #8", magic=0)], parts).report(entry()))
        assert (found.exchange_order_id, found.filled_quantity) == ("7", D("0.5"))
        # While the history lacks a part, its size is not known.
        assert four([ticket(9, "0.3", "from #8")], parts[1:]).report(entry()) is CANNOT_SAY


class TestFamilies:
    """Position 7 of half a lot, of which the owner has closed two parts."""

    PARTS = (closed(7, "0.1", "to #8"), closed(8, "0.1", "to #9"))

    @pytest.mark.parametrize(
        ("rest", "parts"),
        [
            (ticket(9, "0.3", "from #8"), PARTS),
            (ticket(9, "0.3", ""), PARTS),
            (ticket(9, "0.3", "", magic=0), PARTS),
            (ticket(9, "0.3", "from #8", magic=0), (closed(7, "0.1", "to #8"), closed(8, "0.1", ""))),
            (ticket(9, "0.3", ""), (closed(7, "0.1", ""), closed(8, "0.1", ""))),
        ],
        ids=["both links", "no from", "no from, no number", "no second to", "only the number"],
    )
    def test_the_rest_is_found(self, rest: Ticket, parts: Sequence[Part]) -> None:
        shown = four([rest, ticket(20, "0.3", "", magic=5)], parts).positions
        handle = Handle(7, MAGIC, D("0.5"))
        assert shown.ticket(handle) == rest
        assert shown.untold(handle) == ZERO
        assert shown.renewed(handle) == Handle(9, MAGIC, D("0.3"))
        assert shown.ticket(Handle(9, MAGIC, D("0.3"))) == rest

    def test_a_second_position_under_the_same_number_is_no_rest(self) -> None:
        doubled = four([ticket(8, "0.5")], [closed(7, "0.5", NAME)]).positions
        assert doubled.ticket(Handle(7, MAGIC, D("0.5"))) is None
        cut = four([ticket(8, "0.5"), ticket(9, "0.3", "")], [closed(7, "0.2", "")]).positions
        assert cut.ticket(Handle(7, MAGIC, D("0.5"))) is None

    def test_a_close_of_the_rest_is_what_left_it_afterwards(self) -> None:
        shown = four(parts=[*self.PARTS, closed(9, "0.3", "from #8")])
        found = told(shown.report(close(Handle(9, MAGIC, D("0.3")), "0.5")))
        assert (found.status, found.filled_quantity, found.exchange_order_id) == (
            OrderStatus.FILLED,
            D("0.3"),
            "9",
        )


class TestCloses:
    def test_a_position_that_holds_less_than_the_history_tells_is_not_concluded_from(self) -> None:
        assert five([ticket(7, "0.5")]).report(close(SEVEN, "0.2")) is ABSENT
        assert five([ticket(7, "0.3")]).report(close(SEVEN, "0.2")) is CANNOT_SAY
        assert five().report(close(SEVEN, "0.5")) is CANNOT_SAY
        late = four([ticket(8, "0.3", "from #7")])
        assert late.report(close(Handle(7, MAGIC, D("0.5")), "0.2")) is CANNOT_SAY

    def test_our_comment_goes_before_none(self) -> None:
        shown = five([ticket(7, "0.1")], parts=[part(2, "0.2"), part(3, "0.2", NAME)])
        found = told(shown.report(close(SEVEN, "0.2")))
        assert (found.exchange_order_id, found.filled_quantity) == ("3", D("0.2"))
        # What was done by hand before it is accounted for as well.
        assert found.handle == Handle(7, MAGIC, D("0.1"), 3).text()

    def test_the_order_that_the_answer_named_goes_before_both(self) -> None:
        shown = five([ticket(7, "0.1")], parts=[part(2, "0.2"), part(3, "0.2")])
        assert shown.report(close(SEVEN, "0.2")) is AMBIGUOUS
        found = told(shown.report(close(SEVEN, "0.2", exchange_order_id="3")))
        assert found.exchange_order_id == "3"

    @pytest.mark.parametrize("books", [five, four])
    def test_of_a_part_a_smaller_one_without_a_name_may_be_ours_cut_short(self, books: Any) -> None:
        deals = books is five
        rest = ticket(7, "0.4") if deals else ticket(8, "0.4", "from #7")
        taken = part(2, "0.1") if deals else closed(7, "0.1", "to #8")
        handle = SEVEN if deals else Handle(7, MAGIC, D("0.5"))
        assert books([rest], parts=[taken]).report(close(handle, "0.2")) is CANNOT_SAY
        # The whole of it has to go all the same, and what is larger is not ours.
        assert books([rest], parts=[taken]).report(close(handle, "0.5")) is ABSENT
        assert books([rest], parts=[taken]).report(close(handle, "0.05")) is ABSENT

    def test_one_of_ours_that_was_cut_short_says_so(self) -> None:
        found = told(five([ticket(7, "0.4")], parts=[part(2, "0.1", NAME)]).report(close(SEVEN, "0.2")))
        assert (found.status, found.filled_quantity) == (OrderStatus.CANCELLED, D("0.1"))
        # Unless another deal of it may be on its way to the history.
        late = five([ticket(7, "0.3")], parts=[part(2, "0.1", NAME)])
        assert late.report(close(SEVEN, "0.2")) is CANNOT_SAY

    def test_another_order_of_ours_is_not_this_one(self) -> None:
        shown = five([ticket(7, "0.3")], parts=[part(2, "0.2", OTHER)])
        assert shown.report(close(SEVEN, "0.2")) is ABSENT


class TestNetting:
    def test_of_what_the_stop_took_only_ours_is_ours(self) -> None:
        fired = part(3, "2", "[sl 1.09]", cause=Cause.STOP)
        added = opening(8, "1.5", deal=2, magic=0, comment="", position=7)
        found = told(five(openings=[added], parts=[fired]).report(stop(SEVEN, "1.09", "7")))
        assert (found.filled_quantity, found.profit, found.funding) == (D("0.5"), D(50), D("-0.5"))
        assert (found.fees, found.average_price) == ({"USD": D(1)}, D("1.2"))

    def test_a_close_of_ours_is_missed_beside_what_others_hold(self) -> None:
        beside = replace(SEVEN, beside=D("1.5"))
        assert five([ticket(7, "2")]).report(close(beside, "0.5")) is ABSENT
        assert five([ticket(7, "1.5")]).report(close(beside, "0.5")) is CANNOT_SAY
        found = told(five([ticket(7, "1.5")], parts=[part(2, "0.5", NAME)]).report(close(beside, "0.5")))
        assert found.handle == Handle(7, MAGIC, ZERO, 2, D("1.5")).text()

    def test_what_was_added_is_known_from_then_on_and_goes_first(self) -> None:
        added = opening(8, "1.5", deal=2, magic=0, comment="", position=7)
        shown = five([ticket(7, "2")], [added]).positions
        assert shown.renewed(SEVEN) == Handle(7, MAGIC, D("0.5"), 2, D("1.5"))
        # Nothing is put down of what the history does not tell yet.
        assert five([ticket(7, "2")]).positions.renewed(SEVEN) == SEVEN
        shown = five([ticket(7, "0.8")], [added], [part(3, "1.2")]).positions
        assert shown.renewed(SEVEN) == Handle(7, MAGIC, D("0.5"), 3, D("0.3"))


class TestLegs:
    def test_one_that_was_never_acknowledged_is_there_by_its_own_levels_alone(self) -> None:
        shown = five([ticket(7, "0.5", stop=D("1.09"))])
        assert shown.report(stop(SEVEN, "1.095")) is ABSENT
        assert told(shown.report(stop(SEVEN, "1.09"))).status is OrderStatus.OPEN
        # An acknowledged one may have been moved by its owner.
        assert told(shown.report(stop(SEVEN, "1.095", "7"))).trigger_price == D("1.09")


ROW = {
    "ticket": 7,
    "symbol": "EURUSD",
    "lots": D("0.5"),
    "openPrice": D("1.1"),
    "closePrice": D("1.2"),
    "profit": D(1),
    "openTime": "2026-11-24T14:00:00",
}
DEAL = {
    "ticketNumber": 1,
    "orderTicket": 7,
    "positionTicket": 7,
    "symbol": "EURUSD",
    "type": "DealBuy",
    "direction": "In",
    "lots": D("0.5"),
    "openPrice": D("1.1"),
    "profit": D(0),
}


class TestRows:
    """What cannot be read is never passed over: it may be a position."""

    @pytest.mark.parametrize("type_", [None, "", 0, "CloseBy", "Buy?", "DealBuy"])
    def test_an_order_of_a_type_that_is_not_known(self, type_: Any) -> None:
        row = {**ROW, "orderType": type_}
        with pytest.raises(Unreadable):
            tickets([row], ATHENS)
        with pytest.raises(Unreadable):
            history_of_tickets([row], ATHENS)

    def test_an_order_without_its_ticket(self) -> None:
        with pytest.raises(Unreadable):
            tickets([{**ROW, "orderType": "Buy", "ticket": None}], ATHENS)

    @pytest.mark.parametrize(
        "change", [{"type": ""}, {"type": "Something"}, {"direction": ""}, {"ticketNumber": 0}]
    )
    def test_a_deal_that_may_be_one(self, change: dict[str, Any]) -> None:
        with pytest.raises(Unreadable):
            history_of_deals({"orders": [], "internalDeals": [{**DEAL, **change}]}, ATHENS)

    @pytest.mark.parametrize("type_", ["Balance", "DealCredit", "Commission_daily", "Dividend", "Tax"])
    def test_money_is_no_trade(self, type_: str) -> None:
        assert tickets([{**ROW, "type": type_}], ATHENS) == []
        told = history_of_deals({"orders": [], "internalDeals": [{**DEAL, "type": type_}]}, ATHENS)
        assert told == History()

    def test_a_deal_that_turns_a_position_round_closes_it_and_opens_one(self) -> None:
        told = history_of_deals({"orders": [], "internalDeals": [{**DEAL, "direction": "InOut"}]}, ATHENS)
        assert (len(told.openings), len(told.parts)) == (1, 1)
