"""Connections: your accounts at venues, and what the engine may do there."""

from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Final, Literal, Self, cast
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    Strict,
    StringConstraints,
    model_validator,
)
from sqlalchemy import ColumnElement, select

from app.api.bodies import ExactRoute
from app.api.callers import Reader, Trader
from app.api.problems import raises
from app.api.sessions import OpenDesk, Reading
from app.api.wire import (
    Amount,
    Body,
    Count,
    CurrencyAmount,
    Flag,
    Instant,
    OwnerView,
    Page,
    Paging,
    Percentage,
    PercentageOrZero,
    PositiveAmount,
    Text,
    View,
    page,
    printable,
)
from app.brokers.paper.terms import SYNTHETIC, FeeIn
from app.brokers.port import Account
from app.domain.errors import NotFound
from app.domain.market import MarketType
from app.domain.orders import TriggerSource
from app.domain.positions import PositionStatus
from app.domain.risk import Mode, OnDailyLoss
from app.domain.sizing import OnTooSmall, Strategy
from app.engine import connections as engine
from app.engine import halting
from app.store import connections as rows
from app.store.connections import ConnectionStatus, Kind
from app.store.executions import ExecutionStatus

router = APIRouter(prefix="/connections", tags=["connections"], route_class=ExactRoute)

ConnectionId = Annotated[UUID, Path(description="The connection's id.")]

Title = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=100), AfterValidator(printable)]


def _written_out(value: object) -> object:
    """Logins and ports are numbers, so they are taken as such, too."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Secret = Annotated[
    SecretStr,
    Field(min_length=1, max_length=8192),
    BeforeValidator(_written_out, json_schema_input_type=SecretStr | int),
]
Symbols = Annotated[list[Text], Field(max_length=500)]


def _leverage(value: Decimal) -> Decimal:
    if not 1 <= value <= 1000:
        raise ValueError("leverage is 1 to 1000")
    return value


def _distance(percent: Decimal) -> Decimal:
    if percent == 100:
        raise ValueError("a stop is less than 100 per cent away")
    return percent


Deadline = Annotated[int, Strict(), Field(ge=5, le=3600)]
Distance = Annotated[Percentage, AfterValidator(_distance)]
Leverage = Annotated[Amount, AfterValidator(_leverage)]


class MappedSymbol(Body):
    """An instrument of the venue that a name of the owner's stands for."""

    symbol: Text = Field(examples=["1000PEPE/USDT:USDT"])
    """The venue's unified symbol."""
    multiplier: PositiveAmount | None = Field(default=None, examples=["1000"])
    """How many of the signal's coins one of its coins is: prices are multiplied by it, quantities divided."""


def _spelled_out(value: object) -> object:
    """A mere symbol is one without a multiplier."""
    return {"symbol": value} if isinstance(value, str) else value


Mapped = Annotated[MappedSymbol, BeforeValidator(_spelled_out, json_schema_input_type=str | MappedSymbol)]


class Paper(Body):
    """A paper account: where its prices come from, what it starts with, what trading costs."""

    prices: Text = Field(default=SYNTHETIC, examples=["synthetic", "binance"])
    """`synthetic` for a seeded market, `recording` for the candles that this installation plays, or the id of a
    crypto exchange, whose public prices it follows; see `GET /exchanges`."""
    balance: PositiveAmount = Field(default=Decimal(10_000), examples=["10000"])
    """What the account starts with, in `currency`; fixed once the account has been tested."""
    currency: Text = Field(default="USDT", examples=["USDT"])
    """The currency the account starts with; fixed once the account has been tested."""
    fee_percent: PercentageOrZero = Field(default=Decimal(0), examples=["0.1"])
    """Fee of every fill, in per cent of its notional."""
    slippage_percent: PercentageOrZero = Field(default=Decimal(0), examples=["0.02"])
    """How much worse than the quote market orders are filled, in per cent of the price."""
    fee_in: FeeIn = Field(default=FeeIn.QUOTE, examples=["quote"])
    """Which currency spot buys pay their fee in; `base` shrinks what is held, as some exchanges do."""
    partial_fill_percent: Percentage | None = Field(default=None, examples=["40"])
    """At most this part of a limit order is filled at once, in per cent; null fills it whole."""
    seed: Annotated[int, Strict(), Field(ge=0, le=2**31)] = Field(default=0, examples=[7])
    """Which synthetic market: equal seeds see equal prices."""


