"""Problems: every refusal as RFC 9457 `application/problem+json`; the one table from kind of error to status.

Nothing of the request is ever repeated in an answer: what was sent may hold credentials.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.brokers.port import Refused, VenueError
from app.domain.errors import Conflict, Denied, EngineError, Forbidden, Invalid, NotFound
from app.store.outages import is_clash, is_outage

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 5
_MOST_ERRORS: Final = 100


class Malformed(EngineError):
    """A body that is no JSON we accept, whatever it was meant to say."""

    def __init__(self, message: str) -> None:
        super().__init__("malformed_body", message)


class Unauthenticated(EngineError):
    """Nobody we know; `challenge` says how to prove who one is."""

    def __init__(self, message: str, *, challenge: str = "Bearer") -> None:
        super().__init__("unauthenticated", message)
        self.challenge = challenge


class MethodNotAllowed(EngineError):
    """The resource is there and does not do this."""

    def __init__(self) -> None:
        super().__init__("method_not_allowed", "This method is not allowed here.")


class TooLarge(EngineError):
    """A body above the limit."""

    def __init__(self) -> None:
        super().__init__("body_too_large", "The body is larger than 64 KiB.")


class UnsupportedMedia(EngineError):
    """A body that is not declared as JSON."""

    def __init__(self) -> None:
        super().__init__("unsupported_media_type", "A body is JSON: send Content-Type: application/json.")


class RateLimited(EngineError):
    """Too many requests of one caller; in `seconds` it may go on."""

    def __init__(self, seconds: int) -> None:
        super().__init__("rate_limited", f"Too many requests; go on in {seconds} s.")
        self.seconds = seconds


class Unavailable(EngineError):
    """Something this needs cannot be reached; the same request may succeed later."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


STATUS: Final[Mapping[type[EngineError], int]] = {
    Malformed: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    Conflict: 409,
    Denied: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    Invalid: 422,
    RateLimited: 429,
    Unavailable: 503,
}
"""The status of each kind of error. What is of no kind is a 500 that says nothing."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code stands for, as the OpenAPI page shows it."""

    kind: type[EngineError] | None
    title: str
    example: str

    @property
    def status(self) -> int:
        """The HTTP status it comes with."""
        return 500 if self.kind is None else STATUS[self.kind]


CODES: Final[Mapping[str, Meaning]] = {
    "malformed_body": Meaning(Malformed, "The body cannot be read", "The body is not JSON."),
    "unauthenticated": Meaning(Unauthenticated, "Who is calling is not known", "The token has expired."),
    "scope_required": Meaning(
        Forbidden, "The token does not allow this", "This needs a token with the scope trade."
    ),
    "admin_required": Meaning(Forbidden, "For admins only", "This needs a token with the role admin."),
    "plan_required": Meaning(
        Forbidden, "A current plan is needed", "This needs a current plan, and there is none."
    ),
    "not_found": Meaning(NotFound, "Not found", "There is no such connection."),
    "method_not_allowed": Meaning(MethodNotAllowed, "Method not allowed", "This method is not allowed here."),
    "conflict": Meaning(Conflict, "Not possible at the moment", "The position is already closed."),
    "not_tested": Meaning(
        Conflict,
        "The connection has not passed a test",
        "Test the connection first; as it is now it has passed no test.",
    ),
    "positions_open": Meaning(
        Conflict,
        "Positions are open",
        "The connection cannot be deleted now (open positions: 2).",
    ),
    "account_in_use": Meaning(
        Conflict, "The account is in use", "Another active connection already trades this account."
    ),
    "max_connections": Meaning(Conflict, "No more connections", "Your plan allows 2 connections."),
    "body_too_large": Meaning(TooLarge, "The body is too large", "The body is larger than 64 KiB."),
    "unsupported_media_type": Meaning(
        UnsupportedMedia, "Not JSON", "A body is JSON: send Content-Type: application/json."
    ),
    "invalid": Meaning(Invalid, "The request is not valid", "sizing.value: an amount is above zero"),
    "rate_limited": Meaning(RateLimited, "Too many requests", "Too many requests; go on in 12 s."),
    "unavailable": Meaning(
        Unavailable, "Not available at the moment", "The database cannot be reached at the moment."
    ),
    "internal": Meaning(None, "Something went wrong", "The engine failed; the log knows the request id."),
}
"""Every code a problem may carry."""


