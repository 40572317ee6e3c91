"""Connections: an owner's accounts at venues, from being connected to being deleted.

A connection is created inactive, tested, activated, and may go back at any time. The status gates entries
only: what is open stays watched and closable. Going inactive takes back every entry not filled yet.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypedDict
from uuid import UUID

import structlog
from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import Account, VenueError, is_of_key
from app.desk import Desk
from app.domain.errors import Conflict, Denied, Forbidden, Invalid, NotFound
from app.domain.exits import Protection
from app.domain.market import MarketType
from app.domain.money import text
from app.domain.owners import Owner, Role
from app.domain.risk import Limits
from app.engine import credentials, endings, offers, resolution, trades
from app.engine.access import access_of, snapshots_of
from app.engine.examining import Examination, account_of, examine
from app.engine.lapsing import Ending
from app.engine.notifying import notify
from app.engine.withdrawing import cancel_entries, deny_waiting
from app.store import audit, connections, orders, ownership
from app.store.audit import Action
from app.store.connections import Connection, ConnectionStatus, Kind
from app.store.entitlements import Entitlement
from app.store.executions import Execution, ExecutionStatus
from app.store.notifications import NotificationType
from app.store.positions import OPEN, Position
from app.store.schema import new_id

log = structlog.get_logger(__name__)

_MAY_STILL_OPEN: Final = (ExecutionStatus.SENDING, ExecutionStatus.OPEN, ExecutionStatus.NEEDS_REVIEW)
_ACCOUNT_INDEX: Final = "uq_execution_connections_account"
_IN_USE: Final = "Another active connection already trades this account."


class Terms(TypedDict, total=False):
    """What an owner may set on a connection, as the row keeps it (amounts in JSON are decimal strings)."""

    name: str
    credentials: Mapping[str, str]
    paper: Mapping[str, Any]
    sizing: Mapping[str, Any]
    limits: Mapping[str, Any]
    protection: Mapping[str, Any]
    leverage: Decimal | None
    margin_mode: str | None
    symbol_map: Mapping[str, Any]


_KEPT_PAPER_TERMS: Final = ("prices", "balance", "currency", "seed")
"""What a paper account is opened with once and for all; what trading costs there may change."""


async def create(
    desk: Desk,
    owner: Owner,
    *,
    kind: Kind,
    exchange: str,
    market_type: MarketType,
    sandbox: bool,
    terms: Terms,
) -> Connection:
    """Connect an account, inactive and untested.

    Raises Invalid, Forbidden `plan_required`, Conflict `max_connections`.
    """
    now = desk.now()
    offer = await offers.offer_of(kind, exchange)
    offers.check_market(offer, market_type, sandbox=sandbox)
    offers.check_trigger_source(offer, market_type, terms.get("protection", {}).get("trigger_source"))
    if kind is Kind.PAPER and terms.get("paper"):
        await offers.check_paper_prices(terms["paper"]["prices"], market_type)
    connection = Connection(
        id=new_id(),
        owner_role=owner.role,
        owner_id=owner.id,
        kind=kind,
        exchange=exchange,
        market_type=market_type,
        sandbox=sandbox,
        credentials_version=1,
        limits={},
        protection={},
        symbol_map={},
        status=ConnectionStatus.INACTIVE,
        created_at=now,
        updated_at=now,
    )
    _set_plain(connection, terms)
    if "credentials" in terms:
        if kind is not Kind.PAPER:
            offers.check_credentials(offer, terms["credentials"])
        credentials.seal(desk, connection, terms["credentials"], version=1)
    _check_terms(connection)
    async with desk.sessions.begin() as session:
        await _check_room(session, desk, owner, now)
        session.add(connection)
        await session.flush()
        _write_down(session, Action.CREATE, owner, connection, now, **_words(connection, _SAID_AT_FIRST))
    return connection


async def change(desk: Desk, owner: Owner, connection_id: UUID, terms: Terms) -> Connection:
    """Change what is named, objects as a whole. With other credentials it has to be tested again.

    While something is open they have to be of the same account, which goes on being watched and closed with them.
    Raises NotFound, Invalid, and Conflict `positions_open`, or `conflict` where they were changed meanwhile.
    """
    await _check_against_offer(desk, owner, connection_id, terms)
    compared = await _compare(desk, owner, connection_id, terms)
    now = desk.now()
    async with desk.sessions.begin() as session:
        connection = await _locked(session, owner, connection_id)
        before = _words(connection, terms)
        _check_paper_is_kept(connection, terms)
        if "credentials" in terms:
            version = connection.credentials_version
            if compared is None:
                await _check_nothing_open(session, connection, "The credentials cannot be changed now")
            elif compared.version != version:
                raise Conflict(
                    "conflict", "The credentials were changed meanwhile; look at it and try again."
                )
            await _go(session, connection, ConnectionStatus.INACTIVE, "Its credentials were changed.", now)
            credentials.seal(desk, connection, terms["credentials"], version=version + 1)
            connection.account_identity = None if compared is None else compared.identity
        if "limits" in terms and _loss_limit(terms["limits"]) != _loss_limit(connection.limits):
            connection.reducing_until = None
        _set_plain(connection, terms)
        _check_terms(connection)
        connection.updated_at = now
        after = _words(connection, terms)
        _write_down(session, Action.CHANGE, owner, connection, now, before=before, after=after)
    if compared is not None:
        await cancel_entries(desk, connection_id, _TAKEN_BACK)
    return connection


@dataclass(frozen=True, slots=True)
class _Compared:
    """New credentials were found to open the same account as those of this version."""

    version: int
    identity: str


async def _compare(desk: Desk, owner: Owner, connection_id: UUID, terms: Terms) -> _Compared | None:
    """Compare the accounts that new and present credentials open; None where nothing is open to ask it for.

    Raises Conflict `positions_open`.
    """
    if "credentials" not in terms:
        return None
    async with desk.sessions() as session:
        connection = await connections.of_owner(session, owner, connection_id)
        if connection is None or not any(await _count_open(session, connection_id)):
            return None
    identity = await credentials.check_same_account(desk, connection, terms["credentials"])
    return _Compared(connection.credentials_version, identity)


async def test(desk: Desk, owner: Owner, connection_id: UUID) -> Examination:
    """Ask the venue for the account, and record what came of it. A venue's no is an answer, not an exception.

    Raises NotFound, Forbidden `plan_required`, and Conflict when the credentials were changed meanwhile.
    """
    now = desk.now()
    async with desk.sessions.begin() as session:
        connection = await _locked(session, owner, connection_id)
        await check_plan(session, desk, owner, now)
        _write_down(session, Action.TEST, owner, connection, now, before=connection.status)
        if connection.status is not ConnectionStatus.ACTIVE:
            connection.status = ConnectionStatus.TESTING
    examination = await examine(desk, access_of(connection))
    try:
        was_active = await _record(desk, connection, examination)
    except IntegrityError as error:
        if not _is_of_account_index(error):
            raise
        # It was active, and the account turns out to be one that another active connection trades.
        examination = replace(examination, ok=False, code="account_in_use", message=_IN_USE)
        was_active = await _record(desk, connection, examination)
    log.info("connection_tested", connection_id=str(connection_id), ok=examination.ok, code=examination.code)
    if was_active and not examination.ok:
        await cancel_entries(desk, connection_id, _TAKEN_BACK)
    return examination


async def put_in_error(desk: Desk, connection_id: UUID, why: Callable[[Connection], str | None]) -> bool:
    """Let a connection take no entries until it has passed a test, if `why` has a reason; True when that changed it."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        connection = await connections.locked(session, connection_id)
        if connection is None or connection.deleted_at is not None:
            return False
        reason = None if connection.status is ConnectionStatus.ERROR else why(connection)
        if reason is None:
            return False
        audit.record(
            session, Action.BREAK, None, reason, now, connection_id=connection_id, before=connection.status
        )
        await _go(session, connection, ConnectionStatus.ERROR, reason, now)
        connection.last_error = reason
        connection.tested_version = None
    await cancel_entries(desk, connection_id, _TAKEN_BACK)
    return True


