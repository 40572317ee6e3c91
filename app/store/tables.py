"""Every table of the engine, imported in one place so that migrations see them all."""

from app.store import (
    analytics,
    audit,
    changes,
    channels,
    chores,
    connections,
    entitlements,
    events,
    executions,
    funding,
    notifications,
    orders,
    positions,
    signals,
    trading,
    workers,
)

__all__ = [
    "analytics",
    "audit",
    "changes",
    "channels",
    "chores",
    "connections",
    "entitlements",
    "events",
    "executions",
    "funding",
    "notifications",
    "orders",
    "positions",
    "signals",
    "trading",
    "workers",
]
