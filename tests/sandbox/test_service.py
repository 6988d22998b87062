"""The whole service: limits, keys, faults, and everything that depends on the seed."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import DAY, Plan, RateLimit, RequestKind
from llamagen_async.sandbox import (
    ALGORITHMS,
    DEMO_KEY,
    EMPTY_KEY,
    PAID_KEY,
    SANDBOX_KEYS,
    Algorithm,
    Call,
    Durations,
    Fault,
    SandboxService,
)
from tests.support.sandbox import (
    ANIMATIONS,
    call,
    check,
    create,
    roomy_service,
)

# Limits.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_call_counts_and_the_one_too_many_is_refused(algorithm: Algorithm) -> None:
    service = SandboxService(algorithm=algorithm)
    step = 6.0 if algorithm == "spaced" else 0.0
    for n in range(10):
        assert call(service, "GET", "/v1/comics/usage", now=n * step).status == 200
    reply = create(service, 9 * step)
    assert reply.status == 429
    assert reply.json()["error"] == "rate_limit_exceeded"
    assert create(service, 9 * step + float(reply.headers["Retry-After"])).status == 200


def test_the_demo_plan_is_refused_after_fifteen_a_day() -> None:
    service = SandboxService()
    replies = [create(service, n * 15.0, key=DEMO_KEY) for n in range(16)]
    assert [reply.status for reply in replies] == [200] * 15 + [429]
    assert replies[-1].headers["Retry-After"] == str(int(DAY - 15 * 15))


def test_kinds_that_a_plan_does_not_meter_are_never_refused_nor_seen() -> None:
    limits = RateLimit(1, per=60.0)
    plan = Plan("open", limits=(limits,), metered={RequestKind.CREATE})
    service = SandboxService(plans={PAID_KEY: plan}, rate_limit_headers=True)
    name = create(service).json()["id"]
    replies = [check(service, name, 1.0) for _ in range(50)]
    assert {reply.status for reply in replies} == {200}
    assert "RateLimit-Limit" not in replies[0].headers
    assert create(service, 1.0).status == 429
    assert service.stats(1.0)["keys"][PAID_KEY]["windows"][0]["most"] == 2


def test_retry_after_can_be_a_date() -> None:
    service = SandboxService(retry_after="date", epoch=1_700_000_000.0)
    for _ in range(4):
        create(service, 0.5, key=DEMO_KEY)
    date = parsedate_to_datetime(create(service, 1.0, key=DEMO_KEY).headers["Retry-After"])
    # The window ends at 60.5; dates know whole seconds only, and too late is never too early.
    assert date.timestamp() == 1_700_000_061.0


def test_retry_after_can_be_missing() -> None:
    service = SandboxService(retry_after=None)
    replies = [create(service, key=DEMO_KEY) for _ in range(5)]
    assert replies[-1].status == 429
    assert "Retry-After" not in replies[-1].headers


def test_rate_limit_headers_tell_of_the_tightest_window() -> None:
    service = SandboxService(rate_limit_headers=True)

    def headers(now: float) -> tuple[str, str, str]:
        shown = create(service, now, key=DEMO_KEY).headers
        return (
            shown["RateLimit-Limit"],
            shown["RateLimit-Remaining"],
            shown["RateLimit-Reset"],
        )

    assert [headers(0.0) for _ in range(5)] == [
        ("4", "3", "60"),
        ("4", "2", "60"),
        ("4", "1", "60"),
        ("4", "0", "60"),
        ("4", "0", "60"),
    ]


def test_where_refused_requests_count_hammering_never_gets_through() -> None:
    service = SandboxService(count_refused=True)
    assert [create(service, n * 10.0, key=DEMO_KEY).status for n in range(100)] == (
        [200] * 4 + [429] * 96
    )


def test_aligned_windows_can_be_shifted() -> None:
    service = SandboxService(algorithm="fixed", window_offset=30.0)
    statuses = [create(service, now, key=DEMO_KEY).status for now in [29.0] * 5 + [30.0] * 5]
    assert statuses == ([200] * 4 + [429]) * 2


# Keys and options.


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nobody", f"Basic {PAID_KEY}", PAID_KEY])
def test_a_key_that_is_missing_or_unknown_is_a_401_that_nobody_pays_for(header: str) -> None:
    service = SandboxService()
    for _ in range(20):
        reply = service.handle(Call("GET", "/v1/comics/usage", {"Authorization": header}), 0.0)
        assert reply.status == 401
    assert all(key["total"] == 0 for key in service.stats(0.0)["keys"].values())
    assert call(service, "GET", "/v1/comics/usage", key=None).status == 401


def test_the_empty_key_is_there_whatever_the_plans_and_can_be_given_one() -> None:
    assert create(SandboxService(plans={}), key=EMPTY_KEY).status == 402
    assert create(SandboxService(plans={EMPTY_KEY: Plan.DEMO}), key=EMPTY_KEY).status == 200


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "leaky"},
        {"dialect": "french"},
        {"retry_after": "minutes"},
        {"failure_rate": 2.0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        SandboxService(**options)


# Faults.


def creates_accepted(service: SandboxService) -> int:
    return int(service.stats(0.0)["keys"][PAID_KEY]["creates_accepted"])


def test_an_error_before_acceptance_creates_nothing() -> None:
    service = roomy_service(faults=[Fault("error")])
    assert create(service).status == 500
    assert creates_accepted(service) == 0
    assert not service.stats(0.0)["generations"]


def test_an_error_after_acceptance_creates_all_the_same() -> None:
    service = roomy_service(faults=[Fault("error-after")])
    reply = create(service)
    assert reply.status == 500
    assert "id" not in reply.json()
    assert creates_accepted(service) == 1


def test_a_create_can_be_accepted_and_its_answer_dropped() -> None:
    service = roomy_service(faults=[Fault("drop")])
    assert create(service).drop
    assert creates_accepted(service) == 1
    assert service.stats(0.0)["keys"][PAID_KEY]["requests"] == {"create": {"dropped": 1}}


def test_what_was_refused_is_answered_and_not_dropped() -> None:
    service = roomy_service(faults=[Fault("drop")])
    reply = create(service, prompt="")
    assert (reply.status, reply.drop) == (400, False)


def test_an_error_and_a_drop_after_acceptance_is_a_drop() -> None:
    service = roomy_service(faults=[Fault("drop"), Fault("error-after")])
    assert create(service).drop
    assert creates_accepted(service) == 1


def test_a_dropped_check_did_not_show_the_comic() -> None:
    service = roomy_service(faults=[Fault("drop", on="status")])
    name = create(service).json()["id"]
    assert check(service, name, 60.0).drop
    assert service.stats(60.0)["generations"][0]["first_seen_ready_at"] is None


def test_an_answer_can_be_html_though_the_request_happened() -> None:
    service = roomy_service(faults=[Fault("not-json")])
    reply = create(service)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert reply.body.startswith(b"<!doctype html>")
    assert creates_accepted(service) == 1


def test_a_slow_answer_is_the_right_answer() -> None:
    service = roomy_service(faults=[Fault("delay", 7.0)])
    reply = create(service)
    assert (reply.status, reply.delay, reply.drop) == (200, 7.0, False)
    assert reply.json()["status"] == "PENDING"


def test_faults_befall_only_what_the_limit_lets_through() -> None:
    service = SandboxService(faults=[Fault("error")])
    assert [create(service).status for _ in range(12)] == [500] * 10 + [429] * 2


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_faults_do_not_move_the_durations(share: float) -> None:
    faults = [Fault("error-after", rate=share), Fault("delay", rate=share)]
    service = roomy_service(faults=faults, durations=None, seed=5)
    plain = roomy_service(durations=None, seed=5)
    for n in range(30):
        create(service, float(n))
    for n, one in enumerate(service.stats(0.0)["generations"]):
        assert one["ready_at"] - one["accepted_at"] == pytest.approx(plain.duration_of(n))


def test_the_same_seed_gives_the_same_faults() -> None:
    def statuses() -> list[int]:
        faults = [Fault("error", rate=0.2), Fault("error-after", rate=0.2)]
        service = roomy_service(faults=faults, seed=9)
        return [create(service, float(n)).status for n in range(50)]

    assert statuses() == statuses()
    assert 5 < statuses().count(500) < 30


# The seed.


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
            "changes": 0,
            "redrawn": 0,
            "outcome": "succeeded",
        }
    ]


def test_statistics_are_served_without_a_key_and_without_counting() -> None:
    service = SandboxService()
    reply = call(service, "GET", "/_sandbox/stats", key=None, now=3.0)
    assert reply.json() == json.loads(json.dumps(service.stats(3.0)))
    assert set(reply.json()["keys"]) == set(SANDBOX_KEYS)
    assert call(service, "POST", "/_sandbox/stats", key=None).status == 404
