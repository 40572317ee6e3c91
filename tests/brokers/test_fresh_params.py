"""Classes of ccxt write into the parameters they are given: what is left out is a default that all exchanges share."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import ccxt.async_support as library
import pytest

from app.brokers import crypto

MODULES = sorted(Path(crypto.__file__).parent.glob("*.py"))


def _position(name: str) -> int | None:
    """Where a unified method takes its parameters; None for what is none of them."""
    method = getattr(library.Exchange, name, None)
    if not callable(method):
        return None
    names = list(inspect.signature(method).parameters)[1:]
    return names.index("params") if "params" in names else None


def _careless(module: ast.AST) -> Iterator[str]:
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            on = call.func.value
            name = on.attr if isinstance(on, ast.Attribute) else on.id if isinstance(on, ast.Name) else ""
            position = _position(call.func.attr) if name.endswith("exchange") else None
            if position is not None and len(call.args) <= position:
                yield f"{call.func.attr} in line {call.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_call_has_parameters_of_its_own(path: Path) -> None:
    assert list(_careless(ast.parse(path.read_text()))) == []


def test_a_call_without_its_own_is_found() -> None:
    found = list(_careless(ast.parse("self._exchange.fetch_time()\nexchange.fetch_time({})")))
    assert found == ["fetch_time in line 1"]
