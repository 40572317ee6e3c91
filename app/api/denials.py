"""Denial codes: every reason an execution may end with, and what to do about it."""

from fastapi import APIRouter
from pydantic import Field

from app.api.bodies import ExactRoute
from app.api.callers import READERS_ONLY
from app.api.wire import View
from app.domain.denials import CATALOGUE, Verdict

router = APIRouter(
    prefix="/denial-codes", tags=["executions"], route_class=ExactRoute, dependencies=[READERS_ONLY]
)


class DenialCode(View):
    """One reason."""

    code: str = Field(examples=["insufficient_balance"])
    """What stands in an execution's `code`: stable."""
    kind: Verdict = Field(examples=["denied"])
    """Who said no: the engine (`denied`) or the venue (`rejected`)."""
    title: str = Field(examples=["The free balance does not cover the order, its fee and slippage."])
    """What it means."""
    what_to_do: str = Field(examples=["Add funds, or lower the sizing value."])
    """What its owner can do."""


class DenialCodes(View):
    """The whole catalogue."""

    items: list[DenialCode]
    """The reasons, denials first."""


@router.get("")
async def list_denial_codes() -> DenialCodes:
    """Every reason an execution may end with."""
    return DenialCodes(items=[DenialCode.of(reason) for reason in CATALOGUE.values()])
