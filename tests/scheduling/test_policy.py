"""One test for each rule of the policy, in the order in which its docstring states them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.scheduling import Action, Situation, choose
from llamagen_async.scheduling.policy import (
    ALMOST_CERTAIN,
    WORTH_A_SLOT,
    can_afford,
    check_threshold,
)

CHANCES = (0.0, 0.1, 0.3, 0.9, 0.96, 1.0)


def situation(**fields: Any) -> Situation:
    """Return a situation in which only `fields` is anything but quiet."""
    quiet: dict[str, Any] = {
        "urgent": False,
        "queued": False,
        "chance": 0.0,
        "threshold": WORTH_A_SLOT,
        "overdue": False,
    }
    return Situation(**{**quiet, **fields})


@pytest.mark.parametrize("chance", CHANCES)
def test_1_who_waits_interactively_goes_first(chance: float) -> None:
    """An interactive request is sent even when a check is certain."""
    assert choose(situation(urgent=True, queued=True, chance=chance)) is Action.SEND


def test_2_an_almost_certain_check_goes_before_the_batchs_next_create() -> None:
    """A slot that finishes a comic now is worth more than one that starts another."""
    assert choose(situation(queued=True, chance=ALMOST_CERTAIN)) is Action.CHECK


@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5, ALMOST_CERTAIN - 0.001])
def test_3_a_create_goes_before_a_check_that_may_find_nothing(chance: float) -> None:
    """A running comic costs nothing, so the next one is started first."""
    assert choose(situation(queued=True, chance=chance)) is Action.SEND


def test_4_without_creates_a_likely_check_is_sent() -> None:
    """A slot that nothing else needs is spent at one chance in five."""
    assert choose(situation(chance=0.25)) is Action.CHECK
    assert check_threshold(None, queued=0, running=1) == pytest.approx(0.2)


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
def test_4_few_slots_of_a_long_window_make_checks_choosy(
    running: int, left: int, expected: float
) -> None:
    """The fewer checks each comic can still be given, the surer each has to be."""
    assert check_threshold(left, queued=0, running=running) == pytest.approx(expected)


def test_4_slots_that_creates_will_need_are_not_there_for_checks() -> None:
    """Ten slots are plenty for two comics, and few if four more wait to be started."""
    alone = check_threshold(10, queued=0, running=2)
    shared = check_threshold(10, queued=4, running=2)
    assert alone < shared == pytest.approx(0.99)


@pytest.mark.parametrize("chance", [0.0, 0.1, 0.199])
def test_5_a_slot_waits_for_a_check_that_is_worth_it(chance: float) -> None:
    """Nothing to send and nothing likely: wait."""
    assert choose(situation(chance=chance)) is Action.WAIT
    assert choose(situation()) is Action.WAIT


def test_5_choosy_checks_wait_longer() -> None:
    """With hardly more than one check each, a likely one still waits."""
    threshold = check_threshold(4, queued=0, running=4)
    assert choose(situation(chance=0.98, threshold=threshold)) is Action.WAIT
    assert choose(situation(chance=0.991, threshold=threshold)) is Action.CHECK


@pytest.mark.parametrize("chance", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("urgent", [True, False])
def test_6_an_overdue_check_goes_before_everything(chance: float, *, urgent: bool) -> None:
    """No check starves, however much is queued and whoever waits."""
    busy = situation(urgent=urgent, queued=True, chance=chance, overdue=True)
    assert choose(busy) is Action.CHECK


def test_6_an_overdue_check_that_can_not_be_sent_is_no_check() -> None:
    """While it is on its way or backing off, the slot goes to the queue."""
    assert choose(situation(queued=True, overdue=True)) is Action.SEND


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
    chance=st.floats(0, 1),
    overdue=st.booleans(),
    left=st.none() | st.integers(0, 50),
)
def test_nothing_is_chosen_that_is_not_there(
    *, urgent: bool, queued: int, running: int, chance: float, overdue: bool, left: int | None
) -> None:
    """No send without a request, no check without a chance, no idle slot beside a request."""
    threshold = check_threshold(left, queued=queued, running=running)
    given_now = Situation(
        urgent=urgent and queued > 0,
        queued=queued > 0,
        chance=chance if running else 0.0,
        threshold=threshold,
        overdue=overdue,
    )
    action = choose(given_now)
    assert action is not Action.SEND or queued
    assert action is not Action.CHECK or given_now.chance > 0
    assert action is not Action.WAIT or not queued
    assert WORTH_A_SLOT <= threshold <= 0.99
