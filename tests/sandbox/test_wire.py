"""Requests and answers as plain values."""

from __future__ import annotations

import pytest

from llamagen_async.sandbox import (
    PAID_KEY,
    Call,
    Dialect,
)
from tests.support.sandbox import (
    ANIMATIONS,
    GENERATIONS,
    call,
    create,
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


def test_a_header_is_found_whatever_the_case_of_its_name() -> None:
    request = Call("GET", "/", {"retry-AFTER": "3"})
    assert request.header("Retry-After") == "3"
    assert request.header("Date") == ""
