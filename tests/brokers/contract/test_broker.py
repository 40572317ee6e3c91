"""What every broker promises: totals instead of increments, one execution per id, and a truthful look-up."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from app.brokers.port import ABSENT, Refused, Uncertain, Unreachable, VenueError
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.money import floor_to_step
from app.domain.orders import Leg, OrderReport, OrderStatus, OrderType, Side
from tests.brokers.contract.stage import (
    START,
    UNIT,
    Stage,
    buy,
    held,
    instrument,
    order,
    place,
    quote,
    sell,
    sell_everything,
)

ZERO = Decimal(0)


def value_of(report: OrderReport) -> Decimal:
    """What its fills are worth, in quote currency."""
    assert report.average_price is not None
    return report.filled_quantity * report.average_price


async def short_or_skip(stage: Stage) -> None:
    """Open a short at market where the account can."""
    if stage.market_type is MarketType.SPOT:
        pytest.skip("spot holds coins, it cannot be short")
    await place(stage, order(stage, Side.SELL, OrderType.MARKET))


def brackets_or_skip(stage: Stage) -> None:
    """Only some venues have an order that is stop and target at once."""
    if stage.broker.traits.native_style is not NativeStyle.BRACKET:
        pytest.skip("this venue has no such order; see what stands beside each other instead")


def is_attached(stage: Stage) -> bool:
    """Whether the venue's positions have names, and carry stop and target themselves."""
    return stage.broker.traits.native_style is NativeStyle.ATTACHED


def attached_or_skip(stage: Stage) -> None:
    """Only some venues hold stop and target on the position itself."""
    if not is_attached(stage):
        pytest.skip("this venue holds stop and targets otherwise")


class TestMarketData:
    async def test_the_instrument_states_rules_that_orders_can_meet(self, stage: Stage) -> None:
        rules = await instrument(stage)
        assert rules.symbol == stage.symbol
        assert rules.market_type is stage.market_type
        assert rules.quantity_step > ZERO
        assert rules.price_tick > ZERO
        assert rules.min_quantity > ZERO
        assert floor_to_step(UNIT, rules.quantity_step) == UNIT

    async def test_quotes_are_fresh_positive_and_not_crossed(self, stage: Stage) -> None:
        seen = await quote(stage)
        assert seen.is_usable(stage.now(), timedelta(seconds=30))
        assert seen.bid <= START <= seen.ask

    async def test_a_quote_follows_the_price(self, stage: Stage) -> None:
        await stage.move(20500)
        seen = await quote(stage)
        assert seen.bid <= 20500 <= seen.ask

    async def test_unknown_symbols_are_left_out_of_quotes(self, stage: Stage) -> None:
        assert set(await stage.broker.quotes(["NOPE/NOPE", stage.symbol])) == {stage.symbol}

    async def test_the_same_prices_have_the_same_market_key(self, stage: Stage) -> None:
        before = stage.broker.market_key
        await stage.restart()
        assert stage.broker.market_key == before


class TestMarketOrders:
    async def test_a_buy_fills_whole_with_average_and_fee(self, stage: Stage) -> None:
        seen = await quote(stage)
        report = await buy(stage)
        assert report.status is OrderStatus.FILLED
        assert report.filled_quantity == UNIT
        assert report.average_price is not None
        assert seen.ask <= report.average_price <= seen.ask * (1 + stage.broker.traits.slippage)
        assert report.fees == stage.entry_fees(report)
        assert report.exchange_order_id
        assert await held(stage) == UNIT

    async def test_a_sell_leaves_what_was_bought(self, stage: Stage) -> None:
        await buy(stage)
        report = await sell(stage)
        assert report.status is OrderStatus.FILLED
        assert await held(stage) == ZERO
        assert await stage.broker.holdings() == []

    async def test_a_part_may_be_sold(self, stage: Stage) -> None:
        await buy(stage)
        await sell(stage, Decimal("0.2"))
        assert await held(stage) == Decimal("0.3")

    async def test_more_than_the_account_can_pay_is_refused(self, stage: Stage) -> None:
        with pytest.raises(Refused) as refusal:
            await buy(stage, Decimal(30))
        assert refusal.value.code == "insufficient_balance"
        assert await stage.broker.holdings() == []

    async def test_a_quantity_below_the_minimum_is_refused(self, stage: Stage) -> None:
        tiny = (await instrument(stage)).min_quantity / 10
        with pytest.raises(Refused):
            await buy(stage, tiny)

    async def test_an_unknown_symbol_is_refused(self, stage: Stage) -> None:
        request = replace(order(stage, Side.BUY, OrderType.MARKET), symbol="NOPE/NOPE")
        with pytest.raises(Refused):
            await place(stage, request)