class Sizing(Body):
    """How large entries are. There is no default: without it a connection cannot be activated."""

    strategy: Strategy = Field(examples=["risk_percentage"])
    """`fixed`: value is the quantity. `fixed_amount`: value is the notional. `percentage`: of the free
    balance. `signal_based`: the signal's quantity times value. `risk_percentage`: of equity, what the stop
    may cost."""
    value: PositiveAmount | None = Field(default=None, examples=["1"])
    """Base units or lots for `fixed`, quote currency for `fixed_amount`, per cent for the percentages,
    a factor (1 when left out) for `signal_based`."""
    max_quantity: PositiveAmount | None = Field(default=None, examples=["0.5"])
    """No entry is larger than this, in base units or lots; larger ones shrink."""
    max_notional: PositiveAmount | None = Field(default=None, examples=["2000"])
    """No entry is worth more than this, in quote currency; larger ones shrink."""
    on_too_small: OnTooSmall = Field(default=OnTooSmall.SKIP, examples=["skip"])
    """Below the venue's minimum: `skip` the signal, or order the `minimum` where caps and budget allow it."""

    @model_validator(mode="after")
    def _has_its_value(self) -> "Sizing":
        if self.value is None and self.strategy is not Strategy.SIGNAL_BASED:
            raise ValueError(f"the strategy {self.strategy} needs a value")
        if self.strategy is Strategy.RISK_PERCENTAGE and self.value is not None and self.value > 100:
            raise ValueError("risk_percentage takes a value of at most 100")
        return self


class Limits(Body):
    """What denies an entry; null is no limit. Exits are never limited."""

    max_open_positions: Count | None = Field(default=None, examples=[5])
    """How many positions and pending entries the account may hold."""
    max_positions_per_symbol: Count | None = Field(default=None, examples=[1])
    """How many of them of one symbol."""
    max_daily_trades: Count | None = Field(default=None, examples=[20])
    """How many entries are sent in a UTC day."""
    max_daily_loss: PositiveAmount | None = Field(default=None, examples=["250"])
    """How much may be lost in a UTC day, realised and open, in the account's currency; for each currency apart where
    positions are counted in several. Once reached, no entries are taken until the next UTC day."""
    on_daily_loss: OnDailyLoss = Field(default=OnDailyLoss.STOP, examples=["stop"])
    """Then: `stop` leaves open positions open, `close` closes them."""
    allow_symbols: Symbols = Field(default_factory=list, examples=[["BTC/USDT", "ETH/USDT"]])
    """Only these symbols, in unified form; empty allows all."""
    deny_symbols: Symbols = Field(default_factory=list, examples=[["DOGE/USDT"]])
    """Never these symbols, in unified form."""
    max_signal_age_seconds: Count | None = Field(default=None, examples=[120])
    """How old a signal may be, in seconds; null is 300 for market entries and no limit for limit entries."""
    max_price_drift_percent: PercentageOrZero | None = Field(default=None, examples=["0.5"])
    """How far the price may be worse than the signal's entry_price, in per cent of it."""
    max_spread_percent: PercentageOrZero | None = Field(default=None, examples=["0.1"])
    """How wide the spread may be, in per cent of the mid price."""


class TrailingTerms(Body):
    """A stop that follows the price."""

    activation_percent: PercentageOrZero = Field(examples=["1"])
    """The gain over the average entry from which it follows, in per cent of the entry."""
    distance_percent: Distance = Field(examples=["0.5"])
    """How far behind the best price it stays, in per cent of that price."""


class ProtectionTerms(Body):
    """How stop and targets are watched, and how a position is managed while it is open.

    A position keeps the terms its entry was sent with. Stops only ever tighten; a stop that you set by hand is left
    where you put it.
    """

    native: Flag = Field(default=True, examples=[True])
    """Whether the venue is to hold stop and targets where it can; else the engine watches them."""
    break_even_after_tp: Count | None = Field(default=None, examples=[1])
    """After so many take-profits the stop goes to the entry price plus the fees of entry and exit; null never."""
    break_even_at_percent: Percentage | None = Field(default=None, examples=["1.5"])
    """The same once the best price is so far from the entry, in per cent of it; null never."""
    trailing: TrailingTerms | None = None
    """A stop that follows the best price; null for none."""
    max_hold_minutes: Count | None = Field(default=None, examples=[1440])
    """After so many minutes a position is closed at market; null never."""
    trigger_source: TriggerSource | None = Field(default=None, examples=["mark"])
    """Which price of a swap wakes stops, and targets that do not rest as limit orders at the venue: `mark`, `last` or
    `index` as far as GET /v1/exchanges offers it; null is `mark`. Where there is no choice they go by the price that
    they trade at."""
    deadline_seconds: Deadline | None = Field(default=None, examples=[30])
    """How long a stop-loss may be watched by nobody, after a fill or while the venue's order is replaced: 5 to 3600
    seconds, null is 30. What cannot be protected by then is closed at market."""


