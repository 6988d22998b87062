"""The circuit: when it opens, how rarely it probes, and that any answer closes it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.plans import DAY, HOUR
from llamagen_async.scheduling.circuit import (
    SERVER,
    TRIP,
    Circuit,
    CircuitState,
    Failure,
    Outage,
)

AT = datetime(2026, 11, 27, 10, 2, tzinfo=UTC)
MOST = 3
LOST = {"is_create": True, "is_lost": True}


def fail(circuit: Circuit, now: float, **facts: Any) -> None:
    """Have a request fail that was sent just now."""
    circuit.record_failure(now, Failure("HTTP 503", **{"sent_at": now, "at": AT, **facts}))


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


class Listener:
    """A client that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_outage(self, outage: Outage) -> None:
        self.told.append(f"outage: {outage.reason}")

    def wake(self) -> None:
        self.told.append("wake")

    def on_recovery(self) -> None:
        self.told.append("recovery")

    def heard(self) -> list[str]:
        told, self.told = self.told, []
        return told


def test_clients_are_told_once_of_an_outage_and_of_its_end() -> None:
    """In between each failure is a reason to decide again; other answers say nothing new."""
    circuit, one = Circuit(), Listener()
    circuit.listeners[one] = None
    circuit.record_answer(0.0, is_create=True)
    for n in range(TRIP - 1):
        fail(circuit, 1.0 + n)
    assert not one.heard()
    fail(circuit, 3.0)
    assert one.heard() == ["outage: HTTP 503", "wake"]
    fail(circuit, 5.0)
    assert one.heard() == ["wake"]
    circuit.record_answer(10.0, is_create=False)
    assert one.heard() == ["recovery"]
    circuit.record_answer(11.0, is_create=False)
    circuit.record_answer(12.0, is_create=True)
    assert not one.heard()


def test_clients_are_told_when_reads_are_answered_again_and_then_creates() -> None:
    """Lost creates go on to be an outage of creates: reads that are answered meanwhile are none."""
    circuit, one = Circuit(), Listener()
    circuit.listeners[one] = None
    lost = {**LOST, "is_told": True}
    fail(circuit, 0.0, **lost)
    assert not one.heard()
    circuit.record_answer(1.0, is_create=False)
    assert one.heard() == ["wake"], "it was a doubt, and the read has ended it"
    for n in range(2, TRIP + 1):
        fail(circuit, 100.0 * n, **lost)
        circuit.record_answer(100.0 * n + 1.0, is_create=False)
    assert one.heard()[-3:] == ["outage: HTTP 503", "wake", "wake"]
    assert circuit.outage is not None
    assert circuit.outage.answers_reads
    circuit.record_answer(500.0, is_create=False)
    assert not one.heard()
    circuit.record_answer(600.0, is_create=True)
    assert one.heard() == ["recovery"]


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
        fail(circuit, 60.0, sent_at=40.0, **LOST)
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
    fail(circuit, 1.0, **LOST)
    assert circuit.may_create(1.0, 1, 300)
    assert not circuit.may_create(1.0, 2, 300)


def test_a_lost_create_is_followed_by_a_read_at_once() -> None:
    circuit = Circuit()
    fail(circuit, 1.0, **LOST)
    assert circuit.is_silent
    assert circuit.probe_at == 1.0
    assert circuit.outage is None, "nobody is told of one failure"
    circuit.record_answer(1.5, is_create=False)
    assert not circuit.is_silent
    fail(circuit, 2.0, **LOST)
    fail(circuit, 2.0)
    assert circuit.outage is None
    assert circuit.probe_at == 3.0
    fail(circuit, circuit.probe_at)
    assert circuit.outage is not None
    assert circuit.failed_creates < TRIP


def test_no_slot_of_a_day_is_spent_on_one_lost_create() -> None:
    circuit = Circuit()
    fail(circuit, 1.0, **LOST, is_costly=True)
    assert not circuit.is_silent


def test_failed_creates_stop_creates_alone_where_reads_are_answered() -> None:
    circuit = Circuit()
    for n in range(TRIP):
        fail(circuit, float(n), **LOST)
        circuit.record_answer(n + 0.5, is_create=False)
    assert not circuit.is_silent
    assert circuit.outage is not None
    assert "has not accepted a comic since 10:02:00" in str(circuit.outage)
    now = circuit.create_at
    assert not circuit.may_create(now - 1.0, 0, MOST)
    assert circuit.may_create(now, 0, MOST)
    assert not circuit.may_create(now, 1, MOST)
    circuit.record_answer(now, is_create=True)
    assert circuit.outage is None
    assert circuit.may_create(now, MOST - 1, MOST)


