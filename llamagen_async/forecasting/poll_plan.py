"""When to check a generation, given what a check costs that finds it still running.

Checking early notices the end early; checking often costs. For a known distribution of durations
and a price in seconds of lateness for each check that finds nothing, the best ages to check at
follow from the end backwards: the cost of not having checked until an age is the lateness up to
the next check, the price if that one finds nothing, and what comes after it. A plan is worked out
once for a distribution and a price; then it answers at once.

A check is due at the age that the plan names, or at which the generation is likely enough to be
done. Nobody starves: however high the price is, somebody who waits interactively gets a check
every few minutes; and a check at a generation that has been ready for minutes, most probably, goes
before everything else.

Nothing here reads a clock or sends anything.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Protocol

import attrs

from llamagen_async.forecasting.forecast import AGES, FIRST_VERSION, DurationForecast

__all__ = [
    "PRICES",
    "PollPlan",
    "PollThreshold",
    "Polled",
    "ProfileForecast",
    "due_times",
    "next_price",
]

# Tuned numbers; what "chosen" and "tried" mean stands in forecast.py.

PRICES: Final = tuple(2.0**level for level in range(-4, 15))
"""The prices that plans are made for, in seconds of lateness (chosen).

A plan costs milliseconds, and a price between two of these would hardly change it.
"""
_RARE: Final = 1e-3
"""Chance to be still running below which an age is not planned for (chosen)."""
_RARELY: Final = 0.02
"""Chance to be needed below which a planned check is not counted (chosen for speed)."""
_LATE_GROWTH: Final = 1.25
"""Ratio of the ages of two checks that follow each other past the plan's end (chosen)."""
_LEAST_GROWTH: Final = 1.02
"""Ratio of the ages of two checks that follow each other, at least (chosen)."""
_SAME_AGE: Final = 0.985
"""Part of an age that counts as that age (chosen).

It is well below the bins' 5 %: a check that was sent a little after its planned age counts as made
at that age, and the plan goes on from there.
"""
_LONGEST_INTERVAL: Final = 1_800.0
"""Seconds between two checks of one generation, at most (chosen)."""
_HARDLY: Final = 0.005
"""Chance to be done before which nobody who waits interactively gets an extra check.

It was 0.02 at first, and lowered with the price of slots.
"""
_INTERACTIVE_INTERVAL: Final = 120.0
"""Seconds between two checks for somebody who waits interactively, at most, whatever the price.

First 165, then 150: an end should be noticed within two minutes however busy the key is.
"""
_PROBABLY: Final = 0.8
"""Chance to be done from which the time until a check is overdue counts.

It was 0.95 at first, and lowered when checks became due every two minutes.
"""
_OVERDUE: Final = 165.0
"""Seconds after which a check goes before everything, if somebody waits interactively (chosen)."""
_POSSIBLY: Final = 0.02
"""Chance to be done from which the time until a batch's check is overdue counts (chosen)."""
_BATCH_OVERDUE: Final = 600.0
"""Seconds after which a batch's check goes before its creates (chosen)."""
_SELDOM: Final = 0.06
"""Chance to be done at half the age at which the first check for a lost announcement is made, at
least. Chosen near the age at which polling makes its first check, so that a lost one at most
doubles every wait.
"""
_USUALLY: Final = 0.5
"""Chance to be done once announcements have come: hardly any check is made in vain, and a lost
one at most doubles the wait for a generation that takes as long as usual (chosen).
"""
_ANNOUNCED: Final = 0.99
"""Chance to be done from which the wait for an announcement counts (chosen)."""
_ANNOUNCEMENT_OVERDUE: Final = 60.0
"""Seconds by which an announcement may be late before a check is due (chosen)."""


def next_price(price: float) -> float:
    """Return the least of `PRICES` that is not below `price`, or the highest."""
    return PRICES[bisect.bisect_left(PRICES, price, hi=len(PRICES) - 1)]


