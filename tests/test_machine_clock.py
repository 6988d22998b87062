"""The machine's clock: never ahead of the time that passed, never back, the same for all."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async import machine_clock
from llamagen_async.machine_clock import Anchor, advance, read_machine_clock

_TINY = 1e-5
"""Seconds that sums of floating point numbers may be off by."""


@attrs.define
class SimulatedMachine:
    """A machine whose true time is known to the test alone."""

    has_boot_id: bool
    counts_suspend: bool
    true: float = 0.0
    wall_error: float = 1.7e9
    uptime: float = 50.0
    boots: int = 0
    rebooted: bool = False
    set_forward: float = 0.0

    def pass_time(self, seconds: float) -> None:
        self.true += seconds
        self.uptime += seconds

    def suspend(self, seconds: float) -> None:
        self.true += seconds
        if self.counts_suspend:
            self.uptime += seconds

    def step(self, seconds: float) -> None:
        self.wall_error += seconds
        self.set_forward += seconds

    def reboot(self, seconds_off: float, seconds_up: float) -> None:
        self.true += seconds_off + seconds_up
        self.uptime = seconds_up
        self.boots += 1
        self.rebooted = True

    def read(self) -> Anchor:
        boot_id = f"boot-{self.boots}" if self.has_boot_id else None
        return Anchor(0.0, self.true + self.wall_error, self.uptime, boot_id)


_seconds = st.floats(0, 200_000)
_events = st.lists(
    st.one_of(
        st.tuples(st.just("pass_time"), _seconds),
        st.tuples(st.just("suspend"), _seconds),
        st.tuples(st.just("step"), st.floats(-200_000, 200_000)),
        st.tuples(st.just("reboot"), _seconds, _seconds),
        st.tuples(st.just("read")),
    ),
    max_size=40,
)


@given(has_boot_id=st.booleans(), counts_suspend=st.booleans(), events=_events)
def test_time_is_never_ahead_of_what_passed_and_never_goes_back(
    has_boot_id: bool, counts_suspend: bool, events: list[tuple[Any, ...]]
) -> None:
    machine = SimulatedMachine(has_boot_id, counts_suspend)
    anchor = advance(None, machine.read())
    last_true = machine.true
    for name, *arguments in [*events, ("read",)]:
        if name != "read":
            getattr(machine, name)(*arguments)
            continue
        before, anchor = anchor, advance(anchor, machine.read())
        passed = machine.true - last_true
        # The documented case: nobody can tell a clock that was set from a machine that was off.
        undetectable = max(0.0, machine.set_forward) if machine.rebooted else 0.0
        assert 0 <= anchor.now - before.now <= passed + undetectable + _TINY
        last_true, machine.rebooted, machine.set_forward = machine.true, False, 0.0


@given(
    has_boot_id=st.booleans(),
    passed=st.lists(_seconds, max_size=20),
    steps=st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=20),
)
def test_steps_of_the_clock_do_not_count_while_the_machine_runs(
    has_boot_id: bool, passed: list[float], steps: list[float]
) -> None:
    machine = SimulatedMachine(has_boot_id, counts_suspend=True)
    anchor = advance(None, machine.read())
    for seconds, step in zip(passed, steps, strict=False):
        machine.pass_time(seconds)
        machine.step(step if has_boot_id else max(0.0, step))
        anchor = advance(anchor, machine.read())
    assert anchor.now == pytest.approx(sum(passed), abs=_TINY)


@pytest.mark.parametrize("has_boot_id", [True, False])
def test_the_time_while_the_machine_was_off_counts(has_boot_id: bool) -> None:
    machine = SimulatedMachine(has_boot_id, counts_suspend=True)
    anchor = advance(None, machine.read())
    machine.pass_time(10)
    machine.reboot(3_600, 20)
    assert advance(anchor, machine.read()).now == pytest.approx(3_630)


def test_suspend_counts_where_the_system_counts_it() -> None:
    machine = SimulatedMachine(has_boot_id=True, counts_suspend=True)
    anchor = advance(None, machine.read())
    machine.suspend(28_800)
    assert advance(anchor, machine.read()).now == pytest.approx(28_800)


def test_the_clock_set_forward_across_a_reboot_is_the_one_case_that_runs_ahead() -> None:
    machine = SimulatedMachine(has_boot_id=True, counts_suspend=True)
    anchor = advance(None, machine.read())
    machine.step(7_200)
    machine.reboot(60, 10)
    assert advance(anchor, machine.read()).now == pytest.approx(7_270)
    machine = SimulatedMachine(has_boot_id=True, counts_suspend=True)
    machine.step(7_200)
    anchor = advance(None, machine.read())
    machine.reboot(60, 10)
    assert advance(anchor, machine.read()).now == pytest.approx(70)


@given(order=st.permutations(range(6)))
def test_readings_that_arrive_out_of_order_count_once(order: list[int]) -> None:
    anchor = advance(None, Anchor(0.0, 1e9, 100.0, "boot"))
    for number in order:
        anchor = advance(anchor, Anchor(0.0, 1e9 + number, 100.0 + number, "boot"))
    assert anchor.now == pytest.approx(5.0)


def test_two_machines_on_one_file_are_bound_by_the_wall_clock() -> None:
    anchor = advance(None, Anchor(0.0, 1e9, 10.0, "one"))
    readings = itertools.cycle([(900_000.0, "two"), (10.0, "one")])
    for second, (uptime, boot_id) in zip(range(1, 11), readings, strict=False):
        anchor = advance(anchor, Anchor(0.0, 1e9 + second, uptime + second, boot_id))
    assert anchor.now == pytest.approx(10.0)


def test_with_an_unknown_boot_the_smaller_difference_counts() -> None:
    anchor = Anchor(5.0, 1e9, 10.0, "boot")
    assert advance(anchor, Anchor(0.0, 1e9 + 30, 17.0, None)).now == pytest.approx(12.0)
    assert advance(anchor, Anchor(0.0, 1e9 + 3, 17.0, None)).now == pytest.approx(8.0)
    assert advance(anchor, Anchor(0.0, 1e9 + 3, 1.0, None)).now == pytest.approx(8.0)


def test_the_clocks_of_this_machine_are_read() -> None:
    first, second = read_machine_clock(), read_machine_clock()
    assert second.monotonic >= first.monotonic
    assert second.boot_id == first.boot_id
    assert advance(first._replace(now=3.0), second).now >= 3.0


def test_other_systems_have_a_monotonic_clock_and_no_boot_id(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(machine_clock, "_BOOT_ID", tmp_path / "missing")
    machine_clock._boot_id.cache_clear()
    try:
        assert read_machine_clock().boot_id is None
    finally:
        machine_clock._boot_id.cache_clear()


def test_an_anchor_of_this_boot_is_hardly_ahead_of_it() -> None:
    """With one that is, time would stand still until the machine has caught up."""
    anchor = Anchor(5.0, 1.7e9, 500_000.0, "a")
    with pytest.raises(ValueError, match="ahead of this machine's"):
        advance(anchor, Anchor(0.0, 1.7e9, 500.0, "a"))
    advance(anchor, Anchor(0.0, 1.7e9, 499_999.9, "a"))  # another process was quicker
    advance(anchor, Anchor(0.0, 1.7e9, 500.0, "b"))
    unknown = Anchor(5.0, 1.7e9, 500_000.0, None)
    advance(unknown, Anchor(0.0, 1.7e9, 500.0, None))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells one boot from another")
def test_what_the_clocks_show_names_the_boot() -> None:
    """Without it a machine that was switched off is taken for one that was suspended."""
    reading = read_machine_clock()
    assert reading.boot_id
    assert reading.boot_id == read_machine_clock().boot_id
    assert reading.now == 0.0
