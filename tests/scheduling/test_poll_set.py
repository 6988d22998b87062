"""The poll set: which generation is worth a check, and when the next check is due."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async.forecasting import Forecasts, PollThreshold
from llamagen_async.models import ComicGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import PollTarget
from llamagen_async.transport import APIRequest

LIKELY = PollThreshold(chance=0.2)
CERTAIN = PollThreshold(chance=0.95)
CHEAP = PollThreshold(price=1.0)
EXPENSIVE = PollThreshold(price=512.0)


CHECK = APIRequest(RequestKind.STATUS, "GET", "/comics/generations/c")


def target(id_: str = "c", accepted_at: float = 0.0, **fields: Any) -> PollTarget:
    return PollTarget(id_, CHECK, ComicGeneration.parse, accepted_at, **fields)


def poll_set(*targets: PollTarget) -> PollSet:
    polls = PollSet(Forecasts())
    for one in targets:
        polls.add(one)
    return polls


def picked(polls: PollSet, now: float, threshold: PollThreshold = LIKELY) -> PollTarget | None:
    return polls.next_poll(now, threshold, threshold).target


def next_at(polls: PollSet, threshold: PollThreshold, now: float = 0.0) -> float:
    return polls.next_poll(now, threshold, threshold).next_at


def test_targets_are_kept_by_id() -> None:
    """A target stays until it is removed; removing it twice is fine."""
    one, other = target("a"), target("b")
    both = poll_set(one, other)
    assert len(both.targets) == 2
    assert list(both.targets.values()) == [one, other]
    assert both.targets.get("a") is one
    both.remove("a")
    both.remove("a")
    assert both.targets.get("a") is None
    assert len(both.targets) == both.urgent == 1


def test_an_end_that_was_announced_goes_before_whatever_else_is_due() -> None:
    """Such a check collects a comic for certain; the others may find theirs still running."""
    one, other = target("a", announced=True), target("b")
    both = poll_set(one, other)
    both.mark_ended(one, 300.0)
    assert picked(both, 300.0, CHEAP) is one


def test_the_oldest_is_checked_first() -> None:
    """Of two targets that were never checked, the older one is more likely to be done."""
    older, younger = target("a", 0.0), target("b", 20.0)
    poll = poll_set(younger, older).next_poll(80.0, LIKELY, LIKELY)
    assert poll.target is older
    assert poll.chance == Forecasts().overall.forecast.chance_done(80.0, last_running_age=0.0)


def test_a_target_that_was_just_checked_goes_last() -> None:
    """A check that found one target running makes a check of the others worth more."""
    checked, fresh = target("a", 0.0), target("b", 10.0)
    both = poll_set(checked, fresh)
    both.record_result(checked, done=False, checked_at=69.0, now=69.5)
    assert picked(both, 130.0) is fresh


@pytest.mark.parametrize("reason", ["in flight", "too early", "nothing there"])
def test_no_check_is_chosen_that_is_not_allowed(reason: str) -> None:
    """No check is chosen while one is on its way, is too early, or has no target."""
    one = target()
    several = poll_set() if reason == "nothing there" else poll_set(one)
    if reason != "nothing there":
        several.mark_in_flight(one, 50.0)
    if reason == "too early":
        one.not_before = 299.0
        several.mark_idle(one)
    assert picked(several, 298.0) is None
    assert (picked(several, 300.0) is one) is (reason == "too early")


def test_checks_on_their_way_are_counted() -> None:
    """Each once, until its outcome is there."""
    one, other = target("a"), target("b")
    both = poll_set(one, other)
    both.mark_in_flight(one, 0.0)
    both.mark_in_flight(other, 1.0)
    assert both.in_flight == 2
    both.mark_idle(one)
    assert both.in_flight == 1
    both.remove("b")
    both.mark_idle(other)
    assert both.in_flight == 0
    assert picked(both, 300.0) is one


def test_two_checks_are_a_second_apart() -> None:
    """A generation is not checked again within a second, however likely it is to be done."""
    one = target()
    several = poll_set(one)
    several.record_result(one, done=False, checked_at=60.0, now=60.2)
    anything = PollThreshold(chance=1e-9)
    assert picked(several, 60.9, anything) is None
    assert next_at(several, anything, 60.5) == pytest.approx(61.0)
    assert picked(several, 61.1, anything) is one


def test_the_next_check_is_when_the_first_is_due() -> None:
    """The target that is due first decides; those with a check on its way do not count."""
    one, other = target("a", 0.0), target("b", 30.0)
    several = poll_set(one, other)
    first = next_at(several, LIKELY)
    assert first == pytest.approx(Forecasts().overall.forecast.age_when(0.2), rel=0.01)
    several.mark_in_flight(one, 0.0)
    assert next_at(several, LIKELY) == pytest.approx(first + 30)
    several.mark_in_flight(other, 0.0)
    assert next_at(several, LIKELY) == math.inf


def test_a_check_that_costs_more_is_made_later() -> None:
    """The higher the price of a slot, the surer the end has to be."""
    assert next_at(poll_set(target()), CHEAP) < next_at(poll_set(target()), EXPENSIVE)


def test_no_target_starves() -> None:
    """A check is overdue minutes after the comic has probably, or in a batch possibly, ended."""
    never = PollThreshold(price=1e6)
    for urgent, chance, seconds in ((True, 0.8, 165.0), (False, 0.02, 600.0)):
        one = poll_set(target("a", urgent=urgent))
        late = one.forecasts.overall.forecast.age_when(chance) + seconds
        assert not one.next_poll(late - 1, never, never).is_overdue
        assert one.next_poll(late + 1, never, never).is_overdue


@pytest.mark.parametrize("seen", [0.0, 100.0, 4_000.0])
def test_an_interactive_wait_gets_a_check_every_few_minutes(seen: float) -> None:
    """An interactive wait gets its checks whatever slots cost and however low the chance is."""
    never = PollThreshold(price=1e6)
    one = target("a", last_running_age=seen)
    person = poll_set(one)
    early = person.forecasts.overall.forecast.age_when(0.005)
    assert next_at(person, never) <= max(seen, early) + 120.0
    in_batch = poll_set(target("a", last_running_age=seen, urgent=False))
    assert next_at(in_batch, never) > max(seen, early) + 300.0


def test_of_two_due_checks_the_one_that_gains_least_by_waiting_goes_first() -> None:
    """Waiting makes a comic that is far past its usual end no likelier to be done than it is."""
    forecasts = Forecasts()
    for _ in range(40):
        forecasts.observe((), 28.0, 32.0)
        forecasts.observe((), 228.0, 272.0)
    rising, waning = target("rising", 70.0), target("waning", 0.0, last_running_age=200.0)
    both = PollSet(forecasts)
    both.add(rising)
    both.add(waning)
    cheap = PollThreshold(price=1 / 16)
    chances = [
        forecasts.overall.forecast.chance_done(
            299.5 - one.accepted_at, last_running_age=one.last_running_age
        )
        for one in (rising, waning)
    ]
    assert 0.1 < chances[0] < chances[1]
    assert picked(both, 299.5, cheap) is waning


def test_interactive_waits_are_served_first() -> None:
    """Of two due checks, the one that somebody waits for goes first, whatever the chances are."""
    batch, person = target("a", 0.0, urgent=False), target("b", 50.0)
    both = poll_set(batch, person)
    assert both.urgent == 1
    assert picked(both, 120.0) is person
    both.set_urgent(batch)
    assert both.urgent == 2
    assert picked(both, 120.0) is batch


def test_interactive_and_batch_checks_have_thresholds_of_their_own() -> None:
    """A batch's checks may have to be surer than interactive ones."""
    both = poll_set(target("a", urgent=False), target("b"))
    first = both.next_poll(0.0, CHEAP, EXPENSIVE).next_at
    assert first == both.next_poll(0.0, CHEAP, CHEAP).next_at
    assert first < both.next_poll(0.0, EXPENSIVE, EXPENSIVE).next_at


