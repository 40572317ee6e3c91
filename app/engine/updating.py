"""Updating: what `signal.updated` changes on one trade, and the note its execution keeps of every later event.

Per field the event with the greatest timestamp counts. An update tightens a stop and never loosens it, changes
nothing that the owner has set by hand, and its ladder is for what remains. Each event is noted once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.domain.exits import CloseReason
from app.domain.money import parse, round_to_tick, text
from app.domain.orders import OrderStatus, Side
from app.domain.positions import PositionStatus
from app.domain.signals import (
    Level,
    Outcome,
    Signal,
    Update,
    Verdict,
    ladder_of,
    new_ladder,
    new_stop,
    precedence,
    stop_verdicts,
)
from app.engine import closing, ladders, projecting
from app.engine.courses import portion_of, update_of
from app.engine.trades import Trade
from app.store.events import Event
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position
from app.store.signals import levels_of


@dataclass(frozen=True, slots=True)
class Applied:
    """What has to be done at the venue after an update: a close to carry out, a resting entry to cancel."""

    close_id: UUID | None = None
    lapsed: Order | None = None


def note_of(execution: Execution, event: Event) -> Mapping[str, Any] | None:
    """The last that was noted of an event on an execution; None while it has not been applied."""
    notes = [noted for noted in execution.signal_events if noted["event_id"] == event.webhook_id]
    return notes[-1] if notes else None


def note(
    execution: Execution,
    event: Event,
    verdict: Verdict,
    now: datetime,
    *,
    field: str | None = None,
    filled: Decimal | None = None,
) -> None:
    """Keep what an event came to, for the owner to see.

    `filled` is up to what quantity of the position a close has been applied, where more may still be filled.
    """
    noted = {
        "event_id": event.webhook_id,
        "type": event.type,
        "timestamp": event.timestamp.isoformat(),
        "field": field,
        "outcome": verdict.outcome.value,
        "message": verdict.message,
        "applied_at": now.isoformat(),
    }
    if filled is not None:
        noted["filled"] = text(filled)
    execution.signal_events = [*execution.signal_events, noted]
    execution.updated_at = now


def note_wording(
    execution: Execution, signal: Signal, events: Sequence[Event], closes: Sequence[Event], now: datetime
) -> None:
    """Keep what updates, and closes of a portion, came to in the wording that an entry was decided from.

    `signal` is as it was published. What is counted here is never applied to the position again.
    """
    execution.signal_events = []
    heard = sorted(((update_of(event), event) for event in events), key=lambda each: precedence(each[0]))
    stops = [(update, event) for update, event in heard if "stop_loss" in update.fields]
    verdicts = stop_verdicts(signal, [update for update, _ in stops])
    kept = {
        event.id: verdict
        for (_, event), verdict in zip(stops, verdicts, strict=True)
        if verdict.outcome is not Outcome.APPLIED
    }
    # What was passed over stands in nobody's way.
    telling = [event for _, event in stops if event.id not in kept]
    for update, event in heard:
        for field in sorted(update.fields):
            if field == "stop_loss":
                verdict = kept.get(event.id) or (_IN_FORCE if event is telling[-1] else _SUPERSEDED)
            else:
                verdict = _SUPERSEDED if is_superseded(event, field, events) else _IN_FORCE
            note(execution, event, verdict, now, field=field)
    for event in closes:
        left_out = Verdict(Outcome.APPLIED, f"The entry was made smaller by {text(portion_of(event))} of it.")
        note(execution, event, left_out, now)


def is_superseded(event: Event, field: str, events: Sequence[Event]) -> bool:
    """Whether a later one of `events`, oldest first by the source's clock, says something of the same field."""
    return [each.id for each in events if field in update_of(each).fields][-1] != event.id


_SUPERSEDED = Verdict(Outcome.SUPERSEDED, "A later update says something else.")
_IN_FORCE = Verdict(Outcome.APPLIED, "In force before the order was sent.")
_OVER = Verdict(Outcome.NOTHING, "Nothing of it is left to change.")


def apply(
    trade: Trade, event: Event, events: Sequence[Event], mark: Decimal | None, now: datetime
) -> Applied:
    """Apply one update to a trade under lock; `mark` is the price the position could be left at, where known."""
    # The update speaks of the signal's coins, and so may the position of a thousand at once.
    update = update_of(event).scaled(_multiplier(trade))
    applied = Applied()
    # The ladder goes first: the stop is checked against the targets it will stand beside.
    for field in sorted(update.fields, reverse=True):
        if is_superseded(event, field, events):
            verdict = _SUPERSEDED
        elif field == "expires_at":
            verdict, applied = _apply_end(trade, update.expires_at, applied, now)
        elif field == "take_profits":
            verdict = _apply_ladder(trade, update, now)
        else:
            verdict, applied = _apply_stop(trade, update.stop_loss, mark, applied, now)
        note(trade.execution, event, verdict, now, field=field)
    return applied


