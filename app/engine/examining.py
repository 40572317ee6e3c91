"""Examining: whether credentials open an account that may be traded, as its venue answers."""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime

from app.brokers.directory import Access
from app.brokers.port import Account, Refused, VenueError
from app.desk import Desk
from app.domain.errors import EngineError


@dataclass(frozen=True, slots=True)
class Examination:
    """What a test of a connection brought to light; `account` is None where the venue did not show it."""

    ok: bool
    code: str | None
    message: str
    account: Account | None
    checked_at: datetime


async def account_of(desk: Desk, access: Access) -> Account:
    """The account as the venue describes it now. Raises VenueError."""
    broker = await desk.brokers.open(access)
    return await broker.account()


async def examine(desk: Desk, access: Access) -> Examination:
    """Ask the venue for a connection's account. A venue's no is an answer, not an exception."""
    return await _judged(desk, account_of(desk, access))


async def examine_aside(desk: Desk, access: Access) -> Examination:
    """The same for credentials that a connection does not have yet, beside the broker it has."""
    return await _judged(desk, _account_aside(desk, access))


async def _account_aside(desk: Desk, access: Access) -> Account:
    async with desk.brokers.aside(access) as broker:
        return await broker.account()


async def _judged(desk: Desk, asking: Awaitable[Account]) -> Examination:
    try:
        found = await asking
    except VenueError as failure:
        code = failure.code if isinstance(failure, Refused) else "venue_unreachable"
        return Examination(False, code, failure.message, None, desk.now())
    except EngineError as error:
        return Examination(False, error.code, error.message, None, desk.now())
    if found.permissions.withdraw:
        message = "This key can withdraw funds. Make one that can only read and trade."
        return Examination(False, "withdrawal_permission", message, found, desk.now())
    if found.permissions.trade is False:
        message = "This key cannot trade. Allow it to, or make one that can."
        return Examination(False, "trade_permission_missing", message, found, desk.now())
    message = "The account can be reached and traded."
    if found.permissions.withdraw is None:
        message += " The venue cannot tell whether its key can withdraw funds: make sure that it cannot."
    if found.permissions.transfer:
        message += " The key can also move funds to other accounts of the venue, which nothing here needs."
    return Examination(True, None, message, found, desk.now())
