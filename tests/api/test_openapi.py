"""The OpenAPI page: complete, and without the internet."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.api.problems import CODES
from app.main import Service
from tests.api.operations import document as openapi_document


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document, made once and without any server."""
    return openapi_document()


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


def _codes(operation: dict[str, Any]) -> set[str]:
    return {
        code
        for response in operation["responses"].values()
        for code in response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    ids = [operation["operationId"] for _, operation in _operations(document)]
    assert len(ids) == len(set(ids))
    for name, operation in _operations(document):
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        assert set(operation["tags"]) <= tags, name
        assert len(operation["tags"]) == 1, name
    assert all(tag["description"].endswith(".") for tag in document["tags"])


def test_every_operation_lists_its_problems(document: dict[str, Any]) -> None:
    for name, operation in _operations(document):
        codes = _codes(operation)
        assert codes <= set(CODES), name
        assert "internal" in codes, name
        if operation.get("security"):
            assert {"unauthenticated", "scope_required", "rate_limited", "unavailable"} <= codes, name
        if "/admin/" in name:
            assert "admin_required" in codes, name
        if operation.get("requestBody"):
            assert {"malformed_body", "body_too_large", "unsupported_media_type", "invalid"} <= codes, name
        if operation.get("parameters"):
            assert "invalid" in codes, name
        if "{" in name:
            assert "not_found" in codes, name


def test_every_problem_is_documented_with_its_status(document: dict[str, Any]) -> None:
    for name, operation in _operations(document):
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                if not status.startswith("2"):
                    assert media_type == "application/problem+json", name
                    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, name
                for example in content.get("examples", {}).values():
                    if media_type == "application/problem+json":
                        assert str(example["value"]["status"]) == status, name
    assert "HTTPValidationError" not in document["components"]["schemas"]


def _properties(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, schema in document["components"]["schemas"].items():
        for field, definition in schema.get("properties", {}).items():
            yield f"{name}.{field}", definition


def _describes(document: dict[str, Any], definition: dict[str, Any]) -> bool:
    """Whether a field is described, by itself or by the schema it refers to."""
    referred = document["components"]["schemas"].get(definition.get("$ref", "").rpartition("/")[2], {})
    return bool(definition.get("description") or referred.get("description"))


def _is_plain(definition: dict[str, Any]) -> bool:
    """Whether a value needs an example: not one that is made of other described things, or a time."""
    variants = definition.get("anyOf", [definition])
    return not any(
        "$ref" in each or "$ref" in str(each.get("items", "")) or each.get("format") == "date-time"
        for each in variants
    )


def test_every_field_is_described_with_an_example(document: dict[str, Any]) -> None:
    for name, definition in _properties(document):
        assert _describes(document, definition), name
        if _is_plain(definition):
            assert "examples" in definition or "example" in definition, name


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    for name, operation in _operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (name, parameter["name"])


def test_every_schema_that_is_referred_to_is_there(document: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/([\w.-]+)", str(document)))
    assert names <= set(document["components"]["schemas"])


def test_names_are_names_of_classes(document: dict[str, Any]) -> None:
    """A generated client has a class for each, whose name says what it is."""
    names = list(document["components"]["schemas"])
    assert not [name for name in names if not re.fullmatch(r"([A-Z]+[a-z0-9]*)+", name)]
    assert len({name.lower() for name in names}) == len(names)
    assert {"Sizing", "SizingInput", "Limits", "LimitsInput", "Kind", "DiscrepancyKind"} <= set(names)


def test_a_change_says_that_objects_are_replaced_whole(document: dict[str, Any]) -> None:
    change = document["components"]["schemas"]["ConnectionChange"]["properties"]
    objects = ("credentials", "paper", "sizing", "limits", "protection", "symbol_map")
    for name in objects:
        assert "A change replaces" in change[name]["description"], name


def test_lists_have_one_shape(document: dict[str, Any]) -> None:
    """What lists things has `items`, and what can be longer than a page, or could become so, `next_cursor`."""
    for path in ("/exchanges", "/analytics/equity-curve", "/analytics/breakdown", "/analytics/compare"):
        operation = document["paths"][f"/v1{path}"]["get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        [name] = re.findall(r"#/components/schemas/(\w+)$", schema["$ref"])
        assert list(document["components"]["schemas"][name]["properties"]) == ["items", "next_cursor"], path


def test_credentials_are_written_and_never_read(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    holders = {name for name, schema in schemas.items() if "credentials" in schema.get("properties", {})}
    assert holders == {"ConnectionDraft", "ConnectionChange"}
    for name in holders:
        assert schemas[name]["properties"]["credentials"]["writeOnly"] is True


def test_channels_secrets_are_written_and_never_read(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, field in (("WebhookDraft", "secret"), ("DiscordDraft", "url")):
        assert schemas[name]["properties"][field]["anyOf"][0]["writeOnly"] is True


def test_amounts_go_out_as_strings(document: dict[str, Any]) -> None:
    price = document["components"]["schemas"]["Position"]["properties"]["entry_price"]
    assert price["type"] == "string"


def test_the_authorize_button_takes_a_token(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


async def test_the_page_needs_no_other_host(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"(?:https?:)?//[a-z]", page.text, re.IGNORECASE)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "persistAuthorization: true" in page.text
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert (await http.get(f"/{address}")).status_code == 200, address
    assert (await http.get("/openapi.json")).json()["info"]["title"] == "Trading execution engine"


def test_the_document_is_made_once(service: Service) -> None:
    assert service.openapi() is service.openapi()