class TestLimitOrders:
    async def test_below_the_market_a_buy_rests_and_can_be_taken_back(self, stage: Stage) -> None:
        request = order(stage, Side.BUY, OrderType.LIMIT, price=19000)
        report = await place(stage, request)
        assert report.status is OrderStatus.OPEN
        assert report.filled_quantity == ZERO
        cancelled = await stage.broker.cancel(request.key)
        assert cancelled.status is OrderStatus.CANCELLED
        assert cancelled.filled_quantity == ZERO
        assert await held(stage) == ZERO

    async def test_it_holds_back_what_it_will_cost(self, stage: Stage) -> None:
        if stage.market_type is MarketType.FX:
            pytest.skip("these brokers ask for margin when an order fills, not while it waits")
        before = (await stage.broker.account()).balances[stage.currency]
        request = order(stage, Side.BUY, OrderType.LIMIT, price=19000)
        await place(stage, request)
        resting = (await stage.broker.account()).balances[stage.currency]
        assert resting.total == before.total
        assert resting.free < before.free
        await stage.broker.cancel(request.key)
        assert (await stage.broker.account()).balances[stage.currency] == before

    async def test_it_fills_at_its_price_when_the_market_comes(self, stage: Stage) -> None:
        request = order(stage, Side.BUY, OrderType.LIMIT, price=19000)
        await place(stage, request)
        await stage.move(18500)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert found.status is OrderStatus.FILLED
        assert found.average_price == 19000
        assert await held(stage) == UNIT

    async def test_across_the_market_it_takes_the_quote(self, stage: Stage) -> None:
        seen = await quote(stage)
        report = await place(stage, order(stage, Side.BUY, OrderType.LIMIT, price=21000))
        assert report.status is OrderStatus.FILLED
        assert report.average_price == seen.ask

    async def test_it_expires(self, stage: Stage) -> None:
        if not stage.broker.traits.expires_orders:
            pytest.skip("this venue does not; the engine takes such orders back")
        request = order(stage, Side.BUY, OrderType.LIMIT, price=19000, lifetime=timedelta(seconds=3))
        await place(stage, request)
        await stage.advance(4)
        await stage.move(18500)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert found.status is OrderStatus.EXPIRED
        assert await held(stage) == ZERO

    async def test_cancelling_what_has_filled_reports_the_fill(self, stage: Stage) -> None:
        request = order(stage, Side.BUY, OrderType.LIMIT, price=19000)
        await place(stage, request)
        await stage.move(18500)
        report = await stage.broker.cancel(request.key)
        assert report.status is OrderStatus.FILLED
        assert report.filled_quantity == UNIT

    async def test_cancelling_what_was_never_there_is_refused(self, stage: Stage) -> None:
        with pytest.raises(Refused):
            await stage.broker.cancel(order(stage, Side.BUY, OrderType.LIMIT, price=19000).key)


class TestOneExecutionPerId:
    async def test_an_id_that_was_filled_is_not_executed_again(self, stage: Stage) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET)
        first = await place(stage, request)
        with pytest.raises(Uncertain):
            await place(stage, request)
        assert await held(stage) == UNIT
        assert await stage.broker.find(request.key) == first

    async def test_an_id_that_was_cancelled_is_not_executed_again(self, stage: Stage) -> None:
        request = order(stage, Side.BUY, OrderType.LIMIT, price=19000)
        await place(stage, request)
        await stage.broker.cancel(request.key)
        with pytest.raises(Uncertain):
            await place(stage, request)

    async def test_attempts_have_ids_of_their_own(self, stage: Stage) -> None:
        order_id = uuid4()
        ids = {stage.broker.client_order_id(order_id, attempt) for attempt in (1, 2, 1)}
        assert len(ids) == 2

    async def test_a_request_that_was_held_up_is_not_executed(self, stage: Stage) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET)
        await stage.advance(int(stage.broker.traits.validity.total_seconds()) + 1)
        with pytest.raises(Unreachable):
            await place(stage, request)
        assert await stage.broker.find(request.key) is ABSENT
        assert await held(stage) == ZERO


