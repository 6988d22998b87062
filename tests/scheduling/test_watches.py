"""Which generation is worth a look, and when the next look is due."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async.scheduling import Forecasts, PollSet, PollTarget, PollThreshold

LIKELY = PollThreshold(chance=0.2)
CERTAIN = PollThreshold(chance=0.95)
CHEAP = PollThreshold(price=1.0)
DEAR = PollThreshold(price=512.0)


async def fetch(*_: Any) -> Any:
    raise NotImplementedError


def watch(id_: str = "c", accepted_at: float = 0.0, **fields: Any) -> PollTarget:
    return PollTarget(id_, fetch, accepted_at, **fields)


def watches(*several: PollTarget) -> PollSet:
    all_of_them = PollSet(Forecasts())
    for one in several:
        all_of_them.add(one)
    return all_of_them


def picked(several: PollSet, now: float, bar: PollThreshold = LIKELY) -> PollTarget | None:
    return several.look(now, bar, bar).watch


def next_at(several: PollSet, bar: PollThreshold, now: float = 0.0) -> float:
    return several.look(now, bar, bar).next_at


def test_watches_are_kept_by_id() -> None:
    """What was added is there until it is removed; removing twice is fine."""
    one, other = watch("a"), watch("b")
    both = watches(one, other)
    assert len(both) == 2
    assert list(both) == [one, other]
    assert both.get("a") is one
    both.remove("a")
    both.remove("a")
    assert both.get("a") is None
    assert len(both) == both.urgent == 1


def test_the_oldest_is_looked_at_first() -> None:
    """Of two that were never looked at, the older one is likelier to be done."""
    older, younger = watch("a", 0.0), watch("b", 20.0)
    look = watches(younger, older).look(80.0, LIKELY, LIKELY)
    assert look.watch is older
    assert look.chance == Forecasts().overall.forecast.chance_done(80.0, not_done_at=0.0)


def test_one_that_was_just_looked_at_makes_room() -> None:
    """A look that found it not done makes the others more worthwhile."""
    looked, fresh = watch("a", 0.0), watch("b", 10.0)
    both = watches(looked, fresh)
    both.seen(looked, done=False, looked_at=69.0, now=69.5)
    assert picked(both, 130.0) is fresh


@pytest.mark.parametrize("reason", ["in flight", "too early", "nothing there"])
def test_nothing_is_looked_at_that_may_not_be(reason: str) -> None:
    """On its way, backing off, or not there: there is no check to choose."""
    one = watch()
    several = watches() if reason == "nothing there" else watches(one)
    if reason != "nothing there":
        several.send(one, 50.0)
    if reason == "too early":
        several.back(one, not_before=299.0)
    assert picked(several, 298.0) is None
    assert (picked(several, 300.0) is one) is (reason == "too early")


def test_two_looks_are_a_second_apart() -> None:
    """However likely it is, a generation is not looked at again within a second."""
    one = watch()
    several = watches(one)
    several.seen(one, done=False, looked_at=60.0, now=60.2)
    anything = PollThreshold(chance=1e-9)
    assert picked(several, 60.9, anything) is None
    assert next_at(several, anything, 60.5) == pytest.approx(61.0)
    assert picked(several, 61.1, anything) is one


def test_the_next_look_is_when_the_first_is_due() -> None:
    """Of several, the one that gets there first decides; those on their way do not count."""
    one, other = watch("a", 0.0), watch("b", 30.0)
    several = watches(one, other)
    first = next_at(several, LIKELY)
    assert first == pytest.approx(Forecasts().overall.forecast.quantile(0.2), rel=0.01)
    several.send(one, 0.0)
    assert next_at(several, LIKELY) == pytest.approx(first + 30)
    several.send(other, 0.0)
    assert next_at(several, LIKELY) == math.inf


def test_a_look_that_costs_more_is_made_later() -> None:
    """The dearer a slot, the surer the end has to be."""
    assert next_at(watches(watch()), CHEAP) < next_at(watches(watch()), DEAR)


def test_nothing_starves() -> None:
    """Minutes after it must have been done, or in a batch may have been, it goes before all."""
    never = PollThreshold(price=1e6)
    for urgent, chance, patience in ((True, 0.8, 165.0), (False, 0.02, 600.0)):
        one = watches(watch("a", urgent=urgent))
        late = one.forecasts.overall.forecast.quantile(chance) + patience
        assert not one.look(late - 1, never, never).overdue
        assert one.look(late + 1, never, never).overdue


@pytest.mark.parametrize("seen", [0.0, 100.0, 4_000.0])
def test_who_waits_interactively_gets_a_look_every_few_minutes(seen: float) -> None:
    """However dear slots are, and however unlikely the plan thinks it."""
    never = PollThreshold(price=1e6)
    one = watch("a", not_done_at=seen)
    person = watches(one)
    early = person.forecasts.overall.forecast.quantile(0.005)
    assert next_at(person, never) <= max(seen, early) + 120.0
    in_batch = watches(watch("a", not_done_at=seen, urgent=False))
    assert next_at(in_batch, never) > max(seen, early) + 300.0


def test_of_two_that_are_due_the_one_that_gains_least_by_waiting_goes_first() -> None:
    """A comic in its long tail gets no likelier; one whose time is just coming soon is surer."""
    forecasts = Forecasts()
    for _ in range(40):
        forecasts.observe((), 28.0, 32.0)
        forecasts.observe((), 228.0, 272.0)
    rising, waning = watch("rising", 70.0), watch("waning", 0.0, not_done_at=200.0)
    both = PollSet(forecasts)
    both.add(rising)
    both.add(waning)
    cheap = PollThreshold(price=1 / 16)
    chances = [
        forecasts.overall.forecast.chance_done(one.age(299.5), not_done_at=one.not_done_at)
        for one in (rising, waning)
    ]
    assert 0.1 < chances[0] < chances[1]
    assert picked(both, 299.5, cheap) is waning


def test_who_waits_interactively_is_looked_after_first() -> None:
    """Of two that are due, the one somebody waits for goes first, whatever the chances are."""
    batch, person = watch("a", 0.0, urgent=False), watch("b", 50.0)
    both = watches(batch, person)
    assert both.urgent == 1
    assert picked(both, 120.0) is person
    both.set_urgent(batch)
    assert both.urgent == 2
    assert picked(both, 120.0) is batch


def test_a_bar_for_each_sort_of_waiting() -> None:
    """A batch's looks may have to be surer than those somebody waits for."""
    both = watches(watch("a", urgent=False), watch("b"))
    first = both.look(0.0, CHEAP, DEAR).next_at
    assert first == both.look(0.0, CHEAP, CHEAP).next_at
    assert first < both.look(0.0, DEAR, DEAR).next_at