class ConnectionTerms(Body):
    """What may be set on a connection."""

    name: Title | None = Field(default=None, examples=["My paper account"])
    """Your name for it, 1 to 100 characters."""
    credentials: dict[Text, Secret] | None = Field(
        default=None,
        max_length=10,
        examples=[{"api_key": "…", "api_secret": "…"}],
        json_schema_extra={"writeOnly": True},
    )
    """The account's keys, never shown again; GET /v1/exchanges says which fields a venue needs. For MetaTrader
    `account_id` is the login, `api_secret` the password, `server` its name in the terminal (or `host` and `port`), and
    `api_key` the key of a gateway that asks for one. Whole numbers are taken for text. A change replaces
    all of them."""
    paper: Paper | None = None
    """The terms of a paper account, in place of credentials. A change replaces the whole object: what it leaves out
    goes back to its default."""
    sizing: Sizing | None = None
    """How large entries are. A change replaces the whole object: what it leaves out goes back to its default."""
    limits: Limits | None = None
    """What denies an entry. A change replaces the whole object: a limit that it leaves out is gone."""
    protection: ProtectionTerms | None = None
    """How stop and targets are watched. A change replaces the whole object: what it leaves out goes back to its
    default."""
    leverage: Leverage | None = Field(default=None, examples=["3"])
    """Leverage on swap, 1 to 1000; null is 1. It changes the margin, never the size."""
    margin_mode: Literal["isolated", "cross"] | None = Field(default=None, examples=["isolated"])
    """Margin mode on swap where the venue offers a choice; null leaves the venue's."""
    symbol_map: dict[Text, Mapped] | None = Field(
        default=None,
        max_length=500,
        examples=[
            {
                "XAUUSD": "PAXG/USDT",
                "PEPE/USDT": {"symbol": "1000PEPE/USDT:USDT", "multiplier": "1000"},
            }
        ],
    )
    """Which instrument of the venue a signal's symbol means here, where that is not plain: its symbol, or an object
    with its symbol and how many of the signal's coins one of its coins is. The names count in `allow_symbols` and
    `deny_symbols` as well; `fixed` sizes and `max_quantity` are in the signal's coins. A change replaces the whole map:
    a name that it leaves out is gone."""

    def terms(self) -> engine.Terms:
        """What was given, as the engine takes it."""
        named = self.model_fields_set & ConnectionTerms.model_fields.keys()
        return cast("engine.Terms", {field: _kept(getattr(self, field)) for field in named})


def _kept(value: object) -> Any:
    """A value as rows keep it: amounts in JSON as decimal strings, secrets in the clear for the vault."""
    if isinstance(value, MappedSymbol) and value.multiplier is None:
        return value.symbol
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, dict):
        return {key: _kept(inner) for key, inner in value.items()}
    return value.get_secret_value() if isinstance(value, SecretStr) else value


class ConnectionDraft(ConnectionTerms):
    """A connection to be created."""

    name: Title = Field(examples=["My paper account"])
    """Your name for it, 1 to 100 characters."""
    kind: Kind = Field(examples=["paper"])
    """What sort of venue; see GET /v1/exchanges."""
    exchange: Text = Field(examples=["paper"])
    """Which venue; see GET /v1/exchanges."""
    market_type: MarketType | None = Field(default=None, examples=["spot"])
    """Which of its markets; left out it is `fx` for the kind fx, else `spot`."""
    sandbox: Flag = Field(default=False, examples=[False])
    """Whether the account is one of the venue's sandbox."""

    @property
    def market(self) -> MarketType:
        """The market that is meant."""
        return self.market_type or (MarketType.FX if self.kind is Kind.FX else MarketType.SPOT)

    def terms(self) -> engine.Terms:
        """What was given; in a draft null is the same as nothing."""
        return cast(
            "engine.Terms", {field: value for field, value in super().terms().items() if value is not None}
        )


