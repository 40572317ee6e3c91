"""Openings: what an execution remembers of its decision, and the position that its first fill makes of it."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.brokers.port import Traits
from app.domain.entries import Entry
from app.domain.exits import CloseReason, Protection
from app.domain.market import QuantityUnit
from app.domain.money import ZERO, parse, stored, text
from app.domain.positions import Figures, PositionSide, PositionStatus
from app.engine import ladders
from app.engine.trades import Trade
from app.store.orders import Order
from app.store.positions import DEADLINE, Position
from app.store.schema import new_id


def plan_of(
    entry: Entry,
    terms: Mapping[str, Any],
    management: Mapping[str, Any],
    traits: Traits,
    *,
    multiplier: Decimal,
) -> dict[str, Any]:
    """What an execution remembers of its decision until the position exists; `terms` are of protection,
    `multiplier` is for what its signal says later."""
    usual = traits.trigger_sources[0] if traits.trigger_sources else None
    source = terms.get("trigger_source") if usual else None
    instrument = entry.instrument
    return {
        "stop_loss": None if entry.stop_loss is None else text(entry.stop_loss),
        "levels": ladders.stored_levels(entry.levels),
        "management": dict(management),
        "native": traits.native_protection,
        "trigger_source": source or usual,
        "deadline_seconds": terms.get("deadline_seconds") or int(DEADLINE.total_seconds()),
        "unit_value": text(stored(entry.unit_value)),
        "multiplier": text(multiplier),
        "quantity_unit": instrument.quantity_unit.value,
        "quantity_step": text(instrument.quantity_step),
        "price_tick": text(instrument.price_tick),
        "min_quantity": text(instrument.min_quantity),
        "min_notional": None if instrument.min_notional is None else text(instrument.min_notional),
        "netting": traits.netting,
    }


def unit_value(trade: Trade) -> Decimal:
    """What a price move of one is worth, as the position was last marked, else as its entry was decided."""
    if trade.position is not None:
        return trade.position.unit_value
    return parse((trade.execution.plan or {}).get("unit_value") or "1")


def open_position(
    trade: Trade, entry: Order, side: PositionSide, figures: Figures, now: datetime
) -> Position:
    execution = trade.execution
    plan = execution.plan
    if plan is None:
        raise ValueError(f"execution {execution.id} was claimed without a plan")
    stop = None if plan["stop_loss"] is None else parse(plan["stop_loss"])
    guarded = stop is not None or bool(plan["levels"])
    position = Position(
        id=new_id(),
        execution_id=execution.id,
        signal_id=execution.signal_id,
        connection_id=execution.connection_id,
        owner_role=execution.owner_role,
        owner_id=execution.owner_id,
        symbol=entry.symbol,
        currency=entry.currency,
        quantity_unit=QuantityUnit(plan["quantity_unit"]),
        unit_value=unit_value(trade),
        side=side,
        quantity=figures.quantity,
        remaining_quantity=figures.remaining,
        entry_price=figures.entry_price,
        stop_loss=stop,
        levels=plan["levels"],
        management=plan["management"],
        stop_reason=CloseReason.STOP_LOSS,
        edited=[],
        native=plan["native"],
        # Our monitor is on from the first unit; the venue takes over when it has acknowledged its orders.
        protection=Protection.SOFTWARE if guarded else Protection.NONE,
        status=PositionStatus.OPEN,
        trigger_source=plan.get("trigger_source"),
        deadline_seconds=plan.get("deadline_seconds") or int(DEADLINE.total_seconds()),
        unprotected_seconds=ZERO,
        quantity_step=parse(plan["quantity_step"]),
        price_tick=parse(plan["price_tick"]),
        min_quantity=parse(plan["min_quantity"]),
        min_notional=None if plan["min_notional"] is None else parse(plan["min_notional"]),
        netting=plan.get("netting", False),
        plan_revision=1,
        plan_base=ZERO,
        realized_pnl=ZERO,
        unrealized_pnl=ZERO,
        dust=ZERO,
        funding=ZERO,
        funding_complete=True,
        missing_quantity=ZERO,
        foreign_quantity=ZERO,
        foreign_orders=0,
        opened_at=entry.filled_at or now,
        created_at=now,
    )
    entry.position_id = position.id
    return position
