"""One test for each rule of the policy, in the order in which its docstring states them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.scheduling import Action, Situation, choose
from llamagen_async.scheduling.policy import (
    PLENTIFUL,
    can_afford,
    check_threshold,
    is_hurried,
)


def situation(**fields: Any) -> Situation:
    """Return a situation in which only `fields` is anything but quiet."""
    return Situation(**{"urgent": False, "queued": False, "due": False, **fields})


@pytest.mark.parametrize("due", [True, False])
def test_1_who_waits_interactively_goes_first(*, due: bool) -> None:
    """An interactive request is sent even when a look is due."""
    assert choose(situation(urgent=True, queued=True, due=due)) is Action.SEND


def test_3_a_due_look_goes_before_the_batchs_next_create() -> None:
    """A slot that finishes a comic now is worth more than one that starts another."""
    assert choose(situation(queued=True, due=True)) is Action.CHECK


def test_4_a_batch_that_hurries_starts_what_is_left() -> None:
    """The last comic is what it will wait for; a look can wait."""
    assert choose(situation(queued=True, due=True, hurried=True)) is Action.SEND
    assert choose(situation(due=True, hurried=True)) is Action.CHECK


@pytest.mark.parametrize(("left", "hurried"), [(10, True), (19, True), (20, False), (500, False)])
def test_4_it_hurries_when_its_work_is_shorter_than_a_comic(left: int, *, hurried: bool) -> None:
    """Twenty comics at six seconds each are two minutes of collecting."""
    assert is_hurried(left, interval=6.0, duration=120.0) is hurried


def test_5_otherwise_the_batch_goes_on() -> None:
    """A running comic costs nothing, so the next one is started; without one the slot waits."""
    assert choose(situation(queued=True)) is Action.SEND
    assert choose(situation()) is Action.WAIT


@pytest.mark.parametrize("urgent", [True, False])
@pytest.mark.parametrize("hurried", [True, False])
def test_6_an_overdue_look_goes_before_everything(*, urgent: bool, hurried: bool) -> None:
    """No look starves, however much is queued and whoever waits."""
    busy = situation(urgent=urgent, queued=True, due=True, overdue=True, hurried=hurried)
    assert choose(busy) is Action.CHECK


@pytest.mark.parametrize(
    ("running", "left", "expected"),
    [
        (1, 15, 0.2),
        (2, 10, 0.2),
        (2, 5, 0.4),
        (2, 3, 1 / 1.5),
        (2, 2, 0.99),
        (2, 1, 0.99),
        (2, 0, 0.99),
        (0, 1, 0.2),
    ],
)
def test_7_few_slots_of_a_long_window_make_looks_choosy(
    running: int, left: int, expected: float
) -> None:
    """The fewer checks each comic can still be given, the surer each has to be."""
    assert check_threshold(left, queued=0, running=running) == pytest.approx(expected)


def test_7_slots_that_creates_will_need_are_not_there_for_looks() -> None:
    """Ten slots are plenty for two comics, and few if four more wait to be started."""
    alone = check_threshold(10, queued=0, running=2)
    shared = check_threshold(10, queued=4, running=2)
    assert alone < shared == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("left", "running", "ahead", "affordable"),
    [
        (None, 99, 99, True),
        (2, 0, 0, True),
        (1, 0, 0, False),
        (0, 0, 0, False),
        (15, 0, 6, True),
        (15, 0, 7, False),
        (5, 3, 0, True),
        (4, 3, 0, False),
    ],
)
def test_7_a_comic_is_started_only_if_its_check_fits_too(
    left: int | None, running: int, ahead: int, *, affordable: bool
) -> None:
    """Each running comic keeps one slot, each one ahead keeps two."""
    assert can_afford(left, running=running, ahead=ahead, slots_each=2) is affordable


def test_7_checks_that_are_not_counted_need_no_room() -> None:
    """A plan that meters creates only can spend its last slot on one."""
    assert can_afford(1, running=9, ahead=0, slots_each=1)
    assert not can_afford(1, running=0, ahead=1, slots_each=1)


@given(
    urgent=st.booleans(),
    queued=st.integers(0, 50),
    running=st.integers(0, 50),
    due=st.booleans(),
    overdue=st.booleans(),
    hurried=st.booleans(),
    left=st.none() | st.integers(0, 50),
)
def test_nothing_is_chosen_that_is_not_there(
    *,
    urgent: bool,
    queued: int,
    running: int,
    due: bool,
    overdue: bool,
    hurried: bool,
    left: int | None,
) -> None:
    """No send without a request, no check without a due look, no idle slot beside a request."""
    now = situation(
        urgent=urgent and queued > 0,
        queued=queued > 0,
        due=due,
        overdue=overdue and due,
        hurried=hurried,
    )
    action = choose(now)
    assert action is not Action.SEND or queued
    assert action is not Action.CHECK or due
    assert action is not Action.WAIT or not (queued or due)
    assert PLENTIFUL <= check_threshold(left, queued=queued, running=running) <= 0.99
