"""Scenes: for each safety rule the one course of events in which nothing else would help.

With the program as it is, every scene ends well. With its rule taken out (see `rules`) the checker has to find what
went wrong. Processes are stopped at named points, so that none of it is left to luck.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.domain.errors import Conflict
from app.domain.market import MarketType
from app.domain.orders import Side
from app.engine import closing
from app.store.positions import Position
from tests.chaos.checker import Account
from tests.chaos.stage import Process, Stage
from tests.chaos.verdict import BY_HAND
from tests.venues.faults import ANSWER_LOST, HTML, Delivery, Fault, lagging, late, looks, reject, server_error
from tests.venues.orders import Order
from tests.venues.wire import Conditions

SWAP: Final = ("binanceusdm", MarketType.SWAP)
SPOT: Final = ("binance", MarketType.SPOT)
BYBIT: Final = ("bybit", MarketType.SPOT)

PLACING: Final = "placing.send: before report = await broker.place(order.request())"

SOLD: Final = "closing._carry_out: after if claimed is not None and await placing.send(desk, broker, "

SETTLING: Final = timedelta(seconds=60)


async def late_arrival(stage: Stage) -> None:
    """The connection breaks, and the order arrives 4.5 s later: within its validity."""
    account = await stage.open_account(*SPOT)
    stage.venue.faults.add(late(4.5))
    await stage.publish(account, "late-arrival")
    for _ in range(30):
        await stage.round(1)


async def late_sender(stage: Stage) -> None:
    """A worker is stopped between claim and send until another has proven its attempt absent, and then goes on."""
    account = await stage.open_account(*SPOT)
    slow = stage.start()
    hold = slow.life.hold_at(PLACING)
    await stage.publish(account, "late-sender")
    await stage.venue.advance(4)
    stopped = slow.begin(_sweep(slow))
    await hold.is_held()
    for _ in range(20):
        await stage.round()
    hold.let_go()
    await stopped
    await _settled(stage)


async def late_claimer(stage: Stage) -> None:
    """A worker is stopped between look and claim until another has executed the signal, and then goes on."""
    account = await stage.open_account(*SPOT)
    slow = stage.start()
    hold = slow.life.hold_at("execution._claim: before async with desk.sessions.begin() as session")
    await stage.publish(account, "late-claimer")
    await stage.venue.advance(4)
    stopped = slow.begin(_sweep(slow))
    await hold.is_held()
    for _ in range(8):
        await stage.round()
    hold.let_go()
    await stopped
    await _settled(stage)


async def late_recorder(stage: Stage) -> None:
    """A worker is stopped with a "not executed" in its hand until another attempt has been filled."""
    account = await stage.open_account(*SPOT)
    slow = stage.start()
    hold = slow.life.hold_at(
        "placing._record_failure: before await _record_not_executed(desk, order, failure)"
    )
    stage.venue.faults.add(reject({"code": -1021, "msg": "Timestamp is outside of the recvWindow."}))
    await stage.publish(account, "late-recorder")
    await stage.venue.advance(4)
    stopped = slow.begin(_sweep(slow))
    await hold.is_held()
    for _ in range(20):
        await stage.round()
    hold.let_go()
    await stopped
    await _settled(stage)


async def unseen_at_first(stage: Stage) -> None:
    """The answer is lost, and the venue's queries show the order only when it has long been settled."""
    account = await stage.open_account(*SPOT)
    stage.venue.faults.add(Fault("lost and unseen", Delivery.DROPPED, conditions=Conditions(lag=21)))
    await stage.publish(account, "unseen-at-first")
    await _settled(stage)


async def unanswered_questions(stage: Stage) -> None:
    """The answer is lost, and so is every answer to the question what became of the order, for a while."""
    account = await stage.open_account(*SPOT)
    stage.venue.faults.add(ANSWER_LOST)
    stage.venue.faults.add(server_error(executed=False), looks, times=40)
    await stage.publish(account, "unanswered-questions")
    for _ in range(16):
        await stage.round()
    stage.venue.faults.clear()
    await _settled(stage)


async def pages_for_answers(stage: Stage) -> None:
    """The answer is lost, and a proxy's page comes for every answer to the question what became of the order."""
    account = await stage.open_account(*BYBIT)
    stage.venue.faults.add(ANSWER_LOST)
    stage.venue.faults.add(HTML, looks, times=1000)
    await stage.publish(account, "pages-for-answers")
    for _ in range(16):
        await stage.round()
    stage.venue.faults.clear()
    await _settled(stage)


async def acknowledged_and_unseen(stage: Stage) -> None:
    """The venue takes an order, says so, and shows it in no query for a while."""
    account = await stage.open_account(*SPOT)
    stage.venue.faults.add(lagging(10))
    await stage.publish(account, "acknowledged-and-unseen")
    for _ in range(10):
        await stage.round()
    await _settled(stage)


async def lost_answer_on_spot(stage: Stage) -> None:
    """The same as `lost_answer` where the id of an order that was filled is taken again."""
    account = await stage.open_account(*SPOT)
    stage.venue.faults.add(ANSWER_LOST)
    await stage.publish(account, "lost-answer-on-spot")
    await _settled(stage)


