"""Estimates of how long a batch takes."""

from __future__ import annotations

import asyncio

import pytest

from llamagen_async import (
    ClientStats,
    LimitsSnapshot,
    LimitState,
    Plan,
    RateLimit,
    simulation,
)
from llamagen_async.cli.text import format_duration
from llamagen_async.plans import DAY, PlanName
from llamagen_async.sandbox import SandboxService
from llamagen_async.scheduling.outlook import (
    Outlook,
    Pace,
    affordable,
    checks_late,
    requests_each,
    room_again_in,
    time_left,
)
from llamagen_async.simulation import simulated_client


def limits(*windows: tuple[RateLimit, int, float], paused: float = 0.0) -> LimitsSnapshot:
    states = tuple(
        LimitState(limit, limit.limit - free, free, next_free) for limit, free, next_free in windows
    )
    return LimitsSnapshot("a plan", states, paused, burst=10, in_flight=0)


FRESH_PAID = limits((RateLimit(10, 60), 10, 0.0))


def test_38_comics_take_about_nine_minutes() -> None:
    assert format_duration(time_left(Outlook(38), FRESH_PAID)) == "9 min"


def test_few_comics_take_as_long_as_comics_take() -> None:
    assert time_left(Outlook(1), FRESH_PAID) == 60.0
    assert time_left(Outlook(2), FRESH_PAID) == 90.0  # the slower of two
    assert time_left(Outlook(1, ages=(20.0,)), FRESH_PAID) == 90.0
    assert time_left(Outlook(0, ages=(50.0,)), FRESH_PAID) == 10.0
    assert time_left(Outlook(0, ages=(500.0,)), FRESH_PAID) == 5.0


def test_more_comics_never_take_less_time() -> None:
    times = [time_left(Outlook(number), FRESH_PAID) for number in range(100)]
    assert times == sorted(times)


def test_a_day_is_waited_for_only_if_asked() -> None:
    demo = limits((RateLimit(4, 60), 4, 0.0), (RateLimit(15, DAY), 0, 1000.0))
    assert time_left(Outlook(1), demo) == 0.0  # it is not sent
    assert time_left(Outlook(1), demo, quotas=True) > 1000
    assert room_again_in(demo) == 1000
    some = limits((RateLimit(4, 60), 4, 0.0), (RateLimit(15, DAY), 5, 0.0))
    assert time_left(Outlook(9), some) == time_left(Outlook(2), FRESH_PAID) == 90.0


def test_a_days_requests_come_back_together() -> None:
    day = RateLimit(15, DAY)
    fresh = limits((RateLimit(4, 60), 4, 0.0), (day, 15, 0.0))
    assert 2 * DAY <= time_left(Outlook(20, each=2.15), fresh, quotas=True) <= 2 * DAY + 1800
    used_up = limits((RateLimit(4, 60), 4, 0.0), (day, 0, 1000.0))
    assert 1000 + DAY <= time_left(Outlook(13, each=2.15), used_up, quotas=True) <= 3000 + DAY


def test_the_last_day_takes_as_long_as_what_is_left_for_it() -> None:
    """One comic on it is done sooner than several, which wait for each other's slots."""
    used_up = limits((RateLimit(4, 60), 4, 0.0), (RateLimit(15, DAY), 0, 1000.0))
    for number, seconds in ((8, 60.0), (9, 90.0), (11, 120.0)):
        left = time_left(Outlook(number, each=2.15), used_up, quotas=True)
        assert left == 1000 + DAY + seconds
    assert time_left(Outlook(7, each=2.15), used_up, quotas=True) < 1000 + DAY


def test_files_that_are_uploaded_take_requests_and_no_comics() -> None:
    """Each of them takes a slot before the comics; a day has the less room for comics."""
    assert time_left(Outlook(0, uploads=10), FRESH_PAID) == 0.0
    assert time_left(Outlook(0, uploads=11), FRESH_PAID) == 60.0
    assert time_left(Outlook(1, uploads=10), FRESH_PAID) == 120.0
    assert time_left(Outlook(0, ages=(59.0,), uploads=20), FRESH_PAID) == 126.0
    demo = limits((RateLimit(4, 60), 4, 0.0), (RateLimit(15, DAY), 15, 0.0))
    assert affordable(2.15, demo, uploads=3) == 6
    assert time_left(Outlook(7, each=2.15, uploads=3), demo) == time_left(
        Outlook(6, each=2.15, uploads=3), demo
    )


@pytest.mark.parametrize(
    ("free", "next_free", "paused", "queued", "seconds"),
    [
        (10, 0.0, 0.0, 0, 0.0),
        (10, 0.0, 0.0, 3, 0.0),
        (0, 7.0, 0.0, 0, 0.0),
        (0, 7.0, 0.0, 3, 7.0),
        (0, 7.0, 50.0, 3, 50.0),
    ],
)
def test_who_waits_in_line_is_told_when_the_first_has_gone(
    free: int, next_free: float, paused: float, queued: int, seconds: float
) -> None:
    """At once if there is room: however long the comic itself takes then."""
    pace = Pace(limits((RateLimit(10, 60), free, next_free), paused=paused), 60.0, 2.3)
    assert pace.next_turn(queued) == seconds


def test_a_line_waits_for_the_next_day_if_this_one_has_no_room() -> None:
    demo = limits((RateLimit(4, 60), 4, 0.0), (RateLimit(15, DAY), 0, 1000.0))
    pace = Pace(demo, 60.0, 2.15)
    assert pace.next_turn(2) == 1000.0
    assert pace.time_left(1) == 1000.0 + 60.0
    assert Pace(FRESH_PAID, 60.0, 2.3).time_left(0, ages=(20.0,)) == 40.0