class Fault(BaseModel):
    """One value that cannot be accepted."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    path: str = Field(examples=["sizing.value"])
    """Where it is, in dotted form: a field of the body, a query parameter, a header or a part of the path."""
    message: str = Field(examples=["an amount is above zero"])
    """What is wrong with it."""


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str = Field(examples=["urn:problem-type:not_found"])
    """The kind of problem as a URI, one per code."""
    title: str = Field(examples=["Not found"])
    """The kind of problem in words, the same for every occurrence."""
    status: int = Field(examples=[404])
    """The HTTP status."""
    detail: str = Field(examples=["There is no such connection."])
    """What happened this time, in a sentence a person can act on."""
    code: str = Field(examples=["not_found"])
    """The kind of problem for programs: stable."""
    request_id: str = Field(examples=["0f8fad5bd9cb469fa165708677289501"])
    """The id of the request, also in the X-Request-ID header; it finds the request in the log."""
    errors: list[Fault] | None = None
    """With status 422: every value that cannot be accepted."""


def install(app: FastAPI) -> None:
    """Render every exception of the application as a problem."""
    kinds = (
        EngineError,
        HTTPException,
        RequestValidationError,
        VenueError,
        DBAPIError,
        PoolTimeout,
        OSError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        Exception,
    )
    for kind in kinds:
        app.add_exception_handler(kind, answer)


async def answer(request: Request, error: Exception) -> Response:
    """The problem document for an exception."""
    known = kind_of(error)
    if known is None:
        log.error("request_failed", exc_info=error)
        return _render(request, "internal", CODES["internal"].example, 500)
    if isinstance(known, Unavailable):
        shown = error if is_clash(error) else None
        log.warning("unavailable", reason=type(error).__name__, detail=known.message, exc_info=shown)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return _render(
        request, known.code, known.message, _status(known), _faults(error), headers | _headers(known)
    )


def kind_of(error: Exception) -> EngineError | None:
    """The kind that an exception is of, ours or a library's; None for what nobody foresaw."""
    match error:
        case EngineError():
            return error
        case RequestValidationError():
            return Invalid("", "The request is not valid; `errors` says where.")
        case HTTPException():
            return _of_status(error.status_code)
        case Refused():
            return Conflict("conflict", f"The venue refused: {error.message}")
        case VenueError():
            return Unavailable(f"The venue did not answer: {error.message}")
        case _ if is_outage(error):
            return Unavailable("The database cannot be reached at the moment.")
        case _ if is_clash(error):
            return Unavailable("Something else changed the same at this moment; nothing was changed.")
        case _:
            return None


def _of_status(status: int) -> EngineError | None:
    """The kind of what the framework refuses by itself."""
    match status:
        case 400:
            return Malformed("The body cannot be read.")
        case 404:
            return NotFound("resource")
        case 405:
            return MethodNotAllowed()
        case 413:
            return TooLarge()
        case _:
            return None


def _status(error: EngineError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _headers(error: EngineError) -> dict[str, str]:
    match error:
        case Unauthenticated():
            return {"WWW-Authenticate": error.challenge}
        case RateLimited():
            return {"Retry-After": str(error.seconds)}
        case Unavailable():
            return {"Retry-After": str(RETRY_AFTER_SECONDS)}
        case _:
            return {}


def _faults(error: Exception) -> list[Fault] | None:
    match error:
        case Invalid():
            return [Fault(path=error.path, message=error.message)]
        case RequestValidationError():
            return [_fault(each) for each in error.errors()[:_MOST_ERRORS]]
        case _:
            return None


def _fault(error: Mapping[str, Any]) -> Fault:
    """Where and what, without the input and its context, which may hold a secret."""
    source, *inner = error["loc"]
    path = ".".join(str(part) for part in inner) or str(source)
    return Fault(path=path, message=str(error["msg"]).removeprefix("Value error, "))


def _render(
    request: Request,
    code: str,
    detail: str,
    status: int,
    faults: list[Fault] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    meaning = CODES.get(code)
    problem = Problem(
        type=f"urn:problem-type:{code}",
        title=meaning.title if meaning else code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        code=code,
        request_id=getattr(request.state, "request_id", ""),
        errors=faults,
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


def raises(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these codes, besides those that `document` adds."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        _add_example(responses.setdefault(CODES[code].status, {}), code)
    return responses


_FOR_TOKENS: Final = ("unauthenticated", "scope_required", "rate_limited", "unavailable")
_FOR_BODIES: Final = ("malformed_body", "body_too_large", "unsupported_media_type", "invalid")


def document(schema: dict[str, Any]) -> dict[str, Any]:
    """Complete an OpenAPI document: every operation lists every problem it may answer with."""
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            _document(operation, path)
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    definition = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components.update(definition.pop("$defs"))
    components["Problem"] = definition
    return schema


def _document(operation: dict[str, Any], path: str) -> None:
    responses: dict[str, dict[str, Any]] = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for code in _automatic(operation, path):
        _add_example(responses.setdefault(str(CODES[code].status), {}), code)
    operation["responses"] = dict(sorted(responses.items()))


def _automatic(operation: Mapping[str, Any], path: str) -> Iterable[str]:
    """The codes that follow from what an operation takes."""
    yield "internal"
    if operation.get("security"):
        yield from _FOR_TOKENS
    if operation.get("security") and "/admin/" in path:
        yield "admin_required"
    if operation.get("requestBody"):
        yield from _FOR_BODIES
    if operation.get("parameters"):
        yield "invalid"


def _add_example(response: dict[str, Any], code: str) -> None:
    meaning = CODES[code]
    response.setdefault("description", meaning.title)
    content = response.setdefault("content", {}).setdefault(
        MEDIA_TYPE, {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
    )
    content["examples"][code] = {"summary": meaning.title, "value": _example(code, meaning)}
    response["description"] = "; ".join(f"`{each}`" for each in content["examples"])


def _example(code: str, meaning: Meaning) -> dict[str, Any]:
    errors = [Fault(path="sizing.value", message="an amount is above zero")] if code == "invalid" else None
    return Problem(
        type=f"urn:problem-type:{code}",
        title=meaning.title,
        status=meaning.status,
        detail=meaning.example,
        code=code,
        request_id="0f8fad5bd9cb469fa165708677289501",
        errors=errors,
    ).model_dump(exclude_none=True)