async def activate(desk: Desk, owner: Owner, connection_id: UUID) -> Connection:
    """Let a tested connection receive signals. The first time its balances become the starting capital.

    Raises NotFound, Forbidden `plan_required`, Invalid without sizing, Conflict `not_tested` or
    `account_in_use`.
    """
    now = desk.now()
    try:
        async with desk.sessions.begin() as session:
            connection = await _locked(session, owner, connection_id)
            await check_plan(session, desk, owner, now)
            if connection.status is ConnectionStatus.ACTIVE:
                return connection
            if connection.sizing is None:
                raise Invalid("sizing", "There is no default size: say how entries are sized.")
            if not connection.is_tested:
                raise Conflict("not_tested", "Test the connection first; as it is now it has passed no test.")
            if connection.first_activated_at is None:
                connection.first_activated_at = now
                connection.starting_balances = {
                    currency: held["balance"] for currency, held in connection.balances.items()
                }
            _write_down(session, Action.ACTIVATE, owner, connection, now, before=connection.status)
            await _go(session, connection, ConnectionStatus.ACTIVE, "It receives signals now.", now)
    except IntegrityError as error:
        if not _is_of_account_index(error):
            raise
        raise Conflict("account_in_use", _IN_USE) from None
    return connection


def _is_of_account_index(error: IntegrityError) -> bool:
    return _ACCOUNT_INDEX in str(error.orig)


