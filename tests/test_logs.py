"""Logs: one JSON object a line, ids bound to it, secrets gone."""

import json
import subprocess
import sys
from typing import Any

import pytest

from app.logs import REDACTED, redact

PROGRAM = """
import logging, structlog
from app.logs import configure_logs
configure_logs("json", "INFO")
log = structlog.get_logger("ours")
with structlog.contextvars.bound_contextvars(request_id="r1"):
    log.info("order_sent", quantity="1.5", credentials={"api_key": "hidden"})
    logging.getLogger("theirs").warning("for %s", "Bearer hidden-token")
logging.getLogger("httpx").info("a request")
log.debug("too quiet")
def fail(password):
    local_secret = password
    raise ValueError("two\\nlines")
try:
    fail("hidden")
except ValueError:
    log.exception("failed")
"""


def test_every_event_is_one_json_line_and_keeps_secrets() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert "hidden" not in ran.stderr.replace('fail(\\"hidden\\")', "")
    ours, theirs, failed = (json.loads(line) for line in ran.stderr.splitlines())
    assert ours["event"] == "order_sent"
    assert ours["request_id"] == theirs["request_id"] == "r1"
    assert ours["level"] == "info"
    assert ours["quantity"] == "1.5"
    assert ours["time"].endswith("Z")
    assert "request_id" not in failed
    assert "ValueError: two\nlines" in failed["exception"]
    assert "local_secret" not in failed["exception"]


FORGER = """
import logging, sys, structlog
from app.logs import configure_logs
configure_logs(sys.argv[1], "INFO")
forged = "x" + "".join(map(chr, [10, 13, 0x1b, 0x85, 0x2028, 0x2029, 0x202e, 0])) + "level=error all is lost"
structlog.get_logger("ours").info("signal_event_accepted", type=forged, data={"note": forged}, list=[forged])
logging.getLogger("theirs").warning("for %s", forged)
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_text_can_forge_a_line_or_command_a_terminal(log_format: str) -> None:
    ran = subprocess.run([sys.executable, "-c", FORGER, log_format], capture_output=True, check=True)
    lines = ran.stderr.decode().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert all("all is lost" in line for line in lines)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("api_secret", "s", REDACTED),
        ("Authorization", "Bearer s", REDACTED),
        ("api_passphrase", "s", REDACTED),
        ("password", None, None),
        ("symbol", "BTC/USDT", "BTC/USDT"),
        ("url", "redis://:hidden@host/0", f"redis://:{REDACTED}@host/0"),
        ("url", "postgresql://user:hidden@host/db", f"postgresql://user:{REDACTED}@host/db"),
        ("error", "bad whsec_aGlkZGVu", f"bad whsec_{REDACTED}"),
        ("rows", [{"token": "s", "id": 1}], [{"token": REDACTED, "id": 1}]),
    ],
)
def test_redaction(key: str, value: Any, expected: Any) -> None:
    assert redact(None, "info", {key: value}) == {key: expected}