class TestLookUps:
    async def test_what_was_never_sent_is_absent(self, stage: Stage) -> None:
        assert await stage.broker.find(order(stage, Side.BUY, OrderType.MARKET).key) is ABSENT

    async def test_what_was_refused_is_absent(self, stage: Stage) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET, Decimal(30))
        with pytest.raises(Refused):
            await place(stage, request)
        assert await stage.broker.find(request.key) is ABSENT

    async def test_find_and_survey_agree(self, stage: Stage) -> None:
        filled, resting = (
            order(stage, Side.BUY, OrderType.MARKET),
            order(stage, Side.BUY, OrderType.LIMIT, price=19000),
        )
        unknown = order(stage, Side.BUY, OrderType.MARKET)
        await place(stage, filled)
        await place(stage, resting)
        keys = [each.key for each in (filled, resting, unknown)]
        seen = await stage.broker.survey(keys)
        assert seen == {key.client_order_id: await stage.broker.find(key) for key in keys}
        assert seen[unknown.client_order_id] is ABSENT

    async def test_hearing_a_report_twice_tells_the_same(self, stage: Stage) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET)
        placed = await place(stage, request)
        assert await stage.broker.find(request.key) == placed
        assert await stage.broker.cancel(request.key) == placed

    async def test_a_restart_changes_nothing(self, stage: Stage) -> None:
        filled = order(stage, Side.BUY, OrderType.MARKET)
        await place(stage, filled)
        resting = order(stage, Side.SELL, OrderType.STOP, trigger=18000, reduce_only=True)
        await place(stage, resting)
        keys = [filled.key, resting.key]
        before = await stage.broker.survey(keys), await stage.broker.holdings(), await stage.broker.account()
        await stage.restart()
        after = await stage.broker.survey(keys), await stage.broker.holdings(), await stage.broker.account()
        assert after == before