async def deactivate(desk: Desk, owner: Owner, connection_id: UUID) -> Connection:
    """Stop receiving signals and take back unfilled entries; what is open stays watched and closable."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        connection = await _locked(session, owner, connection_id)
        _write_down(session, Action.DEACTIVATE, owner, connection, now, before=connection.status)
        await _go(session, connection, ConnectionStatus.INACTIVE, "It was deactivated.", now)
    await cancel_entries(desk, connection_id, _TAKEN_BACK)
    return connection


async def delete(desk: Desk, owner: Owner, connection_id: UUID, *, force: bool) -> None:
    """Forget an account: its credentials are wiped, its history stays.

    While something is open that takes `force`, which takes back unfilled entries, stops managing positions and leaves
    their native orders at the venue. An entry whose outcome the venue cannot say ends in review, and its owner is told.
    Raises NotFound, Conflict `positions_open`.
    """
    if force:
        async with desk.sessions() as session:
            await _locked(session, owner, connection_id)
            doubted = await orders.doubted_entries(session, connection_id)
        # While there are credentials: an entry that filled later would open what nobody manages.
        for order_id in doubted:
            try:
                await resolution.resolve(desk, order_id)
            except VenueError as failure:
                log.warning("outcome_unknown", order_id=str(order_id), reason=failure.message)
        await cancel_entries(desk, connection_id, _TAKEN_BACK)
    now = desk.now()
    async with desk.sessions.begin() as session:
        connection = await _locked(session, owner, connection_id)
        if not force:
            await _check_nothing_open(session, connection, "The connection cannot be deleted now")
        await deny_waiting(session, connection.id, _WENT_INACTIVE, now)
        left, unknown = await _let_go(session, connection.id, now)
        connection.status = ConnectionStatus.INACTIVE
        connection.credentials_sealed = None
        connection.credentials_hint = None
        connection.tested_version = None
        connection.updated_at = connection.deleted_at = now
        unmanaged = [str(each.id) for each in left]
        _tell(session, connection, "deleted", _farewell(left, unknown), now, positions=unmanaged)
        _write_down(session, Action.DELETE, owner, connection, now, name=connection.name, positions=unmanaged)
    await desk.brokers.forget(connection_id)
    log.info("connection_deleted", connection_id=str(connection_id), forced=force, left_open=len(left))


async def account(desk: Desk, owner: Owner, connection_id: UUID) -> Account:
    """The account as the venue describes it now. Raises NotFound and VenueError."""
    async with ownership.reading(desk.sessions, owner) as session:
        connection = await connections.of_owner(session, owner, connection_id)
    if connection is None:
        raise NotFound("connection")
    return await account_of(desk, access_of(connection))


def _set_plain(connection: Connection, terms: Terms) -> None:
    for field, value in terms.items():
        if field != "credentials":
            setattr(connection, field, value)


def _loss_limit(limits: Mapping[str, Any]) -> Decimal | None:
    return Limits.read(limits).max_daily_loss


async def _check_against_offer(desk: Desk, owner: Owner, connection_id: UUID, terms: Terms) -> None:
    """Other credentials have the fields the venue asks for, other prices are those of an exchange there is, and stops
    go by a price the venue offers.

    Before any lock: the first look imports ccxt. Raises Invalid.
    """
    source = terms.get("protection", {}).get("trigger_source")
    if source is None and not terms.keys() & {"credentials", "paper"}:
        return
    async with desk.sessions() as session:
        connection = await connections.of_owner(session, owner, connection_id)
    if connection is None:
        return
    offer = await offers.offer_of(connection.kind, connection.exchange)
    offers.check_trigger_source(offer, connection.market_type, source)
    if connection.kind is Kind.PAPER:
        if "paper" in terms:
            await offers.check_paper_prices(terms["paper"]["prices"], connection.market_type)
    elif "credentials" in terms:
        offers.check_credentials(offer, terms["credentials"])


def _check_paper_is_kept(connection: Connection, terms: Terms) -> None:
    """A paper account that has been opened keeps what it was opened with; no change would reach it."""
    if "paper" not in terms or connection.paper is None or connection.account_identity is None:
        return
    for field in _KEPT_PAPER_TERMS:
        if terms["paper"].get(field) != connection.paper.get(field):
            raise Invalid(
                f"paper.{field}", "A paper account keeps what it was opened with; connect another one."
            )


def _check_terms(connection: Connection) -> None:
    """What is set fits the kind of account."""
    is_paper = connection.kind is Kind.PAPER
    if is_paper and connection.paper is None:
        raise Invalid("paper", "A paper connection says what it trades with in `paper`.")
    if is_paper and connection.credentials_sealed is not None:
        raise Invalid("credentials", "A paper connection has no credentials.")
    if not is_paper and connection.credentials_sealed is None:
        raise Invalid("credentials", "The credentials of the account are missing.")
    if not is_paper and connection.paper is not None:
        raise Invalid("paper", "Only a connection of kind paper has paper terms.")
    is_swap = connection.market_type is MarketType.SWAP
    if not is_swap and connection.leverage not in (None, 1):
        raise Invalid("leverage", f"There is no leverage on {connection.market_type}.")
    if connection.margin_mode is not None and (is_paper or not is_swap):
        raise Invalid("margin_mode", "There is no choice of margin mode on this account.")


async def check_plan(session: AsyncSession, desk: Desk, owner: Owner, now: datetime) -> Entitlement | None:
    """The owner's entitlement, locked; None for those who need none. Raises Forbidden."""
    if owner.role is Role.ADMIN or not desk.entitlements_required:
        return None
    entitlement = await session.scalar(
        select(Entitlement).where(Entitlement.user_id == owner.id).with_for_update(key_share=True)
    )
    if entitlement is None or not entitlement.is_current(now):
        raise Forbidden("plan_required", "This needs a current plan, and there is none.")
    return entitlement