def test_a_wait_ends_with_a_final_check() -> None:
    """Ten seconds before time is up a check goes before everything, once."""
    one = target(deadline=30.0)
    several = poll_set(one)
    assert next_at(several, CERTAIN) == 20.0
    assert several.next_poll(20.0, CERTAIN, CERTAIN).is_overdue
    several.record_result(one, done=False, checked_at=21.0, now=21.1)
    assert picked(several, 25.0, CERTAIN) is None
    several.set_deadline(one, 60.0)  # somebody else waits longer
    assert picked(several, 50.0, CERTAIN) is one


def test_a_final_check_is_due_though_many_others_wait() -> None:
    """Whatever number of waits has begun before, and however early it is."""
    one = target("short", deadline=12.0)
    several = poll_set(*(target(f"{n}", deadline=900.0) for n in range(100)), one)
    assert next_at(several, CERTAIN) == 2.0
    assert picked(several, 2.0, CERTAIN) is one
    several.mark_in_flight(one, 2.0)
    assert picked(several, 2.5, CERTAIN) is None
    assert next_at(several, CERTAIN, 2.5) > 12.0


def test_deadlines_that_were_changed_take_no_memory() -> None:
    """A deadline that is changed a thousand times leaves few entries."""
    one = target(deadline=30.0)
    several = poll_set(one)
    for number in range(1_000):
        several.set_deadline(one, 1_000.0 + number)
    assert len(several._final) < 100