def tries(seconds: float, **facts: Any) -> list[float]:
    """Have a server fail of all creates for so long; return when they were sent."""
    circuit, now, times = Circuit(), 0.0, list[float]()
    while (now := max(now, circuit.create_at)) < seconds:
        times.append(now)
        fail(circuit, now, **{**LOST, **facts})
        circuit.record_answer(now, is_create=False)
    return [*times, now]


def lateness(times: list[float], since: float) -> float:
    return max(later - earlier for earlier, later in pairwise(times) if later >= since)


def test_creates_of_which_the_server_says_that_it_failed_notice_its_end_soon() -> None:
    """In a quarter of an hour 11 creates, and in an hour 26, are the price of that."""
    quarter, hour = tries(900.0, is_told=True), tries(HOUR, is_told=True)
    assert len(quarter) - 1 <= 11
    assert lateness(quarter, 0.0) <= 120.0
    assert len(hour) - 1 <= 26
    assert lateness(hour, 0.0) <= HOUR / 10
    assert len(tries(DAY, is_told=True)) - 1 <= 90


def test_creates_that_were_most_probably_charged_are_few() -> None:
    assert len(tries(HOUR)) - 1 <= 11
    assert lateness(tries(DAY), 0.0) <= HOUR / 2


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("is_lost", [False, True])
def test_creates_that_take_slots_of_a_day_are_few(*, is_told: bool, is_lost: bool) -> None:
    """Whatever is known of them: an hour leaves slots of the day."""
    facts = {"is_costly": True, "is_told": is_told, "is_lost": is_lost}
    assert len(tries(HOUR, **facts)) - 1 <= 11
    assert len(tries(DAY, **facts)) - 1 <= 60
    assert lateness(tries(DAY, **facts), 0.0) <= HOUR / 2


def test_the_end_of_creates_that_are_free_to_try_is_noticed_within_half_a_minute() -> None:
    """A redirect says that nothing was done."""
    times = tries(HOUR, is_lost=False)
    assert lateness(times, 0.0) <= 30.0
    assert len(times) - 1 <= 130


def test_creates_that_are_free_to_try_are_not_tried_among_others_that_are_not() -> None:
    circuit = Circuit()
    for n in range(TRIP):
        fail(circuit, float(n), **LOST)
    fail(circuit, 600.0, **{**LOST, "is_lost": False})
    assert circuit.create_at == 1_200.0, "the next one may be lost again"
    circuit.record_answer(1_200.0, is_create=True)
    for n in range(TRIP):
        fail(circuit, 1_300.0 + n, **{**LOST, "is_lost": False})
    assert circuit.create_at < 1_310.0


def test_no_create_is_sent_before_the_time_that_the_server_names() -> None:
    circuit = Circuit()
    for n in range(TRIP):
        fail(circuit, float(n), **LOST, is_told=True, retry_after=700.0)
    assert circuit.create_at == TRIP - 1 + 700.0
    fail(circuit, 800.0, **LOST, is_told=True, retry_after=DAY)
    assert circuit.create_at <= 800.0 + HOUR / 2, "the server's numbers are bounded"


def test_failures_of_one_generation_are_no_outage_and_count_once() -> None:
    """The first ones have another read made; once that is answered, no more do."""
    circuit = Circuit()
    for n in range(TRIP):
        fail(circuit, float(n), subject="sick")
    assert circuit.is_silent
    assert circuit.outage is None
    circuit.record_answer(5.0, subject="usage", is_create=False)
    for n in range(10 * TRIP):
        fail(circuit, 6.0 + n, subject="sick")
        assert circuit.is_quiet is False
        assert not circuit.is_silent
    circuit.record_answer(99.0, subject="sick", is_create=False)
    assert circuit.is_quiet


def test_a_probe_of_what_is_sick_is_followed_by_a_gap_like_any_other() -> None:
    circuit = Circuit()
    fail(circuit, 1.0, subject="sick")
    circuit.record_answer(2.0, is_create=False)
    fail(circuit, 3.0, **LOST)
    assert circuit.probe_at == 3.0
    fail(circuit, 3.0, subject="sick")
    assert circuit.probe_at == 4.0