def _apply_ladder(trade: Trade, update: Update, now: datetime) -> Verdict:
    if _is_over(trade):
        return _OVER
    side, tick = trade.execution.direction, _tick(trade)
    levels = [
        Level(round_to_tick(level.price, tick), level.portion)
        for level in ladder_of(update.take_profits, side)
    ]
    verdict = new_ladder(side, levels, _stop(trade), edited=_is_edited(trade, "take_profits"))
    if verdict.outcome is Outcome.APPLIED:
        if trade.position is None:
            _replan(trade, levels=ladders.stored_levels(levels))
        else:
            ladders.set_ladder(trade.position, levels)
            _plan_changed(trade, trade.position, now)
    return verdict


def _apply_stop(
    trade: Trade, wanted: Decimal | None, mark: Decimal | None, applied: Applied, now: datetime
) -> tuple[Verdict, Applied]:
    if _is_over(trade):
        return _OVER, applied
    side, position = trade.execution.direction, trade.position
    stop = None if wanted is None else round_to_tick(wanted, _tick(trade))
    verdict = new_stop(side, _stop(trade), stop, _levels(trade), edited=_is_edited(trade, "stop_loss"))
    if verdict.outcome is not Outcome.APPLIED or stop is None:
        return verdict, applied
    if position is None:
        _replan(trade, stop_loss=text(stop))
        return verdict, applied
    position.stop_loss, position.stop_reason = stop, CloseReason.STOP_LOSS
    _plan_changed(trade, position, now)
    if mark is None or not _is_crossed(side, stop, mark):
        return verdict, applied
    close = closing.start_whole(trade, CloseReason.STOP_LOSS, now)
    message = f"The price is {text(mark)}, already beyond the new stop-loss: it is closed at market."
    return Verdict(Outcome.CLOSED, message), Applied(close.id if close else None, applied.lapsed)


def _apply_end(
    trade: Trade, ends_at: datetime | None, applied: Applied, now: datetime
) -> tuple[Verdict, Applied]:
    """An entry may end earlier than it was sent with; the venue knows no later end for it."""
    entry = trade.entry
    if entry is None or entry.status is not OrderStatus.OPEN:
        return _OVER, applied
    if ends_at is None or (entry.expires_at is not None and ends_at > entry.expires_at):
        return Verdict(Outcome.KEPT, "The order rests at the venue with an earlier end."), applied
    entry.expires_at = ends_at
    entry.updated_at = now
    lapsed = entry if ends_at <= now else None
    return Verdict(Outcome.APPLIED, None), Applied(applied.close_id, lapsed)


def _is_over(trade: Trade) -> bool:
    """Nothing is held, or it is being closed, and no entry may still open anything."""
    if trade.position is not None:
        return trade.position.status is not PositionStatus.OPEN
    return trade.entry is None or not trade.entry.is_live


def _is_crossed(side: Side, stop: Decimal, mark: Decimal) -> bool:
    return mark * side.sign <= stop * side.sign


def _is_edited(trade: Trade, field: str) -> bool:
    return trade.position is not None and field in trade.position.edited


def _plan_changed(trade: Trade, position: Position, now: datetime) -> None:
    position.replan()
    projecting.refresh(trade, now)


def _replan(trade: Trade, **changes: object) -> None:
    """Change what the position will be opened with."""
    trade.execution.plan = {**(trade.execution.plan or {}), **changes}


def _multiplier(trade: Trade) -> Decimal:
    return parse((trade.execution.plan or {}).get("multiplier", "1"))


def _tick(trade: Trade) -> Decimal:
    if trade.position is not None:
        return trade.position.price_tick
    return parse((trade.execution.plan or {})["price_tick"])


def _stop(trade: Trade) -> Decimal | None:
    if trade.position is not None:
        return trade.position.stop_loss
    stop = (trade.execution.plan or {})["stop_loss"]
    return None if stop is None else parse(stop)


def _levels(trade: Trade) -> Sequence[Level]:
    """The targets that a stop stands beside."""
    if trade.position is not None:
        return levels_of(trade.position.levels) if trade.position.rungs_left else ()
    return levels_of((trade.execution.plan or {})["levels"])