def test_an_announced_end_is_checked_only_when_the_announcement_is_overdue() -> None:
    """A comic whose end will be announced is checked later, and is no reason to keep slots."""
    one = target(announced=True)
    several = poll_set(one)
    late = 2 * next_at(poll_set(target()), CHEAP)
    assert picked(several, late - 0.1, CHEAP) is None
    assert picked(several, late + 0.1, CHEAP) is one
    assert not several.groups(10.0)


def test_a_comic_whose_events_come_is_checked_later() -> None:
    """Each target has its own time, whatever group it was in."""
    one, other = target("a", announced=True), target("b", announced=True, accepted_at=1.0)
    both = poll_set(one, other)
    both.mark_heard(one)
    both.mark_heard(one)
    usual = both.forecasts.overall.forecast.age_when(0.5)
    assert picked(both, 40.0, CHEAP) is other
    both.remove("b")
    assert picked(both, 2 * usual - 0.1, CHEAP) is None
    assert picked(both, 2 * usual + 0.1, CHEAP) is one


def test_an_announced_end_is_checked_at_once() -> None:
    """Even if the comic was seen running just now."""
    one = target(announced=True)
    several = poll_set(one)
    several.record_result(one, done=False, checked_at=20.0, now=20.1)
    assert picked(several, 20.2) is None
    several.mark_ended(one, 20.2)
    assert picked(several, 20.2) is one


def test_a_check_from_before_an_announcement_does_not_contradict_it() -> None:
    """The answer to a check that was sent before the end says no more than was known then."""
    one = target(announced=True)
    several = poll_set(one)
    several.mark_in_flight(one, 20.0)
    several.mark_ended(one, 21.0)
    several.record_result(one, done=False, checked_at=20.0, now=22.0)
    several.mark_idle(one)
    assert picked(several, 22.0) is one
    several.record_result(one, done=False, checked_at=22.0, now=23.0)
    assert picked(several, 23.5) is None  # the server knows of no end: it is polled


def test_an_announcement_does_not_shorten_the_pause_after_a_failure() -> None:
    """Checks that fail are made further and further apart, whatever was announced."""
    one = target(announced=True, failures=1, not_before=100.0)
    several = poll_set(one)
    several.mark_ended(one, 20.0)
    assert picked(several, 99.0) is None
    assert picked(several, 100.0) is one


def test_the_first_checks_wait_for_each_other() -> None:
    """Before anything is learned, each check's answer decides about the next one."""
    pair = poll_set(target("a"), target("b"))
    first = picked(pair, 60.0)
    assert first is not None
    pair.mark_in_flight(first, 60.0)
    assert picked(pair, 60.0) is None
    assert pair.answer_at(60.0) == 63.0
    assert picked(pair, 63.5) is not None  # no answer for seconds: it is not waited for
    pair.mark_idle(first)
    assert pair.answer_at(60.0) == 60.0


def test_checks_bracket_the_duration() -> None:
    """A comic that runs at 50 and is done at 70 teaches the forecast that it ended between."""
    one = target(accepted_at=100.0, profile=("comic", "4"))
    several = poll_set(one)
    forecast = several.forecasts.overall.forecast
    before = forecast.chance_done(70.0) - forecast.chance_done(50.0)
    several.record_result(one, done=False, checked_at=150.0, now=150.5)
    assert one.last_running_age == 50.0
    several.record_result(one, done=True, checked_at=169.5, now=170.0)
    assert forecast.chance_done(70.0) - forecast.chance_done(50.0) > before + 0.2


def test_an_older_check_changes_nothing() -> None:
    """Answers may come in another order than the checks; the newest check counts."""
    one = target()
    several = poll_set(one)
    several.record_result(one, done=False, checked_at=50.0, now=52.0)
    several.record_result(one, done=False, checked_at=40.0, now=53.0)
    assert one.last_running_age == 50.0


