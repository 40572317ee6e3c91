"""Sessions at a bridge that is not always there: what answers in its place is never taken for it."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from app.engine import connections
from app.engine.examining import Examination
from app.store.executions import ExecutionStatus
from tests.desks import USER
from tests.engine.metatrader import Stage, opened_stage
from tests.engine.signals import execute_all, executions, publish
from tests.venues import faults
from tests.venues.faults import HTML_PAGE, Delivery, Fault, Page
from tests.venues.metatrader import refusal

PLATFORMS = ("mt4", "mt5-hedging")


@pytest.fixture(params=PLATFORMS)
async def stage(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Stage]:
    """An account of 10,000 USD on each platform in turn."""
    async with opened_stage(database_url, request.param) as opened:
        yield opened


def instead(status: int, text: str) -> Fault:
    """What a proxy says in the bridge's place; the bridge hears nothing of it."""
    return Fault(f"{status} {text}", Delivery.REPLACED, executed=False, page=Page(status, text, "text/plain"))


NO_ROUTE = instead(404, "404 page not found")


async def examined(stage: Stage) -> Examination:
    """The test of the stage's newest connection."""
    assert stage.connection is not None
    return await connections.test(stage.desk, USER, stage.connection.id)


def total(examination: Examination) -> Decimal:
    """What an account has, as its connection shows it."""
    assert examination.account is not None, examination.message
    return examination.account.balances["USD"].total


class TestTokens:
    @pytest.mark.parametrize(
        "page",
        [
            instead(200, "Unauthorized"),
            instead(201, "maintenance"),
            instead(401, "Unauthorized"),
            instead(502, "bad-gateway"),
        ],
        ids=lambda fault: fault.name,
    )
    async def test_the_words_of_a_proxy_are_no_session(self, stage: Stage, page: Fault) -> None:
        first = await stage.connect()
        stage.venue.faults.add(page, faults.on("/ConnectEx"))
        assert not (await examined(stage)).ok
        stage.owner = stage.venue.open_account(stage.platform, balance="777")
        await stage.connect()
        stage.venue.faults.add(page, faults.on("/ConnectEx"))
        assert not (await examined(stage)).ok
        assert total(await examined(stage)) == 777
        assert total(await connections.test(stage.desk, USER, first.id)) == 10_000

    async def test_a_bridge_may_name_the_session_itself(self, stage: Stage) -> None:
        stage.venue.bridge(stage.platform).sessions.names_itself = True
        await stage.connect()
        assert total(await examined(stage)) == 10_000

    @pytest.mark.parametrize(
        "page",
        [instead(403, HTML_PAGE), instead(403, "Forbidden"), instead(401, HTML_PAGE)],
        ids=["403 page", "403", "401 page"],
    )
    async def test_what_a_proxy_says_of_us_is_no_word_about_the_key(self, stage: Stage, page: Fault) -> None:
        await stage.activate()
        await publish(stage.desk, "held", symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        stage.venue.faults.policy = lambda _: page
        await publish(stage.desk, "later", symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None, rounds=8)
        assert [each.status for each in await executions(stage.desk)][-1] is ExecutionStatus.PENDING
        stage.venue.faults.clear()
        await stage.walk("EUR/USD", None, rounds=6)
        assert [each.status for each in await executions(stage.desk)] == [ExecutionStatus.EXECUTED] * 2
        stage.venue.faults.policy = lambda _: page
        found = await examined(stage)
        assert (found.ok, found.code) == (False, "venue_unreachable")

    async def test_such_a_page_in_place_of_an_answer_leaves_the_order_in_doubt(self, stage: Stage) -> None:
        await stage.activate()
        page = Fault("403 after", Delivery.REPLACED, page=Page(403, HTML_PAGE))
        stage.venue.faults.add(page)
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None)
        assert [each.status for each in await executions(stage.desk)] == [ExecutionStatus.EXECUTED]
        assert len(stage.login.orders) == 1

    async def test_a_gateway_that_lets_nobody_in_refuses_the_key(self, stage: Stage) -> None:
        stage.venue.faults.add(instead(401, "no"), faults.any_request, times=1)
        await stage.connect()
        found = await examined(stage)
        assert (found.ok, found.code) == (False, "credentials_refused")
        assert stage.venue.calls("ConnectEx") == []

    async def test_an_order_that_is_stopped_at_the_gate_was_not_placed(self, stage: Stage) -> None:
        await stage.activate()
        stage.venue.faults.add(instead(401, "Unauthorized"))
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        [execution] = await executions(stage.desk)
        assert (execution.status, execution.code) == (ExecutionStatus.REJECTED, "credentials_refused")
        assert stage.login.orders == []

    async def test_an_order_under_way_when_its_session_ends_is_looked_up(self, stage: Stage) -> None:
        await stage.activate()
        stage.venue.faults.add(refusal("INVALID_TOKEN", "Client with id not found", executed=True))
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None)
        [execution] = await executions(stage.desk)
        assert execution.status is ExecutionStatus.EXECUTED
        assert len(stage.login.orders) == 1


class TestDeployment:
    @pytest.mark.parametrize(
        "accident", [faults.HANG, NO_ROUTE, faults.HTML, instead(200, "OKAY")], ids=lambda fault: fault.name
    )
    async def test_no_password_goes_where_no_bridge_answers(self, stage: Stage, accident: Fault) -> None:
        await stage.connect()
        stage.venue.faults.add(accident, faults.on("/CheckConnect"))
        found = await examined(stage)
        assert (found.ok, found.code) == (False, "venue_unreachable")
        assert stage.venue.calls("ConnectEx") == []
        assert (await examined(stage)).ok

    async def test_an_entry_meets_a_proxy_without_a_bridge_and_is_placed_later(self, stage: Stage) -> None:
        await stage.activate()
        for when in (faults.places, faults.looks):
            stage.venue.faults.add(NO_ROUTE, when, times=2)
        stage.venue.faults.add(NO_ROUTE, faults.on("/CheckConnect"), times=2)
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        for _ in range(10):
            await stage.walk("EUR/USD", None, rounds=1, seconds=3)
        [execution] = await executions(stage.desk)
        assert execution.status is ExecutionStatus.EXECUTED, (execution.code, execution.message)
        assert len(stage.login.orders) == 1

    async def test_a_request_the_bridge_certainly_has_not_is_refused(self, stage: Stage) -> None:
        await stage.activate()
        stage.venue.faults.add(NO_ROUTE, faults.places, times=20)
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None, rounds=3, seconds=3)
        [execution] = await executions(stage.desk)
        assert (execution.status, execution.code) == (ExecutionStatus.REJECTED, "rejected_by_venue")
        assert len(stage.venue.calls("OrderSend")) == 2