def test_failures_of_two_generations_are_an_outage_until_another_read_is_answered() -> None:
    circuit = Circuit()
    for n in range(TRIP):
        fail(circuit, float(n), subject="sick" if n else "ill")
    assert circuit.outage is not None
    circuit.record_answer(5.0, is_create=False)
    for n in range(10):
        fail(circuit, 6.0 + n, subject="sick" if n % 2 else "ill")
    assert not circuit.failures


def test_an_outage_says_nothing_of_the_usage() -> None:
    """The server failed of all, and nobody may ask for the usage again to find out."""
    circuit = Circuit()
    for n, subject in enumerate(["usage", "c1", SERVER]):
        fail(circuit, float(n), subject=subject)
    assert circuit.outage is not None
    circuit.record_answer(9.0, is_create=False)
    assert set(circuit.sick) == {"c1"}
    fail(circuit, 10.0, subject="usage")
    circuit.record_answer(11.0, is_create=False)
    assert set(circuit.sick) == {"c1", "usage"}, "this time others were answered"


def test_creates_that_are_known_to_fail_are_no_doubt_of_reads() -> None:
    """Nobody may read anything meanwhile."""
    circuit = Circuit()
    for n in range(TRIP):
        fail(circuit, float(n), **LOST)
        circuit.record_answer(n + 0.5, is_create=False)
    for _ in range(10):
        fail(circuit, circuit.create_at, **LOST)
        assert not circuit.is_silent
        assert circuit.state is CircuitState.READS_ONLY
    for n in range(TRIP):
        fail(circuit, DAY + n)
    assert circuit.state is CircuitState.OPEN


def test_changes_of_one_generation_that_are_lost_stop_no_creates() -> None:
    circuit = Circuit()
    for n in range(10):
        fail(circuit, float(n), subject="sick", **LOST)
        circuit.record_answer(n + 0.5, is_create=False)
    assert circuit.failed_creates == 1


def test_generations_that_are_sick_are_not_remembered_without_end() -> None:
    circuit = Circuit()
    for n in range(3_000):
        fail(circuit, float(n), subject=f"c{n}")
        circuit.record_answer(n + 0.5, is_create=False)
    assert len(circuit.sick) <= 1_000
    assert "c2999" in circuit.sick


def test_after_a_silence_one_create_finds_out_whether_they_are_taken() -> None:
    circuit = opened(**LOST)
    probes(circuit, HOUR)
    now = circuit.probe_at
    circuit.record_answer(now, is_create=False)
    assert circuit.may_create(now, 0, 300)
    assert not circuit.may_create(now, 1, 300)
    circuit.record_answer(now + 1.0, is_create=True)
    assert circuit.may_create(now + 1.0, 299, 300)


@given(
    steps=st.lists(
        st.tuples(
            st.floats(0.0, HOUR),
            st.sampled_from(["answer", "create", "lost", "moved", "unsent", "read"]),
        ),
        max_size=200,
    ),
    costly=st.booleans(),
)
@pytest.mark.no_cover
def test_whatever_happens_it_opens_and_closes_as_it_should(
    steps: list[tuple[float, str]], *, costly: bool
) -> None:
    """A circuit is silent after `TRIP` failures in a row, and a probe is always due soon.

    Creates that fail count no more once it is known that they do.
    """
    circuit, now, in_a_row, is_doubtful = Circuit(), 0.0, 0, False
    for seconds, what in steps:
        now += seconds + 0.001
        is_create = what in ("lost", "moved")
        if what in ("answer", "create"):
            circuit.record_answer(now, is_create=what == "create")
            in_a_row, is_doubtful = 0, False
        else:
            is_news = not is_create or circuit.state is not CircuitState.READS_ONLY
            facts = {"may_have_arrived": what != "unsent", "is_costly": costly}
            fail(circuit, now, is_create=is_create, is_lost=what == "lost", **facts)
            in_a_row += is_news
            is_doubtful |= is_news and what == "lost" and not costly
        assert circuit.is_silent is (in_a_row >= TRIP or is_doubtful)
        assert circuit.failures == in_a_row
        assert (circuit.outage is not None) is (in_a_row >= TRIP or circuit.failed_creates >= TRIP)
        if circuit.is_silent:
            assert round(circuit.probe_at - now, 6) <= (DAY / 48 if costly else 30.0)
        if circuit.state is CircuitState.READS_ONLY:
            assert round(circuit.create_at - now, 6) <= DAY / 48
        if circuit.failed_creates < TRIP and not circuit.is_silent:
            assert circuit.outage is None
            assert circuit.may_create(now, 0, MOST)
