"""Distributions of durations."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from random import Random

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.sandbox import Durations


def sample(durations: Durations, count: int = 4000) -> list[float]:
    rng = Random(1)
    return [durations.draw(rng) for _ in range(count)]


def test_lognormal_has_its_median_and_a_long_tail() -> None:
    drawn = sample(Durations.lognormal())
    assert statistics.median(drawn) == pytest.approx(60, rel=0.05)
    assert statistics.quantiles(drawn, n=20)[-1] == pytest.approx(60 * 1.93, rel=0.08)


def test_constant_is_constant() -> None:
    assert set(sample(Durations.constant(30.0))) == {30.0}


def test_uniform_stays_between_its_ends() -> None:
    drawn = sample(Durations.uniform(20.0, 40.0))
    assert 20 <= min(drawn) < 21
    assert 39 < max(drawn) <= 40


def test_a_mixture_has_two_humps() -> None:
    drawn = sample(Durations.mixture())
    short = [seconds for seconds in drawn if seconds < 100]
    assert len(short) / len(drawn) == pytest.approx(0.7, abs=0.03)
    assert statistics.median(short) == pytest.approx(30, rel=0.05)


def test_durations_are_called_by_what_they_are() -> None:
    assert Durations.lognormal().name == "lognormal 60/0.4"
    assert "constant 5" in repr(Durations.constant(5.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Durations.lognormal(median=0.0),
        lambda: Durations.constant(float("inf")),
        lambda: Durations.uniform(-1.0, 2.0),
        lambda: Durations.mixture(share=1.5),
    ],
)
def test_values_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequestError):
        make()
