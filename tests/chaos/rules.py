"""The safety rules, and how each is taken out of a copy of the program: no switch for it ships.

Behind several rules stands another wall that would catch the same accident, so taking one out alone would prove
nothing: those are taken out together, and what the last of them does by itself is a case of its own.
"""

from dataclasses import dataclass, field
from typing import Final

from tests.chaos.source import Edit

ONE_LIVE_CLOSE: Final = "uq_execution_orders_live_close"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, the edits that take it out, and the scene in which that shows."""

    name: str
    scene: str
    broken: str
    """What the checker has to call it."""
    edits: tuple[Edit, ...] = ()
    indexes: tuple[str, ...] = field(default=())
    """What is dropped in the database."""


_CLOSES_UNCHECKED: Final = (
    Edit(
        "app/engine/closing.py",
        "        if trade.live_close is not None:\n            raise Conflict",
        "        if False:\n            raise Conflict",
    ),
    Edit(
        "app/engine/closing.py",
        "        close, position = trade.live_close, _held(trade)\n",
        "        close, position = trade.order(order.id), _held(trade)\n",
    ),
)

_PAGES_ARE_READ: Final = (
    Edit(
        "app/brokers/crypto/exchange.py",
        'raise library.BadResponse("neither the answer nor an error")',
        "pass",
    ),
)

_SENT_AGAIN: Final = (
    Edit(
        "app/engine/placing.py",
        "        report = await broker.place(order.request())\n    except VenueError as failure:\n",
        "        try:\n            report = await broker.place(order.request())\n"
        "        except VenueError:\n            report = await broker.place(order.request())\n"
        "    except VenueError as failure:\n",
    ),
)

RULES: Final = (
    Rule(
        "an order is absent only after the venue's settle time",
        scene="late_arrival",
        broken="duplicate",
        edits=(
            Edit(
                "app/engine/resolution.py",
                "settled = traits is not None and asked_at >= signed_at + traits.settle",
                "settled = traits is not None",
            ),
            Edit(
                "app/engine/placing.py",
                "order.due_at = now + min(broker.traits.validity, broker.traits.settle)",
                "order.due_at = now",
            ),
        ),
    ),
    Rule(
        "an order is absent only after two clean look-ups",
        scene="unseen_at_first",
        broken="duplicate",
        edits=(
            Edit(
                "app/brokers/port.py",
                "clean_misses: int = field(default=2)",
                "clean_misses: int = field(default=1)",
            ),
        ),
    ),
    Rule(
        "a look-up that fails proves nothing",
        scene="unanswered_questions",
        broken="duplicate",
        edits=(
            Edit(
                "app/brokers/crypto/broker.py",
                "        except VenueError:\n            return CANNOT_SAY",
                "        except VenueError:\n            return ABSENT",
            ),
        ),
    ),
    Rule(
        "a page is not an empty list",
        scene="pages_for_answers",
        broken="duplicate",
        edits=(
            *_PAGES_ARE_READ,
            Edit("app/brokers/crypto/exchange.py", "        call.is_clean &= is_word\n", ""),
        ),
    ),
    Rule(
        "what was acknowledged is never absent",
        scene="acknowledged_and_unseen",
        broken="duplicate",
        edits=(
            Edit(
                "app/brokers/crypto/broker.py",
                "        if acknowledged is None:\n            raise Uncertain(",
                "        if seen is ABSENT:\n            raise Unreachable(",
            ),
        ),
    ),
    Rule(
        "a request is noted before it is sent",
        scene="lost_answer_on_spot",
        broken="duplicate",
        edits=(
            *_SENT_AGAIN,
            Edit("app/brokers/crypto/broker.py", "        if name in self._sent:\n", "        if False:\n"),
        ),
    ),
    Rule(
        "legs are cancelled before anything is sold",
        scene="stopped_while_closing",
        broken="double close",
        edits=(
            Edit(
                "app/engine/closing.py",
                "return [leg for leg in trade.live_protection if leg.status is not is_passed_over]",
                "return []",
            ),
        ),
    ),
    Rule(
        "an order is signed with the time of its claim",
        scene="late_sender",
        broken="duplicate",
        edits=(
            Edit("app/brokers/crypto/broker.py", "            self._check_fresh(request)\n", ""),
            Edit(
                "app/brokers/crypto/broker.py",
                "Call(urgency=_urgency(request), signed_at=request.signed_at)",
                "Call(urgency=_urgency(request))",
            ),
        ),
    ),
    Rule(
        "only what is pending is claimed",
        scene="late_claimer",
        broken="duplicate",
        edits=(
            Edit(
                "app/engine/execution.py",
                "if connection is None or trade.execution.status is not ExecutionStatus.PENDING:",
                "if connection is None:",
            ),
        ),
    ),
    Rule(
        "an outcome is recorded for its own attempt only",
        scene="late_recorder",
        broken="duplicate",
        edits=(
            Edit(
                "app/engine/placing.py",
                "return current.attempt == sent.attempt and current.status is OrderStatus.SENDING",
                "return True",
            ),
        ),
    ),
    Rule(
        "an error is no refusal",
        scene="lost_answer",
        broken="untruthful",
        edits=(
            Edit(
                "app/brokers/crypto/outcomes.py",
                "        return Unreachable(words)\n    return Uncertain(words)\n\n\ndef of_read",
                "        return Unreachable(words)\n    return Refused(words)\n\n\ndef of_read",
            ),
        ),
    ),
    Rule(
        "an order goes out under the id that was committed for it",
        scene="lost_answer",
        broken="orphan",
        edits=(
            Edit(
                "app/engine/placing.py",
                "await broker.place(order.request())",
                'await broker.place(__import__("dataclasses").replace(order.request(),'
                " client_order_id=order.execution_id.hex))",
            ),
        ),
    ),
    Rule(
        "a position has one live close",
        scene="two_closes",
        broken="double close",
        edits=_CLOSES_UNCHECKED,
        indexes=(ONE_LIVE_CLOSE,),
    ),
    Rule(
        "what a close in review may have sold is not sold again",
        scene="close_in_review",
        broken="double close",
        edits=(
            Edit(
                "app/engine/projecting.py",
                "ZERO if position.netting else _unknown(trade.doubted_closes)",
                "ZERO",
            ),
        ),
    ),
    Rule(
        "an exit can only reduce",
        scene="closed_by_hand",
        broken="reversed",
        edits=(Edit("app/brokers/crypto/requests.py", 'params["reduceOnly"] = True', "pass"),),
    ),
    Rule(
        "202 is answered after the commit",
        scene="killed_before_the_row",
        broken="lost",
        edits=(
            Edit(
                "app/engine/intake.py",
                "        signal_id, execution_ids = await _publish(desk, values)\n",
                '        __import__("asyncio").get_running_loop().create_task(_publish(desk, values))\n'
                '        signal_id, execution_ids = values["signal_id"], ()\n',
            ),
        ),
    ),
)

LAST_WALLS: Final = (
    Rule(
        "that it was no answer alone keeps a page from proving anything",
        "pages_for_answers",
        "",
        edits=_PAGES_ARE_READ,
    ),
    Rule(
        "the note alone keeps a request from being sent again", "lost_answer_on_spot", "", edits=_SENT_AGAIN
    ),
    Rule("the index alone keeps a position to one live close", "two_closes", "", edits=_CLOSES_UNCHECKED),
)
"""What still holds when everything before it is gone."""
