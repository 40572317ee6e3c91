"""Matching: levels, gaps, slippage, parts and expiry by hand; conservation of money and repeatability by law."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.brokers.paper.admission import admitted
from app.brokers.paper.ledger import Ledger, Net, netted
from app.brokers.paper.listings import Listing
from app.brokers.paper.matching import Books, matched, slipped, standings_of
from app.brokers.paper.tape import POINTS, Candle
from app.brokers.paper.terms import RECORDING, FeeIn, Terms
from app.brokers.paper.tickets import Ticket
from app.brokers.port import Refused
from app.domain.market import Instrument, MarketType
from app.domain.orders import Leg, OrderRequest, OrderStatus, OrderType, Side
from tests.brokers.candles import START, candle, candles, recording

ZERO = Decimal(0)
SECOND = timedelta(seconds=1)

SPOT = Instrument(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    settle=None,
    market_type=MarketType.SPOT,
    quantity_step=Decimal("0.01"),
    price_tick=Decimal("0.1"),
    min_quantity=Decimal("0.01"),
    min_notional=Decimal(5),
)
SWAP = replace(SPOT, symbol="BTC/USDT:USDT", settle="USDT", market_type=MarketType.SWAP)

TERMS = Terms(
    prices=RECORDING,
    seed="0",
    market_type=MarketType.SPOT,
    currency="USDT",
    balance=Decimal(10000),
    fee_rate=Decimal("0.001"),
    slippage=Decimal("0.005"),
    fee_in=FeeIn.QUOTE,
    partial_fill=Decimal(1),
    leverage=Decimal(1),
)


def terms_for(instrument: Instrument) -> Terms:
    """TERMS on the market of an instrument; swaps at a leverage of 5."""
    if instrument.market_type is MarketType.SPOT:
        return TERMS
    return replace(TERMS, market_type=MarketType.SWAP, leverage=Decimal(5))


@dataclass
class Floor:
    """One account that trades one symbol along played candles; time moves when it is told to."""

    instrument: Instrument
    played: Sequence[Candle]
    terms: Terms = TERMS
    half_spread: Decimal = ZERO
    books: Books = field(default_factory=lambda: Books(Ledger({"USDT": Decimal(10000)})))
    moment: datetime = START

    @property
    def listings(self) -> Mapping[str, Listing]:
        """The one listing."""
        listing = Listing(self.instrument, recording(self.played), self.half_spread)
        return {self.instrument.symbol: listing}

    def place(
        self,
        side: Side,
        kind: OrderType,
        quantity: str = "1",
        price: str | None = None,
        trigger: str | None = None,
        *,
        reduce_only: bool = False,
        expires_at: datetime | None = None,
    ) -> Ticket:
        """Put an order in at the present moment."""
        number = len(self.books.tickets) + 1
        request = OrderRequest(
            client_order_id=f"order-{number}",
            symbol=self.instrument.symbol,
            side=side,
            type=kind,
            quantity=Decimal(quantity),
            signed_at=self.moment,
            price=None if price is None else Decimal(price),
            trigger_price=None if trigger is None else Decimal(trigger),
            reduce_only=reduce_only,
            expires_at=expires_at,
        )
        quote = self.listings[request.symbol].quote(self.moment)
        assert quote is not None
        self.books = admitted(
            self.books, request, number, self.listings, {request.symbol: quote}, self.terms, self.moment
        )
        return self.books.tickets[request.client_order_id]

    def play(self, seconds: str | None = None) -> None:
        """Let the orders meet the prices of the next `seconds`, or of all there are."""
        until = START + len(self.played) * SECOND
        if seconds is not None:
            until = self.moment + timedelta(milliseconds=int(Decimal(seconds) * 1000))
        self.books = matched(self.books, self.listings, self.terms, self.moment, until)
        self.moment = until

    def ticket(self, number: int) -> Ticket:
        """What became of the order of that number."""
        return self.books.tickets[f"order-{number}"]

    def balance(self, currency: str) -> Decimal:
        """Total of one currency."""
        return self.books.ledger.balances.get(currency, ZERO)

    def free(self, currency: str) -> Decimal:
        """What may be spent of it."""
        quotes = {symbol: listing.quote(self.moment) for symbol, listing in self.listings.items()}
        known = {symbol: quote for symbol, quote in quotes.items() if quote is not None}
        return standings_of(self.books, self.listings, known, self.terms)[currency].free


def spot(*played: Candle, terms: Terms = TERMS, half_spread: str = "0") -> Floor:
    """A spot account with 10,000 USDT."""
    return Floor(SPOT, played, terms, Decimal(half_spread))


def swap(*played: Candle) -> Floor:
    """A swap account with 10,000 USDT at a leverage of 5."""
    return Floor(SWAP, played, terms_for(SWAP))


FLAT = candle(100, 100, 100, 100)
UP = candle(100, 120, 95, 110)
"""Walks 100, 95, 120, 110."""
DOWN = candle(100, 105, 80, 90)
"""Walks 100, 105, 80, 90."""


class TestFills:
    def test_a_limit_fills_at_its_level_at_the_moment_the_price_is_there(self) -> None:
        floor = spot(FLAT, UP)
        floor.place(Side.BUY, OrderType.LIMIT, price="97")
        floor.play()
        report = floor.ticket(1).report()
        assert (report.status, report.average_price) == (OrderStatus.FILLED, Decimal(97))
        assert report.time == START + timedelta(milliseconds=1250)
        assert report.fees == {"USDT": Decimal("0.097")}
        assert floor.books.ledger.balances == {"USDT": Decimal("9902.903"), "BTC": Decimal(1)}

    def test_a_level_that_is_only_just_reached_fills(self) -> None:
        floor = spot(FLAT, UP)
        floor.place(Side.BUY, OrderType.LIMIT, price="95")
        floor.play()
        assert floor.ticket(1).report().average_price == 95

    def test_one_that_is_missed_by_a_tick_rests(self) -> None:
        floor = spot(FLAT, UP)
        floor.place(Side.BUY, OrderType.LIMIT, price="94.9")
        floor.play()
        assert floor.ticket(1).is_open

    def test_what_happened_before_an_order_does_not_touch_it(self) -> None:
        floor = spot(UP, FLAT)
        floor.play("0.5")
        floor.place(Side.BUY, OrderType.LIMIT, price="97")
        floor.play()
        assert floor.ticket(1).is_open

    def test_a_limit_that_gapped_through_fills_at_the_open(self) -> None:
        floor = spot(FLAT, candle(90, 99, 85, 95))
        floor.place(Side.BUY, OrderType.LIMIT, price="97")
        floor.play()
        assert floor.ticket(1).report().average_price == 90

    def test_a_stop_slips_from_its_level(self) -> None:
        floor = spot(FLAT, DOWN)
        floor.place(Side.BUY, OrderType.MARKET)
        floor.place(Side.SELL, OrderType.STOP, trigger="90")
        floor.play()
        report = floor.ticket(2).report()
        assert (report.average_price, report.leg) == (Decimal("89.5"), Leg.STOP)

    def test_a_stop_that_gapped_through_slips_from_the_open(self) -> None:
        floor = spot(FLAT, candle(80, 80, 80, 80))
        floor.place(Side.BUY, OrderType.MARKET)
        floor.place(Side.SELL, OrderType.STOP, trigger="90")
        floor.play()
        assert floor.ticket(2).report().average_price == Decimal("79.6")

    @pytest.mark.parametrize(("next_candle", "leg"), [(UP, Leg.STOP), (DOWN, Leg.TARGET)])
    def test_in_one_candle_the_walk_says_which_leg_comes_first(self, next_candle: Candle, leg: Leg) -> None:
        floor = spot(FLAT, next_candle)
        floor.place(Side.BUY, OrderType.MARKET)
        floor.place(Side.SELL, OrderType.OCO, price="105", trigger="95")
        floor.play()
        assert floor.ticket(2).leg is leg
        assert floor.balance("BTC") == ZERO

    def test_buys_meet_the_ask_and_sells_the_bid(self) -> None:
        floor = spot(FLAT, UP, half_spread="1")
        floor.place(Side.BUY, OrderType.LIMIT, price="95.9")
        floor.place(Side.BUY, OrderType.LIMIT, price="96")
        floor.play()
        assert [floor.ticket(number).status for number in (1, 2)] == [OrderStatus.OPEN, OrderStatus.FILLED]

    def test_the_nearest_of_two_levels_is_met_first(self) -> None:
        floor = swap(FLAT, UP)
        floor.place(Side.BUY, OrderType.MARKET)
        floor.place(Side.SELL, OrderType.TAKE_PROFIT, price="118")
        floor.place(Side.SELL, OrderType.TAKE_PROFIT, price="112")
        floor.play()
        assert floor.ticket(3).status is OrderStatus.FILLED
        assert floor.ticket(2).status is OrderStatus.CANCELLED
        assert (floor.ticket(2).leg, floor.ticket(2).fees) == (None, {})

    def test_a_stop_fires_when_the_bid_is_there_though_the_middle_is_not(self) -> None:
        floor = spot(FLAT, candle("100", "100", "90.5", "90.5"), half_spread="1")
        floor.place(Side.BUY, OrderType.MARKET)
        floor.place(Side.SELL, OrderType.STOP, trigger="90")
        floor.play()
        assert floor.ticket(2).leg is Leg.STOP

    def test_a_market_order_pays_quote_and_slippage_on_the_tick(self) -> None:
        floor = spot(candle("100.3", "100.3", "100.3", "100.3"))
        assert floor.place(Side.BUY, OrderType.MARKET).report().average_price == Decimal("100.9")
        assert floor.place(Side.SELL, OrderType.MARKET).report().average_price == Decimal("99.7")

    def test_slippage_never_reaches_zero(self) -> None:
        assert slipped(Decimal("0.1"), Side.SELL, Decimal(1), Decimal("0.1")) == Decimal("0.1")

    def test_a_fee_in_the_base_coin_shrinks_what_a_buy_brings(self) -> None:
        floor = spot(FLAT, terms=replace(TERMS, fee_in=FeeIn.BASE, slippage=ZERO))
        assert floor.place(Side.BUY, OrderType.MARKET).fees == {"BTC": Decimal("0.001")}
        assert floor.books.ledger.balances == {"USDT": Decimal(9900), "BTC": Decimal("0.999")}
        assert floor.place(Side.SELL, OrderType.MARKET, "0.99").fees == {"USDT": Decimal("0.099")}


class TestParts:
    terms = replace(TERMS, partial_fill=Decimal("0.4"))

    def test_a_resting_limit_fills_in_parts_point_by_point(self) -> None:
        floor = spot(FLAT, candle(100, 100, 90, 90), FLAT, terms=self.terms)
        floor.place(Side.BUY, OrderType.LIMIT, price="95")
        floor.play("1.5")
        assert (floor.ticket(1).filled, floor.ticket(1).status) == (Decimal("0.4"), OrderStatus.OPEN)
        floor.play("0.25")
        report = floor.ticket(1).report()
        assert (report.filled_quantity, report.average_price) == (Decimal("0.8"), Decimal(95))
        floor.play()
        assert floor.ticket(1).filled == Decimal("0.8")

    def test_a_limit_across_the_market_fills_its_first_part_at_the_quote(self) -> None:
        floor = spot(FLAT, FLAT, terms=self.terms)
        report = floor.place(Side.BUY, OrderType.LIMIT, price="101").report()
        assert (report.status, report.filled_quantity) == (OrderStatus.OPEN, Decimal("0.4"))
        assert report.average_price == 100
        floor.play()
        assert floor.ticket(1).status is OrderStatus.FILLED

    def test_market_orders_and_stops_fill_whole(self) -> None:
        floor = spot(FLAT, DOWN, terms=self.terms)
        assert floor.place(Side.BUY, OrderType.MARKET).status is OrderStatus.FILLED
        floor.place(Side.SELL, OrderType.STOP, trigger="90")
        floor.play()
        assert floor.ticket(2).status is OrderStatus.FILLED

    def test_a_part_is_at_least_a_step(self) -> None:
        terms = replace(TERMS, partial_fill=Decimal("0.001"))
        assert terms.fill_at_once(Decimal("0.05"), SPOT.quantity_step) == SPOT.quantity_step


class TestExpiry:
    def test_an_order_ends_at_its_time(self) -> None:
        floor = spot(FLAT, FLAT, DOWN)
        floor.place(Side.BUY, OrderType.LIMIT, price="95", expires_at=START + 2 * SECOND)
        floor.play()
        ticket = floor.ticket(1)
        assert (ticket.status, ticket.time) == (OrderStatus.EXPIRED, START + 2 * SECOND)
        assert floor.free("USDT") == 10000

    def test_at_its_time_it_does_not_fill_any_more(self) -> None:
        floor = spot(FLAT, DOWN)
        floor.place(Side.BUY, OrderType.LIMIT, price="85", expires_at=START + timedelta(milliseconds=1500))
        floor.play()
        assert floor.ticket(1).status is OrderStatus.EXPIRED

    def test_until_then_it_fills(self) -> None:
        floor = spot(FLAT, DOWN, FLAT)
        floor.place(Side.BUY, OrderType.LIMIT, price="95", expires_at=START + 2 * SECOND)
        floor.play()
        assert floor.ticket(1).status is OrderStatus.FILLED


class TestLiquidation:
    """At a leverage of 5 a fifth of the entry is the margin; of it, the maintenance margin must be left."""

    def test_a_long_is_closed_by_the_venue_where_its_margin_ends(self) -> None:
        floor = swap(FLAT, candle(100, 100, 75, 90))
        floor.place(Side.BUY, OrderType.LIMIT, "10", "100")
        floor.place(Side.SELL, OrderType.TAKE_PROFIT, "10", "120")
        floor.play()
        forced = floor.books.tickets["liquidation-3"]
        # 10 × 100 − 200 of margin is worth 80 apiece; slippage takes half a per cent of that.
        assert (forced.status, forced.report().average_price) == (OrderStatus.FILLED, Decimal("79.6"))
        assert floor.ticket(2).status is OrderStatus.CANCELLED
        assert floor.books.ledger.net(SWAP.symbol).quantity == ZERO
        assert floor.balance("USDT") == 10000 - 204 - 1 - Decimal("0.796")

    def test_a_short_is_closed_above(self) -> None:
        floor = swap(FLAT, candle(100, 125, 100, 110))
        floor.place(Side.SELL, OrderType.LIMIT, "10", "100")
        floor.play()
        assert floor.books.tickets["liquidation-2"].report().average_price == Decimal("120.6")

    def test_a_stop_on_the_way_comes_first(self) -> None:
        floor = swap(FLAT, candle(100, 100, 75, 90))
        floor.place(Side.BUY, OrderType.LIMIT, "10", "100")
        floor.place(Side.SELL, OrderType.STOP, "10", trigger="85")
        floor.play()
        assert floor.ticket(2).status is OrderStatus.FILLED
        assert "liquidation-3" not in floor.books.tickets

    def test_the_maintenance_margin_has_to_be_left(self) -> None:
        floor = swap(FLAT, candle(100, 100, 75, 90))
        floor.instrument = replace(SWAP, maintenance_margin=Decimal("0.005"))
        floor.place(Side.BUY, OrderType.LIMIT, "10", "100")
        floor.play()
        # 80 ÷ 0.995 = 80.4; slipped to the tick below.
        assert floor.books.tickets["liquidation-2"].report().average_price == Decimal(80)

    def test_without_leverage_a_long_is_never_liquidated(self) -> None:
        floor = Floor(SWAP, [FLAT, candle(100, 100, 1, 1)], replace(terms_for(SWAP), leverage=Decimal(1)))
        floor.place(Side.BUY, OrderType.LIMIT, "10", "100")
        floor.play()
        assert floor.books.ledger.net(SWAP.symbol).quantity == 10


class TestFunds:
    def test_a_resting_buy_holds_back_its_cost_and_fee(self) -> None:
        floor = spot(FLAT)
        floor.place(Side.BUY, OrderType.LIMIT, "10", "90")
        assert floor.balance("USDT") == 10000
        assert floor.free("USDT") == 10000 - Decimal("900.9")

    def test_protective_sells_hold_the_coins(self) -> None:
        floor = spot(FLAT)
        floor.place(Side.BUY, OrderType.MARKET)
        floor.place(Side.SELL, OrderType.OCO, "0.7", "110", "90")
        assert (floor.balance("BTC"), floor.free("BTC")) == (Decimal(1), Decimal("0.3"))
        with pytest.raises(Refused, match=r"free balance of 0\.3 BTC"):
            floor.place(Side.SELL, OrderType.MARKET, "0.5")

    def test_a_swap_needs_margin_and_fee(self) -> None:
        floor = swap(FLAT)
        floor.place(Side.BUY, OrderType.LIMIT, "400", "90")
        assert floor.free("USDT") == 10000 - 400 * 90 * (Decimal("0.2") + Decimal("0.001"))
        with pytest.raises(Refused) as refusal:
            floor.place(Side.BUY, OrderType.LIMIT, "200", "90")
        assert refusal.value.code == "insufficient_balance"

    def test_a_losing_position_may_always_be_reduced(self) -> None:
        floor = swap(candle(100, 100, 82, 82), candle(82, 82, 82, 82))
        floor.place(Side.BUY, OrderType.MARKET, "400")
        floor.play("1")
        assert floor.free("USDT") < ZERO
        floor.place(Side.SELL, OrderType.MARKET, "100")
        floor.place(Side.SELL, OrderType.MARKET, "100", reduce_only=True)
        assert floor.books.ledger.net(SWAP.symbol).quantity == 200
        assert floor.place(Side.SELL, OrderType.STOP, "200", trigger="81").is_open
        with pytest.raises(Refused):
            floor.place(Side.SELL, OrderType.MARKET, "400")
        with pytest.raises(Refused):
            floor.place(Side.BUY, OrderType.MARKET, "1")

    def test_an_order_the_other_way_may_turn_a_position_round_with_margin(self) -> None:
        floor = swap(FLAT)
        floor.place(Side.BUY, OrderType.MARKET, "1")
        floor.place(Side.SELL, OrderType.MARKET, "3")
        assert floor.books.ledger.net(SWAP.symbol) == Net(Decimal(-2), Decimal(-199))


class TestReduceOnly:
    def test_it_is_trimmed_to_what_is_held(self) -> None:
        floor = swap(FLAT)
        floor.place(Side.BUY, OrderType.MARKET, "1")
        ticket = floor.place(Side.SELL, OrderType.MARKET, "3", reduce_only=True)
        assert (ticket.filled, ticket.status) == (Decimal(1), OrderStatus.CANCELLED)

    def test_with_the_position_its_orders_go(self) -> None:
        floor = swap(FLAT)
        floor.place(Side.BUY, OrderType.MARKET, "1")
        floor.place(Side.SELL, OrderType.OCO, "1", "110", "90")
        floor.place(Side.BUY, OrderType.LIMIT, "1", "80")
        floor.place(Side.SELL, OrderType.MARKET, "1", reduce_only=True)
        assert [floor.ticket(number).status for number in (2, 3)] == [
            OrderStatus.CANCELLED,
            OrderStatus.OPEN,
        ]

    def test_without_a_position_it_is_refused(self) -> None:
        with pytest.raises(Refused, match="nothing to reduce"):
            swap(FLAT).place(Side.SELL, OrderType.STOP, trigger="90")


class TestRefusals:
    @pytest.mark.parametrize(
        ("side", "kind", "quantity", "price", "trigger", "complaint"),
        [
            (Side.BUY, OrderType.LIMIT, "1", None, None, "has a price"),
            (Side.BUY, OrderType.MARKET, "1", "100", None, "has no price"),
            (Side.SELL, OrderType.STOP, "1", None, None, "has a trigger price"),
            (Side.SELL, OrderType.TAKE_PROFIT, "1", "110", "90", "has no trigger price"),
            (Side.BUY, OrderType.LIMIT, "1", "99.99", None, "no multiple of the tick"),
            (Side.BUY, OrderType.LIMIT, "1", "-1", None, "no multiple of the tick"),
            (Side.BUY, OrderType.MARKET, "0.001", None, None, "below the minimum"),
            (Side.BUY, OrderType.MARKET, "0.015", None, None, "no multiple of the step"),
            (Side.BUY, OrderType.MARKET, "0.04", None, None, "worth less than the minimum"),
            (Side.SELL, OrderType.OCO, "1", "90", "110", "winning side of its stop"),
            (Side.SELL, OrderType.STOP, "1", None, "100", "order would trigger immediately"),
            (Side.SELL, OrderType.OCO, "1", "100", "90", "order would trigger immediately"),
            (Side.BUY, OrderType.STOP, "1", None, "110", "sells what is held"),
            (Side.SELL, OrderType.MARKET, "2", None, None, "free balance of 1 BTC"),
        ],
    )
    def test_it_says_why(
        self,
        side: Side,
        kind: OrderType,
        quantity: str,
        price: str | None,
        trigger: str | None,
        complaint: str,
    ) -> None:
        floor = spot(FLAT)
        floor.place(Side.BUY, OrderType.MARKET)
        before = floor.books
        with pytest.raises(Refused, match=complaint):
            floor.place(side, kind, quantity, price, trigger)
        assert floor.books is before

    def test_what_is_too_late_is_refused(self) -> None:
        with pytest.raises(Refused, match="expiry has passed"):
            spot(FLAT).place(Side.BUY, OrderType.LIMIT, price="90", expires_at=START)

    def test_another_market_type_is_refused(self) -> None:
        with pytest.raises(Refused, match="cannot be traded on a swap account"):
            spot(FLAT, terms=terms_for(SWAP)).place(Side.BUY, OrderType.MARKET)


class TestNetting:
    quantities = st.decimals(-10, 10, places=3).filter(bool)
    prices = st.decimals(1, 1000, places=2)

    @given(st.lists(st.tuples(quantities, prices), min_size=1, max_size=12))
    def test_flat_again_everything_is_realised(self, fills: list[tuple[Decimal, Decimal]]) -> None:
        net, realized = Net(), ZERO
        for quantity, price in fills:
            net, gain = netted(net, quantity, price)
            realized += gain
        if net.quantity:
            fills = [*fills, (-net.quantity, Decimal(500))]
            net, gain = netted(net, *fills[-1])
            realized += gain
        assert net == Net()
        assert realized == -sum((quantity * price for quantity, price in fills), ZERO)

    def test_a_short_earns_when_it_falls(self) -> None:
        short, _ = netted(Net(), Decimal(-2), Decimal(100))
        rest, realized = netted(short, Decimal(1), Decimal(90))
        assert (rest, realized) == (Net(Decimal(-1), Decimal(-100)), Decimal(10))
        assert rest.unrealized(Decimal(95)) == 5


sides = st.sampled_from(Side)
quantities = st.integers(1, 300).map(lambda hundredths: str(Decimal(hundredths) / 100))
levels = st.integers(80, 120).map(str)
lifetimes = st.none() | st.integers(1, 12)


@st.composite
def orders(draw: st.DrawFn) -> dict[str, object]:
    """Any order, sensible or not: what the venue refuses is part of the game."""
    kind = draw(st.sampled_from(OrderType))
    lifetime = draw(lifetimes)
    return {
        "side": draw(sides),
        "kind": kind,
        "quantity": draw(quantities),
        "price": draw(levels) if kind not in (OrderType.MARKET, OrderType.STOP) else None,
        "trigger": draw(levels) if kind in (OrderType.STOP, OrderType.OCO) else None,
        "reduce_only": draw(st.booleans()),
        "expires_at": None if lifetime is None else START + lifetime * SECOND,
    }


parts = st.sampled_from(["1", "0.5", "0.3"]).map(Decimal)
markets = st.sampled_from([SPOT, SWAP])
fee_coins = st.sampled_from(FeeIn)


def crowded(
    instrument: Instrument,
    played: list[Candle],
    wanted: list[dict[str, object]],
    part: Decimal,
    fee_in: FeeIn,
) -> Floor:
    """An account that holds something and has put in these orders, as far as they were taken."""
    terms = replace(terms_for(instrument), partial_fill=part, fee_in=fee_in)
    floor = Floor(instrument, [FLAT, *played], terms)
    floor.place(Side.BUY, OrderType.MARKET, "3")
    for each in wanted:
        try:
            floor.place(**each)  # type: ignore[arg-type]  # drawn by hypothesis, typed by `place`
        except Refused:
            continue
    return floor


class TestLaws:
    @given(markets, candles(), st.lists(orders(), max_size=8), parts, fee_coins)
    def test_money_is_conserved(
        self,
        instrument: Instrument,
        played: list[Candle],
        wanted: list[dict[str, object]],
        part: Decimal,
        fee_in: FeeIn,
    ) -> None:
        floor = crowded(instrument, played, wanted, part, fee_in)
        floor.play()
        quantity, value, fees = ZERO, ZERO, {"USDT": ZERO, "BTC": ZERO}
        for ticket in floor.books.tickets.values():
            sign = ticket.request.side.sign
            quantity += sign * ticket.filled
            value += sign * ticket.cost
            fees = {coin: paid + ticket.fees.get(coin, ZERO) for coin, paid in fees.items()}
        if instrument is SPOT:
            assert floor.balance("BTC") == quantity - fees["BTC"]
            assert floor.balance("USDT") == 10000 - value - fees["USDT"]
        else:
            net = floor.books.ledger.net(SWAP.symbol)
            assert net.quantity == quantity
            assert floor.balance("USDT") - net.cost == 10000 - value - fees["USDT"]

    @given(markets, candles(), st.lists(orders(), max_size=8), parts, fee_coins)
    def test_nothing_is_sold_or_spent_that_is_not_there(
        self,
        instrument: Instrument,
        played: list[Candle],
        wanted: list[dict[str, object]],
        part: Decimal,
        fee_in: FeeIn,
    ) -> None:
        floor = crowded(instrument, played, wanted, part, fee_in)
        while floor.moment < START + len(floor.played) * SECOND:
            floor.play("0.25")
            if instrument is SPOT:
                assert floor.free("BTC") >= ZERO
                assert floor.free("USDT") >= ZERO
            for ticket in floor.books.tickets.values():
                assert ZERO <= ticket.filled <= ticket.request.quantity

    @given(markets, candles(), st.lists(orders(), max_size=8), parts, st.data())
    def test_settling_in_two_steps_is_settling_in_one(
        self,
        instrument: Instrument,
        played: list[Candle],
        wanted: list[dict[str, object]],
        part: Decimal,
        data: st.DataObject,
    ) -> None:
        floor = crowded(instrument, played, wanted, part, FeeIn.QUOTE)
        end = START + len(floor.played) * SECOND
        middle = START + timedelta(milliseconds=data.draw(st.integers(0, 1000 * len(floor.played))))
        at_once = matched(floor.books, floor.listings, floor.terms, START, end)
        half_way = matched(floor.books, floor.listings, floor.terms, START, middle)
        in_steps = matched(half_way, floor.listings, floor.terms, middle, end)
        assert in_steps == at_once
        assert matched(in_steps, floor.listings, floor.terms, START, START) is in_steps

    @given(candles(), st.lists(orders(), max_size=8), parts)
    def test_what_only_reduces_never_turns_a_position_round(
        self, played: list[Candle], wanted: list[dict[str, object]], part: Decimal
    ) -> None:
        reducing = [{**each, "side": Side.SELL, "reduce_only": True} for each in wanted]
        floor = crowded(SWAP, played, reducing, part, FeeIn.QUOTE)
        for _ in range(POINTS * len(floor.played)):
            floor.play("0.25")
            held = floor.books.ledger.net(SWAP.symbol).quantity
            assert ZERO <= held <= 3
            if not held:
                assert not floor.books.resting
