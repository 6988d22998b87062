"""When a check is due at a price, and when it goes before everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async.forecasting.forecast import AGES, DurationForecast
from llamagen_async.forecasting.poll_plan import (
    PRICES,
    PollPlan,
    PollThreshold,
    ProfileForecast,
    due_times,
    next_price,
)

FREE = PollThreshold(price=1.0)
NEVER = PollThreshold(price=1e6)


@attrs.define
class Target:
    """A generation that is waited for."""

    accepted_at: float = 0.0
    last_running_age: float = 0.0
    urgent: bool = True
    announced: bool = False
    heard: bool = False
    has_ended: bool = False


def forecast_of(*durations: float) -> DurationForecast:
    forecast = DurationForecast()
    for duration in durations * 10:
        forecast.observe(duration - 1.0, duration + 1.0)
    return forecast


def plan_of(forecast: DurationForecast, price: float) -> PollPlan:
    return PollPlan(AGES, forecast.cumulative, price)


def due(threshold: PollThreshold, forecast: ProfileForecast | None = None, **target: Any) -> float:
    return due_times(Target(**target), forecast or ProfileForecast(), threshold)[0]


def overdue(threshold: PollThreshold, **target: Any) -> float:
    return due_times(Target(**target), ProfileForecast(), threshold)[1]


@pytest.mark.parametrize("threshold", [PollThreshold(chance=0.5), PollThreshold(price=4.0)])
@pytest.mark.parametrize("announced", [False, True])
def test_a_check_may_be_due_before_its_time(threshold: PollThreshold, *, announced: bool) -> None:
    """When a check goes before everything else does not change by that."""
    early = attrs.evolve(threshold, early=3.0)
    assert due(early, announced=announced) == due(threshold, announced=announced) - 3.0
    assert overdue(early, announced=announced) == overdue(threshold, announced=announced)


def test_a_constant_duration_is_checked_once_when_it_is_over() -> None:
    """Where every comic takes a minute, one check after a minute is the plan."""
    plan = plan_of(forecast_of(60.0), 16.0)
    assert 58.0 <= plan.next_age(0.0) <= 66.0
    assert plan.expected_polls(0.0) == pytest.approx(1.0, abs=0.2)


def test_two_peaks_are_checked_after_each() -> None:
    """Half take 30 s, half 240 s: one check after the first peak, the next after the second."""
    plan = plan_of(forecast_of(30.0, 240.0), 16.0)
    first = plan.next_age(0.0)
    assert 29.0 <= first <= 40.0
    assert 200.0 <= plan.next_age(first) <= 270.0


@pytest.mark.parametrize("durations", [(), (60.0,), (20.0, 90.0, 400.0)])
@pytest.mark.parametrize("price", [PRICES[0], 4.0, PRICES[-1]])
def test_the_next_check_is_the_best_of_all(durations: Sequence[float], price: float) -> None:
    """From the end backwards, each later age is tried: none costs less than the planned one."""
    done = forecast_of(*durations).cumulative
    plan = PollPlan(AGES, done, price)
    last, running = plan._last, plan._running
    late = [0.0] * (last + 1)  # mean seconds since the end, at each age, if nobody checks
    for at in range(1, last + 1):
        between = 1.0 - (running[at - 1] + running[at]) / 2
        late[at] = late[at - 1] + between * (AGES[at] - AGES[at - 1])
    costs = [0.0] * last + [running[last] * (2 * price + AGES[last] * 0.2)]
    for start in range(last - 1, -1, -1):
        known = 1.0 - running[start]
        tried = [
            late[end] - late[start] - known * (AGES[end] - AGES[start]) + costs[end]
            for end in range(start + 1, last + 1)
        ]
        assert tried[plan._next[start] - start - 1] == pytest.approx(min(tried), rel=1e-9)
        costs[start] = min(tried) + price * running[start]


def test_what_one_profile_learns_is_no_others() -> None:
    """New profiles share one distribution and one plan; each that learns has its own."""
    new, learning = ProfileForecast(), ProfileForecast()
    before = new.plan(4.0)
    assert learning.plan(4.0) is before
    learning.forecast.observe(299.0, 301.0)
    assert learning.plan(4.0).next_age(0.0) != before.next_age(0.0)
    assert new.plan(4.0) is before
    assert ProfileForecast().plan(4.0) is before
    assert new.forecast.cumulative == DurationForecast().cumulative


@given(
    st.lists(st.floats(2.0, 2_000.0), max_size=6),
    st.sampled_from([0.0625, 1.0, 16.0, 512.0]),
    st.floats(0.0, 20_000.0),
)
@settings(max_examples=40, deadline=None)
def test_the_next_check_is_always_later_and_a_higher_price_means_fewer(
    durations: Sequence[float], price: float, age: float
) -> None:
    """No plan checks twice at one age, for ever; and a higher price never buys more checks."""
    forecast = DurationForecast()
    for duration in durations:
        forecast.observe(duration * 0.9, duration)
    plan, higher = plan_of(forecast, price), plan_of(forecast, price * 8)
    assert plan.next_age(age) > age or age == 0.0
    assert plan.next_age(0.0) > 0.0
    assert plan.expected_polls(age) >= 1.0
    assert higher.expected_polls(0.0) <= plan.expected_polls(0.0) + 0.3
    before = plan.expected_polls_before(300.0, last_running_age=0.0)
    assert 0.0 <= before <= plan.expected_polls(0.0) + 1e-6


def test_prices_are_rounded_up_to_those_that_plans_are_made_for() -> None:
    """Beyond the highest there is none; below the lowest there is the lowest."""
    assert [next_price(price) for price in (0.0, 1.0, 1.1, 1e9)] == [
        PRICES[0],
        1.0,
        2.0,
        PRICES[-1],
    ]


def test_the_highest_price_is_the_last_at_which_a_check_is_due() -> None:
    """At each price up to it a check is due, at each higher one it is not; 0 if it never is."""
    profile = ProfileForecast(forecast_of(60.0, 90.0))
    for age in (30.0, 70.0, 100.0, 1_000.0):
        highest = profile.highest_price(age, 0.0)
        for price in PRICES:
            assert (profile.plan(price).next_age(0.0) <= age) is (price <= highest)
    assert profile.highest_price(0.0, 0.0) == 0.0


def test_a_check_that_costs_more_is_made_later() -> None:
    """The higher the price, the surer the end has to be."""
    assert due(FREE, urgent=False) < due(PollThreshold(price=512.0), urgent=False)


def test_a_chance_is_waited_for() -> None:
    """A threshold with a chance is met when it is reached, and nothing is overdue then."""
    profile = ProfileForecast()
    age = profile.forecast.age_when(0.5, last_running_age=20.0)
    threshold = PollThreshold(chance=0.5)
    target = Target(100.0, last_running_age=20.0)
    assert due_times(target, profile, threshold) == (100.0 + age, math.inf)


@pytest.mark.parametrize(
    ("urgent", "chance", "seconds"), [(True, 0.8, 165.0), (False, 0.02, 600.0)]
)
def test_nobody_starves(urgent: bool, chance: float, seconds: float) -> None:
    """Minutes after it must have been done, or in a batch may have been, it goes before all."""
    late = DurationForecast().age_when(chance) + seconds
    assert overdue(NEVER, urgent=urgent) == pytest.approx(late)
    assert due(NEVER, urgent=urgent) <= late


@pytest.mark.parametrize("seen", [0.0, 100.0, 4_000.0])
def test_somebody_who_waits_interactively_gets_a_check_every_two_minutes(seen: float) -> None:
    """However high the price is, and however unlikely the plan thinks it."""
    early = DurationForecast().age_when(0.005)
    assert due(NEVER, last_running_age=seen) <= max(seen, early) + 120.0
    assert due(NEVER, last_running_age=seen, urgent=False) > max(seen, early) + 300.0


def test_an_announced_end_is_checked_when_the_announcement_is_overdue() -> None:
    """Checks are made at twice the age of polling's, or when the comic must be done."""
    forecast = DurationForecast()
    usual = PollThreshold(price=64.0)
    assert due(usual, announced=True) == 2 * due(usual)
    assert overdue(usual, announced=True) == 2 * overdue(usual)
    assert due(usual, announced=True, last_running_age=50.0) == 100.0
    assert due(NEVER, announced=True, urgent=False) == forecast.age_when(0.99) + 60.0


