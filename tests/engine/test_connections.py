"""Activities on connections against a venue that does what the test wants, with credentials sealed and tested."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from app.brokers.directory import Access, Directory
from app.brokers.port import Account, Balance, Permissions, Refused, Uncertain, Unreachable
from app.desk import Desk, open_database, open_sessions
from app.domain.errors import Conflict, EngineError, Forbidden, Invalid, NotFound
from app.domain.market import MarketType
from app.domain.owners import Owner, Role
from app.engine import connections as engine
from app.engine import credentials
from app.settings import Settings
from app.store.connections import Connection, ConnectionStatus, Kind
from app.store.executions import Execution, ExecutionStatus
from app.store.notifications import Notification
from app.vault import Vault
from tests.api.scene import ANN, BOB, NOON, PAPER, Clock, Rings, Rows

GOOD = Account(
    identity="uid-1",
    balances={"USDT": Balance(Decimal("90"), Decimal("100.50")), "BTC": Balance(Decimal(1), Decimal(1))},
    equity={"USDT": Decimal(101)},
    permissions=Permissions(trade=True, withdraw=False),
    as_of=NOON,
)
CREDENTIALS = {"api_key": "AKIA-canary-x7Qp", "api_secret": "canary-secret"}

OTHER_CREDENTIALS = {"api_key": "another-key-9", "api_secret": "another-secret"}


@dataclass
class Exchange:
    """A venue whose accounts answer what the test says, and that remembers how it was opened."""

    answer: Account | Exception = GOOD
    meanwhile: Callable[[], Awaitable[Any]] | None = None
    opened: list[Access] = field(default_factory=list)

    async def open(self, access: Access) -> Any:
        """An account of it, which is itself."""
        self.opened.append(access)
        return self

    async def account(self) -> Account:
        """What the test says."""
        if self.meanwhile is not None:
            await self.meanwhile()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        """Nothing to let go of."""


@pytest.fixture
def exchange() -> Exchange:
    """The venue of kind crypto."""
    return Exchange()


@pytest.fixture
async def desk(database_url: str, settings: Settings, exchange: Exchange) -> AsyncIterator[Desk]:
    """A desk that reaches that venue."""
    database = open_database(database_url, pool_size=5)
    yield Desk(
        sessions=open_sessions(database),
        brokers=Directory({"crypto": exchange}),
        queue=Rings(),
        vault=Vault.open(settings.vault_keys),
        now=Clock(),
    )
    await database.dispose()


@pytest.fixture
def rows(desk: Desk) -> Rows:
    """Rows as the engine would have left them."""
    return Rows(desk.sessions)


async def _crypto(desk: Desk, rows: Rows, owner: Owner = ANN, **columns: Any) -> Connection:
    """An untested connection to that venue, with credentials; its owner has a plan."""
    await rows.entitle(owner)
    connection = await rows.connection(
        owner,
        **{
            "kind": Kind.CRYPTO,
            "exchange": "binance",
            "paper": None,
            "status": ConnectionStatus.INACTIVE,
            "tested_version": None,
        }
        | columns,
    )
    async with desk.sessions.begin() as session:
        row = await session.get_one(Connection, connection.id)
        credentials.seal(desk, row, CREDENTIALS, version=1)
        row.tested_version = columns.get("tested_version")
        row.account_identity = columns.get("account_identity")
    return connection


async def _row(desk: Desk, connection: Connection) -> Connection:
    async with desk.sessions() as session:
        return await session.get_one(Connection, connection.id)


async def test_credentials_are_sealed_for_their_row(desk: Desk, rows: Rows) -> None:
    row = await _row(desk, await _crypto(desk, rows))
    assert row.credentials_hint == "x7Qp"
    assert row.credentials_sealed is not None
    assert b"canary" not in row.credentials_sealed
    assert desk.vault.unseal(row.credentials_sealed, row_id=row.id, version=1) == CREDENTIALS


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"api_key": "12345678"}, "5678"),
        ({"api_key": "1234567"}, None),
        ({"account_id": "20011234", "api_secret": "p"}, "1234"),
        ({"api_secret": "only a secret"}, None),
    ],
)
async def test_the_hint_gives_away_less_than_half_of_a_key(
    desk: Desk, rows: Rows, given: dict[str, str], hint: str | None
) -> None:
    connection = await _crypto(desk, rows)
    credentials.seal(desk, connection, given, version=2)
    assert connection.credentials_hint == hint


async def test_a_passed_test_is_remembered(desk: Desk, rows: Rows, exchange: Exchange) -> None:
    connection = await _crypto(desk, rows)
    found = await engine.test(desk, ANN, connection.id)
    assert (found.ok, found.code, found.account) == (True, None, GOOD)
    row = await _row(desk, connection)
    assert (row.status, row.tested_version, row.account_identity) == (ConnectionStatus.INACTIVE, 1, "uid-1")
    assert row.last_tested_at == row.balances_at == NOON
    assert row.balances == {
        "USDT": {"balance": "100.5", "equity": "101"},
        "BTC": {"balance": "1", "equity": "1"},
    }
    assert [(access.credentials_version, access.leverage) for access in exchange.opened] == [(1, Decimal(1))]
    assert exchange.opened[0].credentials_sealed == row.credentials_sealed


async def test_the_first_activation_records_the_starting_capital(
    desk: Desk, rows: Rows, exchange: Exchange
) -> None:
    connection = await _crypto(desk, rows)
    await engine.test(desk, ANN, connection.id)
    await rows.entitle(ANN)
    await engine.activate(desk, ANN, connection.id)
    await engine.deactivate(desk, ANN, connection.id)
    exchange.answer = replace(GOOD, balances={"USDT": Balance(Decimal(5), Decimal(5))})
    await engine.test(desk, ANN, connection.id)
    row = await engine.activate(desk, ANN, connection.id)
    assert row.starting_balances == {"USDT": "100.5", "BTC": "1"}
    assert row.balances == {"USDT": {"balance": "5", "equity": "101"}}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Refused("Invalid key.", code="invalid_key"), "invalid_key"),
        (Unreachable("No route."), "venue_unreachable"),
        (Uncertain("Timed out."), "venue_unreachable"),
        (Conflict("conflict", "Cannot be served."), "conflict"),
        (replace(GOOD, permissions=Permissions(trade=True, withdraw=True)), "withdrawal_permission"),
        (replace(GOOD, permissions=Permissions(trade=False, withdraw=None)), "trade_permission_missing"),
    ],
)
async def test_a_failed_test_is_an_answer_and_an_error(
    desk: Desk, rows: Rows, exchange: Exchange, answer: Account | Exception, code: str
) -> None:
    exchange.answer = answer
    connection = await _crypto(desk, rows, tested_version=1)
    found = await engine.test(desk, ANN, connection.id)
    assert (found.ok, found.code) == (False, code)
    row = await _row(desk, connection)
    assert (row.status, row.last_error) == (ConnectionStatus.ERROR, found.message)
    assert row.is_tested is False
    with pytest.raises(Conflict) as refused:
        await engine.activate(desk, ANN, connection.id)
    assert refused.value.code == "not_tested"


async def test_what_the_venue_does_not_tell_is_no_refusal(desk: Desk, rows: Rows, exchange: Exchange) -> None:
    exchange.answer = replace(GOOD, permissions=Permissions(trade=None, withdraw=None))
    assert (await engine.test(desk, ANN, (await _crypto(desk, rows)).id)).ok


async def test_an_active_connection_stays_active_through_a_test(
    desk: Desk, rows: Rows, exchange: Exchange
) -> None:
    connection = await _crypto(desk, rows, status=ConnectionStatus.ACTIVE, tested_version=1)
    during: list[ConnectionStatus] = []

    async def look() -> None:
        during.append((await _row(desk, connection)).status)

    exchange.meanwhile = look
    await engine.test(desk, ANN, connection.id)
    assert during == [ConnectionStatus.ACTIVE]
    assert (await _row(desk, connection)).status is ConnectionStatus.ACTIVE


async def test_an_inactive_one_is_testing_meanwhile(desk: Desk, rows: Rows, exchange: Exchange) -> None:
    connection = await _crypto(desk, rows)
    during: list[ConnectionStatus] = []

    async def look() -> None:
        during.append((await _row(desk, connection)).status)

    exchange.meanwhile = look
    await engine.test(desk, ANN, connection.id)
    assert during == [ConnectionStatus.TESTING]


async def test_failing_denies_what_waits(desk: Desk, rows: Rows, exchange: Exchange) -> None:
    exchange.answer = Refused("Key expired.")
    connection = await _crypto(desk, rows, status=ConnectionStatus.ACTIVE, tested_version=1)
    waiting = await rows.execution(connection, status=ExecutionStatus.PENDING, due_at=NOON)
    await engine.test(desk, ANN, connection.id)
    async with desk.sessions() as session:
        denied = await session.get_one(Execution, waiting.id)
        assert (denied.status, denied.code) == (ExecutionStatus.DENIED, "connection_inactive")
        told = await session.scalar(select(Notification).where(Notification.type == "connection"))
        assert told is not None
        assert told.message == "Key expired. 1 waiting entries were denied."


async def test_credentials_changed_during_a_test_are_not_tested(
    desk: Desk, rows: Rows, exchange: Exchange
) -> None:
    connection = await _crypto(desk, rows)

    async def change() -> None:
        await engine.change(desk, ANN, connection.id, {"credentials": OTHER_CREDENTIALS})

    exchange.meanwhile = change
    with pytest.raises(Conflict):
        await engine.test(desk, ANN, connection.id)
    row = await _row(desk, connection)
    assert (row.credentials_version, row.is_tested) == (2, False)
    assert row.status is ConnectionStatus.INACTIVE


async def test_other_credentials_have_to_be_tested(desk: Desk, rows: Rows) -> None:
    connection = await _crypto(
        desk, rows, status=ConnectionStatus.ACTIVE, tested_version=1, account_identity="uid-1"
    )
    await engine.change(desk, ANN, connection.id, {"credentials": OTHER_CREDENTIALS})
    row = await _row(desk, connection)
    assert (row.status, row.credentials_version, row.is_tested) == (ConnectionStatus.INACTIVE, 2, False)
    assert row.credentials_sealed is not None
    assert desk.vault.unseal(row.credentials_sealed, row_id=row.id, version=2) == OTHER_CREDENTIALS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"api_key": "another-key-9"}, "Binance needs api_secret."),
        (OTHER_CREDENTIALS | {"pin": "1234"}, "There is no credential field pin."),
    ],
)
async def test_credentials_have_the_fields_the_exchange_asks_for(
    desk: Desk, rows: Rows, given: dict[str, str], said: str
) -> None:
    connection = await _crypto(desk, rows)
    with pytest.raises(Invalid) as invalid:
        await engine.change(desk, ANN, connection.id, {"credentials": given})
    assert (invalid.value.path, invalid.value.message) == ("credentials", said)


async def _open_one(desk: Desk, rows: Rows, identity: str | None, **columns: Any) -> Connection:
    """An active connection to an account of that name, with a position open."""
    terms: dict[str, Any] = {"status": ConnectionStatus.ACTIVE, "tested_version": 1}
    connection = await _crypto(desk, rows, **terms | columns, account_identity=identity)
    await rows.position(connection)
    return connection


async def _refused(desk: Desk, connection: Connection) -> Conflict:
    with pytest.raises(Conflict) as refused:
        await engine.change(desk, ANN, connection.id, {"credentials": OTHER_CREDENTIALS})
    return refused.value


OF_A_KEY = f"binance:key:{'ab' * 16}"


@pytest.mark.parametrize(
    ("known", "answer", "said"),
    [
        ("uid-2", GOOD, "these open another account"),
        (OF_A_KEY, GOOD, "known by its key alone"),
        (OF_A_KEY, replace(GOOD, identity=OF_A_KEY.replace("ab", "cd")), "which account a key is of"),
        (None, GOOD, "has not been named"),
        ("uid-1", Unreachable("No route."), "do not pass its test. No route."),
        ("uid-1", Refused("Invalid key."), "do not pass its test. Invalid key."),
        ("uid-1", replace(GOOD, permissions=Permissions(trade=False, withdraw=None)), "cannot trade"),
    ],
)
async def test_credentials_stay_while_something_is_open_unless_the_account_is_the_same(
    desk: Desk, rows: Rows, exchange: Exchange, known: str | None, answer: Account | Exception, said: str
) -> None:
    exchange.answer = answer
    connection = await _open_one(desk, rows, known)
    refused = await _refused(desk, connection)
    assert refused.code == "positions_open"
    assert said in refused.message
    row = await _row(desk, connection)
    assert (row.status, row.credentials_version, row.account_identity) == (ConnectionStatus.ACTIVE, 1, known)
    await engine.change(desk, ANN, connection.id, {"name": "Still mine"})


@pytest.mark.parametrize("status", [ConnectionStatus.ACTIVE, ConnectionStatus.ERROR])
async def test_credentials_of_the_same_account_take_over_what_is_open(
    desk: Desk, rows: Rows, exchange: Exchange, status: ConnectionStatus
) -> None:
    connection = await _open_one(desk, rows, "uid-1", status=status, refused_in_a_row=3)
    waiting = await rows.execution(connection, status=ExecutionStatus.PENDING, due_at=NOON)
    await engine.change(desk, ANN, connection.id, {"credentials": OTHER_CREDENTIALS})
    row = await _row(desk, connection)
    assert (row.status, row.credentials_version, row.is_tested) == (ConnectionStatus.INACTIVE, 2, False)
    assert (row.account_identity, row.refused_in_a_row) == ("uid-1", 0)
    assert row.credentials_sealed is not None
    assert desk.vault.unseal(row.credentials_sealed, row_id=row.id, version=2) == OTHER_CREDENTIALS
    [asked] = exchange.opened
    assert (asked.connection_id, asked.credentials_version) == (connection.id, 2)
    assert (
        desk.vault.unseal(asked.credentials_sealed or b"", row_id=row.id, version=2) == OTHER_CREDENTIALS
    ), "the venue was asked with the new ones"
    if status is ConnectionStatus.ACTIVE:
        async with desk.sessions() as session:
            assert (await session.get_one(Execution, waiting.id)).code == "connection_inactive"
    await engine.change(desk, ANN, connection.id, {"credentials": CREDENTIALS})
    assert (await _row(desk, connection)).credentials_version == 3, "once more, before any test"


async def test_credentials_that_were_changed_while_accounts_were_compared_stay(
    desk: Desk, rows: Rows, exchange: Exchange
) -> None:
    connection = await _open_one(desk, rows, "uid-1")

    async def change() -> None:
        exchange.meanwhile = None
        await engine.change(desk, ANN, connection.id, {"credentials": CREDENTIALS})

    exchange.meanwhile = change
    assert (await _refused(desk, connection)).code == "conflict"
    row = await _row(desk, connection)
    assert row.credentials_version == 2
    assert row.credentials_sealed is not None
    assert desk.vault.unseal(row.credentials_sealed, row_id=row.id, version=2) == CREDENTIALS


async def test_an_active_one_whose_account_turns_out_to_be_in_use_has_failed_its_test(
    desk: Desk, rows: Rows
) -> None:
    await _crypto(desk, rows, BOB, status=ConnectionStatus.ACTIVE, account_identity="uid-1")
    mine = await _crypto(
        desk, rows, status=ConnectionStatus.ACTIVE, tested_version=1, account_identity=OF_A_KEY
    )
    found = await engine.test(desk, ANN, mine.id)
    assert (found.ok, found.code) == (False, "account_in_use")
    row = await _row(desk, mine)
    assert (row.status, row.last_error, row.is_tested) == (ConnectionStatus.ERROR, found.message, False)


async def test_a_name_that_was_told_once_stays(desk: Desk, rows: Rows, exchange: Exchange) -> None:
    connection = await _crypto(desk, rows, account_identity="uid-1")
    exchange.answer = replace(GOOD, identity=OF_A_KEY)
    assert (await engine.test(desk, ANN, connection.id)).ok
    assert (await _row(desk, connection)).account_identity == "uid-1"
    await engine.change(desk, ANN, connection.id, {"credentials": OTHER_CREDENTIALS})
    assert (await engine.test(desk, ANN, connection.id)).ok
    assert (await _row(desk, connection)).account_identity == OF_A_KEY


async def test_deleting_wipes_the_credentials(desk: Desk, rows: Rows) -> None:
    connection = await _crypto(desk, rows, status=ConnectionStatus.ACTIVE, tested_version=1)
    await engine.delete(desk, ANN, connection.id, force=False)
    row = await _row(desk, connection)
    assert (row.credentials_sealed, row.credentials_hint, row.deleted_at) == (None, None, NOON)
    assert (row.status, row.is_tested) == (ConnectionStatus.INACTIVE, False)
    with pytest.raises(NotFound):
        await engine.activate(desk, ANN, connection.id)


async def test_two_cannot_have_the_last_place(desk: Desk, rows: Rows) -> None:
    await rows.entitle(ANN, max_connections=1)
    results = await asyncio.gather(*(_create(desk) for _ in range(4)), return_exceptions=True)
    created = [result for result in results if isinstance(result, Connection)]
    refused = [result.code for result in results if isinstance(result, EngineError)]
    assert (len(created), refused) == (1, ["max_connections"] * 3)


async def test_two_cannot_activate_the_same_account(desk: Desk, rows: Rows) -> None:
    await rows.entitle(ANN)
    await rows.entitle(BOB)
    both = [
        await _crypto(desk, rows, owner, tested_version=1, account_identity="uid-1") for owner in (ANN, BOB)
    ]
    results = await asyncio.gather(
        *(engine.activate(desk, each.owner, each.id) for each in both), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "Connection"]


async def test_an_installation_without_plans_asks_for_none(desk: Desk) -> None:
    with pytest.raises(Forbidden):
        await _create(desk)
    await _create(replace(desk, entitlements_required=False))
    await _create(desk, Owner(Role.ADMIN, "ann"))


async def test_terms_have_to_fit_the_kind_of_account(desk: Desk, rows: Rows) -> None:
    keyless = await rows.connection(ANN, kind=Kind.CRYPTO, exchange="binance", paper=None)
    spot = await _crypto(desk, rows)
    swap = await _crypto(desk, rows, market_type=MarketType.SWAP)
    refusals: list[tuple[Connection, engine.Terms, str]] = [
        (keyless, {"name": "New"}, "credentials"),
        (spot, {"paper": PAPER}, "paper"),
        (spot, {"leverage": Decimal(2)}, "leverage"),
        (spot, {"margin_mode": "isolated"}, "margin_mode"),
    ]
    for connection, terms, path in refusals:
        with pytest.raises(Invalid) as refused:
            await engine.change(desk, ANN, connection.id, terms)
        assert refused.value.path == path
    changed = await engine.change(desk, ANN, swap.id, {"leverage": Decimal(2), "margin_mode": "isolated"})
    assert (changed.leverage, changed.margin_mode) == (Decimal(2), "isolated")


async def _create(desk: Desk, owner: Owner = ANN) -> Connection:
    return await engine.create(
        desk,
        owner,
        kind=Kind.PAPER,
        exchange="paper",
        market_type=MarketType.SPOT,
        sandbox=False,
        terms={"name": "Paper", "paper": PAPER},
    )
