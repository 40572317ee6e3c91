"""What the simulators' own tests have in common."""

import json
from typing import Any
from uuid import uuid4

import pytest


def new_id() -> str:
    """A client order id that every venue takes."""
    return uuid4().hex


def code_of(error: pytest.ExceptionInfo[Any]) -> int:
    """The venue's own code in what ccxt raised."""
    text = str(error.value)
    said = json.loads(text[text.index("{") :])
    code: int = said["retCode"] if "retCode" in said else said["code"]
    return code