class PollPlan:
    """The ages at which to check one generation.

    Args:
        ages: Ages in seconds, ascending from 0.
        cumulative: The chance to be done at each age, in units of the last one.
        price: Cost of a check that finds nothing, in seconds of lateness.
    """

    def __init__(self, ages: Sequence[float], cumulative: Sequence[float], price: float) -> None:
        last = len(ages) - 1
        while last > 1 and 1.0 - cumulative[last - 1] / cumulative[-1] < _RARE:
            last -= 1
        self._last = last
        self._ages = ages = ages[: last + 1]
        total = cumulative[-1]
        self._running = running = [1.0, *(1.0 - done / total for done in cumulative[1 : last + 1])]
        """The chance to be still running at each age."""
        areas = [0.0]
        for (start, until), (before, after) in zip(pairwise(ages), pairwise(running), strict=True):
            areas.append(areas[-1] + (1.0 - (before + after) / 2) * (until - start))
        self._next = [last] * (last + 1)
        """For each age, the index in `ages` of the check that follows one at it."""
        self._polls = [1.0] * (last + 1)
        """For each age, how many checks follow one at it on average."""
        polls = [0.0] * (last + 1)
        polls[last] = running[last] * 3
        costs = [0.0] * (last + 1)
        costs[last] = running[last] * (price + price + ages[last] * 0.2)
        # Of a check at `end` after one at `start`, the cost is a straight line in the chance to be
        # done at `start`; only lines that are the lowest somewhere stay. Both that chance and the
        # lines' slopes fall with `start`, so the lowest one is found by going on from the last.
        lines, lowest = [last], 0
        heights = [0.0] * last + [areas[last] + costs[last]]
        for start in range(last - 1, -1, -1):
            done = 1.0 - running[start]
            then = lines[lowest]
            while lowest + 1 < len(lines):
                sooner = lines[lowest + 1]
                if heights[sooner] - done * ages[sooner] > heights[then] - done * ages[then]:
                    break
                lowest, then = lowest + 1, sooner
            self._next[start] = then
            polls[start] = running[then] + polls[then]
            self._polls[start] = 1.0 + polls[start] / running[start] if running[start] > 0 else 1.0
            lateness = areas[then] - areas[start] - done * (ages[then] - ages[start])
            costs[start] = lateness + costs[then] + price * running[start]
            heights[start] = areas[start] + costs[start]
            while lowest + 1 < len(lines) and _is_above(lines[-2], lines[-1], start, ages, heights):
                lines.pop()
            lines.append(start)

    def next_age(self, last_running_age: float) -> float:
        """Return the age at which to check next.

        Args:
            last_running_age: The age at which it was last seen running; 0 if it never was.
        """
        at = bisect.bisect_left(self._ages, last_running_age * _SAME_AGE, hi=self._last)
        if at >= self._last:
            return last_running_age * _LATE_GROWTH + 1.0
        return max(self._ages[self._next[at]], last_running_age * _LEAST_GROWTH)

    def expected_polls(self, last_running_age: float) -> float:
        """Return how many more checks it will take on average, the last one included."""
        at = bisect.bisect_left(self._ages, last_running_age * _SAME_AGE, hi=self._last)
        return self._polls[at]

    def expected_polls_before(self, age: float, *, last_running_age: float) -> float:
        """Return how many of them will come before `age` on average."""
        start = bisect.bisect_left(self._ages, last_running_age * _SAME_AGE, hi=self._last)
        at, count, chance = start, 0.0, 1.0
        while at < self._last and chance > _RARELY:
            at = self._next[at]
            if self._ages[at] >= age:
                break
            count += chance
            before = self._running[start]
            chance = self._running[at] / before if before > 0 else 0.0
        return count


def _is_above(
    left: int, middle: int, right: int, ages: Sequence[float], heights: Sequence[float]
) -> bool:
    """Return whether the second of three lines, of falling slopes, is the lowest nowhere."""
    return (heights[middle] - heights[right]) * (ages[left] - ages[middle]) >= (
        heights[left] - heights[middle]
    ) * (ages[middle] - ages[right])


@functools.lru_cache(len(PRICES))
def _first_plan(price: float) -> PollPlan:
    """Return the plan of all profiles of which nothing was observed."""
    return PollPlan(AGES, DurationForecast().cumulative, price)


