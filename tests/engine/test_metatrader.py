"""MetaTrader under the engine: what denies an entry, what an accident comes to, and what no line may ever hold."""

import io
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import cast

import pytest

from app.domain.errors import Conflict
from app.domain.exits import CloseReason, Protection
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.engine import closing, connections, previewing, protection
from app.engine.connections import Terms
from app.engine.protection import PlanChange
from app.store.connections import ConnectionStatus
from app.store.executions import ExecutionStatus
from tests.desks import USER
from tests.engine.metatrader import ACCOUNTS, Stage, opened_stage
from tests.engine.signals import change, execute_all, executions, orders, positions, publish
from tests.venues import faults
from tests.venues.faults import Delivery, Fault, Page
from tests.venues.metatrader import TradeMode, refusal

D = Decimal


@pytest.fixture(params=ACCOUNTS)
async def stage(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Stage]:
    """An account of 10,000 USD on each platform in turn."""
    async with opened_stage(database_url, request.param) as opened:
        yield opened


@pytest.fixture
async def five(database_url: str) -> AsyncIterator[Stage]:
    """A hedging account of 10,000 EUR on MetaTrader 5, at a broker that puts something behind every name."""
    async with opened_stage(database_url, "mt5-hedging", currency="EUR", suffix=".pro") as opened:
        yield opened


def by_address(stage: Stage) -> dict[str, str]:
    """The account's credentials with a public address of its server in place of the name."""
    host = "trade.simbroker.example"
    stage.venue.bridge(stage.platform).server.access += (f"{host}:443",)
    return {
        name: given for name, given in stage.credentials(host=host, port="443").items() if name != "server"
    }


async def outcome(stage: Stage) -> tuple[ExecutionStatus, str | None]:
    """What became of the only signal."""
    await execute_all(stage.desk)
    [execution] = await executions(stage.desk)
    return execution.status, execution.code


