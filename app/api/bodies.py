"""Bodies: JSON as we accept it. Exact numbers, no key twice, nothing that PostgreSQL could not keep."""

import json
from collections.abc import Callable, Coroutine, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers

from app.api.problems import Malformed, UnsupportedMedia

MAX_SIZE: Final = 64 * 1024
"""Bytes of a body."""
MAX_DEPTH: Final = 20
"""Levels of nesting."""


def parse(body: bytes) -> Any:
    """The value of a JSON body; fractions are Decimals. Raises Malformed."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_distinct,
        )
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    except InvalidOperation:
        raise Malformed("The body holds a number that is out of all range.") from None
    except RecursionError:
        raise Malformed(_TOO_DEEP) from None
    except ValueError:
        # Also an integer of more digits than Python converts.
        raise Malformed("The body is not JSON.") from None
    _check(value, MAX_DEPTH)
    return value


_TOO_DEEP: Final = f"The body is nested deeper than {MAX_DEPTH} levels."


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON.")


def _distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: a signature would cover both readings of a repeated one."""
    keys: dict[str, Any] = {}
    for key, value in pairs:
        if key in keys:
            raise Malformed("The body holds an object with the same key twice.")
        keys[key] = value
    return keys


def _check(value: Any, levels: int) -> None:
    if levels == 0:
        raise Malformed(_TOO_DEEP)
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item, levels - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item, levels - 1)


def _check_text(text: str) -> None:
    """Escapes can smuggle in what UTF-8 and PostgreSQL have no place for."""
    if "\0" in text:
        raise Malformed("The body holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed("The body holds half a surrogate pair.") from None


def require_json(headers: Headers) -> None:
    """Refuse a body that is not declared as JSON. Raises UnsupportedMedia."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMedia


class ExactRequest(Request):
    """A request whose JSON is read by `parse`."""

    async def json(self) -> Any:
        """The body's value, parsed once."""
        if not hasattr(self, "_json"):
            self._json = parse(await self.body())
        return self._json


class ExactRoute(APIRoute):
    """A route that takes its body as declared, strict JSON: the `route_class` of every router."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler behind our reading of the body, so that a bad one is a problem of ours."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            exact = ExactRequest(request.scope, request.receive)
            if self.body_field is not None and await exact.body():
                require_json(exact.headers)
                await exact.json()
            return await handle(exact)

        return read