class TestProtection:
    async def test_a_stop_fires_at_its_level_and_slips(self, stage: Stage) -> None:
        await buy(stage)
        request = order(stage, Side.SELL, OrderType.STOP, trigger=19000, reduce_only=True)
        assert (await place(stage, request)).status is OrderStatus.OPEN
        await stage.move(19500)
        assert await held(stage) == UNIT
        await stage.move(18000)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert found.status is OrderStatus.FILLED
        assert found.leg is Leg.STOP
        assert found.average_price is not None
        assert 19000 * (1 - stage.broker.traits.slippage) <= found.average_price <= 19000
        assert await held(stage) == ZERO

    async def test_a_take_profit_fires_at_its_level(self, stage: Stage) -> None:
        await buy(stage)
        request = order(stage, Side.SELL, OrderType.TAKE_PROFIT, price=21000, reduce_only=True)
        await place(stage, request)
        await stage.move(22000)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert (found.status, found.leg, found.average_price) == (
            OrderStatus.FILLED,
            Leg.TARGET,
            Decimal(21000),
        )
        assert await held(stage) == ZERO

    @pytest.mark.parametrize(("first", "then", "leg"), [(21500, 18500, Leg.TARGET), (18500, 21500, Leg.STOP)])
    async def test_of_an_oco_one_leg_alone_fires(self, stage: Stage, first: int, then: int, leg: Leg) -> None:
        brackets_or_skip(stage)
        await buy(stage)
        request = order(stage, Side.SELL, OrderType.OCO, price=21000, trigger=19000, reduce_only=True)
        await place(stage, request)
        await stage.move(first)
        await stage.move(then)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert (found.status, found.leg, found.filled_quantity) == (OrderStatus.FILLED, leg, UNIT)
        assert await held(stage) == ZERO

    async def test_a_ladder_is_taken_step_by_step(self, stage: Stage) -> None:
        brackets_or_skip(stage)
        await buy(stage)
        near, far = (
            order(stage, Side.SELL, OrderType.OCO, UNIT / 2, price=price, trigger=19000, reduce_only=True)
            for price in (21000, 22000)
        )
        await place(stage, near)
        await place(stage, far)
        await stage.move(21500)
        assert await held(stage) == UNIT / 2
        await stage.move(18000)
        legs = {
            name: report.leg
            for name, report in (await stage.broker.survey([near.key, far.key])).items()
            if isinstance(report, OrderReport)
        }
        assert legs == {near.client_order_id: Leg.TARGET, far.client_order_id: Leg.STOP}
        assert await held(stage) == ZERO

    async def test_a_bracket_whose_target_is_filled_in_part_has_no_stop_any_more(self, stage: Stage) -> None:
        brackets_or_skip(stage)
        await buy(stage)
        if not stage.thin("0.4"):
            pytest.skip("this venue fills orders whole")
        request = order(stage, Side.SELL, OrderType.OCO, price=21000, trigger=19000, reduce_only=True)
        assert (await place(stage, request)).trigger_price == 19000
        await stage.move(21000)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert (found.status, found.leg, found.price) == (OrderStatus.OPEN, Leg.TARGET, Decimal(21000))
        assert found.filled_quantity == UNIT * 2 / 5
        assert found.trigger_price is None
        # Another price may fill more of it.
        ended = await stage.broker.cancel(request.key)
        assert (ended.status, ended.filled_quantity) == (OrderStatus.CANCELLED, found.filled_quantity)
        await stage.move(20500)
        rest = order(
            stage, Side.SELL, OrderType.OCO, await held(stage), price=21000, trigger=19000, reduce_only=True
        )
        assert (await place(stage, rest)).trigger_price == 19000
        stage.thin("1")
        await stage.move(18000)
        assert await held(stage) == ZERO

    async def test_a_stop_and_targets_stand_beside_each_other(self, stage: Stage) -> None:
        if stage.broker.traits.native_style is not NativeStyle.STOP_AND_TARGETS:
            pytest.skip("this venue holds stop and targets otherwise")
        await buy(stage)
        stop = order(stage, Side.SELL, OrderType.STOP, trigger=19000, reduce_only=True)
        near, far = (
            order(stage, Side.SELL, OrderType.TAKE_PROFIT, UNIT / 2, price=price, reduce_only=True)
            for price in (21000, 22000)
        )
        for each in (stop, near, far):
            assert (await place(stage, each)).status is OrderStatus.OPEN
        await stage.move(21500)
        assert await held(stage) == UNIT / 2
        await stage.move(18000)
        assert await held(stage) == ZERO
        seen = await stage.broker.survey([stop.key, near.key, far.key])
        taken = {name: each.leg for name, each in seen.items() if isinstance(each, OrderReport)}
        assert taken == {
            stop.client_order_id: Leg.STOP,
            near.client_order_id: Leg.TARGET,
            far.client_order_id: None,
        }

    @pytest.mark.parametrize(("first", "leg"), [(21500, Leg.TARGET), (18500, Leg.STOP)])
    async def test_a_stop_and_a_target_on_the_position_close_what_is_left_of_it(
        self, stage: Stage, first: int, leg: Leg
    ) -> None:
        attached_or_skip(stage)
        await buy(stage)
        request = order(stage, Side.SELL, OrderType.OCO, price=21000, trigger=19000, reduce_only=True)
        assert (await place(stage, request)).status is OrderStatus.OPEN
        await sell(stage, Decimal("0.2"))
        await stage.move(first)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert (found.status, found.leg, found.filled_quantity) == (
            OrderStatus.FILLED,
            leg,
            Decimal("0.3"),
        )
        assert await held(stage) == ZERO

    async def test_setting_them_again_replaces_both_at_once(self, stage: Stage) -> None:
        attached_or_skip(stage)
        await buy(stage)
        old = order(stage, Side.SELL, OrderType.OCO, price=21000, trigger=19000, reduce_only=True)
        new = order(stage, Side.SELL, OrderType.STOP, trigger=19500, reduce_only=True)
        await place(stage, old)
        await place(stage, new)
        assert (await stage.broker.cancel(old.key)).status is OrderStatus.CANCELLED
        await stage.move(21500)
        assert await held(stage) == UNIT
        await stage.move(19400)
        assert await held(stage) == ZERO

    async def test_an_entry_brings_its_stop_and_target_along(self, stage: Stage) -> None:
        attached_or_skip(stage)
        request = replace(
            order(stage, Side.BUY, OrderType.MARKET), stop_loss=Decimal(19000), take_profit=Decimal(21000)
        )
        await place(stage, request)
        await stage.move(18500)
        assert await held(stage) == ZERO

    async def test_a_stop_that_is_passed_already_is_refused_or_sells_at_once(self, stage: Stage) -> None:
        await buy(stage)
        request = order(stage, Side.SELL, OrderType.STOP, trigger=21000, reduce_only=True)
        try:
            report = await place(stage, request)
        except Refused:
            assert await held(stage) == UNIT
        else:
            assert (report.status, report.leg) == (OrderStatus.FILLED, Leg.STOP)
            assert await held(stage) == ZERO

    async def test_a_cancelled_stop_does_not_fire(self, stage: Stage) -> None:
        await buy(stage)
        request = order(stage, Side.SELL, OrderType.STOP, trigger=19000, reduce_only=True)
        await place(stage, request)
        await stage.broker.cancel(request.key)
        await stage.move(18000)
        assert await held(stage) == UNIT

    async def test_a_short_is_protected_the_other_way_round(self, stage: Stage) -> None:
        await short_or_skip(stage)
        request = order(stage, Side.BUY, OrderType.STOP, trigger=21000, reduce_only=True)
        await place(stage, request)
        await stage.move(22000)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert found.leg is Leg.STOP
        assert found.average_price is not None
        assert found.average_price >= 21000
        assert await held(stage) == ZERO

    async def test_leaving_never_turns_a_position_round(self, stage: Stage) -> None:
        await buy(stage)
        # Spot refuses to sell what is not there; a swap trims the order to what it can reduce.
        if stage.market_type is MarketType.SPOT:
            with pytest.raises(Refused):
                await sell(stage, UNIT * 2)
            assert await held(stage) == UNIT
        else:
            assert (await sell(stage, UNIT * 2)).filled_quantity == UNIT
            assert await held(stage) == ZERO
        with pytest.raises(VenueError):
            await sell(stage, UNIT * 2)
        assert await held(stage) >= ZERO

    async def test_an_exit_that_names_no_position_opens_none(self, stage: Stage) -> None:
        attached_or_skip(stage)
        await buy(stage)
        exits = order(stage, Side.SELL, OrderType.MARKET, reduce_only=True)
        with pytest.raises(Refused):
            await stage.broker.place(replace(exits, handle=None))
        assert await held(stage) == UNIT

    async def test_no_more_is_sold_than_protective_orders_leave_free(self, stage: Stage) -> None:
        await buy(stage)
        await place(stage, order(stage, Side.SELL, OrderType.STOP, trigger=19000, reduce_only=True))
        if stage.market_type is MarketType.SPOT:
            with pytest.raises(Refused) as refusal:
                await sell(stage)
            assert refusal.value.code == "insufficient_balance"
        else:
            await sell(stage)
        await stage.move(18000)
        assert await held(stage) == ZERO