_MAY_BE_NULL: Final = {"leverage", "margin_mode"}


class ConnectionChange(ConnectionTerms):
    """A change: a field that is named is replaced, an object as a whole; a field that is left out stays as it is."""

    @model_validator(mode="after")
    def _takes_nothing_away(self) -> "ConnectionChange":
        for field in self.model_fields_set - _MAY_BE_NULL:
            if getattr(self, field) is None:
                raise ValueError(f"{field} cannot be null")
        return self


class Connection(View):
    """An account of yours at a venue. Credentials are never shown."""

    id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """The connection's id."""
    name: str = Field(examples=["My paper account"])
    """Your name for it."""
    kind: Kind = Field(examples=["paper"])
    """What sort of venue."""
    exchange: str = Field(examples=["paper"])
    """Which venue."""
    market_type: MarketType = Field(examples=["spot"])
    """Which of its markets."""
    sandbox: bool = Field(examples=[False])
    """Whether the account is one of the venue's sandbox."""
    credentials_hint: str | None = Field(examples=["x7Qp"])
    """The last 4 characters of the key or login, so that you know which one it is."""
    paper: Paper | None
    """The terms of a paper account."""
    sizing: Sizing | None
    """How large entries are; null until you say."""
    limits: Limits
    """What denies an entry."""
    protection: ProtectionTerms
    """How stop and targets are watched."""
    leverage: Amount | None = Field(examples=["3"])
    """Leverage on swap; null is 1."""
    margin_mode: str | None = Field(examples=["isolated"])
    """Margin mode on swap; null leaves the venue's."""
    symbol_map: dict[str, str | MappedSymbol] = Field(examples=[{"XAUUSD": "PAXG/USDT"}])
    """Which instrument of the venue a signal's symbol means here."""
    status: ConnectionStatus = Field(examples=["active"])
    """Only `active` receives signals; what is open is watched in every status."""
    mode: Mode = Field(examples=["active"])
    """`reducing` and `halted` take no entries."""
    reducing_until: Instant | None
    """Until when it only reduces by itself, because limits.max_daily_loss was reached; null when it was not."""
    is_tested: bool = Field(examples=[True])
    """Whether the present credentials passed their last test, so that it may be activated."""
    last_error: str | None = Field(examples=["The venue does not know this key."])
    """What the last failed test brought; null after a passed one."""
    last_tested_at: Instant | None
    """When it was last tested."""
    last_used_at: Instant | None
    """When it last sent an entry."""
    first_activated_at: Instant | None
    """When it was first activated; analytics count from here."""
    created_at: Instant
    """When it was created."""
    updated_at: Instant
    """When it last changed."""

    @classmethod
    def seen(cls, row: rows.Connection, now: datetime) -> Self:
        """A connection as it stands at this moment."""
        until = row.reducing_until if row.reduces_by_itself(now) else None
        return cls.of(row, mode=row.mode_at(now), reducing_until=until)


class OwnedConnection(Connection):
    """A connection of any owner."""

    owner: OwnerView
    """Whose it is."""


class ConnectionQuery(Paging):
    """Which connections are wanted."""

    status: list[ConnectionStatus] = Field(default_factory=list, examples=[["active"]])
    """Only those in this status; may be given more than once."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, as the database reads it; deleted connections are not shown."""
        wanted: list[ColumnElement[bool]] = [rows.Connection.deleted_at.is_(None)]
        if self.status:
            wanted.append(rows.Connection.status.in_(self.status))
        return wanted


class Balance(View):
    """One currency of an account."""

    currency: str = Field(examples=["USDT"])
    """The currency."""
    free: Amount = Field(examples=["9750"])
    """What can be spent now, in `currency`."""
    total: Amount = Field(examples=["10000"])
    """With what orders and positions hold, in `currency`."""


class Permissions(View):
    """What the credentials may do; null where the venue does not tell."""

    trade: bool | None = Field(examples=[True])
    """Whether they can trade."""
    withdraw: bool | None = Field(examples=[False])
    """Whether they can withdraw; such credentials are refused. Null where the venue cannot tell."""
    transfer: bool | None = Field(examples=[False])
    """Whether they can move funds to other accounts of the same venue, which nothing here needs; null as above."""