def test_a_wait_ends_with_a_last_look() -> None:
    """Ten seconds before time is up a look goes before everything, once."""
    one = watch(deadline=30.0)
    several = watches(one)
    assert next_at(several, CERTAIN) == 20.0
    assert several.look(20.0, CERTAIN, CERTAIN).overdue
    several.seen(one, done=False, looked_at=21.0, now=21.1)
    assert picked(several, 25.0, CERTAIN) is None
    several.set_deadline(one, 60.0)  # somebody else waits longer
    assert picked(several, 50.0, CERTAIN) is one


def test_many_deadlines_are_forgotten() -> None:
    """Changing when a wait ends, again and again, takes no memory."""
    one = watch(deadline=30.0)
    several = watches(one)
    for number in range(1_000):
        several.set_deadline(one, 1_000.0 + number)
    assert len(several._deadlines) < 100


def test_an_announced_end_is_checked_only_when_the_announcement_is_overdue() -> None:
    """A comic whose end will be announced costs no look, unless the announcement does not come."""
    one = watch(announced=True)
    several = watches(one)
    late = several.forecasts.overall.forecast.quantile(0.99) + 60.0
    assert picked(several, late - 1.0, CHEAP) is None
    assert picked(several, late + 1.0, CHEAP) is one
    assert not several.candidates(10.0)


def test_the_first_looks_wait_for_each_other() -> None:
    """While next to nothing is known, each look's answer decides about the next one."""
    pair = watches(watch("a"), watch("b"))
    first = picked(pair, 60.0)
    assert first is not None
    pair.send(first, 60.0)
    assert picked(pair, 60.0) is None
    assert pair.answer_at(60.0) == 63.0
    assert picked(pair, 63.5) is not None  # no answer for seconds: it is not waited for
    pair.back(first)
    assert pair.answer_at(60.0) == 60.0


