"""What a look that finds nothing costs: the price of a slot, in seconds of lateness.

A slot that is used now comes back one window later. Until then there is one slot less, and whoever
finds none waits. So its price is the time that somebody will wait for want of just this one: the
chance that by then more slots were wanted than there are, summed up over the coming window. Wanted
is a slot for each who will ask for something, and a look for each generation that will be done.
With many free slots and few who want them that is next to nothing; the last free slot of a busy
hour costs minutes.

Where nobody has to wait, slots are free for looking, but looks are not to be spent before they are
worth most: the price is at least the smallest at which the looks that are wanted fit the slots
there will be, over the time until everything is probably done and, where each generation can have
a slot of its own, up to each moment at which spent slots come back.

While a batch's creates wait, a wasted slot delays everything that is still to be collected by one
interval of the limit, so that is its price. Told the time; sends nothing.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Final, overload

import attrs

from llamagen_async.forecasting.forecasts import ProfileForecast
from llamagen_async.forecasting.poll_plan import PRICES, next_price

__all__ = [
    "ArrivalRate",
    "DemandForecast",
    "PollGroup",
    "Returning",
    "SlotForecast",
    "price_of_delay",
]

_SHARE: Final = 0.7
"""The part of all delayed comics that a wasted slot really delays, as measured."""
_MOMENTS: Final = 10
"""Into so many parts the coming window is divided."""
_SUMMED_UP: Final = 40
"""Numbers up to this one are counted exactly; larger ones are as good as normally distributed."""
_PROBABLY: Final = 0.95
"""The chance with which everything is done at the end of the time that is looked ahead."""
_OVERBOOKED: Final = 1.7
"""How many looks may be planned for a slot that comes soon: many turn out to be needless."""
_MOST_LOOKS: Final = 15
"""Looks that one generation is worth, however free the slots are."""
_MOST_LOOKS_OF_MANY: Final = 9
"""The same while others keep coming, who will want slots, too."""
_MEMORY: Final = 240.0
"""Seconds over which arrivals are averaged."""
_MOMENT: Final = 0.5
"""Seconds within which several requests are one arrival."""


@attrs.frozen(eq=False, repr=False)
class SlotForecast:
    """The slots that there will be."""

    free: int
    """Slots that are free now."""
    returning: Sequence[float]
    """Seconds until each spent slot comes back, ascending."""
    interval: float
    """Seconds from slot to slot on average."""
    per: float
    """Seconds after which a spent slot comes back."""
    arrivals: float = 0.0
    """Requests a second that will be asked for and go before looks."""


@attrs.frozen(eq=False, repr=False)
class PollGroup:
    """Generations that may be looked at, all of the same kind and about the same age."""

    learned: ProfileForecast
    """What is known of their kind."""
    age: float
    """Seconds since they were accepted."""
    not_done_at: float
    """The age at which they were last seen not done."""
    count: float = 1.0
    """How many they are."""


class DemandForecast:
    """The slots that will be wanted; good for as long as nothing new is known.

    Args:
        candidates: The generations that run.
        supply: The slots that there will be.
        newcomers: What is known of those that are not asked for yet.
    """

    def __init__(
        self, candidates: Sequence[PollGroup], supply: SlotForecast, newcomers: ProfileForecast
    ) -> None:
        self._moments = _wanted(candidates, supply, newcomers)
        self.least = _least_price(candidates, supply)
        """The price where nobody has to wait."""

    def price(self, supply: SlotForecast) -> float:
        """Return what one of the slots that there will be costs."""
        wait = 0.0
        for moment, wanted in self._moments:
            there = supply.free + bisect.bisect_right(supply.returning, moment)
            wait += _chance_of_at_least(there, mean=wanted)
        return max(self.least, next_price(_SHARE * wait * supply.per / _MOMENTS))


def price_of_delay(delayed: int, interval: float) -> float:
    """Return the price while creates wait: a wasted slot delays all that is left."""
    return next_price(_SHARE * delayed * interval)


class Returning(Sequence[float]):
    """Seconds until each spent slot comes back, ascending; a view that is made at once.

    Args:
        spent: When slots were spent, ascending.
        first: The position of the first that has not come back.
        per: Seconds after which a spent slot comes back.
        now: The time.
    """

    def __init__(self, spent: list[float], first: int, per: float, now: float) -> None:
        self._spent = spent
        self._first = first
        self._later = per - now

    def __len__(self) -> int:
        return len(self._spent) - self._first

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[float]: ...
    def __getitem__(self, index: int | slice) -> float | Sequence[float]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._spent[self._first + index % len(self)] + self._later


class ArrivalRate:
    """How often somebody asks for something interactively."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._since: float | None = None
        self._last = -math.inf

    def note(self, now: float) -> None:
        """Take note of an arrival; several at one moment are one."""
        if now - self._last < _MOMENT:
            return
        if self._since is None:
            self._since = now
        self._weight = self._weight * math.exp((self._last - now) / _MEMORY) + 1.0
        self._last = now

    def rate(self, now: float) -> float:
        """Return the arrivals a second that are to be expected."""
        if self._since is None:
            return 0.0
        weight = self._weight * math.exp((self._last - now) / _MEMORY)
        seen = 1.0 - math.exp(-max(now - self._since, _MEMORY / 4) / _MEMORY)
        return max(0.0, weight - 1.0) / _MEMORY / seen  # one arrival is no rate