class ConnectionTest(View):
    """What a test brought to light."""

    ok: bool = Field(examples=[True])
    """Whether it passed."""
    code: str | None = Field(examples=["withdrawal_permission"])
    """Why it failed: `withdrawal_permission`, `trade_permission_missing`, `terms_not_served` for terms the venue cannot
    serve, `account_in_use` where it is active and another active connection trades the same account, or a code of GET
    /v1/denial-codes; null when it passed."""
    message: str = Field(examples=["The account can be reached and traded."])
    """The same in a sentence."""
    balances: list[Balance]
    """What the account holds, by currency; empty where the venue did not show it."""
    permissions: Permissions
    """What the credentials may do."""
    checked_at: Instant
    """When the venue was asked."""


Why = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=500), AfterValidator(printable)]
"""A reason for people, kept in the audit trail."""


class ModeChange(Body):
    """How far a connection may trade."""

    mode: Mode = Field(examples=["reducing"])
    """`reducing` and `halted` take no entries and take back unfilled ones; exits always go on."""
    reason: Why | None = Field(default=None, examples=["Holidays"])
    """Why, for the audit trail; at most 500 characters."""


class CloseAllRequest(Body):
    """Why everything is closed."""

    reason: Why | None = Field(default=None, examples=["Out of the market over the weekend"])
    """Why, for the audit trail; at most 500 characters."""


class ClearedEntry(View):
    """An entry that was not filled yet."""

    execution_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000002"])
    """The execution."""
    symbol: str = Field(examples=["BTC/USDT"])
    """The instrument."""
    status: ExecutionStatus = Field(examples=["cancelled"])
    """What became of it; `sending` and `open` are taken back as soon as the venue allows it."""
    message: str | None = Field(examples=["Taken back by close-all."])
    """The same in a sentence."""


class ClearedPosition(View):
    """A position that was open."""

    position_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000001"])
    """The position."""
    symbol: str = Field(examples=["BTC/USDT"])
    """The instrument."""
    status: PositionStatus = Field(examples=["closed"])
    """What became of it; `closing` goes on by itself."""
    remaining_quantity: Amount = Field(examples=["0"])
    """What is still held, in base units or lots."""
    message: str | None = Field(examples=["The close is under way."])
    """Why it is not closed yet; null when it is."""


class Clearance(View):
    """What was found open on a connection, and what became of it."""

    entries: list[ClearedEntry]
    """Its unfilled entries."""
    positions: list[ClearedPosition]
    """Its open positions."""

    @classmethod
    def seen(cls, clearance: halting.Clearance) -> "Clearance":
        """From what the engine reports."""
        return cls(
            entries=[ClearedEntry.of(each, execution_id=each.id) for each in clearance.entries],
            positions=[
                ClearedPosition.of(each.position, position_id=each.position.id, message=each.message)
                for each in clearance.positions
            ],
        )


class AccountBalance(View):
    """What an account holds, as the venue says now."""

    balances: list[Balance]
    """By currency."""
    equity: list[CurrencyAmount]
    """By currency: on swap with unrealised profit, on spot the total of that currency, on fx without credit."""
    as_of: Instant
    """The moment before which everything is included."""


def _balances(account: Account | None) -> list[Balance]:
    held = account.balances if account else {}
    return [Balance.of(balance, currency=currency) for currency, balance in sorted(held.items())]


@router.get("")
async def list_connections(
    caller: Reader, session: Reading, desk: OpenDesk, query: Annotated[ConnectionQuery, Query()]
) -> Page[Connection]:
    """Your connections, newest first."""
    mine = select(rows.Connection).where(rows.owned_by(caller.owner), *query.conditions())
    return await page(session, mine, rows.Connection.id, query, partial(Connection.seen, now=desk.now()))


@router.post("", status_code=201, responses=raises("plan_required", "max_connections"))
async def create_connection(draft: ConnectionDraft, caller: Trader, desk: OpenDesk) -> Connection:
    """Connect an account. It is inactive until it has been tested and activated."""
    created = await engine.create(
        desk,
        caller.owner,
        kind=draft.kind,
        exchange=draft.exchange,
        market_type=draft.market,
        sandbox=draft.sandbox,
        terms=draft.terms(),
    )
    return Connection.seen(created, desk.now())


@router.get("/{connection_id}", responses=raises("not_found"))
async def get_connection(
    connection_id: ConnectionId, caller: Reader, session: Reading, desk: OpenDesk
) -> Connection:
    """One of your connections."""
    row = await rows.of_owner(session, caller.owner, connection_id)
    if row is None:
        raise NotFound("connection")
    return Connection.seen(row, desk.now())


