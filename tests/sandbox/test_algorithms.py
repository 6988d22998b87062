"""Four ways to count requests, and the meter that puts the windows of a key together."""

from __future__ import annotations

import bisect
import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import DAY, Plan, RateLimit
from llamagen_async.sandbox.algorithms import (
    ALGORITHMS,
    TOLERANCE,
    Algorithm,
    Meter,
    Remaining,
    Window,
    make_window,
)

LIMIT = RateLimit(4, per=60.0)
algorithms = st.sampled_from(ALGORITHMS)
# Hundredths of a second: apart from each other by more than the tolerance, or equal.
gaps = st.lists(st.integers(0, 3000).map(lambda n: n / 100), min_size=1, max_size=80)


def admitted(window: Window | Meter, times: list[float]) -> list[float]:
    return [now for now in times if window.admit(now) is None]


def times_of(gaps: list[float]) -> list[float]:
    return list(itertools.accumulate(gaps))


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    name: Algorithm = request.param
    return name


def test_the_names_are_those_of_the_type() -> None:
    assert get_args(Algorithm) == ALGORITHMS


def test_an_unknown_algorithm_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match=r"algorithm: got 'leaky'.*'sliding'"):
        make_window("leaky", LIMIT)  # type: ignore[arg-type]


# The contract of all four.


def test_the_first_request_is_admitted_at_any_origin(algorithm: Algorithm) -> None:
    for origin in (0.0, -1e6, 1.7e9):
        assert make_window(algorithm, LIMIT).admit(origin) is None


def test_asking_does_not_count(algorithm: Algorithm) -> None:
    window = make_window(algorithm, RateLimit(1, per=60.0))
    assert window.wait(0.0) is None
    assert window.wait(0.0) is None
    assert window.admit(0.0) is None
    assert window.wait(0.0) is not None


@given(algorithm=algorithms, gaps=gaps, limit=st.integers(1, 6))
def test_a_refused_request_passes_after_exactly_the_wait_it_was_told(
    algorithm: Algorithm, gaps: list[float], limit: int
) -> None:
    window = make_window(algorithm, RateLimit(limit, per=60.0))
    now = 0.0
    for gap in gaps:
        now += gap
        wait = window.admit(now)
        if wait is not None:
            assert wait > 0
            assert window.wait(now + wait * 0.9) is not None
            now += wait
            assert window.admit(now) is None


@given(
    algorithm=algorithms,
    start=st.floats(-1e6, 2e9),
    latency=st.floats(0, 10),
    offset=st.floats(0, 100),
    speed=st.floats(0.001, 1e4),
)
def test_whoever_waits_for_one_period_after_the_answer_is_always_admitted(
    algorithm: Algorithm, start: float, latency: float, offset: float, speed: float
) -> None:
    window = make_window(algorithm, RateLimit(1, per=60.0), offset=offset)
    now = start
    for _ in range(20):
        assert window.admit(now) is None
        answered = now + latency
        # As a client does whose own clock runs slower by a factor.
        now = max(answered + 60.0 / speed * speed, answered)


@given(algorithm=algorithms, gaps=gaps, limit=st.integers(1, 6))
def test_what_remains_agrees_with_what_is_admitted(
    algorithm: Algorithm, gaps: list[float], limit: int
) -> None:
    window = make_window(algorithm, RateLimit(limit, per=60.0))
    for now in times_of(gaps):
        left = window.remaining(now)
        assert 0 <= left.free <= limit
        assert (left.free > 0) == (window.wait(now) is None)
        if left.reset > TOLERANCE:
            assert window.remaining(now + left.reset).free > left.free
        window.admit(now)


# What each of them is.


@given(gaps=gaps, limit=st.integers(1, 6))
def test_sliding_never_admits_more_than_the_limit_in_any_half_open_window(
    gaps: list[float], limit: int
) -> None:
    passed = admitted(make_window("sliding", RateLimit(limit, per=60.0)), times_of(gaps))
    for n, start in enumerate(passed):
        assert bisect.bisect_left(passed, start + 60.0 - TOLERANCE) - n <= limit


@given(gaps=gaps, limit=st.integers(1, 6))
def test_sliding_refuses_only_when_the_window_is_full(gaps: list[float], limit: int) -> None:
    window = make_window("sliding", RateLimit(limit, per=60.0))
    passed: list[float] = []
    for now in times_of(gaps):
        counted = sum(time + 60.0 > now + TOLERANCE for time in passed)
        assert (window.admit(now) is None) == (counted < limit)
        if counted < limit:
            passed.append(now)


def test_sliding_frees_a_slot_at_the_very_end_of_its_window() -> None:
    window = make_window("sliding", RateLimit(1, per=60.0))
    assert window.admit(0.1) is None
    assert window.admit(60.0) == pytest.approx(0.1)
    assert window.admit(0.1 + 60.0) is None


