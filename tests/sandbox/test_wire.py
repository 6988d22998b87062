"""Requests and answers as plain values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async.sandbox import (
    PAID_KEY,
    Call,
    Dialect,
)
from llamagen_async.sandbox.routes import ROUTES
from llamagen_async.sandbox.schemas import ANIMATION, CREATE, REDRAW
from tests.support.sandbox import (
    ANIMATIONS,
    GENERATIONS,
    call,
    create,
    finished_comic,
    multipart,
    roomy_service,
    upload,
)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_a_400(body: bytes) -> None:
    headers = {"Authorization": f"Bearer {PAID_KEY}"}
    reply = roomy_service().handle(Call("POST", GENERATIONS, headers, body=body), 0.0)
    assert reply.status == 400


BAD_JSON = [
    b"[" * 100_000,
    b'{"prompt": "a", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"prompt": "a", "videoOptions": ' + b'{"a":' * 150 + b"1" + b"}" * 150 + b"}",
    b'{"prompt": "a", "x": NaN}',
    b'{"prompt": "a", "x": ' + b"9" * 5000 + b"}",
    b'{"prompt": "caf\xe9"}',
    b"\x00",
    b"\xff\xfe",
    b"null",
]


@pytest.mark.parametrize("path", [GENERATIONS, ANIMATIONS])
@pytest.mark.parametrize("body", BAD_JSON, ids=range(len(BAD_JSON)))
def test_json_that_is_odd_is_a_400_and_costs_nothing(body: bytes, path: str) -> None:
    """Nested too deep, numbers that are none or endless, broken characters."""
    service = roomy_service()
    headers = {"Authorization": f"Bearer {PAID_KEY}"}
    assert service.handle(Call("POST", path, headers, body=body), 0.0).status == 400
    assert service.stats(0.0)["generations"] == []


def test_what_is_no_number_or_character_is_told_as_the_api_would() -> None:
    """An answer is JSON whatever was asked: 1e999 is null in it, half a character another one."""
    service = roomy_service()
    headers = {"Authorization": f"Bearer {PAID_KEY}"}
    body = b'{"prompt": "a\\ud800", "videoOptions": {"x": 1e999}}'
    reply = service.handle(Call("POST", ANIMATIONS, headers, body=body), 0.0)
    assert (reply.status, reply.json()["prompt"]) == (200, "a?")
    assert reply.json()["videoOptions"] == {"x": None}


@pytest.mark.parametrize("number", ["1" * 5000, "-1", "\u0663", "\u00b2", "", "1.0"])
def test_a_page_that_is_no_number_is_a_400(number: str) -> None:
    service = roomy_service()
    name = create(service).json()["id"]
    path = f"{GENERATIONS}/{name}"
    assert call(service, "GET", path, now=90.0, query={"page": number}).status == 400


@pytest.mark.parametrize(
    "disposition",
    [
        "form-data; name=file; filename*=idna''%2B",
        "form-data; name=file; filename*=a%00b''%2B",
        "form-data; name=file; filename*=rot13''%2B",
        "form-data; name*=a%00b''file",
        "form-data; name*=idna''file",
        "form-data; name=file; filename*0*=utf-8''%00; filename*2=x",
        "form-data; name=file; filename=",
        "\xff",
    ],
)
def test_an_odd_file_name_is_no_failure(disposition: str) -> None:
    body = f"--x\r\nContent-Disposition: {disposition}\r\n\r\nabc\r\n--x--".encode()
    for content_type in ("multipart/form-data; boundary=x", "multipart/form-data; boundary*=x''x"):
        assert upload(roomy_service(), content_type, body).status in (200, 400)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"{}"), ("", b""), multipart("picture")],
)
def test_an_upload_needs_the_field_file(content_type: str, body: bytes) -> None:
    assert upload(roomy_service(), content_type, body).status == 400


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("documented", {"error": "unauthorized", "message": "The API key is missing or not valid"}),
        (
            "production",
            {
                "error": {
                    "code": "unauthorized",
                    "message": "The API key is missing or not valid",
                }
            },
        ),
    ],
)
def test_errors_are_flat_as_documented_and_nested_in_production(
    dialect: Dialect, body: object
) -> None:
    assert create(roomy_service(dialect=dialect), key="unknown").json() == body


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
FIELDS = sorted({*CREATE["properties"], *REDRAW["properties"], *ANIMATION["properties"]})
PATHS = [f"{route.method} /v1{route.path}" for route in ROUTES]


@settings(max_examples=50)
@given(
    where=st.sampled_from(PATHS),
    body=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5)
    | st.binary(max_size=30)
    | VALUES,
    action=st.sampled_from(["continueWrite", "regeneratePanel"]) | VALUES,
    query=st.dictionaries(st.sampled_from(["page", "panel", "x"]), st.text(max_size=5)),
    kind=st.sampled_from(["", "application/json"]) | st.text(max_size=30),
)
def test_whatever_is_sent_is_answered_in_json_and_never_with_a_5xx(
    where: str, body: Any, action: Any, query: dict[str, str], kind: str
) -> None:
    """Any body, query and content type; a valid prompt is added, or nothing would be accepted."""
    service = roomy_service()
    id_ = finished_comic(service)
    method, _, path = where.partition(" ")
    if isinstance(body, dict):
        body = {"prompt": "a", "action": action, **body}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")
    headers = {"Authorization": f"Bearer {PAID_KEY}", "Content-Type": kind}
    reply = service.handle(Call(method, path.replace("{id}", id_), headers, query, raw), 60.0)
    assert reply.status in (200, 400, 404)
    assert isinstance(reply.json(), dict)


def test_a_header_is_found_whatever_the_case_of_its_name() -> None:
    request = Call("GET", "/", {"retry-AFTER": "3"})
    assert request.header("Retry-After") == "3"
    assert request.header("Date") == ""
