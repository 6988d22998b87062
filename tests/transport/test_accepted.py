"""Signs that a create was accepted, beside an id in the body of its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from llamagen_async.errors import APIError, InvalidResponseError, RateLimitError
from llamagen_async.plans import RequestKind
from llamagen_async.transport import as_uncertain, asked_wait, decode, error_for
from llamagen_async.transport.secret import Secret
from tests.transport.test_decoding import JSON, NOW

ADDRESS = "/v1/comics/generations/c7"
CHANGES = (RequestKind.CONTINUE, RequestKind.UPDATE)
KEY = "sk-test-0123456789"


def decoded(content: bytes, location: str, *, is_billed: bool = True) -> Any:
    headers = {**JSON, "location": location}
    secret = Secret(KEY)
    return decode(202, headers, content, now=NOW, secret=secret, is_billed=is_billed).body


@pytest.mark.parametrize(
    "location",
    [
        ADDRESS,
        f"https://api.example{ADDRESS}/?page=0#top",
        "generations/generations/c7",
        "/v1/artworks/generations/%637",
    ],
)
@pytest.mark.parametrize("content", [b"", b"{}", b"<html>", b'{"status": "PENDING"}', b"[]"])
def test_an_answer_may_only_lead_to_what_it_made(location: str, content: bytes) -> None:
    assert decoded(content, location)["id"] == "c7"


def test_what_the_body_says_counts_more_than_where_it_leads() -> None:
    for body in ({"id": "c1"}, {"data": {"id": "c1"}}, {"status": "PENDING", "id": 1}):
        assert decoded(json.dumps(body).encode(), ADDRESS) == body
    assert decoded(b'{"status": "PENDING"}', ADDRESS) == {"status": "PENDING", "id": "c7"}


@pytest.mark.parametrize(
    "location",
    [
        "/v1/comics/generations/",
        "/v1/comics/generations",
        "/login?next=/v1/comics/generations/c7",
        "/v1/comics/generations/..",
        "/v1/comics/generations/c7/pages",
        "/v1/usage",
    ],
)
def test_other_addresses_name_nothing(location: str) -> None:
    assert decoded(b"{}", location) == {}
    with pytest.raises(InvalidResponseError):
        decoded(b"", location)
    assert as_uncertain(redirect(302, location)) is None


def test_a_read_needs_what_it_asks_for() -> None:
    assert decoded(b"{}", ADDRESS, is_billed=False) == {}


def test_the_key_is_in_no_id() -> None:
    assert decoded(b"", f"/comics/generations/{KEY}") == {"id": "[key]"}


def redirect(status: int, location: str = "", content: bytes = b"") -> APIError:
    return error_for(status, {"Location": location}, content, now=NOW)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_create_that_leads_to_a_comic_may_be_done(status: int) -> None:
    assert as_uncertain(redirect(status, ADDRESS)) is not None
    assert as_uncertain(redirect(status, "/", b'{"id": "c7"}')) is not None
    assert as_uncertain(redirect(status, f"/{'x' * 400}/generations/c7")) is None or status == 303


@pytest.mark.parametrize("kind", [RequestKind.CREATE, *CHANGES])
def test_see_other_says_that_it_is_done(kind: RequestKind) -> None:
    """RFC 9110, 15.4.4: it is the answer to a request, by way of another resource."""
    assert as_uncertain(redirect(303, "https://elsewhere.example/"), kind=kind) is not None


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_that_has_moved_was_not_done(kind: RequestKind) -> None:
    """The address of a change has the id of its comic, wherever it leads."""
    for status in (301, 302, 307, 308):
        assert as_uncertain(redirect(status, f"https://new.example{ADDRESS}"), kind=kind) is None
        assert as_uncertain(redirect(status, ADDRESS, b'{"id": "c7"}'), kind=kind) is not None


def test_the_longest_of_several_waits_is_kept() -> None:
    """A server and the network in front of it may both ask to wait."""
    for values in (("5", "60"), ("60", "5")):
        headers = CIMultiDict([("Retry-After", value) for value in values])
        error = error_for(429, headers, b"", now=NOW)
        assert isinstance(error, RateLimitError)
        assert error.retry_after == 60.0
        assert asked_wait(error_for(503, headers, b"", now=NOW)) == 60.0