async def _check_room(session: AsyncSession, desk: Desk, owner: Owner, now: datetime) -> None:
    """The owner may have one connection more; two at the same time queue for the entitlement's lock."""
    entitlement = await check_plan(session, desk, owner, now)
    if entitlement is None or entitlement.max_connections is None:
        return
    if await connections.count_of_owner(session, owner) >= entitlement.max_connections:
        raise Conflict("max_connections", f"Your plan allows {entitlement.max_connections} connections.")


async def _count_open(session: AsyncSession, connection_id: UUID) -> tuple[int, int]:
    """How many positions are open, and how many entries may still open one."""
    positions = await session.scalar(
        select(func.count())
        .select_from(Position)
        .where(Position.connection_id == connection_id, Position.status.in_(OPEN))
    )
    entries = await session.scalar(
        select(func.count())
        .select_from(Execution)
        .where(
            Execution.connection_id == connection_id,
            Execution.status.in_(_MAY_STILL_OPEN),
        )
    )
    return positions or 0, entries or 0


async def _check_nothing_open(session: AsyncSession, connection: Connection, what: str) -> None:
    """No position is open and no entry may still open one. Raises Conflict with the numbers."""
    positions, entries = await _count_open(session, connection.id)
    if positions or entries:
        raise Conflict(
            "positions_open",
            f"{what} (open positions: {positions}, entries under way: {entries}). Deactivate it, which takes "
            "back unfilled entries, and close the positions first.",
        )


