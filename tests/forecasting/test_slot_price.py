"""The price of a slot, given the slots there will be and what they will be wanted for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.forecasting.poll_plan import PRICES, ProfileForecast
from llamagen_async.forecasting.profiles import Forecasts
from llamagen_async.forecasting.slot_price import (
    FREE_POLLS,
    PollGroup,
    Quote,
    SlotForecast,
    SlotPrice,
    _chance_of_at_least,
    arrival_rate,
    arrival_weight,
)


class Polls:
    """Generations that are waited for, of one profile."""

    def __init__(self, count: int, age: float = 0.0, *, urgent: int | None = None) -> None:
        self.count = count
        self.urgent = count if urgent is None else urgent
        self.asked = 0
        self._group = ProfileForecast(), age, 0.0

    def running(self, now: float, *, urgent: bool = False) -> float:
        del now
        return self.urgent if urgent else self.count

    def groups(self, now: float, *, urgent: bool | None = None) -> list[PollGroup]:
        self.asked += 1
        return [PollGroup(*self._group)] * (self.urgent if urgent else self.count)


def slots(free: int = 10, *returning: float, arrivals: float = 0.0) -> SlotForecast:
    return SlotForecast(free, list(returning), interval=6.0, per=60.0, arrivals=arrivals)


def quote(
    polls: Polls,
    there: SlotForecast,
    *,
    forecasts: Forecasts | None = None,
    batch_waits: bool = False,
    unfinished: int = 0,
) -> Quote:
    return SlotPrice().quote(
        0.0,
        there,
        polls,
        forecasts or Forecasts(),
        batch_waits=batch_waits,
        unfinished=unfinished,
    )


def price(count: int, there: SlotForecast) -> float:
    return quote(Polls(count), there).urgent.price


def experienced() -> Forecasts:
    forecasts = Forecasts()
    for _ in range(10):
        forecasts.observe((), 50.0, 70.0)
    return forecasts


def test_more_generations_for_the_same_slots_are_checked_less_often() -> None:
    """The price rises with demand and falls with supply."""
    alone, many = price(1, slots()), price(9, slots())
    assert alone < many
    assert price(9, slots(100)) <= many
    assert price(0, slots()) > 0


def test_arrivals_make_slots_more_expensive() -> None:
    """Slots that others will want are not there for checks."""
    quiet = price(2, slots(3, 40.0, 45.0))
    busy = price(2, slots(3, 40.0, 45.0, arrivals=0.1))
    assert busy > quiet


def test_the_last_free_slot_costs_what_somebody_will_wait_for_it() -> None:
    """A slot costs much if it is the last one for long, and little if the next one is back soon."""
    soon = [3.0 + 6.0 * number for number in range(9)]
    late = [seconds + 27.0 for seconds in soon]
    last_for_long, last, one_of_four = (
        price(0, SlotForecast(free, back, 6.0, 60.0, arrivals=1 / 15))
        for free, back in ((1, late), (1, soon), (4, late))
    )
    assert last_for_long > last
    assert last_for_long > one_of_four
    # Two come in the half minute until the next slot: half a minute of somebody's time is lost.
    assert 8.0 <= last_for_long <= 64.0


def test_a_slot_that_will_be_cheaper_soon_is_called_elevated() -> None:
    """The caller asks again before slots come back, and need not where the price is the least."""
    late = [30.0 + 6.0 * number for number in range(9)]
    assert quote(Polls(0), SlotForecast(1, late, 6.0, 60.0, arrivals=1 / 15)).is_elevated
    assert not quote(Polls(1), slots()).is_elevated


def test_without_a_free_slot_checks_are_free() -> None:
    """The limiter has to say how long the wait is; then the price is asked for again."""
    there = quote(Polls(9), slots(0, 40.0))
    assert (there.urgent, there.batch, there.is_elevated) == (FREE_POLLS, FREE_POLLS, False)


def test_a_waste_that_delays_more_costs_more() -> None:
    """While a batch's creates wait, the price grows with what is unfinished, and has an end."""
    prices = [
        quote(
            Polls(1, urgent=0), slots(0), forecasts=experienced(), batch_waits=True, unfinished=left
        ).batch.price
        for left in (1, 10, 100, 10**9, 10**10)
    ]
    assert prices == sorted(prices)
    assert prices[1] == 64.0  # 0.7 of 10 comics delayed by 6 s each, rounded up
    assert prices[-1] == prices[-2] == PRICES[-1]


def test_the_first_checks_of_a_batch_cost_a_quarter() -> None:
    """While next to nothing is known they teach how long comics take."""
    known, unknown = (
        quote(
            Polls(1, urgent=0), slots(), forecasts=forecasts, batch_waits=True, unfinished=10
        ).batch.price
        for forecasts in (experienced(), Forecasts())
    )
    assert unknown == known / 4


def test_somebody_who_waits_beside_a_batch_pays_no_more_than_it() -> None:
    """Interactive checks compete with each other alone."""
    both = quote(Polls(20, urgent=1), slots(), batch_waits=True, unfinished=1_000)
    assert both.urgent.price < both.batch.price
    alone = quote(Polls(20, urgent=1), slots())
    assert alone.urgent.price <= alone.batch.price


def test_the_demand_is_worked_out_a_few_times_a_second_at_most() -> None:
    """Changes that come faster wait; without a change it is kept for a quarter of an interval."""
    strategy, polls, forecasts = SlotPrice(), Polls(1), Forecasts()

    def ask(now: float) -> None:
        strategy.quote(now, slots(), polls, forecasts, batch_waits=False, unfinished=0)

    for step in range(100):
        polls.count = polls.urgent = 1 + step % 2
        ask(step / 1_000)
    assert polls.asked == 8
    polls.count = polls.urgent = 3
    ask(1.2)
    assert polls.asked == 9
    ask(2.6)
    assert polls.asked == 9
    ask(2.8)
    assert polls.asked == 10


def test_arrivals_are_counted_and_forgotten() -> None:
    """Four a minute are a rate, many at one moment are one, and an hour later nobody comes."""

    def rate(arrived: list[float], now: float) -> float:
        return arrival_rate(arrival_weight(arrived, now), now - min(arrived, default=now))

    at_once = [0.0, 0.1, 0.2]
    steady = [*at_once, *(number * 15.0 for number in range(1, 30))]
    assert rate([], 0.0) == 0.0
    assert rate(at_once, 1.0) == 0.0
    assert rate(steady, 435.0) == pytest.approx(1 / 15.0, rel=0.2)
    assert rate(steady, 4_000.0) < 1e-4


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
