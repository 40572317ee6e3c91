"""Docs: the OpenAPI page, which works without the internet. Its scripts come from an installed package."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final, cast

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

TITLE: Final = "Trading execution engine"

_START: Final = """
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  displayRequestDuration: true,
  filter: true,
  docExpansion: "none",
  validatorUrl: null,
});
"""

# Relative addresses, so that the page also works behind a path prefix.
_PAGE: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>{_START}</script>
</body>
</html>
"""

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"script-src 'self' 'sha256-{base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()}'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


_SCHEMAS: Final = "#/components/schemas/"


def named(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its schemas called by their titles, as a generated client calls its classes.

    Where what is given differs from what is answered, the one is `SizingInput` and the other `Sizing`.
    """
    names = {
        name: schema["title"] + ("Input" if name.endswith("-Input") else "")
        for name, schema in document["components"]["schemas"].items()
    }
    if len(set(names.values())) < len(names):
        raise ValueError("two schemas of the OpenAPI document have one name")
    return cast("dict[str, Any]", _renamed(document, names))


def _renamed(part: Any, names: Mapping[str, str]) -> Any:
    """A part of a document in which schemas are called by their new names."""
    match part:
        case {"$ref": str(target), **others} if target.startswith(_SCHEMAS):
            return {"$ref": _SCHEMAS + names[target.removeprefix(_SCHEMAS)], **others}
        case {"schemas": dict(schemas), **others}:
            renamed = {names.get(name, name): _renamed(schema, names) for name, schema in schemas.items()}
            return {"schemas": renamed, **_renamed(others, names)}
        case dict():
            return {key: _renamed(value, names) for key, value in part.items()}
        case list():
            return [_renamed(value, names) for value in part]
        case _:
            return part


def assets() -> StaticFiles:
    """Swagger UI's files, from the package that carries them."""
    return StaticFiles(packages=[("fastapi_swagger", "resources")])


@router.get("/docs")
async def show_docs() -> Response:
    """The OpenAPI page."""
    return HTMLResponse(
        _PAGE, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    )