async def _record(desk: Desk, tested: Connection, examination: Examination) -> bool:
    """Write down what a test of a connection brought, as it was when it began; True where it was active.

    Raises NotFound, Conflict when the credentials were changed meanwhile, IntegrityError where the account is in use.
    """
    async with desk.sessions.begin() as session:
        current = await _locked(session, tested.owner, tested.id)
        if current.credentials_version != tested.credentials_version:
            raise Conflict("conflict", "The credentials were changed during the test; test again.")
        was_active = current.status is ConnectionStatus.ACTIVE
        if examination.ok:
            _record_passed(current, examination)
        else:
            await _record_failed(session, current, examination)
    return was_active


def _record_passed(connection: Connection, examination: Examination) -> None:
    """Status stays active where it was; otherwise the connection may be activated now."""
    if examination.account is None:
        raise ValueError("a passed examination shows the account")
    if connection.status is not ConnectionStatus.ACTIVE:
        connection.status = ConnectionStatus.INACTIVE
    connection.last_error = None
    connection.refused_in_a_row = connection.doubted_in_a_row = connection.banned_in_a_row = 0
    connection.last_tested_at = connection.updated_at = examination.checked_at
    connection.tested_version = connection.credentials_version
    if connection.account_identity is None or not is_of_key(examination.account.identity):
        # A name that was told once stays when the venue does not tell it again.
        connection.account_identity = examination.account.identity
    connection.balances = {
        currency: snapshot.text() for currency, snapshot in snapshots_of(examination.account).items()
    }
    connection.balances_at = examination.account.as_of


async def _record_failed(session: AsyncSession, connection: Connection, examination: Examination) -> None:
    await _go(session, connection, ConnectionStatus.ERROR, examination.message, examination.checked_at)
    connection.last_error = examination.message
    connection.last_tested_at = examination.checked_at
    connection.tested_version = None


_BECOMES: Final = {
    ConnectionStatus.ACTIVE: "active",
    ConnectionStatus.INACTIVE: "inactive",
    ConnectionStatus.ERROR: "in error",
}


async def _go(
    session: AsyncSession, connection: Connection, status: ConnectionStatus, why: str, now: datetime
) -> None:
    """Change the status. Leaving `active` denies what waits; the caller cancels what is at the venue."""
    if connection.status is status:
        return
    was_active = connection.status is ConnectionStatus.ACTIVE
    connection.status = status
    connection.updated_at = now
    denied = await deny_waiting(session, connection.id, _WENT_INACTIVE, now) if was_active else 0
    if was_active or status is not ConnectionStatus.INACTIVE:
        aftermath = f" {denied} waiting entries were denied." if denied else ""
        _tell(session, connection, f"is {_BECOMES[status]}", why + aftermath, now, status=status.value)


