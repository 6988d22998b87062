"""The bound on batch times, by hand for small cases and by its properties for others."""

from __future__ import annotations

import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.sandbox import Bound, Schedule, best_possible, known_schedule

PAID = Plan.PAID.limits[0]


def test_nothing_takes_no_time() -> None:
    assert best_possible([], PAID) == Bound(0.0, 0.0)


def test_one_comic_is_collected_when_it_is_ready() -> None:
    assert best_possible([42.0], PAID) == Bound(last=42.0, mean=42.0)


def test_collecting_waits_for_a_free_slot() -> None:
    assert best_possible([5.0], RateLimit(1, per=60.0)) == Bound(last=60.0, mean=60.0)


def test_checking_first_is_better_for_the_mean_and_creating_first_for_the_last() -> None:
    # One slot a minute. Creating first: created 0, 60; collected 120, 180.
    # Checking first: created 0, collected 60; created 120, collected 220 when it is ready.
    bound = best_possible([10.0, 100.0], RateLimit(1, per=60.0))
    assert bound.last == 180.0
    assert bound.mean == pytest.approx((60.0 + 220.0) / 2)


def test_each_schedule_tells_its_waits() -> None:
    # One slot a minute. The second is asked for at 60, when the first is ready since 50.
    creating, checking = (
        known_schedule(
            [50.0, 10.0], RateLimit(1, per=60.0), arrivals=[0.0, 60.0], checks_first=flag
        )
        for flag in (False, True)
    )
    assert creating == Schedule(last=180.0, mean=120.0, create_wait=0.0, latest=110.0)
    assert checking == Schedule(last=180.0, mean=90.0, create_wait=30.0, latest=50.0)


def test_the_bound_agrees_with_the_measured_batch_of_twelve() -> None:
    bounds: list[Bound] = []
    for seed in range(200):
        rng = Random(seed)
        bounds.append(best_possible([rng.lognormvariate(4.094345, 0.4) for _ in range(12)], PAID))
    assert statistics.mean(bound.last for bound in bounds) == pytest.approx(144, abs=8)
    assert statistics.mean(bound.mean for bound in bounds) == pytest.approx(84, abs=4)


@given(
    durations=st.lists(st.floats(0.1, 500.0), min_size=1, max_size=30),
    limit=st.integers(1, 12),
)
def test_no_schedule_beats_the_slowest_comic_or_the_number_of_slots(
    durations: list[float], limit: int
) -> None:
    bound = best_possible(durations, RateLimit(limit, per=60.0))
    slots_before = (2 * len(durations) - 1) // limit * 60.0
    assert bound.last >= max(*durations, slots_before) - 1e-6
    assert bound.last >= bound.mean - 1e-6
