"""The sandbox's document of itself, compared with what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from llamagen_async.sandbox import EMPTY_KEY, Dialect, Fault, SandboxService
from llamagen_async.sandbox.endpoints import Endpoints
from llamagen_async.sandbox.faults import ERRORS
from llamagen_async.sandbox.openapi import OPENAPI_PATHS, openapi_document
from llamagen_async.sandbox.schemas import SIZES
from tests.support.sandbox import (
    ANIMATIONS,
    GENERATIONS,
    call,
    change,
    check,
    create,
    multipart,
    roomy_service,
    upload,
)

DIALECTS = get_args(Dialect)


def document(dialect: Dialect = "documented") -> dict[str, Any]:
    return openapi_document(dialect, "http://127.0.0.1:9")


def resolved(schema: Any, whole: dict[str, Any]) -> Any:
    """Follow a reference within the document."""
    if "$ref" not in schema:
        return schema
    found: Any = whole
    for name in schema["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def undocumented(value: Any, schema: Any, whole: dict[str, Any], where: str = "") -> Iterator[str]:
    """Yield the fields of an answer that the document does not have, and those that are missing."""
    schema = resolved(schema, whole)
    if isinstance(value, dict) and "properties" in schema:
        yield from (f"-{where}.{name}" for name in schema.get("required", ()) if name not in value)
        for name, inner in value.items():
            if name not in schema["properties"]:
                yield f"+{where}.{name}"
            else:
                yield from undocumented(inner, schema["properties"][name], whole, f"{where}.{name}")
    if isinstance(value, list):
        for item in value:
            yield from undocumented(item, schema["items"], whole, where)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


@pytest.mark.parametrize("path", OPENAPI_PATHS)
def test_the_document_is_served_without_a_key_and_without_counting(path: str) -> None:
    service = SandboxService()
    service.set_origin("http://127.0.0.1:9", epoch=0.0)
    for _ in range(20):
        reply = call(service, "GET", path, key=None)
        assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.json() == document()
    assert all(key["total"] == 0 for key in service.stats(0.0)["keys"].values())
    assert call(service, "POST", path).status == 404


def test_the_document_and_the_routes_agree() -> None:
    """Each operation is there, and no method of its path but those of the document."""
    service = roomy_service()
    documented: dict[str, set[str]] = {}
    for method, path, operation in operations():
        documented.setdefault(path, set()).add(method)
        reply = call(service, method, f"/v1{path.replace('{id}', 'x')}", {})
        assert reply.status != 405, operation["operationId"]
        assert str(reply.status) in operation["responses"]
    for path, methods in documented.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"} - methods:
            reply = call(service, method, f"/v1{path.replace('{id}', 'x')}")
            assert reply.status == 405
            assert set(reply.headers["Allow"].split(", ")) == methods
    routes = vars(service._endpoints)["_routes"]
    assert isinstance(service._endpoints, Endpoints)
    assert sum(map(len, routes.values())) == sum(map(len, documented.values()))


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names) == 7


@pytest.mark.parametrize("dialect", DIALECTS)
def test_all_references_lead_somewhere(dialect: Dialect) -> None:
    whole = document(dialect)
    references = re.findall(r"'\$ref': '([^']+)'", str(whole))
    assert len(set(references)) > 15
    for reference in references:
        assert resolved({"$ref": reference}, whole)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_field_of_every_answer_is_in_the_document(dialect: Dialect) -> None:
    whole = document(dialect)
    service = roomy_service(dialect=dialect, faults=[Fault("error", on="usage", skip=1)])
    failing = roomy_service(dialect=dialect, failure_rate=1.0)
    path = f"{GENERATIONS}/x"
    id_ = create(service).json()["id"]
    other = create(failing).json()["id"]
    options = {"prompt": "a", "videoOptions": {"duration": 5}}
    video = call(service, "POST", ANIMATIONS, options).json()["id"]
    answers = [
        ("Comic", create(service)),
        *(("Comic", check(service, id_, now)) for now in (1.0, 30.0, 60.0)),
        ("Comic", check(failing, other, 60.0)),
        ("Comic", change(service, id_, 60.0, action="continueWrite", prompt="b")),
        ("Comic", check(service, id_, 61.0)),
        ("Animation", call(service, "POST", ANIMATIONS, options)),
        ("Animation", call(service, "GET", f"{ANIMATIONS}/{video}", now=90.0)),
        ("Usage", call(service, "GET", "/v1/comics/usage")),
        ("Upload", upload(service, *multipart())),
        ("Error", call(service, "GET", "/v1/comics/usage")),
        ("Error", call(service, "GET", path)),
        ("Error", call(service, "DELETE", path)),
        ("Error", create(service, key="nobody")),
        ("Error", create(service, key=EMPTY_KEY)),
        ("Error", create(service, prompt="")),
        ("Error", call(service, "POST", GENERATIONS)),
    ]  # fmt: skip
    for name, reply in answers:
        is_error = reply.status != 200
        assert is_error == (name == "Error"), reply
        found = list(undocumented(reply.json(), {"$ref": f"#/components/schemas/{name}"}, whole))
        assert not found, (name, found)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_status_words_are_those_of_the_dialect(dialect: Dialect) -> None:
    said = document(dialect)["components"]["schemas"]["Comic"]["properties"]["status"]["enum"]
    service = roomy_service(dialect=dialect)
    id_ = create(service).json()["id"]
    seen = {check(service, id_, now).json()["status"] for now in (0.0, 30.0, 60.0)}
    assert seen | {"FAILED"} == set(said)


def test_every_error_has_a_description_and_a_place() -> None:
    whole = document()
    assert set(whole["components"]["responses"]) == set(map(str, ERRORS))
    for _, _, operation in operations():
        assert set(operation["responses"]) == {"200", *map(str, ERRORS)} - {"405"}


def test_requests_are_described_by_the_schemas_that_check_them() -> None:
    schemas = document()["components"]["schemas"]
    assert schemas["CreateComic"]["properties"]["size"]["examples"] == sorted(SIZES)
    assert schemas["CreateComic"]["properties"]["fixPanelNum"]["maximum"] == 20
    pattern = re.compile(schemas["CreateComic"]["properties"]["size"]["pattern"])
    sides = {side for side in range(3000) if pattern.search(f"{side}x1024")}
    assert sides == set(range(64, 2049))
