"""Which generation is likeliest to be done, and when the next look is worth it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llamagen_async.scheduling import DurationForecast, Watch, Watches


async def fetch(*_: Any) -> Any:
    raise NotImplementedError


def watch(id_: str = "c", accepted_at: float = 0.0, **fields: Any) -> Watch:
    return Watch(id_, fetch, accepted_at, **fields)


def watches(*several: Watch) -> Watches:
    all_of_them = Watches(DurationForecast())
    for one in several:
        all_of_them.add(one)
    return all_of_them


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
    assert len(both) == 1


def test_the_oldest_is_likeliest() -> None:
    """Of two that were never looked at, the older one is likelier to be done."""
    older, younger = watch("a", 0.0), watch("b", 20.0)
    assert watches(younger, older).likeliest(60.0) == (
        older,
        DurationForecast().chance_done(60.0, not_done_at=0.0),
    )


def test_one_that_was_just_looked_at_is_less_likely() -> None:
    """A look that found it not done makes room for the others."""
    looked, fresh = watch("a", 0.0), watch("b", 10.0)
    both = watches(looked, fresh)
    both.seen(looked, done=False, looked_at=59.0, now=59.5)
    best = both.likeliest(60.5)
    assert best is not None
    assert best[0] is fresh


@pytest.mark.parametrize("reason", ["in flight", "too early", "nothing there"])
def test_nothing_is_likely_that_may_not_be_sent(reason: str) -> None:
    """On its way, backing off, or not there: there is no check to choose."""
    one = watch(in_flight=reason == "in flight", not_before=99.0 if reason == "too early" else 0.0)
    several = watches() if reason == "nothing there" else watches(one)
    assert several.likeliest(60.0) is None


def test_two_looks_are_a_second_apart() -> None:
    """However likely it is, a generation is not looked at again within a second."""
    one = watch()
    several = watches(one)
    several.seen(one, done=False, looked_at=60.0, now=60.2)
    assert several.chance(one, 60.9) == 0
    assert several.chance(one, 61.1) > 0
    assert several.next_at(0.0) >= 61.0


def test_after_two_minutes_a_look_is_always_worth_it() -> None:
    """A generation is looked at every two minutes, however long it may still take."""
    one = watch(not_done_at=1_000.0)
    several = watches(one)
    assert several.chance(one, 1_119.0) < 1
    assert several.chance(one, 1_120.0) == 1
    assert several.next_at(0.95) <= 1_120.0


def test_the_next_look_is_when_the_first_is_worth_it() -> None:
    """Of several, the one that gets there first decides; those on their way do not count."""
    one, other = watch("a", 0.0), watch("b", 30.0)
    several = watches(one, other)
    first = several.next_at(0.2)
    assert first == pytest.approx(DurationForecast().quantile(0.2), rel=0.01)
    one.in_flight = True
    assert several.next_at(0.2) == pytest.approx(first + 30)
    other.in_flight = True
    assert several.next_at(0.2) == math.inf


def test_overdue_is_a_minute_after_almost_certain() -> None:
    """Between a likely check and an overdue one lies a minute."""
    one = watch()
    several = watches(one)
    certain = several.next_at(0.95)
    assert not several.is_overdue(one, certain + 59.0)
    assert several.is_overdue(one, certain + 61.0)


def test_a_look_brackets_the_duration() -> None:
    """Not done at 50, done at 70: the forecast learns what lies between."""
    one = watch(accepted_at=100.0)
    several = watches(one)
    before = several.forecast.cdf(70.0) - several.forecast.cdf(50.0)
    several.seen(one, done=False, looked_at=150.0, now=150.5)
    assert one.not_done_at == 50.0
    several.seen(one, done=True, looked_at=169.5, now=170.0)
    assert several.forecast.cdf(70.0) - several.forecast.cdf(50.0) > before + 0.2


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
    watches(one).seen(one, done=False, looked_at=1.0, now=1.0)
    assert one.failures == 0
