"""One line per event, as JSON or for people, with request or job id; secrets are never printable.

Log with `structlog.get_logger(__name__)`, the event a constant name and all else key and value. Bind ids with
`structlog.contextvars.bound_contextvars(request_id=…)` or `(job_id=…)`: every line inside carries them.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Final, Literal

import structlog
from pydantic import SecretStr
from structlog.types import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"

# These tell of every step and request, some with its address: only their complaints are of interest.
_QUIET_LOGGERS: Final = ("aiohttp", "alembic", "arq", "ccxt", "httpcore", "httpx")
# uvicorn hangs handlers of its own on these; they go through ours instead.
_UVICORN_LOGGERS: Final = ("uvicorn", "uvicorn.access", "uvicorn.error")

_SECRET_KEY: Final = re.compile(
    r"pass(word|wd|phrase)|secret|token|authorization|api_?key|credential|cookie|private_?key|vault_?key",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = re.compile(
    r"(?P<kept>\bBearer\s+|\bwhsec_|\bk1_|(?<=://)[^/\s:@]*:(?=[^\s@]*@))(?P<secret>[^\s@,;'\"]{4,})",
    re.IGNORECASE,
)


def configure_logs(log_format: Literal["json", "console"], log_level: str) -> None:
    """Send structlog and the standard library's logging through one formatter to stderr.

    stdout stays free for what a command prints. `log_level` is a name such as `INFO`. May be called again.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(handlers=[handler], level=log_level, force=True)
    logging.captureWarnings(capture=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _UVICORN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_described(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank what looks secret: by the name of its key at any depth, and by its shape inside texts."""
    return {key: _redacted(key, value) for key, value in event.items()}


def on_one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal would obey, or take for another event: texts of others can end up in any value."""
    return {
        key: _escaped(value, kept="\n" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _escaped(text: str, kept: str) -> str:
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


def _without_second_message(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop what uvicorn adds to its events: the message again, with the colours of a terminal."""
    event.pop("color_message", None)
    return event


def _redacted(key: str, value: object) -> object:
    if _SECRET_KEY.search(key) and value is not None:
        return REDACTED
    if isinstance(value, SecretStr):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_TEXT.sub(rf"\g<kept>{REDACTED}", value)
    if isinstance(value, Mapping):
        return {inner: _redacted(str(inner), content) for inner, content in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", content) for content in value]
    return value


def _described() -> list[Processor]:
    """Answer what is added to every event, ours and the standard library's alike."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        _without_second_message,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]


def _formatter(log_format: Literal["json", "console"]) -> logging.Formatter:
    # The plain traceback, in both: the richer ones print local variables, and those hold credentials.
    rendering: list[Processor] = [structlog.processors.format_exc_info, redact]
    if log_format == "json":
        # In ASCII: there are more ends of lines than JSON escapes, and marks that turn the reading direction.
        rendering.append(structlog.processors.JSONRenderer(default=str, ensure_ascii=True))
    else:
        rendering.append(on_one_line)
        rendering.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time"))
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_described(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