def test_a_day_that_has_hardly_more_than_one_check_for_each_takes_its_time() -> None:
    """No check may be wasted, so each waits until the comic is most certainly done."""
    minute, day = (RateLimit(4, 60), 4, 0.0), RateLimit(15, DAY)
    for free, number, late in ((15, 6, False), (15, 7, True), (14, 6, True), (13, 5, False)):
        snapshot = limits(minute, (day, free, 0.0))
        outlook = Outlook(number, each=2.15)
        assert (checks_late(outlook, snapshot) > 600) is late
        assert (time_left(outlook, snapshot) > 600) is late
    running = Outlook(0, ages=(100.0, 200.0), each=2.15)
    assert (
        time_left(running, limits(minute, (day, 2, 0.0)))
        == checks_late(running, limits(minute, (day, 2, 0.0))) - 100
    )
    assert not checks_late(running, limits(minute, (day, 12, 0.0)))
    assert not checks_late(Outlook(15, each=1.0), limits(minute, (day, 15, 0.0)))
    assert not checks_late(running, FRESH_PAID)


async def taken(service: SandboxService, number: int, plan: PlanName, *, quotas: bool) -> float:
    """Return how long a batch takes, as a part of what was said beforehand."""
    async with simulated_client(service, plan=plan, latency=(0.1, 1.0)) as client:
        outlook = Outlook(number, each=requests_each(client.plan))
        said = time_left(outlook, await client.limits(), quotas=quotas)
        stories = [f"story {n}" for n in range(number)]
        async for _ in client.comics.batch(stories, wait_for_quota=quotas):
            pass
        return asyncio.get_running_loop().time() / said


@pytest.mark.no_cover
@pytest.mark.parametrize("left", range(2, 16))
def test_a_days_quota_pays_for_as_many_as_was_said(left: int) -> None:
    """Whatever is left of the day, the number and the time that are said beforehand are right."""

    async def rest_of_the_day() -> None:
        service = SandboxService(seed=1)
        async with simulated_client(service, plan="demo", latency=(0.1, 1.0)) as client:
            for _ in range(15 - left):
                await client.comics.usage()
            await asyncio.sleep(300)
            outlook, now = Outlook(20, each=requests_each(client.plan)), await client.limits()
            said, began = time_left(outlook, now), asyncio.get_running_loop().time()
            ends = [
                asyncio.get_running_loop().time() - began
                async for item in client.comics.batch([f"story {n}" for n in range(20)])
                if item.generation
            ]
        assert len(ends) == affordable(outlook.each, now)
        assert 0.5 <= ends[-1] / said <= 1.5

    simulation.run(rest_of_the_day())


@pytest.mark.once
@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("plan", "number", "least", "most"),
    [
        ("paid", 1, 0.5, 1.4),
        ("paid", 5, 0.7, 1.5),
        ("paid", 12, 0.7, 1.3),
        ("paid", 38, 0.75, 1.1),
        ("paid", 150, 0.8, 1.1),
        ("demo", 5, 0.7, 1.5),
        ("demo", 7, 0.8, 1.2),
        ("demo", 20, 0.95, 1.05),
    ],
)
def test_the_estimate_before_a_batch_is_close_to_its_duration(
    plan: PlanName, number: int, least: float, most: float
) -> None:
    for seed in range(3):
        service = SandboxService(seed=seed)
        part = simulation.run(taken(service, number, plan, quotas=number == 20))
        assert least <= part <= most


def test_a_pause_is_waited_for() -> None:
    assert time_left(Outlook(1), limits((RateLimit(10, 60), 0, 5.0), paused=300.0)) >= 300


@pytest.mark.parametrize(
    ("free", "running", "comics"),
    [(15, 0, 7), (3, 0, 1), (2, 0, 1), (1, 0, 0), (0, 0, 0), (15, 6, 4), (3, 5, 0)],
)
def test_a_days_quota_pays_for_so_many_comics(free: int, running: int, comics: int) -> None:
    snapshot = limits((RateLimit(4, 60), 4, 0.0), (RateLimit(15, DAY), free, 0.0))
    assert affordable(2.15, snapshot, running=running) == comics
    assert affordable(1.0, snapshot, running=running) == free


def test_without_a_daily_quota_any_number_is_affordable() -> None:
    assert affordable(2.3, FRESH_PAID) is None


def test_the_number_of_requests_is_measured_once_comics_have_ended() -> None:
    few = ClientStats({"create": 2, "status": 9}, refused=0, retries=0, finished=2)
    many = ClientStats({"create": 12, "status": 15}, refused=0, retries=0, finished=10)
    assert requests_each(Plan.PAID, few) == requests_each(Plan.PAID) == 2.3
    assert requests_each(Plan.PAID, many, running=2) == 2.5
    assert requests_each(Plan.PAID, many) == 2.7
    assert requests_each(Plan.PAID, ClientStats({"create": 3}, 0, 0, finished=3)) == 2.0
    much = ClientStats({"create": 3, "status": 97}, 0, 0, finished=3)
    assert requests_each(Plan.PAID, much) == requests_each(Plan.DEMO, much) == 4.0
    assert requests_each(Plan.DEMO) == 2.15
    creates_only = Plan("studio", limits=RateLimit(10, 60), metered={"create"})
    assert requests_each(creates_only) == 1.0
