"""Requests and answers as plain values."""

from __future__ import annotations

import pytest

from llamagen_async.sandbox import (
    PAID_KEY,
    Call,
    Dialect,
)
from tests.support.sandbox import (
    GENERATIONS,
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
