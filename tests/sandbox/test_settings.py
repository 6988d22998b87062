"""Distributions of durations, and the draws of faults."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from random import Random

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import RequestKind
from llamagen_async.sandbox import Durations, Faults
from llamagen_async.sandbox.settings import Fault


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
        lambda: Faults(slow=-0.1),
        lambda: Faults(error_before=True),
        lambda: Faults(slow_seconds=0.0),
    ],
)
def test_values_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequestError):
        make()


def test_without_faults_the_stream_does_not_move() -> None:
    rng = Random(3)
    before = rng.getstate()
    assert Faults().draw(RequestKind.CREATE, rng) == Fault()
    assert rng.getstate() == before


def test_a_changed_probability_does_not_reshuffle_the_other_faults() -> None:
    def slow_ones(faults: Faults) -> list[bool]:
        rng = Random(3)
        return [faults.draw(RequestKind.CREATE, rng).slow for _ in range(100)]

    assert slow_ones(Faults(slow=0.3)) == slow_ones(Faults(slow=0.3, error_before=0.5))


def test_only_what_is_accepted_can_fail_after_acceptance() -> None:
    faults = Faults(error_after=1.0, drop_after=1.0)
    assert faults.draw(RequestKind.CREATE, Random(0)) == Fault(error_after=True, drop=True)
    assert faults.draw(RequestKind.UPLOAD, Random(0)) == Fault(error_after=True, drop=True)
    assert faults.draw(RequestKind.STATUS, Random(0)) == Fault()


def test_only_what_reads_can_be_a_dropped_check() -> None:
    faults = Faults(drop_check=1.0)
    assert faults.draw(RequestKind.STATUS, Random(0)).drop
    assert not faults.draw(RequestKind.UPDATE, Random(0)).drop
