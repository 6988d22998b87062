from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from llamagen_async.plans import DAY, Plan, RateLimit, RequestKind
from llamagen_async.sandbox import (
    ALGORITHMS,
    DEMO_KEY,
    PAID_KEY,
    Algorithm,
    SandboxService,
)
from tests.support.sandbox import (
    call,
    check,
    create,
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