def test_a_check_is_made_later_where_announcements_come() -> None:
    """Hardly any is made in vain then."""
    forecast = DurationForecast()
    least = PollThreshold(price=PRICES[0])
    assert due(least, announced=True) == 2 * forecast.age_when(0.06)
    assert due(least, announced=True, heard=True) == 2 * forecast.age_when(0.5)


def seen_at(
    duration: float, threshold: PollThreshold, forecast: ProfileForecast, **target: Any
) -> tuple[float, int]:
    """Return the age at which checks see the end of a generation, and how many there were."""
    age, checks = 0.0, 0
    while age < duration:
        age = max(age + 1.0, due(threshold, forecast, last_running_age=age, **target))
        checks += 1
    return age, checks


@pytest.mark.once
@settings(max_examples=150, deadline=None)
@given(
    known=st.lists(st.floats(5.0, 3_000.0), max_size=4),
    duration=st.floats(1.0, 7_200.0),
    threshold=st.sampled_from([FREE, NEVER, PollThreshold(price=64.0), PollThreshold(chance=0.9)]),
    urgent=st.booleans(),
    heard=st.booleans(),
)
def test_an_announcement_that_does_not_come_at_most_doubles_the_wait(
    known: list[float], duration: float, threshold: PollThreshold, urgent: bool, heard: bool
) -> None:
    """Whatever is known of durations; with few checks.

    A comic that is done before nearly all others, or before most where announcements come, counts
    as one that is not.
    """
    forecast = ProfileForecast(forecast_of(*known))
    polled, _ = seen_at(duration, threshold, forecast, urgent=urgent)
    least = forecast.forecast.age_when(0.5 if heard else 0.06)
    late, checks = seen_at(
        duration, threshold, forecast, urgent=urgent, announced=True, heard=heard
    )
    assert late <= 2 * max(polled, least) + 1e-6
    assert checks <= 3 + math.log2(duration)


def test_an_end_that_was_announced_is_collected_at_once() -> None:
    """Only a check tells what the generation came to."""
    assert due(NEVER, has_ended=True) == -math.inf