class TestAccidents:
    async def test_a_requote_is_asked_again(self, stage: Stage) -> None:
        await stage.activate()
        stage.venue.faults.add(refusal("REQUOTE"))
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None, rounds=2, seconds=2)
        assert (await outcome(stage))[0] is ExecutionStatus.EXECUTED
        assert len(stage.login.positions) == 1

    async def test_a_bridge_that_forgets_is_logged_in_to_again(self, stage: Stage) -> None:
        await stage.activate()
        bridge = stage.venue.bridge(stage.platform)
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        bridge.sessions.lose_all()
        bridge.sessions.remembers = False
        await stage.walk("EUR/USD", "1.0890")
        [position] = await positions(stage.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        assert len(stage.venue.calls("ConnectEx")) == 2


class TestCredentials:
    async def test_another_password_of_the_account_takes_over_what_is_open(self, stage: Stage) -> None:
        connection = await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        stage.login.password = "another-password"
        wrong = {"credentials": stage.credentials(api_secret="a-wrong-one")}
        stranger = stage.venue.open_account(stage.platform)
        strange = {"account_id": str(stranger.user), "api_secret": stranger.password}
        other = {"credentials": stage.credentials(**strange)}
        for terms, why in ((wrong, "do not pass its test"), (other, "open another account")):
            with pytest.raises(Conflict, match=why) as refused:
                await connections.change(stage.desk, USER, connection.id, cast("Terms", terms))
            assert refused.value.code == "positions_open"
        renewed = {"credentials": stage.credentials(api_secret="another-password")}
        changed = await connections.change(stage.desk, USER, connection.id, cast("Terms", renewed))
        assert (changed.status, changed.is_tested) == (ConnectionStatus.INACTIVE, False)
        stage.venue.bridge(stage.platform).sessions.lose_all()
        [position] = await positions(stage.desk)
        await closing.request_close(stage.desk, USER, position.id, None, idempotency_key=None)
        await stage.walk("EUR/USD", None)
        [position] = await positions(stage.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)


class TestProtection:
    async def test_a_stop_that_is_moved_at_the_terminal_is_put_back(self, stage: Stage) -> None:
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09", targets=[("1.12", "1")])
        await execute_all(stage.desk)
        [held] = stage.login.positions.values()
        # The bridge has its time to show what it has taken; after that it is believed.
        await stage.walk("EUR/USD", None, rounds=4, seconds=25)
        held.stop_loss = D(0)
        await stage.walk("EUR/USD", None, rounds=5)
        assert (held.stop_loss, held.take_profit) == (D("1.09"), D("1.12"))
        [position] = await positions(stage.desk)
        assert position.protection is Protection.NATIVE

    async def test_a_stop_that_the_owner_moves_is_the_owners(self, stage: Stage) -> None:
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09", targets=[("1.12", "1")])
        await execute_all(stage.desk)
        [held] = stage.login.positions.values()
        held.stop_loss = D("1.092")
        await stage.walk("EUR/USD", None)
        [position] = await positions(stage.desk)
        assert (position.stop_loss, position.edited) == (D("1.092"), ["stop_loss"])
        assert (held.stop_loss, held.take_profit) == (D("1.092"), D("1.12"))
        assert position.protection is Protection.NATIVE

    async def test_what_is_closed_at_the_terminal_is_booked(self, stage: Stage) -> None:
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        [held] = stage.login.positions.values()
        await stage.venue.advance(30)
        stage.venue.move("EUR/USD", "1.1050")
        stage.venue.bridge(stage.platform).server.close(stage.login, held, D(0))
        await stage.walk("EUR/USD", None, rounds=8, seconds=15)
        [position] = await positions(stage.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
        assert (position.exit_price, position.realized_pnl) == (D("1.105"), stage.login.realized)

    @pytest.mark.parametrize("account", ACCOUNTS)
    @pytest.mark.parametrize("portion", ["1", "0.4"])
    async def test_what_is_closed_at_the_terminal_makes_what_the_broker_booked(
        self, database_url: str, account: str, portion: str
    ) -> None:
        async with opened_stage(database_url, account, currency="EUR", commission="3.5") as stage:
            await stage.activate()
            await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
            await execute_all(stage.desk)
            await stage.venue.advance(30)
            stage.venue.roll_over()
            stage.venue.move("EUR/USD", "1.1050")
            [held] = stage.login.positions.values()
            server = stage.venue.bridge(stage.platform).server
            server.close(stage.login, held, held.lots * D(portion))
            await stage.walk("EUR/USD", "1.1030", rounds=8, seconds=15)
            [position] = await positions(stage.desk)
            assert position.remaining_quantity == D("0.5") * (1 - D(portion))
            if position.remaining_quantity:
                stage.venue.roll_over()
                await closing.request_close(stage.desk, USER, position.id, None, idempotency_key=None)
                await stage.walk("EUR/USD", None)
                [position] = await positions(stage.desk)
                assert position.close_reason is CloseReason.MANUAL
            else:
                assert position.close_reason is CloseReason.EXTERNAL
            assert stage.login.positions == {}
            assert position.pnl_complete
            assert position.funding == sum((each.swap for each in stage.login.deals), D(0)) != 0
            assert position.fees == -sum((each.commission for each in stage.login.deals), D(0)) > 0
            assert position.realized_pnl == stage.login.realized

    @pytest.mark.parametrize("account", ACCOUNTS)
    async def test_what_the_broker_stops_out_is_a_liquidation_with_all_it_cost(
        self, database_url: str, account: str
    ) -> None:
        async with opened_stage(database_url, account, balance="1200", commission="3.5") as stage:
            await stage.activate()
            await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
            await execute_all(stage.desk)
            # Its owner has moved the stop to where the margin does not reach.
            [held] = stage.login.positions.values()
            held.stop_loss = D("1.06")
            await stage.walk("EUR/USD", None)
            await stage.venue.advance(30)
            stage.venue.roll_over()
            await stage.walk("EUR/USD", "1.0700", rounds=8, seconds=15)
            assert stage.login.positions == {}
            [position] = await positions(stage.desk)
            assert (position.status, position.close_reason) == (
                PositionStatus.CLOSED,
                CloseReason.LIQUIDATION,
            )
            assert position.realized_pnl == stage.login.realized < 0

    async def test_a_plan_the_broker_refuses_leaves_the_old_stop_as_a_net(self, stage: Stage) -> None:
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        [position] = await positions(stage.desk)
        stage.venue.faults.add(
            refusal("INVALID_STOPS" if stage.platform == "mt5" else "INVALID_SL_TP"), faults.modifies
        )
        await protection.edit_plan(
            stage.desk, USER, position.id, PlanChange(frozenset({"stop_loss"}), D("1.095"))
        )
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None)
        [held] = stage.login.positions.values()
        assert held.stop_loss == D("1.09")
        [position] = await positions(stage.desk)
        assert position.protection is Protection.SOFTWARE
        await stage.walk("EUR/USD", "1.0945")
        [position] = await positions(stage.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        assert stage.login.positions == {}
        assert position.realized_pnl == stage.login.realized

    async def test_what_the_ladder_leaves_over_has_a_stop_and_no_target(self, stage: Stage) -> None:
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09", targets=[("1.11", "0.5")])
        await execute_all(stage.desk)
        [held] = stage.login.positions.values()
        assert (held.stop_loss, held.take_profit) == (D("1.09"), D(0))
        await stage.walk("EUR/USD", "1.1105")
        [position] = await positions(stage.desk)
        assert (position.remaining_quantity, position.protection) == (D("0.25"), Protection.NATIVE)
        [held] = stage.login.positions.values()
        assert (held.lots, held.stop_loss) == (D("0.25"), D("1.09"))


class TestLimitEntries:
    async def test_it_rests_with_its_levels_and_is_protected_once_it_fills(self, stage: Stage) -> None:
        await stage.activate()
        await publish(
            stage.desk,
            symbol="EUR/USD",
            order_type="limit",
            entry_price="1.095",
            stop_loss="1.09",
            targets=[("1.11", "1")],
        )
        assert await outcome(stage) == (ExecutionStatus.OPEN, None)
        [resting] = stage.login.pending
        assert (resting.price, resting.stop_loss, resting.take_profit) == (D("1.095"), D("1.09"), D("1.11"))
        assert resting.expiration == stage.desk.now() + timedelta(hours=24)
        await stage.walk("EUR/USD", "1.0945")
        [position] = await positions(stage.desk)
        assert (position.entry_price, position.protection) == (D("1.095"), Protection.NATIVE)
        await stage.walk("EUR/USD", "1.1101")
        [position] = await positions(stage.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TAKE_PROFIT)
        assert position.realized_pnl == stage.login.realized

    async def test_a_cancelled_signal_takes_it_back(self, stage: Stage) -> None:
        from app.domain.signals import EventType

        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", order_type="limit", entry_price="1.095")
        await execute_all(stage.desk)
        await change(stage.desk, EventType.CANCELLED)
        assert await outcome(stage) == (ExecutionStatus.CANCELLED, "signal_cancelled")
        assert stage.login.pending == []

    async def test_the_broker_ends_it_in_its_own_time(self, stage: Stage) -> None:
        await stage.activate()
        ends = stage.desk.now() + timedelta(minutes=10)
        await publish(stage.desk, symbol="EUR/USD", order_type="limit", entry_price="1.095", expires_at=ends)
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None, rounds=6, seconds=150)
        assert (await outcome(stage))[0] in (ExecutionStatus.EXPIRED, ExecutionStatus.CANCELLED)
        assert stage.login.pending == []
        assert stage.login.positions == {}

    @pytest.mark.parametrize("reason", ["told", "unsaid", "too short"])
    async def test_where_the_broker_takes_no_end_of_it_we_end_it(self, stage: Stage, reason: str) -> None:
        server = stage.venue.bridge(stage.platform).server
        if reason == "too short":
            server.min_expiration = timedelta(minutes=11)
        else:
            server.tells_expirations = reason == "told"
            for market in server.markets.values():
                market.listing = replace(market.listing, takes_expiration=False)
        await stage.activate()
        ends = stage.desk.now() + timedelta(minutes=10)
        await publish(stage.desk, symbol="EUR/USD", order_type="limit", entry_price="1.095", expires_at=ends)
        assert await outcome(stage) == (ExecutionStatus.OPEN, None)
        [resting] = stage.login.pending
        assert (resting.price, resting.expiration) == (D("1.095"), None)
        await stage.walk("EUR/USD", None, rounds=6, seconds=150)
        assert (await outcome(stage))[0] in (ExecutionStatus.EXPIRED, ExecutionStatus.CANCELLED)
        assert stage.login.pending == []
        assert stage.login.positions == {}

    async def test_inside_the_spread_it_waits_for_the_price_to_move(self, stage: Stage) -> None:
        await stage.activate()
        await publish(
            stage.desk, symbol="EUR/USD", order_type="limit", entry_price="1.10005", stop_loss="1.09"
        )
        assert (await outcome(stage))[0] is ExecutionStatus.PENDING
        await stage.walk("EUR/USD", "1.1002")
        assert (await outcome(stage))[0] is ExecutionStatus.OPEN
        [resting] = stage.login.pending
        assert resting.price == D("1.10005")


class TestDenials:
    @pytest.mark.parametrize(
        ("mode", "direction", "code"),
        [
            (TradeMode.CLOSE_ONLY, "buy", "symbol_not_tradable"),
            (TradeMode.DISABLED, "buy", "symbol_not_tradable"),
            (TradeMode.LONG_ONLY, "sell", "direction_not_allowed"),
        ],
    )
    async def test_what_the_broker_does_not_let_open(
        self, stage: Stage, mode: TradeMode, direction: str, code: str
    ) -> None:
        stage.venue.restrict("EUR/USD", mode)
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", direction=direction)
        status, told = await outcome(stage)
        assert (status in (ExecutionStatus.DENIED, ExecutionStatus.REJECTED), told) == (True, code)
        assert stage.login.orders == []

    @pytest.mark.parametrize("closed", ["EUR/USD", None], ids=["symbol", "weekend"])
    async def test_a_closed_market_says_so(self, stage: Stage, closed: str | None) -> None:
        await stage.activate()
        stage.venue.close_session(closed)
        await publish(stage.desk, symbol="EUR/USD")
        status, code = await outcome(stage)
        assert (status in (ExecutionStatus.DENIED, ExecutionStatus.REJECTED), code) == (True, "market_closed")

    async def test_a_stop_nearer_than_the_broker_takes(self, stage: Stage) -> None:
        for market in stage.venue.bridge(stage.platform).server.markets.values():
            market.listing = replace(market.listing, stops_level=600)
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.095")
        assert await outcome(stage) == (ExecutionStatus.DENIED, "stop_too_close")

    @pytest.mark.parametrize("hours", ["1", "5"])
    async def test_a_wrong_time_zone_makes_no_price_fresh(self, stage: Stage, hours: str) -> None:
        wrong = Fault("time zone", Delivery.REPLACED, page=Page(200, hours, "text/plain"))
        stage.venue.faults.add(wrong, faults.on("/ServerTimezone"), times=100)
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        assert await outcome(stage) == (ExecutionStatus.DENIED, "quote_stale")

    async def test_clocks_that_are_put_forward_hold_nothing_up(self, stage: Stage) -> None:
        await stage.activate()
        await publish(stage.desk, "winter", symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        stage.venue.bridge(stage.platform).server.utc_offset += timedelta(hours=1)
        await publish(stage.desk, "summer", symbol="GBP/USD", stop_loss="1.24")
        await execute_all(stage.desk)
        assert {each.status for each in await executions(stage.desk)} == {ExecutionStatus.EXECUTED}

    async def test_an_account_whose_figures_are_not_there_yet(self, stage: Stage) -> None:
        if stage.platform == "mt4":
            pytest.skip("MetaTrader 4 does not say")
        await stage.activate()
        stage.login.is_synced = False
        await publish(stage.desk, symbol="EUR/USD")
        assert await outcome(stage) == (ExecutionStatus.DENIED, "account_not_synced")

    async def test_an_investor_may_not_trade(self, stage: Stage) -> None:
        connection = await stage.connect(stage.credentials(api_secret=stage.owner.investor_password))
        found = await connections.test(stage.desk, USER, connection.id)
        assert (found.ok, found.code) == (False, "trade_permission_missing")

    async def test_a_netting_account_holds_one(self, stage: Stage) -> None:
        await stage.activate()
        await publish(stage.desk, "one", symbol="EUR/USD")
        await publish(stage.desk, "two", symbol="EUR/USD", direction="sell")
        await execute_all(stage.desk)
        nets = stage.login.method == "Netting"
        [_, second] = await executions(stage.desk)
        assert second.code == ("opposite_position" if nets else None)
        assert len(stage.login.positions) == (1 if nets else 2)

    async def test_a_currency_nobody_converts(self, five: Stage) -> None:
        await five.activate()
        await publish(five.desk, symbol="NOK/SEK")
        assert await outcome(five) == (ExecutionStatus.DENIED, "conversion_unavailable")

    async def test_a_symbol_that_is_not_there(self, five: Stage) -> None:
        await five.activate()
        await publish(five.desk, symbol="AUD/CAD")
        assert await outcome(five) == (ExecutionStatus.DENIED, "symbol_unknown")


class TestSizes:
    async def test_risk_is_counted_in_the_accounts_currency(self, five: Stage) -> None:
        await five.activate(sizing={"strategy": "risk_percentage", "value": "1"})
        # 1 % of 10,000 EUR; 0.0051 from 1.1001 to the stop, worth 510 USD a lot, at 1 ÷ 1.1 (the bid): 463.63 EUR.
        await publish(five.desk, symbol="EUR/USD", stop_loss="1.095")
        await execute_all(five.desk)
        [position] = await positions(five.desk)
        assert position.quantity == D("0.21")
        await five.walk("EUR/USD", "1.0950")
        assert D(-100) <= five.login.realized <= D(-90)

    async def test_yen_are_converted_by_the_pair_s_inverse(self, database_url: str) -> None:
        async with opened_stage(database_url, "mt4") as stage:
            await stage.activate(sizing={"strategy": "risk_percentage", "value": "1"})
            # 1 % of 10,000 USD; half a yen from 150.01 to the stop is 51,000 yen a lot, 340 USD at 1 ÷ 150.
            await publish(stage.desk, symbol="USDJPY", stop_loss="149.5")
            await execute_all(stage.desk)
            [position] = await positions(stage.desk)
            assert position.quantity == D("0.29")
            await stage.walk("USD/JPY", "149.500")
            assert D(-101) <= stage.login.realized <= D(-90)

    async def test_the_notional_is_lots_times_contract_times_the_base(self, five: Stage) -> None:
        await five.activate(sizing={"strategy": "fixed_amount", "value": "30000"})
        await publish(five.desk, symbol="EUR/USD")
        await execute_all(five.desk)
        [position] = await positions(five.desk)
        assert position.quantity == D("0.3")

    async def test_the_margin_is_enough_or_it_is_denied(self, five: Stage) -> None:
        await five.activate(sizing={"strategy": "fixed", "value": "11"})
        await publish(five.desk, symbol="EUR/USD")
        assert await outcome(five) == (ExecutionStatus.DENIED, "insufficient_balance")

    async def test_a_preview_says_what_would_be_sent(self, five: Stage) -> None:
        from app.domain.orders import Side
        from app.domain.signals import Signal

        await five.activate()
        signal = Signal("EUR/USD", Side.BUY, stop_loss=D("1.09"))
        [seen] = await previewing.preview(five.desk, USER, signal, [], five.desk.now())
        assert isinstance(seen.outcome, previewing.Order), seen.outcome
        assert (seen.outcome.entry.notional, seen.outcome.protection) == (D(50000), Protection.NATIVE)
        assert five.login.orders == []

    async def test_the_open_profit_is_marked_in_the_accounts_currency(self, five: Stage) -> None:
        await five.activate()
        await publish(five.desk, symbol="EUR/USD")
        await execute_all(five.desk)
        await five.walk("EUR/USD", "1.1101")
        [position] = await positions(five.desk)
        # 0.01 × 50,000 USD at 1 ÷ 1.1101.
        assert position.unrealized_pnl.quantize(D("0.01")) == D("450.41")


class TestSessions:
    async def test_a_wrong_password_is_said_and_not_tried_again_at_once(self, stage: Stage) -> None:
        connection = await stage.connect(stage.credentials(api_secret="not the password"))
        for _ in range(3):
            found = await connections.test(stage.desk, USER, connection.id)
            assert (found.ok, found.code) == (False, "credentials_refused")
            assert "not the password" not in found.message
        assert len(stage.venue.calls("ConnectEx")) == 1

    async def test_an_unknown_server_is_said(self, stage: Stage) -> None:
        connection = await stage.connect(stage.credentials(server="Nobody-Live"))
        found = await connections.test(stage.desk, USER, connection.id)
        assert (found.ok, found.code) == (False, "rejected_by_venue")
        assert "Nobody-Live" in found.message

    async def test_host_and_port_do_as_well(self, stage: Stage) -> None:
        given = by_address(stage)
        found = await connections.test(stage.desk, USER, (await stage.connect(given)).id)
        assert found.ok, found.message

    async def test_the_key_of_a_gateway_goes_in_its_header(self, stage: Stage) -> None:
        stage.venue.bridge(stage.platform).api_key = "the-key-of-the-gateway"
        refused = await connections.test(stage.desk, USER, (await stage.connect()).id)
        assert refused.ok is False
        given = stage.credentials(api_key="the-key-of-the-gateway")
        accepted = await connections.test(stage.desk, USER, (await stage.connect(given)).id)
        assert accepted.ok, accepted.message

    async def test_one_account_is_active_once(self, stage: Stage) -> None:
        from app.domain.errors import Conflict

        await stage.activate()
        with pytest.raises(Conflict) as second:
            await stage.activate()
        assert second.value.code == "account_in_use"

    async def test_one_account_by_name_and_by_address_is_active_once(self, five: Stage) -> None:
        from app.domain.errors import Conflict

        await five.activate()
        with pytest.raises(Conflict) as second:
            await five.activate(credentials=by_address(five))
        assert second.value.code == "account_in_use"

    async def test_a_bridge_that_does_not_name_the_server_tests_and_trades_all_the_same(
        self, five: Stage
    ) -> None:
        five.venue.faults.add(faults.HTML, faults.on("/AccountDetails"), times=100)
        await five.activate()
        await publish(five.desk, symbol="EUR/USD", stop_loss="1.09")
        assert (await outcome(five))[0] is ExecutionStatus.EXECUTED

    async def test_no_line_holds_what_opens_the_account(
        self, stage: Stage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        heard = io.StringIO()
        handler = logging.StreamHandler(heard)
        root = logging.getLogger()
        before = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            bridge = stage.venue.bridge(stage.platform)
            bridge.leaks_passwords = True
            await stage.activate()
            stage.venue.faults.add(faults.ANSWER_LOST)
            await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
            await publish(stage.desk, "s2", symbol="EUR/USD", stop_loss="1.0999")
            await execute_all(stage.desk)
            bridge.sessions.lose_all()
            await stage.walk("EUR/USD", None, seconds=30)
        finally:
            root.removeHandler(handler)
            root.setLevel(before)
        told = capsys.readouterr()
        rows = [str(vars(each)) for each in (*await executions(stage.desk), *await orders(stage.desk))]
        for text in (heard.getvalue(), told.out, told.err, *rows):
            assert not any(secret in text for secret in stage.venue.secrets)
        assert stage.connection is not None
        assert stage.connection.status is not ConnectionStatus.ERROR


class TestClosedSessions:
    async def test_over_the_weekend_nothing_is_lost_and_nothing_is_done(self, stage: Stage) -> None:
        await stage.activate()
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        stage.venue.close_session()
        await stage.walk("EUR/USD", None, rounds=6, seconds=600)
        [position] = await positions(stage.desk)
        assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NATIVE)
        stage.venue.move("EUR/USD", "1.08")
        stage.venue.open_session()
        await stage.walk("EUR/USD", None)
        [position] = await positions(stage.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        # It opened beyond the stop: the price is what it got, never the level.
        assert position.exit_price == D("1.08")
        assert [each.status for each in await orders(stage.desk) if each.purpose is Purpose.PROTECTION] == [
            OrderStatus.FILLED
        ]
