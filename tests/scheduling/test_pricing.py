"""What a slot is worth, when a look is due at that price, and how forecasts fall back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async.forecasting.distribution import DurationForecast
from llamagen_async.forecasting.forecasts import ANY, Forecasts, ProfileForecast
from llamagen_async.forecasting.poll_plan import PollPlan
from llamagen_async.forecasting.slot_price import (
    ArrivalRate,
    DemandForecast,
    PollGroup,
    SlotForecast,
    _chance_of_at_least,
    price_of_delay,
)


def forecast_of(*durations: float) -> DurationForecast:
    forecast = DurationForecast()
    for duration in durations * 10:
        forecast.observe(duration - 1.0, duration + 1.0)
    return forecast


def supply(free: int = 10, *returning: float, arrivals: float = 0.0) -> SlotForecast:
    return SlotForecast(free, list(returning), interval=6.0, per=60.0, arrivals=arrivals)


def candidates(count: int, age: float = 0.0) -> list[PollGroup]:
    learned = ProfileForecast()
    return [PollGroup(learned, age, 0.0) for _ in range(count)]


def test_a_constant_is_looked_at_once_when_it_is_done() -> None:
    """Where every comic takes a minute, one look after a minute is the plan."""
    plan = PollPlan(forecast_of(60.0), 16.0)
    assert 58.0 <= plan.next_age(0.0) <= 66.0
    assert plan.looks(0.0) == pytest.approx(1.0, abs=0.2)


def test_two_peaks_are_looked_at_after_each() -> None:
    """Half after 30 s, half after 240 s: a look after the first, the next after the second."""
    plan = PollPlan(forecast_of(30.0, 240.0), 16.0)
    first = plan.next_age(0.0)
    assert 29.0 <= first <= 40.0
    assert 200.0 <= plan.next_age(first) <= 270.0


@given(
    st.lists(st.floats(2.0, 2_000.0), max_size=6),
    st.sampled_from([0.0625, 1.0, 16.0, 512.0]),
    st.floats(0.0, 20_000.0),
)
@settings(max_examples=40, deadline=None)
def test_the_next_look_is_always_later_and_dearer_looks_are_fewer(
    durations: list[float], price: float, age: float
) -> None:
    """No plan looks twice at one age, for ever; and a higher price never buys more looks."""
    forecast = DurationForecast()
    for duration in durations:
        forecast.observe(duration * 0.9, duration)
    plan, dearer = PollPlan(forecast, price), PollPlan(forecast, price * 8)
    assert plan.next_age(age) > age or age == 0.0
    assert plan.next_age(0.0) > 0.0
    assert plan.looks(age) >= 1.0
    assert dearer.looks(0.0) <= plan.looks(0.0) + 0.3
    assert 0.0 <= plan.looks_before(300.0, not_done_at=0.0) <= plan.looks(0.0) + 1e-6


def test_a_waste_that_delays_more_costs_more() -> None:
    """While creates wait, the price grows with what is left, and has an end."""
    prices = [price_of_delay(left, 6.0) for left in (1, 10, 100, 10**9)]
    assert prices == sorted(prices)
    assert price_of_delay(10**9, 6.0) == price_of_delay(10**10, 6.0)


def price(several: list[PollGroup], there: SlotForecast) -> float:
    return DemandForecast(several, there, ProfileForecast()).price(there)


def test_more_comics_for_the_same_slots_are_looked_at_less_often() -> None:
    """The price rises with demand and falls with supply."""
    alone, many = (price(candidates(n), supply()) for n in (1, 9))
    assert alone < many
    assert price(candidates(9), supply(100)) <= many
    assert price([], supply()) > 0


def test_who_keeps_coming_makes_slots_dearer() -> None:
    """Slots that others will want are not there for looks."""
    quiet = price(candidates(2), supply(3, 40.0, 45.0))
    busy = price(candidates(2), supply(3, 40.0, 45.0, arrivals=0.1))
    assert busy > quiet


def test_the_last_free_slot_costs_what_somebody_will_wait_for_it() -> None:
    """A slot is dear if it is the last one for long, and cheap if the next one is back soon."""
    soon = [3.0 + 6.0 * number for number in range(9)]
    late = [seconds + 27.0 for seconds in soon]
    last_for_long, last, one_of_four = (
        price([], SlotForecast(free, back, 6.0, 60.0, arrivals=1 / 15))
        for free, back in ((1, late), (1, soon), (4, late))
    )
    assert last_for_long > last
    assert last_for_long > one_of_four
    # Two come in the half minute until the next slot: half a minute of somebody's time is lost.
    assert 8.0 <= last_for_long <= 64.0


@given(st.integers(0, 90), st.floats(0.0, 90.0))
def test_how_many_come_is_counted_exactly_or_nearly(number: int, mean: float) -> None:
    """The tail of a Poisson distribution, between 0 and 1, falling with the number."""
    chance = _chance_of_at_least(number, mean=mean)
    assert 0.0 <= chance <= 1.0
    assert _chance_of_at_least(number + 1, mean=mean) <= chance + 0.02
    exact = 1.0 - sum(
        math.exp(-mean + count * math.log(mean) - math.lgamma(count + 1)) if mean else count == 0
        for count in range(number)
    )
    assert chance == pytest.approx(exact, abs=0.03)


def test_arrivals_are_counted_and_forgotten() -> None:
    """Five in a minute are a rate, many at one moment are one, and an hour later nobody comes."""
    arrivals = ArrivalRate()
    assert arrivals.rate(0.0) == 0.0
    for at in (0.0, 0.1, 0.2):
        arrivals.note(at)
    assert arrivals.rate(1.0) == 0.0
    for minute in range(1, 30):
        arrivals.note(minute * 15.0)
    assert arrivals.rate(435.0) == pytest.approx(1 / 15.0, rel=0.2)
    assert arrivals.rate(4_000.0) < 1e-4


def test_a_kind_is_believed_once_enough_of_it_was_seen() -> None:
    """Before that the coarser kind answers; what was learned of one does not spoil another."""
    forecasts = Forecasts()
    quick, slow = ("comic", "1"), ("comic", "20")
    for _ in range(4):
        forecasts.observe(slow, 290.0, 310.0)
    assert forecasts.of(slow) is forecasts.overall
    for _ in range(8):
        forecasts.observe(slow, 290.0, 310.0)
        forecasts.observe(quick, 19.0, 21.0)
    assert forecasts.of(slow).forecast.quantile(0.5) > 200
    assert forecasts.of(quick).forecast.quantile(0.5) < 40
    assert forecasts.of(("comic", "7")).forecast is forecasts.of(("comic",)).forecast
    assert forecasts.of(("animation",)) is forecasts.overall


@pytest.mark.once
def test_kinds_take_no_memory_for_ever() -> None:
    """A thousand kinds are not kept, and what they taught all is."""
    forecasts = Forecasts()
    for number in range(1_000):
        forecasts.observe(("comic", str(number)), 59.0, 61.0)
        forecasts.not_done(("comic", str(number)), 0.0, 5.0)
    assert len(forecasts.dump()) <= 129
    assert forecasts.observed == 1_000
    assert forecasts.of(ANY) is forecasts.overall


def test_what_was_learned_goes_on_in_the_next_run() -> None:
    """A new client starts where the last one ended, and never forgets what it has seen itself."""
    forecasts, later = Forecasts(), Forecasts()
    for _ in range(10):
        forecasts.observe(("comic", "4"), 19.0, 21.0)
    later.load(forecasts.dump())
    assert later.of(("comic", "4")).forecast.quantile(0.5) < 40
    busy = Forecasts()
    busy.observe(ANY, 200.0, 220.0)
    busy.load(forecasts.dump())
    assert busy.observed == 1
