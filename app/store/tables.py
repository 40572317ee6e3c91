"""Every table of the engine, imported in one place so that migrations see them all."""

from app.store import (
    analytics,
    audit,
    channels,
    chores,
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
    "channels",
    "chores",
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
