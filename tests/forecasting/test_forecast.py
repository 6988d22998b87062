"""The forecast is a distribution, learns from brackets, and follows a service that changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async.forecasting.forecast import DurationForecast

LONG = 7_200.0
seconds = st.floats(0, 20_000) | st.sampled_from([0.0, 0.5, 1.0, 60.0, LONG, LONG + 1])
chances = st.floats(0, 1)
brackets = st.lists(st.tuples(seconds, seconds), max_size=12)
any_number = seconds | st.floats(allow_nan=False) | st.sampled_from([math.inf, -math.inf, -1.0])


def learned(pairs: list[tuple[float, float]]) -> DurationForecast:
    forecast = DurationForecast()
    for pair in pairs:
        forecast.observe(min(pair), max(pair))
    return forecast


def checked(forecast: DurationForecast, duration: float, every: float) -> None:
    """Tell the forecast what somebody sees who checks every `every` seconds."""
    before = duration // every * every
    forecast.observe(before, before + every)


def test_before_anything_was_seen_it_says_about_a_minute() -> None:
    """The prior's middle is a minute, and most comics take from 20 s to 3 minutes."""
    forecast = DurationForecast()
    assert forecast.age_when(0.5) == pytest.approx(60, rel=0.1)
    assert forecast.chance_done(180) - forecast.chance_done(20) > 0.5
    assert forecast.chance_done(600) < 1


def test_it_learns_from_checks_that_found_nothing() -> None:
    """Several that were not done at two minutes say that the others take longer, too."""
    forecast = DurationForecast()
    before = forecast.age_when(0.5)
    for _ in range(3):
        forecast.not_done(0.0, 60.0)
        forecast.not_done(60.0, 120.0)
    assert forecast.age_when(0.5) > 1.5 * before
    forecast.not_done(120.0, 120.0)
    forecast.not_done(120.0, 90.0)  # an answer that was overtaken is no news


def test_one_comic_tells_the_scale() -> None:
    """A single comic that was seen to end moves the middle most of the way."""
    quick, slow = DurationForecast(), DurationForecast()
    quick.observe(9.0, 11.0)
    slow.observe(380.0, 420.0)
    assert quick.age_when(0.5) < 25
    assert slow.age_when(0.5) > 150


