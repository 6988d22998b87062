"""Events: what was signed is read with tolerance, and what is no event is told from one."""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async import InvalidRequestError
from llamagen_async.foreign import LONGEST_TEXT, MOST_DEPTH
from llamagen_async.webhooks import WebhookEvent, announcement_of, construct_event, sign

SECRET = "whsec_test"
UNREADABLE: list[object] = [None, True, "noon", 1e300, -1e300, {}, float("nan"), 10**400]
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def received(body: object, **headers: str) -> WebhookEvent:
    """Return the event of a body that was signed; other values than bytes become JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return construct_event(content, {**sign(content, SECRET), **headers}, SECRET)


def test_an_event_has_the_vendors_fields() -> None:
    body = {
        "id": "evt_1",
        "type": "comic.generation.completed",
        "created": NOON.timestamp(),
        "data": {"id": "cmc_1", "status": "PROCESSED"},
        "livemode": True,
    }
    event = received(body, **{"X-Llama-Webhook-Request-Id": "req_1"})
    assert (event.id, event.type, event.created) == ("evt_1", body["type"], NOON)
    assert event.data == body["data"]
    assert event.raw == body
    assert event.request_id == "req_1"
    assert event.content == json.dumps(body).encode()
    assert "cmc_1" not in repr(event)
    assert len({event, received(body, **{"X-Llama-Webhook-Request-Id": "req_1"})}) <= 2


def test_an_id_that_the_body_lacks_is_the_headers() -> None:
    named = {"X-Llama-Webhook-Id": "evt_header"}
    assert received({"type": "x"}, **named).id == "evt_header"
    assert received({"type": "x", "id": None}, **named).id == "evt_header"
    assert received({"type": "x", "id": "evt_body"}, **named).id == "evt_body"
    assert received({"type": "x"}).id is None


@pytest.mark.parametrize(
    ("created", "read"),
    [
        (NOON.timestamp(), NOON),
        (int(NOON.timestamp()) * 1_000, NOON),
        ("2026-11-27T12:00:00Z", NOON),
        ("2026-11-27T12:00:00", NOON),
        ("2026-11-27T13:00:00+01:00", NOON.astimezone(timezone(timedelta(hours=1)))),
        *((one, None) for one in UNREADABLE),
    ],
)
def test_times_in_all_forms(created: object, read: datetime | None) -> None:
    """The vendor's clients only say that it is a number; a time that can't be read is none."""
    assert received({"created": created}).created == read


def test_a_number_that_may_be_milliseconds() -> None:
    """Up to the year 5138 it is seconds."""
    assert received({"created": 99_999_999_999}).created == datetime(
        5138, 11, 16, 9, 46, 39, 0, UTC
    )
    assert received({"created": 100_000_000_000}).created == datetime(1973, 3, 3, 9, 46, 40, 0, UTC)


@pytest.mark.parametrize(
    ("given", "read"), [("a", "a"), (7, "7"), ("", None), (0, None), (True, None), ([7], None)]
)
def test_names_are_text(given: object, read: str | None) -> None:
    event = received({"id": given, "type": given})
    assert event.id == read
    assert event.type == (read or "")


def test_a_fingerprint_is_a_digest_of_all_that_was_signed() -> None:
    headers = sign("{}", SECRET, timestamp=1_700_000_000)
    event = construct_event("{}", headers, SECRET, tolerance=1e10)
    assert event.fingerprint == hashlib.sha256(b"1700000000.{}").hexdigest()


def test_a_body_in_another_encoding_is_read_and_not_taken_as_it_is() -> None:
    event = received('{"type": "ping"}'.encode("utf-16"))
    assert event.type == "ping"
    assert not event.is_plain
    assert received(b'{"type": "ping"}').is_plain


@pytest.mark.parametrize(
    ("room", "depth", "is_plain"),
    [(0, 0, True), (1, 0, False), (-99, MOST_DEPTH - 1, True), (-99, MOST_DEPTH, False)],
)
def test_the_longest_and_the_deepest_body_that_is_kept_as_it_is(
    room: int, depth: int, *, is_plain: bool
) -> None:
    frame = b'{"a": "%s", "b": %s}'
    deep = b"[" * depth + b"0" + b"]" * depth
    length = LONGEST_TEXT + room - len(frame % (b"", deep))
    assert received(frame % (b"x" * length, deep)).is_plain is is_plain


@pytest.mark.parametrize("data", [None, [], "text", 7])
def test_data_that_is_no_mapping_is_empty(data: object) -> None:
    """A test event of a dashboard may have none; what came stays in `raw`."""
    event = received({"type": "ping", "data": data})
    assert event.data == {}
    assert event.raw["data"] == data


@pytest.mark.parametrize(
    "body", [b"", b"not JSON", b"[]", b"7", b"null", b"\xff\xfe", b"[" * 100_000, b"{}" * 2]
)
def test_a_signed_body_that_is_no_event(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="JSON object") as caught:
        received(body)
    assert caught.value.value == body[:100], "enough to see what came"


def test_an_event_that_another_process_has_verified() -> None:
    """The raw event travels as JSON, and is read again without its signature."""
    event = received({"id": "evt_1", "type": "x", "data": {"id": "cmc_1"}})
    assert WebhookEvent.parse(json.loads(json.dumps(event.raw))).data == event.data
    assert WebhookEvent.parse({"type": "x"}, id="evt_2").id == "evt_2"
    with pytest.raises(InvalidRequestError, match="raw"):
        WebhookEvent.parse("text")  # type: ignore[arg-type]  # what users may pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
fields = ["id", "type", "created", "data", "status", "comics", "panels", "output", "generationId"]
objects = st.dictionaries(st.sampled_from(fields) | st.text(max_size=5), json_values)


@pytest.mark.once
@settings(max_examples=200, deadline=None)
@given(event=objects, data=objects, word=st.sampled_from(["completed", "failed", "updated", "x"]))
def test_whatever_was_signed_is_read_or_refused_by_name(
    event: dict[str, Any], data: dict[str, Any], word: str
) -> None:
    """Nothing but our own error comes out, from the event or from what it says."""
    for body in (event, {**event, "type": f"comic.generation.{word}", "data": data}):
        read = received(body)
        with contextlib.suppress(InvalidRequestError):
            announcement_of(read)
