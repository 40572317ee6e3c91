"""Fuzzing: generated requests to every operation. No answer is a failure of ours; each is one the document promises.

The examples are derived from the document and nothing else, so that a run is the same everywhere.
"""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.desk import Sessions, open_database, open_sessions
from app.domain.owners import Owner, Role
from app.main import create_app
from app.settings import Settings, new_vault_key, new_webhook_secret, settings_from
from tests.api.estate import Estate, settle
from tests.api.operations import Operation, document, operations
from tests.api.scene import Platform, Rows
from tests.servers import Databases, free_port

EXAMPLES: Final = 10
"""Of each operation, and as many that break its schema."""

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

SCHEMA: Final = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
async def database(databases: Databases) -> AsyncIterator[str]:
    """A database for the whole run."""
    async with databases.fresh() as url:
        yield url


@pytest.fixture(scope="module")
async def sessions(database: str) -> AsyncIterator[Sessions]:
    """Sessions on it."""
    engine = open_database(database, pool_size=2)
    yield open_sessions(engine)
    await engine.dispose()


@pytest.fixture(scope="module")
def configured(database: str) -> Settings:
    """Settings of a service that limits nobody."""
    return settings_from(
        {
            "ENGINE_DATABASE_URL": database,
            "ENGINE_REDIS_URL": "redis://127.0.0.1:1/0",
            "ENGINE_JWT_SECRET": "a secret of the tests, long enough",
            "ENGINE_WEBHOOK_SECRETS": new_webhook_secret(),
            "ENGINE_VAULT_KEYS": new_vault_key(),
            "ENGINE_RATE_LIMIT_PER_MINUTE": "1000000",
            "ENGINE_UNSIGNED_LIMIT_PER_MINUTE": "1000000",
        }
    )


@pytest.fixture(scope="module")
def served(configured: Settings) -> Iterator[str]:
    """The service as uvicorn runs it, on a loop of its own."""
    port = free_port()
    app = create_app(configured)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    # Streams have an end then, which the answers to be looked at need.
    app.state.feed.stop()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
async def estate(sessions: Sessions, operation: Operation, mode: GenerationMode) -> Estate:
    """Something to ask about."""
    role = Role.ADMIN if operation.is_for_admins else Role.USER
    return await settle(Rows(sessions), Owner(role, f"{mode.value}-{operation.id}"))


def _runs() -> Iterator[Any]:
    """Every operation with requests that fit its schema, and with such that do not where it takes anything."""
    for operation in operations():
        for mode in GenerationMode:
            takes_something = operation.content.get("parameters") or "requestBody" in operation.content
            if mode is GenerationMode.POSITIVE or takes_something:
                yield pytest.param(operation, mode, id=f"{operation.id}-{mode.value}")


@pytest.mark.parametrize(("operation", "mode"), list(_runs()))
def test_every_answer_is_promised(
    served: str, configured: Settings, estate: Estate, operation: Operation, mode: GenerationMode
) -> None:
    generated = SCHEMA[operation.path][operation.method].as_strategy(generation_mode=mode)
    platform = Platform(configured)
    ids = {name: str(id_) for name, id_ in estate.for_operation(operation.id).items()}

    @given(case=generated, is_known=st.booleans())
    @hypothesis_settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Case[Any], is_known: bool) -> None:
        if is_known and mode is GenerationMode.POSITIVE:
            case.path_parameters.update({name: ids[name] for name in operation.names("path")})
        with requests.Session() as session:
            request = requests.Request(**case.as_transport_kwargs(base_url=served))
            request.headers = {**(request.headers or {}), **platform.bearer(estate.owner)}
            prepared = session.prepare_request(request)
            if operation.id == "receive_event" and is_known:
                assert prepared.body is None or isinstance(prepared.body, str | bytes)
                body = prepared.body or b""
                body = body.encode() if isinstance(body, str) else body
                prepared.headers.update(platform.signed(body, datetime.now(UTC)))
            answer = session.send(prepared)
        case.validate_response(answer, checks=CHECKS)

    ask()
