"""What is taken from whose position when the venue holds less, and which trades account for it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.domain.holdings import Departure, Fill, Stake, departures, missing, newest_first, surplus
from app.domain.money import ZERO, exact, floor_to_step
from app.domain.orders import Side

OPENED = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
STEP = Decimal("0.001")


def stake(number: int, quantity: str, *, step: Decimal = STEP) -> Stake:
    """A position; higher numbers are younger."""
    return Stake(UUID(int=number), OPENED + timedelta(minutes=number), Decimal(quantity), step)


def fill(minute: int, quantity: str, price: str, *, forced: bool = False, fee: str | None = "1") -> Fill:
    """A sale of that minute."""
    fees = None if fee is None else {"USDT": Decimal(fee)}
    time = OPENED + timedelta(minutes=minute)
    return Fill(f"o{minute}", Side.SELL, Decimal(quantity), Decimal(price), time, fees, forced)


def test_what_is_held_in_full_loses_nothing() -> None:
    assert missing([stake(1, "0.1")], Decimal("0.1")) == {}
    assert missing([stake(1, "0.1")], Decimal(5)) == {}
    assert missing([], ZERO) == {}


def test_the_newest_loses_first() -> None:
    stakes = [stake(1, "0.1"), stake(2, "0.2")]
    assert missing(stakes, Decimal("0.25")) == {UUID(int=2): Decimal("0.05")}
    assert missing(stakes, Decimal("0.05")) == {UUID(int=2): Decimal("0.2"), UUID(int=1): Decimal("0.05")}
    assert missing(stakes, ZERO) == {UUID(int=2): Decimal("0.2"), UUID(int=1): Decimal("0.1")}


def test_what_is_cut_off_below_a_step_is_nobodys_doing() -> None:
    assert missing([stake(1, "0.10009")], Decimal("0.10001")) == {}


def test_what_can_no_longer_be_sold_is_gone_to_the_last_decimal() -> None:
    assert missing([stake(1, "0.1")], Decimal("0.09999")) == {UUID(int=1): Decimal("0.00001")}


def test_the_other_side_is_not_less_than_nothing() -> None:
    assert missing([stake(1, "0.1")], Decimal(-3)) == {UUID(int=1): Decimal("0.1")}


def test_what_is_beyond_ours_is_the_owners() -> None:
    assert surplus([stake(1, "0.1")], Decimal("0.15")) == Decimal("0.05")
    assert surplus([stake(1, "0.1")], Decimal("0.05")) == ZERO


def test_the_newest_trades_account_for_what_is_gone() -> None:
    gone = [(UUID(int=1), Decimal("0.04"))]
    [part] = departures(gone, [fill(1, "0.05", "100"), fill(2, "0.02", "110", fee="2")])[UUID(int=1)]
    assert part == Departure(
        quantity=Decimal("0.04"),
        forced=False,
        price=Decimal(105),
        fees={"USDT": Decimal("2.4")},
        time=OPENED + timedelta(minutes=2),
        exchange_order_id="o2",
    )


def test_forced_and_other_trades_stay_apart_and_the_rest_has_no_price() -> None:
    fills = [fill(1, "0.05", "100"), fill(2, "0.03", "90", forced=True)]
    parts = departures([(UUID(int=1), Decimal("0.1"))], fills)[UUID(int=1)]
    assert [(part.quantity, part.forced, part.price) for part in parts] == [
        (Decimal("0.05"), False, Decimal(100)),
        (Decimal("0.03"), True, Decimal(90)),
        (Decimal("0.02"), False, None),
    ]


def test_a_trade_without_a_fee_leaves_the_fees_untold() -> None:
    [part] = departures([(UUID(int=1), Decimal(1))], [fill(1, "1", "100", fee=None)])[UUID(int=1)]
    assert (part.price, part.fees) == (Decimal(100), None)


amounts = st.decimals(min_value=0, max_value=100, places=8)
stakes_of = st.lists(st.tuples(amounts, st.sampled_from(["0.001", "0.01", "1"])), max_size=6).map(
    lambda drawn: [stake(n, str(q), step=Decimal(s)) for n, (q, s) in enumerate(drawn, 1)]
)


@exact
def total(amounts: list[Decimal]) -> Decimal:
    """Their exact sum."""
    return sum(amounts, ZERO)


@given(stakes_of, amounts)
def test_never_more_is_taken_than_is_gone_and_what_is_left_can_be_held(
    stakes: list[Stake], held: Decimal
) -> None:
    taken = missing(stakes, held)
    ours = total([each.quantity for each in stakes])
    by_id = {each.id: each for each in stakes}
    for name, quantity in taken.items():
        assert ZERO < quantity <= by_id[name].quantity
    if taken:
        assert total([ours, -total(list(taken.values()))]) == held
        assert held < ours
    else:
        assert held >= total([floor_to_step(each.quantity, each.step) for each in stakes])
    # Nobody older loses while a younger one has anything left.
    for younger, older in zip(newest_first(stakes), newest_first(stakes)[1:], strict=False):
        if older.id in taken and younger.quantity:
            assert taken[younger.id] == younger.quantity


@given(stakes_of, amounts)
def test_once_taken_nothing_is_missing_any_more(stakes: list[Stake], held: Decimal) -> None:
    taken = missing(stakes, held)
    rest = [
        Stake(each.id, each.opened_at, total([each.quantity, -taken.get(each.id, ZERO)]), each.step)
        for each in stakes
    ]
    assert missing(rest, held) == {}


@given(
    st.lists(st.decimals(min_value="0.001", max_value=10, places=3), min_size=1, max_size=4),
    st.lists(
        st.tuples(
            st.decimals(min_value="0.001", max_value=10, places=3),
            st.decimals(min_value=1, max_value=1000, places=2),
            st.booleans(),
        ),
        max_size=6,
    ),
)
def test_every_share_is_accounted_for_once_and_no_trade_twice(
    shares: list[Decimal], trades: list[tuple[Decimal, Decimal, bool]]
) -> None:
    fills = [fill(n, str(q), str(p), forced=forced) for n, (q, p, forced) in enumerate(trades)]
    wanted = [(UUID(int=n), quantity) for n, quantity in enumerate(shares)]
    found = departures(wanted, fills)
    for name, quantity in wanted:
        assert total([part.quantity for part in found[name]]) == quantity
    priced = [part for parts in found.values() for part in parts if part.price is not None]
    covered = total([part.quantity for part in priced])
    assert covered == min(total(shares), total([each.quantity for each in fills]))
    prices = [each.price for each in fills]
    for part in priced:
        assert part.price is not None
        assert min(prices) - Decimal("1e-9") <= part.price <= max(prices) + Decimal("1e-9")