def test_an_answer_resets_the_failures() -> None:
    """Failures count in a row only."""
    one = target(failures=3)
    poll_set(one).record_result(one, done=False, checked_at=50.0, now=52.0)
    assert one.failures == 0


def test_a_second_wait_knows_when_the_comic_was_accepted() -> None:
    """A wait that ends keeps the time of acceptance and the profile for the next one."""
    one = target(accepted_at=5.0, profile=("comic", "4"))
    several = poll_set(one)
    several.discard("c")
    assert len(several.targets) == 0
    assert several.accepted["c"] == (5.0, ("comic", "4"))


actions = st.lists(
    st.tuples(
        st.sampled_from(["add", "send", "idle", "running", "discard", "remove", "urgent"]),
        st.integers(0, 5),
        st.floats(0.0, 90.0),
    ),
    max_size=60,
)


def act(several: PollSet, what: str, number: int, now: float, seconds: float) -> None:
    """Apply one action to the poll set, if it is possible now."""
    one = several.targets.get(str(number))
    if one is None:
        if what == "add":
            several.add(target(str(number), now, urgent=number % 2 == 0, deadline=now + 500.0))
    elif what == "send" and not one.in_flight:
        several.mark_in_flight(one, now)
    elif what == "idle" and one.in_flight:
        one.not_before = max(one.not_before, now + seconds)
        several.mark_idle(one)
    elif what == "running":
        several.record_result(one, done=False, checked_at=now, now=now)
    elif what == "urgent":
        several.set_urgent(one)
    elif what in ("discard", "remove"):
        getattr(several, what)(one.id)


@given(actions)
@settings(max_examples=80, deadline=None)
def test_no_target_is_lost_and_none_is_checked_twice_at_once(
    steps: list[tuple[str, int, float]],
) -> None:
    """Groups, delays and deadlines hold exactly the targets without a check on its way."""
    several = poll_set()
    now = 0.0
    for what, number, seconds in steps:
        now += seconds
        act(several, what, number, now, seconds)
        found = picked(several, now)
        assert found is None or not found.in_flight
    standing = [one for one in several.targets.values() if not one.in_flight]
    assert several.urgent == sum(one.urgent for one in several.targets.values())
    for one in standing:
        several.set_deadline(one, math.inf)
    later = now + 10_000.0
    found_ids: set[str] = set()
    while (poll := several.next_poll(later, LIKELY, LIKELY)).target is not None:
        assert poll.target.id not in found_ids
        found_ids.add(poll.target.id)
        several.mark_in_flight(poll.target, later - 5.0)
    assert found_ids == {one.id for one in standing}


@pytest.mark.once
def test_a_decision_among_many_takes_as_many_steps_as_there_are_groups() -> None:
    """The next check among a hundred thousand targets is found without passing the rest."""
    many = poll_set(*(target(str(number), number / 100.0) for number in range(100_000)))
    steps = 0
    of = many.forecasts.of

    def counting(profile: Any) -> Any:
        nonlocal steps
        steps += 1
        return of(profile)

    many.forecasts.of = counting  # type: ignore[method-assign]  # it counts
    threshold = PollThreshold(chance=0.5)
    for _ in range(50):
        poll = many.next_poll(2_000.0, threshold, threshold)
        assert poll.target is not None
        many.record_result(poll.target, done=False, checked_at=2_000.0, now=2_000.0)
    assert steps <= 50 * 60
    assert len(many.groups(2_000.0)) <= 50 * 32


def test_a_change_of_a_target_makes_it_young_again() -> None:
    """Waits that have begun are for the change, and its checks are planned by its age."""
    one = target("c", 0.0)
    polls = poll_set(one)
    polls.record_result(one, done=False, checked_at=500.0, now=500.0)
    polls.mark_ended(one, 550.0)
    assert picked(polls, 600.0) is one
    answer = ComicGeneration.parse({"id": "c", "status": "PENDING"})
    polls.remember_changed(answer, 600.0, profile=("redraw",), will_wait=True)
    assert (one.accepted_at, one.last_running_age, one.has_ended) == (600.0, 0.0, False)
    assert picked(polls, 601.0) is None
    assert polls.accepted["c"] == (600.0, ("redraw",))
    assert polls.to_collect(601.0) == 1
