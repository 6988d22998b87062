"""Events that come again: replayed by somebody, or sent a second time by the vendor."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from llamagen_async import InvalidRequestError
from llamagen_async.webhooks import ReplayGuard, WebhookEvent, construct_event, sign

SECRET = "whsec_test"


def event(number: int, **headers: str) -> WebhookEvent:
    body = json.dumps({"type": "x", "data": {"number": number}})
    return construct_event(body, {**sign(body, SECRET), **headers}, SECRET)


def test_a_replay_is_not_new() -> None:
    guard = ReplayGuard()
    assert guard.claim(event(1))
    assert not guard.claim(event(1))
    assert guard.claim(event(2))


def test_a_replay_under_another_id_is_not_new() -> None:
    """No signature covers the header with the id, so whoever replays an event may change it."""
    guard = ReplayGuard()
    assert guard.claim(event(1, **{"X-Llama-Webhook-Id": "evt_1"}))
    assert not guard.claim(event(1, **{"X-Llama-Webhook-Id": "evt_2"}))
    assert guard.claim(event(2, **{"X-Llama-Webhook-Id": "evt_2"}))  # it was not taken for seen


def test_a_second_delivery_is_not_new() -> None:
    """The vendor signs anew what it sends again; the id is the same."""
    guard, body = ReplayGuard(), json.dumps({"id": "evt_1", "type": "x"})
    first, second = (
        construct_event(body, sign(body, SECRET, timestamp=at), SECRET, tolerance=1e10)
        for at in (1_700_000_000, 1_700_000_060)
    )
    assert first.fingerprint != second.fingerprint
    assert guard.claim(first)
    assert not guard.claim(second)


def test_an_event_that_could_not_be_handled_is_new_again() -> None:
    """The next delivery is not taken for handled."""
    guard, one = ReplayGuard(), event(1)
    assert guard.claim(one)
    guard.release(one)
    assert guard.claim(one)
    guard.release(event(7))


def test_an_event_without_any_mark_is_always_new() -> None:
    """One that was verified elsewhere and has no id can't be told from another one."""
    guard, one = ReplayGuard(), WebhookEvent.parse({"type": "x"})
    assert guard.claim(one)
    assert guard.claim(one)


def test_the_oldest_are_forgotten() -> None:
    """The memory is that of so many events, whatever their ids look like."""
    guard = ReplayGuard(most=3)
    events = [event(number, **{"X-Llama-Webhook-Id": f"evt_{number}"}) for number in range(4)]
    assert [guard.claim(one) for one in events] == [True] * 4
    assert [guard.claim(one) for one in events[1:]] == [False] * 3
    assert guard.claim(events[0])


def test_a_guard_of_one_event() -> None:
    guard = ReplayGuard(1)
    one, two = (event(number, **{"X-Llama-Webhook-Id": f"evt_{number}"}) for number in (1, 2))
    assert [guard.claim(each) for each in (one, one, two, one)] == [True, False, True, True]


@pytest.mark.parametrize("length", [64, 65, 1_000])
def test_long_ids_are_told_apart(length: int) -> None:
    guard = ReplayGuard()
    one, other = (WebhookEvent.parse({"type": "x", "id": "a" * (length - 1) + end}) for end in "bc")
    assert [guard.claim(event) for event in (one, other, one, other)] == [True, True, False, False]


def test_only_an_event_can_be_claimed() -> None:
    with pytest.raises(InvalidRequestError, match=r"event.+construct_event") as caught:
        ReplayGuard().claim({"id": "evt_1"})  # type: ignore[arg-type]  # what users may pass
    assert caught.value.value == {"id": "evt_1"}


def test_ten_thousand_events_are_remembered() -> None:
    """More than ten minutes bring."""
    guard = ReplayGuard()
    events = [
        WebhookEvent.parse({"id": number + 1}, fingerprint=f"f{number}") for number in range(10_001)
    ]
    assert all(guard.claim(one) for one in events)
    assert not guard.claim(events[1])
    assert guard.claim(events[0])


def test_memory_is_bounded() -> None:
    guard = ReplayGuard(most=1_000)
    tracemalloc.start()
    try:
        for number in range(5_000):
            long = f"{number}" * 1_000
            guard.claim(WebhookEvent.parse({"type": "x"}, id=long, fingerprint=long))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 1_000_000


@pytest.mark.parametrize("most", [0, -1, 1.5, None, True])
def test_a_number_that_is_not_allowed(most: Any) -> None:
    with pytest.raises(InvalidRequestError, match="most"):
        ReplayGuard(most)
