from __future__ import annotations

import json

import pytest

from llamagen_async.plans import Plan
from llamagen_async.sandbox import (
    DEMO_KEY,
    PAID_KEY,
    SANDBOX_KEYS,
    Call,
    Durations,
    SandboxService,
)
from tests.support.sandbox import (
    ANIMATIONS,
    call,
    change,
    check,
    create,
    finished_comic,
    multipart,
    roomy_service,
    upload,
)

# What depends on the seed, and what does not.


def ready_times(service: SandboxService) -> list[float]:
    return [one["ready_at"] - one["accepted_at"] for one in service.stats(0.0)["generations"]]


def test_the_same_seed_gives_the_same_durations_whatever_is_asked_between() -> None:
    quiet = roomy_service(durations=Durations.lognormal(), seed=7)
    busy = roomy_service(durations=Durations.lognormal(), seed=7)
    for n in range(20):
        create(quiet, float(n))
        name = create(busy, n * 3.0).json()["id"]
        call(busy, "POST", ANIMATIONS, {"prompt": "x"})
        create(busy, prompt="")
        check(busy, name, n * 3.0 + 1)
    expected = [quiet.duration_of(n) for n in range(20)]
    assert ready_times(quiet) == pytest.approx(expected)
    assert ready_times(busy)[::2] == pytest.approx(expected)


def test_another_seed_gives_other_durations_and_ids() -> None:
    one, other = (roomy_service(durations=Durations.lognormal(), seed=seed) for seed in (1, 2))
    assert one.duration_of(0) != other.duration_of(0)
    assert create(one).json()["id"] != create(other).json()["id"]


def test_the_same_seed_gives_the_same_replies() -> None:
    first, second = SandboxService(seed=3), SandboxService(seed=3)
    assert create(first, 5.0) == create(second, 5.0)


# Statistics.


def test_the_statistics_tell_what_became_of_everything() -> None:
    service = roomy_service()
    name = create(service, 1.0, prompt="A hat").json()["id"]
    create(service, 2.0, prompt="")
    for now in (30.0, 70.0, 80.0):
        check(service, name, now)
    stats = service.stats(90.0)
    assert (stats["algorithm"], stats["now"]) == ("sliding", 90.0)
    key = stats["keys"][PAID_KEY]
    assert key["plan"] == "roomy"
    assert key["requests"] == {"create": {"200": 1, "400": 1}, "status": {"200": 3}}
    assert (key["total"], key["refused"], key["creates_accepted"]) == (5, 0, 1)
    assert key["windows"] == [{"limit": 10_000, "per": 60.0, "most": 3}]
    assert stats["generations"] == [
        {
            "id": name,
            "key": PAID_KEY,
            "prompt": "A hat",
            "accepted_at": 1.0,
            "ready_at": 61.0,
            "first_seen_ready_at": 70.0,
            "outcome": "succeeded",
        }
    ]


def test_outcomes_are_running_succeeded_or_failed() -> None:
    for failure_rate, outcome in ((0.0, "succeeded"), (1.0, "failed")):
        service = roomy_service(failure_rate=failure_rate)
        create(service)
        outcomes = [service.stats(now)["generations"][0]["outcome"] for now in (59.0, 60.0)]
        assert outcomes == ["running", outcome]


def test_a_change_puts_a_comic_back_to_not_seen() -> None:
    service = roomy_service()
    name = finished_comic(service)
    check(service, name, 60.0)
    change(service, name, 70.0, action="continueWrite", prompt="x")
    assert service.stats(70.0)["generations"][0]["first_seen_ready_at"] is None
    assert service.stats(70.0)["generations"][0]["ready_at"] == 130.0


def test_changes_are_counted_by_kind() -> None:
    service = roomy_service()
    name = finished_comic(service)
    change(service, name, 60.0, action="continueWrite", prompt="x")
    change(service, name, 120.0, action="regeneratePanel", panel=0, prompt="x")
    upload(service, *multipart())
    requests = service.stats(120.0)["keys"][PAID_KEY]["requests"]
    assert requests == {
        "create": {"200": 1},
        "continue": {"200": 1},
        "update": {"200": 1},
        "upload": {"200": 1},
    }


def test_the_most_in_a_window_counts_refused_requests_and_is_half_open() -> None:
    service = SandboxService()
    for now in (0.0, 0.0, 0.0, 59.0, 60.0, 60.0, 60.0, 60.0, 200.0):
        create(service, now, key=DEMO_KEY)
    key = service.stats(200.0)["keys"][DEMO_KEY]
    # At 60 the three of 0 have left the window: 59, 60, 60, 60, 60.
    assert [window["most"] for window in key["windows"]] == [5, 9]
    assert key["refused"] == 1


def test_statistics_are_served_without_a_key_and_without_counting() -> None:
    service = SandboxService()
    reply = call(service, "GET", "/_sandbox/stats", key=None, now=3.0)
    assert reply.json() == json.loads(json.dumps(service.stats(3.0)))
    assert set(reply.json()["keys"]) == set(SANDBOX_KEYS)
    assert call(service, "POST", "/_sandbox/stats", key=None).status == 404


def test_no_secret_key_is_in_the_statistics_or_in_a_repr() -> None:
    service = SandboxService(plans={"a-real-secret": Plan.PAID})
    name = create(service, key="a-real-secret").json()["id"]
    text = json.dumps(service.stats(0.0))
    assert "a-real-secret" not in text
    assert service.stats(0.0)["generations"][0]["key"].startswith("key-")
    assert check(service, name, 0.0, key="a-real-secret").status == 200
    assert "a-real-secret" not in repr(Call("GET", "/", {"Authorization": "Bearer a-real-secret"}))
