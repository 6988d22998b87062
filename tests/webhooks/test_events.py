"""Events: what was signed is read with tolerance, and what is no event is told from one."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async import InvalidRequestError
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
    with pytest.raises(InvalidRequestError, match="JSON object"):
        received(body)


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
