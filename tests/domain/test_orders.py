"""Orders: sides, states, ids, and which news about an order may be believed."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.orders import (
    FINAL,
    LIVE,
    OrderKey,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    Side,
    client_order_id,
    merged_fees,
    resembles,
    status_after,
    supersedes,
)
from tests.domain.samples import NOON, D, assert_unmoved, decimals

PENDING, SENDING, OPEN = OrderStatus.PENDING, OrderStatus.SENDING, OrderStatus.OPEN
FILLED, CANCELLED, REVIEW = OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.NEEDS_REVIEW


def report(status: OrderStatus, filled: str | Decimal) -> OrderReport:
    """What a venue may say of an order."""
    return OrderReport("c1", "x1", status, D(filled), None)


# Sides and states


def test_a_position_is_closed_by_the_opposite_side() -> None:
    assert (Side.BUY.opposite, Side.BUY.sign) == (Side.SELL, 1)
    assert (Side.SELL.opposite, Side.SELL.sign) == (Side.BUY, -1)


def test_an_order_is_live_until_it_is_final() -> None:
    assert {PENDING, SENDING, OPEN, REVIEW} == LIVE
    assert {FILLED, CANCELLED, OrderStatus.REJECTED, OrderStatus.EXPIRED} == FINAL
    assert set(OrderStatus) == LIVE | FINAL


# Ids


def test_a_client_order_id_is_made_from_order_and_attempt() -> None:
    # printf '%s' '00000000-0000-0000-0000-000000000001:1' | sha256sum | cut -c1-32
    assert client_order_id(UUID(int=1), 1) == "52aff933662a757c970bbaaa17cae895"


@given(st.lists(st.tuples(st.uuids(), st.integers(1, 99)), unique=True, max_size=20))
def test_client_order_ids_are_distinct_and_stable(attempts: list[tuple[UUID, int]]) -> None:
    ids = [client_order_id(*attempt) for attempt in attempts]
    assert len(set(ids)) == len(attempts)
    assert ids == [client_order_id(*attempt) for attempt in attempts]
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in ids)


def test_a_request_is_asked_about_by_its_client_id_and_the_time_of_its_claim() -> None:
    request = OrderRequest("c1", "BTC/USDT", Side.BUY, OrderType.LIMIT, D("0.5"), NOON, price=D(100))
    assert request.key == OrderKey(
        "c1", None, "BTC/USDT", OrderType.LIMIT, NOON, price=D(100), quantity=D("0.5")
    )


# News


@pytest.mark.parametrize(
    ("known", "filled", "news", "believed"),
    [
        (SENDING, "0", report(OPEN, "0"), True),
        (SENDING, "0", report(FILLED, "1"), True),
        (OPEN, "0", report(OPEN, "0.4"), True),
        (OPEN, "0.4", report(OPEN, "0.4"), True),  # heard twice: the same totals
        (OPEN, "0.4", report(CANCELLED, "0.4"), True),
        (REVIEW, "0", report(FILLED, "1"), True),
        (PENDING, "0", report(OPEN, "0"), True),  # it was sent after all
        (OPEN, "0.4", report(OPEN, "0.3"), False),  # the filled quantity never falls
        (OPEN, "0.4", report(CANCELLED, "0"), False),
        (OPEN, "0", report(SENDING, "0"), False),  # acknowledged stays acknowledged
        (OPEN, "0", report(PENDING, "0"), False),
        (OPEN, "0.1", report(SENDING, "0.4"), False),
        (REVIEW, "0", report(SENDING, "0"), False),
        # More was filled than was known when it ended; anything else comes too late.
        *((final, "0.4", report(news, "1"), True) for final in sorted(FINAL) for news in OrderStatus),
        *((final, "0.4", report(news, "0.4"), False) for final in sorted(FINAL) for news in OrderStatus),
    ],
)
def test_what_may_be_believed(known: OrderStatus, filled: str, news: OrderReport, believed: bool) -> None:
    assert supersedes(known, D(filled), news) is believed


def heard(reports: Sequence[OrderReport]) -> list[tuple[OrderStatus, Decimal]]:
    """What is recorded of an order just sent after each of these reports."""
    states = [(SENDING, D(0))]
    for news in reports:
        status, filled = states[-1]
        if supersedes(status, filled, news):
            status, filled = status_after(status, news), news.filled_quantity
        states.append((status, filled))
    return states


quantities = decimals("0", "10", 3)


@given(st.lists(st.builds(report, st.sampled_from(OrderStatus), quantities), max_size=8))
def test_whatever_is_heard_an_order_never_moves_back(reports: list[OrderReport]) -> None:
    rank = {PENDING: 0, SENDING: 1, REVIEW: 2, OPEN: 3}
    for (status, filled), (next_status, next_filled) in pairwise(heard(reports)):
        assert next_filled >= filled
        assert rank.get(next_status, 4) >= rank.get(status, 4)
        assert status not in FINAL or next_status in FINAL
        assert status not in FINAL or next_filled > filled or next_status is status


@given(st.lists(quantities, min_size=1, max_size=6), st.sampled_from(sorted(FINAL)), st.data())
def test_a_history_heard_in_any_order_and_twice_ends_where_it_ended(
    fills: list[Decimal], end: OrderStatus, data: st.DataObject
) -> None:
    *earlier, last = sorted(fills)
    history = [report(OPEN, filled) for filled in earlier] + [report(end, last)]
    order = data.draw(st.permutations(history + history))
    assert heard(order)[-1] == (end, last)


# Fees


def test_fees_add_up_per_currency() -> None:
    assert merged_fees([{"USDT": D("0.10"), "BNB": D("0.001")}, {}, {"USDT": D("-0.04")}]) == {
        "USDT": D("0.06"),
        "BNB": D("0.001"),
    }
    assert merged_fees([]) == {}


purses = st.lists(
    st.dictionaries(st.sampled_from(["USDT", "BTC", "BNB"]), decimals("-1000000", "1000000", 12)), max_size=5
)


@given(purses, st.data())
def test_fees_do_not_depend_on_the_order(fees: list[dict[str, Decimal]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(fees))
    assert merged_fees([*shuffled]) == merged_fees([*fees])
    assert_unmoved(lambda: merged_fees([*fees]))


@pytest.mark.parametrize(
    ("name", "ours", "expected"),
    [
        ("9f86d081884c7d659a2feaa0c55ad015", "e3b0c44298fc1c149afbf4c8996fb924", True),
        ("9F86D081884C7D659A2FEAA0C55AD015", "e3b0c44298fc1c149afbf4c8996fb924", False),
        ("web_9f86d081884c7d659a2feaa0c55a", "e3b0c44298fc1c149afbf4c8996fb924", False),
        ("9f86d081884c7d659a2f", "e3b0c44298fc1c149afbf4c8996fb924", False),
        ("0x9f86d081884c7d65", "0xe3b0c44298fc1c14", True),
        ("009f86d081884c7d65", "0xe3b0c44298fc1c14", False),
        ("812345678901234567", "8123456789012345678", True),
        ("8123", "8123456789012345678", False),
        ("t5kd9vnapq", "t2mxw7arrz", True),
        ("t5kd-vnapq", "t2mxw7arrz", False),
    ],
)
def test_an_id_like_ours(name: str, ours: str, *, expected: bool) -> None:
    assert resembles(name, ours) is expected
