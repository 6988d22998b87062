"""When to look at a generation, given what a look costs that finds it not done.

Looking early notices the end early; looking often costs. For a known distribution of durations
and a price in seconds of lateness for each look that finds nothing, the best ages to look at
follow from the end backwards: the cost of not having looked until an age is the lateness up to
the next look, the price if that one finds nothing, and what comes after it. A plan is worked out
once for a distribution and a price; then it answers at once. It reads no clock.
"""

from __future__ import annotations

import bisect
import math
from typing import Final

from llamagen_async.forecasting.distribution import DurationForecast

__all__ = ["PRICES", "PollPlan", "next_price"]

PRICES: Final = tuple(2.0**level for level in range(-4, 15))
"""The prices that plans are made for, in seconds of lateness; what lies between them makes no
difference."""

_RARE: Final = 1e-3
"""Ages that so few reach are not planned for."""
_RARELY: Final = 0.02
"""Looks that are so seldom needed are not counted."""
_LATE_LOOKS: Final = 1.25
"""Past the plan's end each look comes so much later than the one before it."""
_LEAST: Final = 1.02
"""A look that finds nothing is followed by one at an age that is so much larger, at least."""
_AT: Final = 0.985
"""What was looked at a little after a planned age counts as looked at then."""


def next_price(price: float) -> float:
    """Return the least of `PRICES` that is not below `price`, or the highest."""
    return PRICES[min(bisect.bisect_left(PRICES, price), len(PRICES) - 1)]


class PollPlan:
    """The ages at which to look.

    Args:
        forecast: How long generations take.
        price: What a look costs that finds nothing, in seconds of lateness.
    """

    def __init__(self, forecast: DurationForecast, price: float) -> None:
        ages, chances = forecast.steps()
        last = len(ages) - 1
        while last > 1 and 1.0 - chances[last - 1] < _RARE:
            last -= 1
        self._ages = ages = ages[: last + 1]
        self._left = left = [1.0 - chance for chance in chances[: last + 1]]
        areas = [0.0]
        for at in range(last):
            areas.append(
                areas[-1] + (1.0 - (left[at] + left[at + 1]) / 2) * (ages[at + 1] - ages[at])
            )
        self._next = [last] * (last + 1)
        self._looks = [1.0] * (last + 1)
        looks = [0.0] * (last + 1)
        looks[last] = left[last] * 3
        costs = [0.0] * (last + 1)
        costs[last] = left[last] * (price + price + ages[last] * 0.2)
        for start in range(last - 1, -1, -1):
            best, then = math.inf, last
            done = 1.0 - left[start]
            base = done * ages[start] - areas[start]
            for end in range(start + 1, last + 1):
                lateness = areas[end] - done * ages[end] + base
                if lateness >= best:
                    break
                cost = lateness + costs[end]
                if cost < best:
                    best, then = cost, end
            self._next[start] = then
            looks[start] = left[then] + looks[then]
            self._looks[start] = 1.0 + looks[start] / left[start] if left[start] > 0 else 1.0
            costs[start] = best + price * left[start]

    def next_age(self, not_done_at: float) -> float:
        """Return the age at which to look next.

        Args:
            not_done_at: The age at which it was last seen not done; 0 if it was never looked at.
        """
        at = self._position(not_done_at)
        if at >= len(self._next) - 1:
            return not_done_at * _LATE_LOOKS + 1.0
        return max(self._ages[self._next[at]], not_done_at * _LEAST)

    def looks(self, not_done_at: float) -> float:
        """Return how many more looks it will take on average, the last one included."""
        return self._looks[self._position(not_done_at)]

    def looks_before(self, age: float, *, not_done_at: float) -> float:
        """Return how many of them will come before `age` on average."""
        at = start = self._position(not_done_at)
        count, chance = 0.0, 1.0
        last = len(self._next) - 1
        while at < last and chance > _RARELY:
            at = self._next[at]
            if self._ages[at] >= age:
                break
            count += chance
            chance = self._left[at] / self._left[start] if self._left[start] > 0 else 0.0
        return count

    def _position(self, not_done_at: float) -> int:
        return min(bisect.bisect_left(self._ages, not_done_at * _AT), len(self._ages) - 1)