def _wanted(
    candidates: Sequence[PollGroup], supply: SlotForecast, newcomers: ProfileForecast
) -> list[tuple[float, float]]:
    """Return moments of the coming window, and how many slots will be wanted by then."""
    step = supply.per / _MOMENTS
    moments: list[tuple[float, float]] = []
    area = 0.0
    for number in range(_MOMENTS):
        moment = step * (number + 0.5)
        wanted = sum(
            one.count
            * one.learned.forecast.chance_done(one.age + moment, not_done_at=one.not_done_at)
            for one in candidates
        )
        if supply.arrivals:
            done = newcomers.forecast.cdf(moment)
            wanted += supply.arrivals * (moment + area + done * step / 2)
            area += done * step
        moments.append((moment, wanted))
    return moments


def _least_price(candidates: Sequence[PollGroup], supply: SlotForecast) -> float:
    """Return the smallest price at which the looks that are wanted fit the slots."""
    running = sum(candidate.count for candidate in candidates)
    ceiling = PRICES.index(price_of_delay(math.ceil(running), supply.interval))
    horizon = max((_remaining(candidate) for candidate in candidates), default=0.0)
    returning = supply.returning
    returned = bisect.bisect_right(returning, horizon)
    moments: list[tuple[float, float]] = []
    for place in sorted({0, returned // 2, returned - 1}):
        if 0 <= place < returned:
            moment = returning[place]
            before = bisect.bisect_left(returning, moment)
            slots = supply.free + before - supply.arrivals * moment
            if slots >= running:
                moments.append((moment, slots))
    total = supply.free + returned + max(0.0, horizon - supply.per) / supply.interval
    most = _MOST_LOOKS_OF_MANY if supply.arrivals else _MOST_LOOKS
    total = min(total - supply.arrivals * horizon, most * running)

    def fits(level: int) -> bool:
        price = PRICES[level]
        plans = [(one, one.learned.plan(price)) for one in candidates]
        wanted = sum(one.count * plan.looks(one.not_done_at) for one, plan in plans)
        return wanted <= total and all(
            sum(
                one.count * plan.looks_before(one.age + moment, not_done_at=one.not_done_at)
                for one, plan in plans
            )
            <= _OVERBOOKED * slots
            for moment, slots in moments
        )

    return PRICES[bisect.bisect_left(range(ceiling), x=True, key=fits)]


def _remaining(candidate: PollGroup) -> float:
    forecast = candidate.learned.forecast
    age = forecast.age_when(_PROBABLY, not_done_at=candidate.not_done_at)
    return max(0.0, age - candidate.age)


def _chance_of_at_least(number: int, *, mean: float) -> float:
    """Return the chance that `number` or more come where `mean` are expected (Poisson)."""
    if number <= 0:
        return 1.0
    if number > _SUMMED_UP or mean > _SUMMED_UP:
        return 0.5 * math.erfc((number - 0.5 - mean) / math.sqrt(2.0 * mean)) if mean > 0 else 0.0
    term = fewer = math.exp(-mean)
    for count in range(1, number):
        term *= mean / count
        fewer += term
    return max(0.0, 1.0 - fewer)