class TestWhatOthersDid:
    async def test_trades_that_are_not_ours_are_told_once_and_with_their_fees(self, stage: Stage) -> None:
        since, entry = stage.now(), order(stage, Side.BUY, OrderType.MARKET)
        ours = replace(entry.key, exchange_order_id=(await place(stage, entry)).exchange_order_id)
        await stage.advance(1)
        by_hand = await sell(stage, Decimal("0.2"))
        [fill] = await stage.broker.fills(stage.symbol, since, [ours])
        assert (fill.side, fill.quantity, fill.price) == (Side.SELL, Decimal("0.2"), by_hand.average_price)
        assert (fill.fees, fill.forced) == (by_hand.fees, False)
        assert fill.exchange_order_id == by_hand.exchange_order_id
        # Where positions have names an entry is one of them, and only what left a position is told.
        entries = 0 if is_attached(stage) else 1
        assert len(await stage.broker.fills(stage.symbol, since, [])) == 1 + entries
        await stage.advance(60)
        assert await stage.broker.fills(stage.symbol, stage.now(), []) == []

    async def test_what_a_protective_order_of_ours_became_is_ours(self, stage: Stage) -> None:
        since, entry = stage.now(), order(stage, Side.BUY, OrderType.MARKET)
        ours = [replace(entry.key, exchange_order_id=(await place(stage, entry)).exchange_order_id)]
        is_bracket = stage.broker.traits.native_style is NativeStyle.BRACKET
        kind, target = (OrderType.OCO, 21000) if is_bracket else (OrderType.STOP, None)
        request = order(stage, Side.SELL, kind, price=target, trigger=19000, reduce_only=True)
        report = await place(stage, request)
        assert report.trigger_price in (None, Decimal(19000))
        await stage.move(18900)
        assert await held(stage) == ZERO
        if is_attached(stage):
            # Until it fires it is no order, so only now does it have a number.
            fired = await stage.broker.find(request.key)
            assert isinstance(fired, OrderReport)
            report = fired
        ours.append(replace(request.key, exchange_order_id=report.exchange_order_id))
        assert await stage.broker.fills(stage.symbol, since, ours) == []

    async def test_what_rests_is_named_as_it_was_sent(self, stage: Stage) -> None:
        await buy(stage)
        limit = order(stage, Side.BUY, OrderType.LIMIT, price=15000)
        is_bracket = stage.broker.traits.native_style is NativeStyle.BRACKET
        kind, target = (OrderType.OCO, 21000) if is_bracket else (OrderType.STOP, None)
        stop = order(stage, Side.SELL, kind, price=target, trigger=19000, reduce_only=True)
        for request in (limit, stop):
            await place(stage, request)
        resting = await stage.broker.resting([stage.symbol])
        # What is set on a position is no order of its own.
        named = (
            {limit.client_order_id} if is_attached(stage) else {limit.client_order_id, stop.client_order_id}
        )
        assert {each.client_order_id for each in resting} == named
        assert {each.symbol for each in resting} == {stage.symbol}