def test_the_mixture_is_believed_as_far_as_it_foretells() -> None:
    """Much where durations are lognormal, next to nothing where they have two sharp peaks."""
    rng = Random(7)

    def believed(draw: Callable[[], float]) -> float:
        forecast = DurationForecast()
        for _ in range(100):
            duration = draw()
            forecast.not_done(0.0, duration // 8.0 * 8.0)
            checked(forecast, duration, every=8.0)
        evidence = forecast.weight_evidence
        return evidence[-1] - evidence[0]

    assert believed(lambda: rng.lognormvariate(math.log(60.0), 0.4)) > 2.0
    assert believed(lambda: rng.choice((30.0, 30.0, 240.0)) * rng.uniform(0.95, 1.05)) < -2.0


@pytest.mark.once
@given(brackets, seconds, seconds)
@settings(max_examples=60, deadline=None)
def test_the_distribution_rises_from_0_to_1(
    pairs: list[tuple[float, float]], one: float, other: float
) -> None:
    """More time never means a smaller chance, whatever was seen before."""
    forecast = learned(pairs)
    low, high = sorted((one, other))
    assert 0 <= forecast.chance_done(low) <= forecast.chance_done(high) <= 1
    assert forecast.chance_done(0) == 0
    assert forecast.chance_done(LONG * 1.05) == 1


@given(brackets, chances)
@settings(max_examples=60, deadline=None)
def test_quantile_and_cdf_undo_each_other(pairs: list[tuple[float, float]], chance: float) -> None:
    """The seconds within which it is done with a chance have that chance."""
    forecast = learned(pairs)
    assert forecast.chance_done(forecast.age_when(chance)) == pytest.approx(chance, abs=1e-9)


@given(brackets, seconds, seconds, chances)
@settings(max_examples=60, deadline=None)
def test_a_chance_is_between_0_and_1_and_reached_when_it_says(
    pairs: list[tuple[float, float]], age: float, last_running_age: float, chance: float
) -> None:
    """`age_when` is the age at which `chance_done` has become the chance that was asked for."""
    forecast = learned(pairs)
    assert 0 <= forecast.chance_done(age, last_running_age=last_running_age) <= 1
    when = forecast.age_when(chance, last_running_age=last_running_age)
    assert when >= last_running_age
    if forecast.chance_done(last_running_age) < 0.999 and when > last_running_age:
        assert forecast.chance_done(when, last_running_age=last_running_age) == pytest.approx(
            chance, abs=1e-6
        )


@pytest.mark.once
@given(st.lists(st.tuples(any_number, any_number), max_size=8), any_number, any_number)
@settings(max_examples=100)
def test_no_bracket_breaks_it(
    pairs: list[tuple[float, float]], age: float, last_running_age: float
) -> None:
    """Empty, reversed, negative and endless brackets leave a distribution behind, never NaN."""
    forecast = DurationForecast()
    for longer_than, at_most in pairs:
        forecast.observe(longer_than, at_most)
    for chance in (0.0, 0.2, 0.5, 0.95, 1.0):
        assert 0 <= forecast.age_when(chance) < math.inf
    assert 0 <= forecast.chance_done(age) <= 1
    assert 0 <= forecast.chance_done(age, last_running_age=last_running_age) <= 1
    assert not math.isnan(forecast.age_when(0.5, last_running_age=last_running_age))


@pytest.mark.parametrize("every", [0.001, 5.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_it_learns_a_lognormal(every: float, seed: int) -> None:
    """After 300 comics its quantiles are near the true ones, however coarse the checks were."""
    rng = Random(seed)
    forecast = DurationForecast()
    for _ in range(300):
        checked(forecast, rng.lognormvariate(math.log(60), 0.4), every)
    for chance, deviation in ((0.1, -1.2816), (0.5, 0.0), (0.9, 1.2816)):
        truth = 60 * math.exp(0.4 * deviation)
        assert forecast.age_when(chance) == pytest.approx(truth, rel=0.25)


def test_it_learns_a_constant() -> None:
    """Where every comic takes a minute, a check after a little more than that is almost certain."""
    forecast = DurationForecast()
    for _ in range(60):
        forecast.observe(58.0, 61.0)
    assert forecast.age_when(0.2) > 55
    assert forecast.age_when(0.9) < 63
    assert forecast.chance_done(63.0, last_running_age=0) > 0.9
    assert forecast.chance_done(50.0, last_running_age=0) < 0.05


def test_it_learns_more_from_a_few_than_the_prior_says() -> None:
    """Ten comics of four minutes outweigh the prior."""
    forecast = DurationForecast()
    for _ in range(10):
        forecast.observe(230.0, 250.0)
    assert forecast.age_when(0.5) > 200


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_it_follows_a_service_that_changes(factor: float) -> None:
    """A service that becomes three times slower or faster is believed after 100 comics."""
    rng = Random(1)
    forecast = DurationForecast()
    for scale, number in ((60.0, 300), (60.0 * factor, 100)):
        for _ in range(number):
            checked(forecast, scale * rng.lognormvariate(0, 0.2), 5.0)
    assert forecast.age_when(0.5) == pytest.approx(60 * factor, rel=0.25)


def test_a_comic_longer_than_all_bins_is_remembered_in_the_last() -> None:
    """A duration beyond the longest bin does not vanish."""
    forecast = DurationForecast()
    for _ in range(20):
        forecast.observe(8_000.0, 9_000.0)
    assert forecast.age_when(0.5) > 5_000


def test_a_comic_older_than_all_bins_takes_ever_longer() -> None:
    """Beyond the longest bin nothing is known but that: checks become rarer with its age."""
    forecast = DurationForecast()
    assert forecast.chance_done(10_000, last_running_age=9_000) == pytest.approx(0.1)
    assert forecast.age_when(0.5, last_running_age=9_000) == 18_000
    assert forecast.chance_done(9_000, last_running_age=9_000) == 0
