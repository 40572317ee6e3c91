"""Denials: the catalogue promises every code that anything in the house may say no with."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from app.domain.denials import CATALOGUE, Reason, Verdict
from app.domain.errors import Conflict, Denied, EngineError, Forbidden, Invalid, NotFound

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


def denied_codes() -> Iterator[tuple[str, str]]:
    """Every code that stands in a `Denied("…")` of the program, with its place."""
    for file in sorted(Path(app.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Denied" and node.args:
                code = node.args[0]
                if isinstance(code, ast.Constant):
                    yield str(code.value), f"{file.name}:{node.lineno}"


@pytest.mark.parametrize("code", PROMISED)
def test_the_catalogue_has_every_code_of_the_contract(code: str) -> None:
    assert CATALOGUE[code].kind is Verdict.DENIED


def test_what_the_program_says_no_with_is_a_denial_of_the_catalogue() -> None:
    said = list(denied_codes())
    assert {"price_drift", "symbol_unknown", "insufficient_balance"} <= {code for code, _ in said}
    denied = {code for code, reason in CATALOGUE.items() if reason.kind is Verdict.DENIED}
    assert [(code, place) for code, place in said if code not in denied] == []


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
    assert rejected == {"rejected_by_venue", "never_arrived", "vanished", "credentials_refused"}


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