async def lost_answer(stage: Stage) -> None:
    """An order is executed and the connection breaks before the answer."""
    account = await stage.open_account(*SWAP)
    stage.venue.faults.add(ANSWER_LOST)
    await stage.publish(account, "lost-answer")
    await _settled(stage)


async def two_closes(stage: Stage) -> None:
    """One close is stopped before it is sent while its owner asks for another one; the account has more to sell."""
    account = await stage.open_account(*SPOT, protection={"native": False})
    await stage.publish(account, "two-closes")
    await stage.publish(account, "two-closes-other")
    await _settled(stage)
    position_id = await _position_of(stage, account)
    slow = stage.start()
    hold = slow.life.hold_at(PLACING)
    await _close(slow, account, position_id)
    await stage.venue.advance(2)
    stopped = slow.begin(_sweep(slow))
    await hold.is_held()
    quick = stage.start()
    await _close(quick, account, position_id)
    # Still within the validity of what is held.
    await stage.venue.advance(2)
    await quick.sweep()
    hold.let_go()
    await stopped
    for _ in range(20):
        await stage.round()


async def close_in_review(stage: Stage) -> None:
    """A close is executed, its answer is lost, and no look-up is answered for longer than a review waits; its owner
    asks for another one, and the account has coins of its owner's to sell."""
    account = await stage.open_account(*SPOT, protection={"native": False})
    await stage.publish(account, "close-in-review")
    await _settled(stage)
    account.floor(stage.venue).fund(account.ledger(stage.venue), "BTC", Decimal(1))
    position_id = await _position_of(stage, account)
    await _close(stage.worker, account, position_id)
    stage.venue.faults.add(ANSWER_LOST)
    stage.venue.faults.add(server_error(executed=False), looks, times=400)
    for _ in range(12):
        await stage.round(4)
    await _close(stage.worker, account, position_id)
    for _ in range(3):
        await stage.round()
    stage.venue.faults.clear()
    await _settled(stage)


async def stopped_while_closing(stage: Stage) -> None:
    """The price goes through the stop when a close has just sold; the account has coins of its owner's to sell."""
    account = await stage.open_account(*SPOT)
    await stage.publish(account, "stopped-while-closing", "ETH", stop_loss="900")
    await _settled(stage)
    account.floor(stage.venue).fund(account.ledger(stage.venue), "ETH", Decimal(1))
    slow = stage.start()
    hold = slow.life.hold_at(SOLD)
    await _close(slow, account, await _position_of(stage, account))
    await stage.venue.advance(2)
    stopped = slow.begin(_sweep(slow))
    await hold.is_held()
    stage.venue.move(account.symbol("ETH"), 890)
    hold.let_go()
    await stopped
    stage.venue.move(account.symbol("ETH"), 1000)
    for _ in range(5):
        await stage.round()


async def closed_by_hand(stage: Stage) -> None:
    """The owner closes at the venue what our close, already claimed, is about to close."""
    account = await stage.open_account(*SWAP, protection={"native": False})
    await stage.publish(account, "closed-by-hand")
    await _settled(stage)
    slow = stage.start()
    hold = slow.life.hold_at(PLACING)
    await _close(slow, account, await _position_of(stage, account))
    await stage.venue.advance(2)
    stopped = slow.begin(_sweep(slow))
    await hold.is_held()
    floor, ledger = account.floor(stage.venue), account.ledger(stage.venue)
    market = floor.market_of(account.symbol("BTC"))
    assert market is not None
    floor.place(ledger, Order(market, f"{BY_HAND}-1", Side.SELL, Decimal("0.01"), reduce_only=True))
    hold.let_go()
    await stopped
    for _ in range(5):
        await stage.round()


async def killed_before_the_row(stage: Stage) -> None:
    """The API is killed before the row of a signal is written."""
    account = await stage.open_account(*SWAP)
    stage.worker.life.die_at("intake._publish: before async with database.connect() as connection")
    await stage.publish(account, "killed-before-the-row")
    await _settled(stage)


SCENES: Final[Mapping[str, Callable[[Stage], Awaitable[None]]]] = {
    scene.__name__: scene
    for scene in (
        late_arrival,
        late_sender,
        late_claimer,
        late_recorder,
        unseen_at_first,
        unanswered_questions,
        pages_for_answers,
        acknowledged_and_unseen,
        lost_answer,
        lost_answer_on_spot,
        two_closes,
        close_in_review,
        stopped_while_closing,
        closed_by_hand,
        killed_before_the_row,
    )
}


async def _settled(stage: Stage) -> None:
    await stage.settle(SETTLING)


async def _sweep(process: Process) -> None:
    await process.sweep()


async def _position_of(stage: Stage, account: Account) -> object:
    async with stage.sessions() as session:
        found = await session.scalars(
            select(Position.id).where(Position.connection_id == account.connection_id).order_by(Position.id)
        )
        return found.first()


async def _close(process: Process, account: Account, position_id: object) -> None:
    """An owner's request to close a position; that one is under way already is a fair answer, whoever gives it."""
    request = closing.request_close(process.desk, account.owner, position_id, None, idempotency_key=None)  # type: ignore[arg-type]
    try:
        await process.do(request)
    except (Conflict, IntegrityError):
        return