_WENT_INACTIVE: Final = Denied(
    "connection_inactive", "The connection went inactive before the signal was executed."
)
_TAKEN_BACK: Final = Ending("connection_inactive", "The connection went inactive before it was filled.")


async def _let_go(
    session: AsyncSession, connection_id: UUID, now: datetime
) -> tuple[Sequence[Position], Sequence[Execution]]:
    """The positions that stay open unmanaged, and the executions of which nobody can say what will become of them.

    What only our monitor protected has no protection any more.
    """
    rows = await session.scalars(
        select(Execution.id)
        .outerjoin(Position, Position.execution_id == Execution.id)
        .where(
            Execution.connection_id == connection_id,
            or_(Execution.status.in_(_MAY_STILL_OPEN), Position.status.in_(OPEN)),
        )
        .order_by(Execution.id)
    )
    held: list[Position] = []
    unknown: list[Execution] = []
    for execution_id in rows.all():
        trade = await trades.locked(session, execution_id)
        endings.let_go(trade, now)
        if trade.position is not None and trade.position.status in OPEN:
            held.append(trade.position)
        if trade.execution.status in _MAY_STILL_OPEN:
            unknown.append(trade.execution)
    return held, unknown


def _farewell(left: Sequence[Position], unknown: Sequence[Execution]) -> str:
    """What deleting ended, in words."""
    if not left and not unknown:
        return "Its credentials were wiped; its history stays."
    unprotected = [each.symbol for each in left if each.protection is Protection.NONE]
    native = [each.symbol for each in left if each.protection is Protection.NATIVE]
    sentences = [f"No longer managed: {len(left)} of its positions are open."] if left else []
    if native:
        sentences.append(f"Stop and targets stay at the venue for {', '.join(native)}.")
    if unprotected:
        sentences.append(f"Nobody watches stop and targets any more for {', '.join(unprotected)}.")
    if unknown:
        symbols = ", ".join(each.symbol for each in unknown)
        sentences.append(f"It is not known what became of entries in {symbols}; please look at the venue.")
    return " ".join(sentences)


_SAID_AT_FIRST: Final = (
    "name", "kind", "exchange", "market_type", "sandbox", "paper", "sizing", "limits", "protection", "leverage",
    "margin_mode", "symbol_map", "credentials",
)  # fmt: skip


def _words(connection: Connection, fields: Iterable[str]) -> dict[str, Any]:
    """What the audit keeps of these fields; of credentials, which of their versions it is and nothing else."""
    return {
        field: connection.credentials_version if field == "credentials" else _word(getattr(connection, field))
        for field in fields
    }


def _word(value: Any) -> Any:
    return text(value) if isinstance(value, Decimal) else value


def _write_down(
    session: AsyncSession, action: Action, owner: Owner, connection: Connection, now: datetime, **detail: Any
) -> None:
    audit.record(session, action, owner, None, now, connection_id=connection.id, **detail)


def _tell(
    session: AsyncSession, connection: Connection, event: str, message: str, now: datetime, **data: Any
) -> None:
    notify(
        session,
        connection.owner,
        NotificationType.CONNECTION,
        f"Connection {connection.name} {event}",
        message,
        now=now,
        data=data,
        connection_id=connection.id,
    )


async def _locked(session: AsyncSession, owner: Owner, connection_id: UUID) -> Connection:
    """The owner's connection under its row lock. Raises NotFound."""
    connection = await session.scalar(
        select(Connection)
        .where(Connection.id == connection_id, connections.owned_by(owner))
        .with_for_update(key_share=True)
    )
    if connection is None:
        raise NotFound("connection")
    return connection