class TestMoney:
    async def test_a_round_trip_costs_its_loss_and_its_fees_to_the_last_decimal(self, stage: Stage) -> None:
        start = await stage.broker.account()
        reports = [await buy(stage, Decimal("0.33333")), await buy(stage, Decimal("0.00007") * 10)]
        await stage.move(20777)
        reports.append(await sell(stage, Decimal("0.12345")))
        await stage.move(19111)
        reports += await sell_everything(stage)
        paid = sum((sum(report.fees.values(), ZERO) for report in reports), ZERO)
        gross = stage.contract * (
            sum((value_of(report) for report in reports[2:]), ZERO)
            - sum((value_of(report) for report in reports[:2]), ZERO)
        )
        end = await stage.broker.account()
        assert end.balances[stage.currency].total == start.balances[stage.currency].total + gross - paid
        assert (
            end.equity[stage.currency]
            == end.balances[stage.currency].total
            == end.balances[stage.currency].free
        )

    async def test_equity_of_a_swap_moves_with_the_price(self, stage: Stage) -> None:
        if stage.market_type is MarketType.SPOT:
            pytest.skip("on spot the equity of a currency is what there is of it")
        await buy(stage)
        before = (await stage.broker.account()).equity[stage.currency]
        await stage.move(21000)
        assert (await stage.broker.account()).equity[stage.currency] == before + 1000 * UNIT * stage.contract

    async def test_an_account_says_who_it_is_and_what_it_may_do(self, stage: Stage) -> None:
        account = await stage.broker.account()
        assert account.identity
        assert account.permissions.trade is True
        assert account.permissions.withdraw is not True
        assert account.as_of <= stage.now()