@attrs.frozen(eq=False, repr=False)
class PollThreshold:
    """A chance or, if there is none, a price that a check has to be worth before it is due."""

    chance: float | None = None
    """The chance with which the check must find the generation done."""
    price: float = 0.0
    """Cost of a check that finds nothing, in seconds of lateness."""
    early: float = 0.0
    """Seconds before the time when it is worth that from which on it is due."""


@attrs.define(eq=False, repr=False)
class ProfileForecast:
    """The forecast of one profile, and the plans of status checks made from it."""

    forecast: DurationForecast = attrs.field(factory=DurationForecast)
    """How long generations of the profile take."""
    _plans: dict[float, PollPlan] = attrs.field(factory=dict[float, PollPlan], init=False)
    _version: int = attrs.field(default=-1, init=False)

    def plan(self, price: float) -> PollPlan:
        """Return when to check if a check that finds nothing costs `price` seconds."""
        if self._version != self.forecast.version:
            self._plans.clear()
            self._version = self.forecast.version
        plan = self._plans.get(price)
        if plan is None:
            is_new = self._version == FIRST_VERSION
            plan = _first_plan(price) if is_new else PollPlan(AGES, self.forecast.cumulative, price)
            self._plans[price] = plan
        return plan

    def highest_price(self, age: float, last_running_age: float) -> float:
        """Return the highest price at which a check is due, in seconds; 0 if it is at none.

        Args:
            age: The generation's age in seconds.
            last_running_age: The age at which it was last seen running; 0 if it never was.
        """
        due, not_due = 0, len(PRICES)
        while due < not_due:
            middle = (due + not_due) // 2
            if self.plan(PRICES[middle]).next_age(last_running_age) > age:
                not_due = middle
            else:
                due = middle + 1
        return PRICES[due - 1] if due else 0.0


class Polled(Protocol):
    """A generation that is waited for."""

    accepted_at: float
    """When the server accepted it, in seconds of the server's clock."""
    last_running_age: float
    """The age in seconds at which it was last seen running; 0 if it never was."""
    urgent: bool
    """Whether somebody waits for it interactively."""
    announced: bool
    """Whether its end will be announced."""
    heard: bool
    """Whether announcements come: one has come lately."""
    has_ended: bool
    """Whether its end was announced, and what it came to was not."""


def due_times(
    target: Polled, forecast: ProfileForecast, threshold: PollThreshold
) -> tuple[float, float]:
    """Return when a check is due, and when it goes before everything else.

    A generation whose end will be announced is checked later and less often: a check is wasted if
    the announcement comes, and one that does not come at most doubles the wait.

    Args:
        target: The generation to check.
        forecast: The forecast of its profile.
        threshold: The chance or the price that a check has to be worth.
    """
    durations, last = forecast.forecast, target.last_running_age
    if target.has_ended:
        return -math.inf, math.inf
    overdue = math.inf
    if threshold.chance is not None:
        due = min(
            durations.age_when(threshold.chance, last_running_age=last), last + _LONGEST_INTERVAL
        )
    else:
        due = min(forecast.plan(threshold.price).next_age(last), last + _LONGEST_INTERVAL)
        if target.urgent:
            due = min(due, max(last, durations.age_when(_HARDLY)) + _INTERACTIVE_INTERVAL)
            overdue = durations.age_when(_PROBABLY, last_running_age=last) + _OVERDUE
        else:
            overdue = durations.age_when(_POSSIBLY, last_running_age=last) + _BATCH_OVERDUE
        due = min(due, overdue)
    if target.announced:
        # The first check is made at twice the age of polling's first, and each at twice the age of
        # the one before. Either way the end is seen, at the latest, at twice the age at which
        # polling would have seen it.
        first = max(due, durations.age_when(_USUALLY if target.heard else _SELDOM))
        due = 2 * (last or first)
        overdue = max(due, overdue if last else 2 * overdue)
        late = durations.age_when(_ANNOUNCED, last_running_age=last) + _ANNOUNCEMENT_OVERDUE
        due = min(due, late)
    return target.accepted_at + due - threshold.early, target.accepted_at + overdue
