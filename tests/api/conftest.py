"""A service on a database of the test's own, with the paper venue and a queue that only remembers."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.brokers.directory import Directory
from app.brokers.paper.venue import open_paper
from app.desk import Desk, Sessions, open_database, open_sessions
from app.main import Service, create_app
from app.settings import Settings, settings_from
from app.vault import Vault
from tests.api.scene import Api, Clock, Platform, Rings, Rows


@pytest.fixture
def clock() -> Clock:
    """Noon, until it is moved."""
    return Clock()


@pytest.fixture
def rings() -> Rings:
    """What the queue was rung for."""
    return Rings()


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[Sessions]:
    """Sessions on the test's database."""
    database = open_database(database_url, pool_size=5)
    yield open_sessions(database)
    await database.dispose()


@pytest.fixture
async def desk(sessions: Sessions, settings: Settings, clock: Clock, rings: Rings) -> AsyncIterator[Desk]:
    """A desk with the paper venue."""
    brokers = Directory({"paper": open_paper(sessions, None, clock)})
    yield Desk(
        sessions=sessions, brokers=brokers, queue=rings, vault=Vault.open(settings.vault_keys), now=clock
    )
    await brokers.close()


@pytest.fixture
async def service(settings: Settings, desk: Desk) -> AsyncIterator[Service]:
    """The service on that desk, started."""
    app = create_app(settings, desk)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def http(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    transport = httpx.ASGITransport(service)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        yield client


@pytest.fixture
def platform(settings: Settings) -> Platform:
    """Who issues tokens."""
    return Platform(settings)


@pytest.fixture
def api(http: httpx.AsyncClient, platform: Platform, service: Service) -> Api:
    """The service as its callers see it."""
    return Api(http, platform, service)


@pytest.fixture
def finite_streams(service: Service) -> None:
    """Streams tell what there is and end: whatever is asked, there is a whole answer."""
    service.state.feed.stop()


@pytest.fixture
def rows(sessions: Sessions) -> Rows:
    """Rows as the engine would have left them."""
    return Rows(sessions)


@pytest.fixture
def serverless_settings(serverless_environment: dict[str, str]) -> Settings:
    """Settings that name servers nobody runs."""
    return settings_from(serverless_environment)
