"""Breakdowns: performance told apart, by symbol, provider, exchange or connection, or connection by connection."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.bodies import ExactRoute
from app.api.callers import Reader
from app.api.figures import Figures, Findings, Summary, find, shown
from app.api.problems import raises
from app.api.selections import Comparison, Selection, ask
from app.api.sessions import OpenDesk, Reading
from app.api.wire import View
from app.domain.portfolios import UNANSWERED
from app.store import breakdowns
from app.store.breakdowns import Account, Quality

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=ExactRoute)


class BreakdownSelection(Selection):
    """Which trades are told apart, and by what."""

    by: Quality = Field(examples=["symbol"])
    """What they are told apart by."""


class Part(Figures):
    """The figures of a part of the trades in one currency.

    Parts by exchange or connection have the capital of their connections. Nobody can say which capital stood behind a
    symbol or a provider: there `max_drawdown_percent`, `sharpe`, `sortino`, `calmar`, `balance` and `equity` are null.
    """

    key: str = Field(examples=["BTC/USDT"])
    """The symbol, the provider, the exchange, or the connection's id."""
    name: str = Field(examples=["BTC/USDT"])
    """What to show for it: the connection's name, else the key."""


class Breakdown(View):
    """A period, part by part."""

    items: list[Part]
    """By currency, then by key. Counts, profits, losses and fees add up to those of the summary."""
    next_cursor: None = Field(default=None, examples=[None])
    """Always null: the list is whole."""


class ComparedSummary(Summary):
    """The figures of one connection in one currency."""

    connection_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """The connection."""
    name: str = Field(examples=["Main account"])
    """Its name."""
    exchange: str = Field(examples=["binance"])
    """Where it is."""


class ComparedSummaries(View):
    """Connections beside each other."""

    items: list[ComparedSummary]
    """By currency; in each the connections in the order asked for, else oldest first. A connection that had neither
    capital nor a trade by the end of the period has no items."""
    next_cursor: None = Field(default=None, examples=[None])
    """Always null: the list is whole."""


@router.get("/breakdown", responses=raises("not_found"))
async def get_breakdown(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[BreakdownSelection, Query()]
) -> Breakdown:
    """How your trading performed in a period, by symbol, provider, exchange or connection, per currency."""
    asked = await ask(session, caller, desk, selection)
    found = await find(session, asked)
    accounts = await breakdowns.accounts(session, asked.scope)
    return Breakdown(items=await parts(session, found, selection.by, accounts))


async def parts(
    session: AsyncSession, found: Findings, quality: Quality, accounts: Mapping[UUID, Account]
) -> list[Part]:
    """The parts that the trades fall into, by currency, then by key."""
    if quality is Quality.EXCHANGE:
        exchanges = {id_: account.exchange for id_, account in accounts.items()}
        return [_part(each.shown(), each.group) for each in found.performances(exchanges)]
    if quality is Quality.CONNECTION:
        return [
            _part(each.shown(), each.group, accounts[UUID(each.group)].name)
            for each in found.performances({id_: str(id_) for id_ in accounts})
        ]
    asked = found.asked
    labels = await breakdowns.labels(session, asked.scope, quality, asked.first_day, asked.last_day)
    return [
        _part(shown(part.statistics(), each.currency, UNANSWERED, complete=each.complete), label)
        for each in found.performances()
        for label, part in each.period.parts(labels).items()
    ]


def _part(figures: Mapping[str, object], key: str, name: str | None = None) -> Part:
    return Part.model_validate({**figures, "key": key, "name": name or key})


@router.get("/compare", responses=raises("not_found"))
async def compare_connections(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[Comparison, Query()]
) -> ComparedSummaries:
    """How your connections performed in a period, beside each other, per currency."""
    asked = await ask(session, caller, desk, selection)
    accounts = await breakdowns.accounts(session, asked.scope)
    order = {str(id_): place for place, id_ in enumerate(asked.scope.connection_ids or sorted(accounts))}
    found = await find(session, asked)
    compared = found.performances({id_: str(id_) for id_ in accounts})
    return ComparedSummaries(
        items=[
            ComparedSummary.model_validate(
                {
                    **each.shown(),
                    "connection_id": each.group,
                    **accounts[UUID(each.group)]._asdict(),
                }
            )
            for each in sorted(compared, key=lambda each: (each.currency, order[each.group]))
        ]
    )