@router.patch("/{connection_id}", responses=raises("not_found", "positions_open", "conflict"))
async def change_connection(
    connection_id: ConnectionId, change: ConnectionChange, caller: Trader, desk: OpenDesk
) -> Connection:
    """Change a connection. With other credentials it is inactive until it has been tested again.

    While positions or entries are open, other credentials are taken only where the venue itself says that they open
    the same account; what is open is then watched and closed with them.
    """
    return Connection.seen(await engine.change(desk, caller.owner, connection_id, change.terms()), desk.now())


Force = Annotated[
    bool,
    Query(
        description="Delete although something is open: entries are taken back, positions are no longer managed, "
        "and their stops and targets stay at the venue. A notification says what that leaves unprotected, and of "
        "which entries nobody can say what became of them.",
        examples=[False],
    ),
]


@router.delete("/{connection_id}", status_code=204, responses=raises("not_found", "positions_open"))
async def delete_connection(
    connection_id: ConnectionId, caller: Trader, desk: OpenDesk, force: Force = False
) -> None:
    """Delete a connection: its credentials are wiped, its history stays."""
    await engine.delete(desk, caller.owner, connection_id, force=force)


@router.post("/{connection_id}/test", responses=raises("not_found", "plan_required", "conflict"))
async def test_connection(connection_id: ConnectionId, caller: Trader, desk: OpenDesk) -> ConnectionTest:
    """Ask the venue for the account. A failed test is `ok: false` and leaves the connection in `error`."""
    found = await engine.test(desk, caller.owner, connection_id)
    permissions = (
        found.account.permissions if found.account else Permissions(trade=None, withdraw=None, transfer=None)
    )
    return ConnectionTest.of(found, balances=_balances(found.account), permissions=permissions)


@router.post(
    "/{connection_id}/activate",
    responses=raises("not_found", "plan_required", "not_tested", "account_in_use", "invalid"),
)
async def activate_connection(connection_id: ConnectionId, caller: Trader, desk: OpenDesk) -> Connection:
    """Let a tested connection receive signals."""
    return Connection.seen(await engine.activate(desk, caller.owner, connection_id), desk.now())


@router.post("/{connection_id}/deactivate", responses=raises("not_found"))
async def deactivate_connection(connection_id: ConnectionId, caller: Trader, desk: OpenDesk) -> Connection:
    """Receive no more signals and take back unfilled entries; what is open stays watched and closable."""
    return Connection.seen(await engine.deactivate(desk, caller.owner, connection_id), desk.now())


@router.post("/{connection_id}/mode", responses=raises("not_found", "plan_required"))
async def set_connection_mode(
    connection_id: ConnectionId, change: ModeChange, caller: Trader, desk: OpenDesk
) -> Connection:
    """Say how far a connection may trade. Without a current plan it may only get stricter.

    A connection that only reduces by itself, for the loss of the day, does so until the next UTC day whatever is said
    here, unless limits.max_daily_loss is changed.
    """
    changed = await halting.set_mode(
        desk, caller.owner, connection_id, change.mode, change.reason, owner=caller.owner
    )
    return Connection.seen(changed, desk.now())


@router.post("/{connection_id}/close-all", responses=raises("not_found"))
async def close_all_positions(
    connection_id: ConnectionId, caller: Trader, desk: OpenDesk, request: CloseAllRequest | None = None
) -> Clearance:
    """Take back every unfilled entry and close every open position at market; tells what became of each.

    What the venue does not do at once is carried out as soon as it can be. New signals are still followed: to stop
    them, set the mode first.
    """
    reason = request.reason if request else None
    return Clearance.seen(
        await halting.close_all(desk, caller.owner, connection_id, reason, owner=caller.owner)
    )


@router.get("/{connection_id}/balance", responses=raises("not_found", "conflict"))
async def get_balance(connection_id: ConnectionId, caller: Reader, desk: OpenDesk) -> AccountBalance:
    """What the account holds, asked of the venue now."""
    account = await engine.account(desk, caller.owner, connection_id)
    equity = [
        CurrencyAmount(currency=currency, amount=amount)
        for currency, amount in sorted(account.equity.items())
    ]
    return AccountBalance(balances=_balances(account), equity=equity, as_of=account.as_of)