def test_a_look_brackets_the_duration() -> None:
    """Not done at 50, done at 70: the forecast learns what lies between."""
    one = watch(accepted_at=100.0, kind=("comic", "4"))
    several = watches(one)
    forecast = several.forecasts.overall.forecast
    before = forecast.cdf(70.0) - forecast.cdf(50.0)
    several.seen(one, done=False, looked_at=150.0, now=150.5)
    assert one.not_done_at == 50.0
    several.seen(one, done=True, looked_at=169.5, now=170.0)
    assert forecast.cdf(70.0) - forecast.cdf(50.0) > before + 0.2


def test_an_older_look_takes_nothing_back() -> None:
    """Answers may come in another order than the looks; the newest look counts."""
    one = watch()
    several = watches(one)
    several.seen(one, done=False, looked_at=50.0, now=52.0)
    several.seen(one, done=False, looked_at=40.0, now=53.0)
    assert one.not_done_at == 50.0


def test_an_answer_forgets_failures() -> None:
    """Failures count in a row only."""
    one = watch(failures=3)
    watches(one).seen(one, done=False, looked_at=50.0, now=52.0)
    assert one.failures == 0


def test_who_left_is_remembered_when_he_comes_back() -> None:
    """A wait that ends does not forget when the comic was accepted, nor what it is."""
    one = watch(accepted_at=5.0, kind=("comic", "4"))
    several = watches(one)
    several.leave("c")
    assert len(several) == 0
    several.begin("c", fetch, 90.0)
    again = several.get("c")
    assert again is not None
    assert (again.accepted_at, again.kind) == (5.0, ("comic", "4"))


actions = st.lists(
    st.tuples(
        st.sampled_from(["add", "send", "back", "seen", "leave", "remove", "urgent"]),
        st.integers(0, 5),
        st.floats(0.0, 90.0),
    ),
    max_size=60,
)


def act(several: PollSet, what: str, number: int, now: float, seconds: float) -> None:
    """Do one of the things that happen, if it can happen now."""
    one = several.get(str(number))
    if one is None:
        if what == "add":
            several.add(watch(str(number), now, urgent=number % 2 == 0, deadline=now + 500.0))
    elif what == "send" and not one.in_flight:
        several.send(one, now)
    elif what == "back" and one.in_flight:
        several.back(one, not_before=now + seconds)
    elif what == "seen":
        several.seen(one, done=False, looked_at=now, now=now)
    elif what == "urgent":
        several.set_urgent(one)
    elif what in ("leave", "remove"):
        getattr(several, what)(one.id)


@given(actions)
@settings(max_examples=80, deadline=None)
def test_whatever_happens_nothing_is_lost_and_nothing_is_looked_at_twice(
    steps: list[tuple[str, int, float]],
) -> None:
    """Groups, rests and deadlines hold exactly what is waited for and not on its way."""
    several = watches()
    now = 0.0
    for what, number, seconds in steps:
        now += seconds
        act(several, what, number, now, seconds)
        found = picked(several, now)
        assert found is None or not found.in_flight
    standing = [one for one in several if not one.in_flight]
    assert several.urgent == sum(one.urgent for one in several)
    for one in standing:
        several.set_deadline(one, math.inf)
    later = now + 10_000.0
    found_ids: set[str] = set()
    while (look := several.look(later, LIKELY, LIKELY)).watch is not None:
        assert look.watch.id not in found_ids
        found_ids.add(look.watch.id)
        several.send(look.watch, later - 5.0)
    assert found_ids == {one.id for one in standing}


def test_a_decision_among_many_takes_as_many_steps_as_there_are_groups() -> None:
    """A hundred thousand in flight: whoever is looked at next is found without passing the rest."""
    many = watches(*(watch(str(number), number / 100.0) for number in range(100_000)))
    steps = 0

    class Counting(PollThreshold):
        def due_age(self, *args: Any) -> float:
            nonlocal steps
            steps += 1
            return super().due_age(*args)

    bar = Counting(chance=0.5)
    for _ in range(50):
        look = many.look(2_000.0, bar, bar)
        assert look.watch is not None
        many.seen(look.watch, done=False, looked_at=2_000.0, now=2_000.0)
    assert steps <= 50 * 60
    assert len(many.candidates(2_000.0)) <= 50 * 32
