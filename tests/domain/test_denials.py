"""Denials: the catalogue promises every code that anything in the house may say no with."""

import ast
from collections.abc import Iterator
from pathlib import Path

import ccxt.async_support as library
import pytest

import app
from app.brokers.crypto.exchange import Call
from app.brokers.crypto.outcomes import of_order, of_read
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.ways import Profile
from app.brokers.metatrader.platforms import PLATFORMS
from app.domain.denials import CATALOGUE, Reason, Verdict
from app.domain.errors import Conflict, Denied, EngineError, Forbidden, Invalid, NotFound
from app.domain.market import MarketType

PROMISED = [
    "quantity_below_minimum", "notional_below_minimum", "symbol_unknown", "symbol_ambiguous",
    "market_mismatch", "market_closed", "stop_loss_required", "short_not_supported", "insufficient_balance",
    "max_open_positions", "max_positions_per_symbol", "max_daily_loss", "max_daily_trades",
    "symbol_not_allowed", "signal_expired", "signal_too_old", "price_drift", "spread_too_wide",
    "trading_reducing", "trading_halted", "plan_required", "signal_cancelled", "signal_closed",
    "symbol_in_use", "opposite_position", "foreign_position", "stop_already_passed",
    "target_already_passed", "stop_too_close", "stop_beyond_liquidation", "venue_settings_conflict",
    "conversion_unavailable", "quote_stale",
]  # fmt: skip
"""The codes that section 6 of the contract names."""


NO_REASON = "terms_not_served"
"""Why a connection cannot be opened at all: what its test answers, and nothing an execution ends with."""

SPOKEN_BY = {"Denied": 0, "Ending": 0, "refuse": 2}
"""Which argument of a call is a code."""

VENUE_ERRORS = {"VenueError", "Refused", "Unreachable", "Uncertain"}


def program() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the program but the catalogue itself."""
    for file in sorted(Path(app.__file__).parent.rglob("*.py")):
        if file.name != "denials.py":
            yield file, ast.parse(file.read_text())


def constants() -> dict[str, str]:
    """The texts that have a name of their own, by that name."""
    return {
        target.id: str(node.value.value)
        for _, module in program()
        for node in module.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def code_nodes(module: ast.Module) -> Iterator[ast.expr]:
    """Every expression of a module that says a code."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            if name in SPOKEN_BY and len(node.args) > SPOKEN_BY[name]:
                yield node.args[SPOKEN_BY[name]]
            if name in VENUE_ERRORS:
                yield from (keyword.value for keyword in node.keywords if keyword.arg == "code")
        if isinstance(node, ast.Assign):
            yield from (
                node.value for target in node.targets if ast.unparse(target).endswith((".code", "barred"))
            )


def said_codes() -> Iterator[tuple[str, str]]:
    """Every code that the program says by itself, with its place."""
    named = constants()
    for file, module in program():
        for node in code_nodes(module):
            said = (
                node.value if isinstance(node, ast.Constant) else named.get(ast.unparse(node).split(".")[-1])
            )
            if isinstance(said, str):
                yield said, f"{file.name}:{node.lineno}"
    for exchange in library.exchanges:
        for market_type in MarketType:
            yield from ((code, exchange) for code in profile_of(exchange, market_type).refusals.values())
    for platform in PLATFORMS.values():
        yield from ((code, platform.id) for code in platform.refusals.values())
    for error in ccxt_errors():
        yield of_read(error("text"), Call()).code, error.__name__
        yield of_order(error("text"), Call(), Profile()).code, error.__name__


def ccxt_errors(parent: type[Exception] = library.BaseError) -> Iterator[type[Exception]]:
    """Every error that a class of ccxt may raise."""
    yield parent
    for child in parent.__subclasses__():
        yield from ccxt_errors(child)


@pytest.mark.parametrize("code", PROMISED)
def test_the_catalogue_has_every_code_of_the_contract(code: str) -> None:
    assert CATALOGUE[code].kind is Verdict.DENIED


def test_the_catalogue_has_every_code_that_is_said_and_no_other() -> None:
    said = list(said_codes())
    codes = {code for code, _ in said}
    assert {"price_drift", "never_arrived", "vanished", "banned_by_venue", "signal_cancelled"} <= codes
    assert [(code, place) for code, place in said if code not in CATALOGUE and code != NO_REASON] == []
    assert CATALOGUE.keys() - codes - set(PROMISED) == set(), "listed, and nobody says it"


def test_no_code_is_listed_twice() -> None:
    # A second entry of the same code would silently replace the first.
    source = ast.parse(Path(app.__file__).with_name("domain").joinpath("denials.py").read_text())
    listed = [
        str(entry.elts[0].value)
        for table in ast.walk(source)
        if isinstance(table, ast.AnnAssign) and ast.unparse(table.target) in ("_DENIED", "_REJECTED")
        and isinstance(table.value, ast.Tuple)
        for entry in table.value.elts
        if isinstance(entry, ast.Tuple) and isinstance(entry.elts[0], ast.Constant)
    ]  # fmt: skip
    assert sorted(listed) == sorted(CATALOGUE)


@pytest.mark.parametrize("reason", CATALOGUE.values(), ids=list(CATALOGUE))
def test_every_reason_says_what_it_means_and_what_to_do(reason: Reason) -> None:
    assert CATALOGUE[reason.code] is reason
    assert reason.code.replace("_", "").isalpha()
    assert reason.code.islower()
    for sentence in (reason.title, reason.what_to_do):
        assert len(sentence.split()) > 3
        assert sentence.endswith(".")


def test_what_the_venue_says_no_to_is_not_denied() -> None:
    rejected = {code for code, reason in CATALOGUE.items() if reason.kind is Verdict.REJECTED}
    assert rejected == {
        "rejected_by_venue",
        "never_arrived",
        "credentials_refused",
        "banned_by_venue",
        "vanished",
    }


# The errors that carry them


def test_a_denial_carries_its_code_and_sentence() -> None:
    denial = Denied("price_drift", "The price is 1 % worse.")
    assert (denial.code, denial.message, str(denial)) == (
        "price_drift",
        "The price is 1 % worse.",
        "The price is 1 % worse.",
    )


def test_a_denial_outside_the_catalogue_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError, match="bad_luck is not in the denial catalogue"):
        Denied("bad_luck", "No.")


def test_named_errors() -> None:
    wrong = Invalid("take_profits.0.portion", "A portion is above 0.")
    assert (wrong.code, wrong.path, wrong.message) == (
        "invalid",
        "take_profits.0.portion",
        "A portion is above 0.",
    )
    missing = NotFound("position")
    assert (missing.code, missing.message) == ("not_found", "There is no such position.")
    for error in (Forbidden("scope_required", "May not."), Conflict("not_tested", "Not yet.")):
        assert isinstance(error, EngineError)
        assert not isinstance(error, Denied)
