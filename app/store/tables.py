"""Every table of the engine, imported in one place so that migrations see them all."""

from app.store import (
    analytics,
    connections,
    entitlements,
    events,
    executions,
    notifications,
    orders,
    positions,
    signals,
    workers,
)

__all__ = [
    "analytics",
    "connections",
    "entitlements",
    "events",
    "executions",
    "notifications",
    "orders",
    "positions",
    "signals",
    "workers",
]
