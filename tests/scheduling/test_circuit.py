"""The circuit: when it opens, how rarely it probes, and that any answer closes it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.plans import DAY, HOUR
from llamagen_async.scheduling.circuit import TRIP, Circuit, Outage

AT = datetime(2026, 11, 27, 10, 2, tzinfo=UTC)
MOST = 3


def fail(circuit: Circuit, now: float, **facts: Any) -> None:
    """Have a request fail that was sent just now."""
    usual = {"may_have_arrived": True, "is_lost_create": False, "is_costly": False}
    circuit.record_failure(now, "HTTP 503", at=AT, **{"sent_at": now, **usual, **facts})


def opened(**facts: Any) -> Circuit:
    circuit = Circuit()
    for n in range(TRIP):
        fail(circuit, 100.0 + n, **facts)
    return circuit


def probes(circuit: Circuit, seconds: float, **facts: Any) -> list[float]:
    """Have every probe fail for so long; return when they were sent."""
    times: list[float] = []
    until = circuit.probe_at + seconds
    while circuit.probe_at < until:
        times.append(circuit.probe_at)
        fail(circuit, circuit.probe_at, **facts)
    return times


def test_a_few_failures_in_a_row_open_it_and_an_answer_closes_it() -> None:
    circuit = Circuit()
    for n in range(TRIP - 1):
        fail(circuit, n)
    assert not circuit.is_silent
    circuit.record_answer(2.0, is_create=False)
    for n in range(TRIP):
        assert not circuit.is_silent
        fail(circuit, 3.0 + n)
    assert circuit.is_silent
    assert circuit.outage == Outage(AT, "HTTP 503")
    assert str(circuit.outage) == "the server has not answered since 10:02:00 UTC (HTTP 503)"
    circuit.record_answer(10.0, is_create=False)
    assert not circuit.is_silent
    assert circuit.outage is None


def test_probes_are_further_and_further_apart_up_to_half_a_minute() -> None:
    circuit = opened()
    times = [102.0, *probes(circuit, 300.0)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[:6] == [1, 2, 4, 8, 16, 30]
    assert set(gaps[6:]) == {30}


def test_the_gaps_are_short_again_in_the_next_outage() -> None:
    circuit = opened()
    probes(circuit, HOUR)
    circuit.record_answer(5_000.0, is_create=True)
    for n in range(TRIP):
        fail(circuit, 6_000.0 + n)
    assert circuit.probe_at == 6_000.0 + TRIP - 1 + 1.0


def test_probes_that_take_slots_of_a_day_are_few() -> None:
    """An hour of outage leaves slots of the day; unless the probes do not arrive at all."""
    assert len(probes(opened(), HOUR, is_costly=True)) < 13
    unreached = {"is_costly": True, "may_have_arrived": False}
    assert len(probes(opened(), HOUR, **unreached)) > 100


def test_failures_between_two_probes_do_not_move_them_apart() -> None:
    """Many requests may be on their way when the server goes away."""
    circuit = opened()
    due = circuit.probe_at
    for _ in range(20):
        fail(circuit, due - 0.5)
    assert circuit.probe_at == due


def test_a_failure_of_what_was_sent_before_the_last_answer_is_no_news() -> None:
    """A request that timed out may have been sent when the server was still away."""
    circuit = Circuit()
    circuit.record_answer(50.0, is_create=True)
    for _ in range(TRIP):
        fail(circuit, 60.0, sent_at=40.0, is_lost_create=True)
    assert circuit.outage is None
    assert circuit.may_create(60.0, 0, MOST)


def test_creates_that_may_be_lost_are_no_more_than_open_it() -> None:
    """Unanswered and lost creates count together, so an outage costs that many."""
    circuit = Circuit()
    assert [circuit.may_create(0.0, unanswered, MOST) for unanswered in range(4)] == [
        True,
        True,
        True,
        False,
    ]
    fail(circuit, 1.0, is_lost_create=True)
    assert circuit.may_create(1.0, 1, 300)
    assert not circuit.may_create(1.0, 2, 300)


def test_lost_creates_stop_creates_alone_where_reads_are_answered() -> None:
    circuit = Circuit()
    for n in range(TRIP):
        fail(circuit, float(n), is_lost_create=True)
        circuit.record_answer(n + 0.5, is_create=False)
    assert not circuit.is_silent
    assert circuit.outage is not None
    assert "has not accepted a comic since 10:02:00" in str(circuit.outage)
    tries, now = 0, float(TRIP)
    while (now := max(now, circuit.create_at)) < HOUR:
        assert circuit.may_create(now, 0, MOST)
        assert not circuit.may_create(now, 1, MOST)
        fail(circuit, now, is_lost_create=True)
        circuit.record_answer(now, is_create=False)
        tries += 1
    assert 3 <= tries <= 8
    circuit.record_answer(HOUR, is_create=True)
    assert circuit.outage is None
    assert circuit.may_create(HOUR, MOST - 1, MOST)


def test_after_a_silence_one_create_finds_out_whether_they_are_taken() -> None:
    circuit = opened(is_lost_create=True)
    probes(circuit, HOUR)
    now = circuit.probe_at
    circuit.record_answer(now, is_create=False)
    assert circuit.may_create(now, 0, 300)
    assert not circuit.may_create(now, 1, 300)
    circuit.record_answer(now + 1.0, is_create=True)
    assert circuit.may_create(now + 1.0, 299, 300)


@given(
    steps=st.lists(
        st.tuples(st.floats(0.0, HOUR), st.sampled_from(["answer", "create", "lost", "unsent"])),
        max_size=200,
    ),
    costly=st.booleans(),
)
@pytest.mark.no_cover
def test_whatever_happens_it_opens_and_closes_as_it_should(
    steps: list[tuple[float, str]], *, costly: bool
) -> None:
    """A circuit is silent after `TRIP` failures in a row, and a probe is always due soon."""
    circuit, now, in_a_row = Circuit(), 0.0, 0
    for seconds, what in steps:
        now += seconds + 0.001
        if what in ("answer", "create"):
            circuit.record_answer(now, is_create=what == "create")
            in_a_row = 0
        else:
            is_lost = what == "lost"
            fail(circuit, now, may_have_arrived=is_lost, is_lost_create=is_lost, is_costly=costly)
            in_a_row += 1
        assert circuit.is_silent is (in_a_row >= TRIP)
        assert circuit.failures == in_a_row
        if circuit.is_silent:
            assert circuit.outage is not None
            assert circuit.probe_at - now <= (DAY / 48 if costly else 30.0)
        if circuit.lost_creates < TRIP and not circuit.is_silent:
            assert circuit.outage is None
            assert circuit.may_create(now, 0, MOST)