@given(gaps=gaps, limit=st.integers(1, 6), offset=st.integers(0, 59))
def test_fixed_never_admits_more_than_the_limit_in_an_aligned_window(
    gaps: list[float], limit: int, offset: int
) -> None:
    window = make_window("fixed", RateLimit(limit, per=60.0), offset=offset)
    passed = admitted(window, times_of(gaps))
    aligned = [int((time - offset) // 60.0) for time in passed]
    assert all(aligned.count(nth) <= limit for nth in aligned)


def test_fixed_admits_twice_the_limit_around_a_boundary() -> None:
    window = make_window("fixed", LIMIT)
    assert admitted(window, [59.0] * 5 + [60.0] * 5) == [59.0] * 4 + [60.0] * 4


def test_fixed_windows_move_with_the_offset() -> None:
    window = make_window("fixed", LIMIT, offset=30.0)
    assert admitted(window, [29.0] * 5 + [30.0] * 5) == [29.0] * 4 + [30.0] * 4
    assert window.admit(31.0) == pytest.approx(59.0)


def test_fixed_counts_a_request_that_comes_a_moment_before_its_window() -> None:
    window = make_window("fixed", RateLimit(1, per=0.1))
    assert window.admit(0.3) is None
    assert window.admit(0.3) is not None


@given(gaps=gaps, limit=st.integers(1, 6))
def test_bucket_never_admits_more_than_capacity_and_refill(gaps: list[float], limit: int) -> None:
    passed = admitted(make_window("bucket", RateLimit(limit, per=60.0)), times_of(gaps))
    for n, start in enumerate(passed):
        for m, end in enumerate(passed[n:], start=1):
            assert m <= limit + (end - start + TOLERANCE) * limit / 60.0


def test_bucket_admits_a_burst_and_then_one_for_each_refilled_token() -> None:
    window = make_window("bucket", LIMIT)
    assert admitted(window, [0.0] * 6) == [0.0] * 4
    assert window.admit(0.0) == pytest.approx(15.0)
    assert admitted(window, [14.9, 15.0, 15.0, 30.0, 30.0]) == [15.0, 30.0]


def test_bucket_that_is_saturated_does_not_drift() -> None:
    window = make_window("bucket", RateLimit(3, per=1.0))
    passed = admitted(window, [n / 100 for n in range(100 * 1000)])
    assert len(passed) == 3 + 3 * 1000 - 1


@given(gaps=gaps, limit=st.integers(1, 6))
def test_spaced_keeps_its_distance(gaps: list[float], limit: int) -> None:
    passed = admitted(make_window("spaced", RateLimit(limit, per=60.0)), times_of(gaps))
    for earlier, later in itertools.pairwise(passed):
        assert later - earlier >= 60.0 / limit - TOLERANCE


def test_spaced_counts_a_day_as_a_sliding_window() -> None:
    window = make_window("spaced", RateLimit(15, per=DAY))
    assert admitted(window, [0.0] * 20) == [0.0] * 15


# All windows of a key.


@given(algorithm=algorithms, gaps=gaps)
def test_a_request_that_one_window_refuses_is_counted_in_no_other(
    algorithm: Algorithm, gaps: list[float]
) -> None:
    limits = (RateLimit(2, per=20.0), RateLimit(4, per=100.0))
    meter = Meter(limits, algorithm=algorithm)
    alone = [make_window(algorithm, limit) for limit in limits]
    for now in times_of(gaps):
        fits = all(window.wait(now) is None for window in alone)
        assert (meter.admit(now) is None) == fits
        if fits:
            for window in alone:
                window.count(now)


@given(algorithm=algorithms, gaps=gaps)
def test_a_meter_tells_how_long_to_wait_for_all_windows(
    algorithm: Algorithm, gaps: list[float]
) -> None:
    meter = Meter(Plan.DEMO.limits, algorithm=algorithm)
    now = 0.0
    for gap in gaps:
        now += gap
        wait = meter.admit(now)
        if wait is not None:
            now += wait
            assert meter.admit(now) is None


def test_the_demo_plan_admits_four_a_minute_and_fifteen_a_day() -> None:
    meter = Meter(Plan.DEMO.limits)
    passed = admitted(meter, [float(second) for second in range(int(DAY))])
    assert passed[:5] == [0.0, 1.0, 2.0, 3.0, 60.0]
    assert len(passed) == 15
    assert meter.admit(DAY) is None


def test_what_remains_of_a_meter_is_the_tightest_window() -> None:
    meter = Meter(Plan.DEMO.limits)
    assert meter.remaining(0.0) == Remaining(Plan.DEMO.limits[0], free=4, reset=0.0)
    for minute in range(3):
        for _ in range(4):
            assert meter.admit(minute * 60.0) is None
    assert meter.remaining(180.0) == Remaining(Plan.DEMO.limits[1], free=3, reset=DAY - 180.0)


@pytest.mark.parametrize("name", ["sliding", "fixed", "spaced", "bucket"])
def test_where_refused_requests_count_only_silence_helps(name: Algorithm) -> None:
    strict = Meter((LIMIT,), algorithm=name, count_refused=True)
    mild = Meter((LIMIT,), algorithm=name)
    hammering = [n * 1.0 for n in range(300)]
    assert len(admitted(strict, hammering)) <= len(admitted(mild, hammering))
    wait = strict.admit(299.5)
    assert wait is not None
    assert strict.admit(299.5 + wait) is None


def test_a_sliding_window_that_counts_refused_requests_never_opens_to_hammering() -> None:
    meter = Meter((LIMIT,), count_refused=True)
    assert len(admitted(meter, [n * 5.0 for n in range(1000)])) == 4


def test_a_refused_request_that_counts_does_so_in_every_window() -> None:
    day = RateLimit(6, per=DAY)
    meter = Meter((LIMIT, day), count_refused=True)
    assert admitted(meter, [0.0] * 6) == [0.0] * 4
    # The two refused ones filled the day's window, though its own limit refused nobody.
    assert meter.admit(60.0) == pytest.approx(DAY - 60.0)
