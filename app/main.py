"""The HTTP service: settings in, application out; its lifespan opens the desk.

uvicorn app.main:app
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from app.api import (
    admin,
    analytics,
    audit,
    bodies,
    breakdowns,
    connections,
    denials,
    discrepancies,
    docs,
    events,
    exchanges,
    executions,
    health,
    me,
    metrics,
    notification_settings,
    notifications,
    positions,
    problems,
    reports,
    signals,
    system,
    trades,
    webhooks,
)
from app.api.callers import Tokens
from app.api.edge import Edge
from app.api.feed import Feed
from app.api.keys import Keys, PublishedKeys, SharedSecret
from app.api.rates import Counted, Rates
from app.api.senders import Senders
from app.desk import Desk, open_desk, open_redis
from app.engine import delivering, journal, metering
from app.engine.rekeying import keys_checked
from app.logs import configure_logs
from app.settings import Settings, load_settings

POOL_SECONDS: Final = 5.0
"""How long a request waits for one of the database connections that are open."""

DESCRIPTION: Final = """
Turns signed trading signals into protected positions and their analytics.

Press **Authorize** and paste a token; `engine token --sub ID --role user|admin` prints one. You see what you own
and nothing else; what is under `/v1/admin` is for admins.

* Ids are UUIDs. Times are ISO-8601 in UTC with `Z`.
* Amounts are decimal strings without trailing zeros; a JSON number is taken, too, and kept exact.
* Percentages are per cent: `"1"` is 1 %.
* Lists are newest first; pass `next_cursor` as `cursor` for the page after.
* Everything that goes wrong is a problem document (RFC 9457) with a stable `code`.
"""

TAGS: Final = [
    {"name": "connections", "description": "Your accounts at venues: create, test, activate."},
    {"name": "positions", "description": "What is held: edit its protection, or close it."},
    {"name": "executions", "description": "What became of each signal on each connection, and why."},
    {"name": "signals", "description": "What providers published."},
    {"name": "analytics", "description": "How it went, by day, currency and connection."},
    {"name": "notifications", "description": "What you were told, and where else you want to hear it."},
    {"name": "events", "description": "All of that as it changes."},
    {"name": "audit", "description": "Who did what to what is yours, and what you did."},
    {"name": "exchanges", "description": "What can be connected."},
    {"name": "me", "description": "Who the token says you are, and what your plan allows."},
    {"name": "webhooks", "description": "How signals come in: signed events of the signal platform."},
    {"name": "admin", "description": "For admins: lists over all owners, and how the engine is doing."},
    {"name": "health", "description": "For load balancers and probes."},
]

RESOURCES: Final = (
    connections,
    positions,
    executions,
    signals,
    analytics,
    breakdowns,
    reports,
    trades,
    notifications,
    notification_settings,
    events,
    audit,
    exchanges,
    denials,
    me,
    webhooks,
    admin,
    discrepancies,
    system,
)


class Service(FastAPI):
    """The application, with the edge around it and its problems in the OpenAPI document."""

    def build_middleware_stack(self) -> ASGIApp:
        """The framework's own, behind the edge."""
        return Edge(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = docs.named(problems.document(super().openapi()))
        return self.openapi_schema


def create_app(settings: Settings, desk: Desk | None = None) -> Service:
    """The service. With a desk given it works on that one and leaves it open; else it opens its own."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as open_things:
            redis = open_redis(settings.redis_url.get_secret_value())
            open_things.push_async_callback(redis.aclose)
            app.state.redis = redis
            app.state.desk = desk or await open_things.enter_async_context(
                open_desk(settings, pool_seconds=POOL_SECONDS)
            )
            app.state.rates = Rates(redis, lambda: app.state.desk.now(), _limits(settings))
            app.state.keys_checked = await keys_checked(app.state.desk)
            metering.attach(app.state.desk)
            journal.attach(app.state.desk)
            delivering.attach(app.state.desk)
            app.state.feed = Feed(app.state.desk.sessions)
            await open_things.enter_async_context(app.state.feed.running())
            await open_things.enter_async_context(exchanges.looked_up())
            yield

    service = Service(
        title=docs.TITLE,
        version=system.VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        max_body_size=bodies.MAX_SIZE,
    )
    service.state.tokens = Tokens(_keys(settings), settings.jwt_audience, settings.jwt_issuer)
    service.state.senders = Senders(settings.webhook_secrets)
    service.state.metrics_token = settings.metrics_token
    problems.install(service)
    _route(service)
    return service


def _limits(settings: Settings) -> dict[Counted, int]:
    """How often what may be done in a minute."""
    return {
        Counted.READS: settings.rate_limit_per_minute,
        Counted.CHANGES: settings.rate_limit_per_minute,
        Counted.UNSIGNED: settings.unsigned_limit_per_minute,
        Counted.REFUSED: settings.unsigned_limit_per_minute,
    }


def _keys(settings: Settings) -> Keys:
    """What tokens are verified with: where keys are published, no secret is taken beside them."""
    if settings.jwt_jwks_url is not None:
        return PublishedKeys(settings.jwt_jwks_url)
    if settings.jwt_secret is None:
        raise ValueError("settings name a secret or an address of keys")
    return SharedSecret(settings.jwt_secret)


def _route(service: Service) -> None:
    v1 = APIRouter(prefix="/v1")
    for resource in RESOURCES:
        v1.include_router(resource.router)
    service.include_router(v1)
    service.include_router(health.router)
    service.include_router(metrics.router)
    service.include_router(docs.router)
    service.mount("/docs", docs.assets(), name="docs-assets")


def __getattr__(name: str) -> Service:
    """`app`, made when uvicorn asks for it and not on import: others import this module without settings."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    settings = load_settings()
    configure_logs(settings.log_format, settings.log_level)
    return create_app(settings)
