"""Every table of the engine, imported in one place so that migrations see them all."""

from app.store import (
    analytics,
    audit,
    changes,
    connections,
    entitlements,
    events,
    executions,
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
    "connections",
    "entitlements",
    "events",
    "executions",
    "notifications",
    "orders",
    "positions",
    "signals",
    "trading",
    "workers",
]
