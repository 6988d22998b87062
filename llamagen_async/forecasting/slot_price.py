"""The price of a slot: how many seconds of lateness a status check that finds nothing causes.

Where to begin: a check must be the likelier to find its generation done the fewer slots are free.
The simplest rule that works is a chance of at least `0.15 + 0.45 * (1 - free / limit)`, and of 0.9
while a batch's creates wait. `SlotPrice` puts prices in the place of chances, which gains:

| ratio to a scheduler that knows every duration | simple rule | prices |
|---|---|---|
| batches of 4 to 100, last comic / mean comic | 1.047 / 1.191 | 1.048 / 1.154 |
| mean at 1 / 2.5 / 4 comics a minute, one by one | 1.135 / 1.242 / 1.461 | 1.087 / 1.196 / 1.418 |
| seconds until a create is sent at these rates | 0.11 / 1.39 / 5.19 | 0.26 / 1.28 / 4.45 |

(`benchmarks/scheduling.py`, 8 seeds.) Whoever wants another rule writes another `quote`.

The strategy. A slot that is used now comes back one window later. Until then there is one slot
less, and whoever finds none waits. So its price is the time that somebody will wait for want of
just this one: the chance that by then more slots were wanted than there are, summed up over the
coming window. Wanted is a slot for each request that will come, and a check for each generation
that will be done. With many free slots and little demand that is next to nothing; the last free
slot of a busy hour costs minutes.

Where nobody has to wait, slots are free for checks, but checks are not to be spent before they are
worth most: the price is at least the smallest at which the checks that are wanted fit the slots
there will be, over the time until everything is probably done and, where each generation can have
a slot of its own, up to each moment at which spent slots come back.

While a batch's creates wait, a wasted slot delays everything that is still to be collected by one
interval of the limit, so that is its price.

Nothing here reads a clock, sends anything or knows what a request is.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import attrs

from llamagen_async.forecasting.poll_plan import (
    PRICES,
    PollThreshold,
    ProfileForecast,
    next_price,
)
from llamagen_async.forecasting.profiles import Forecasts

__all__ = [
    "FREE_POLLS",
    "PollGroup",
    "PollGroups",
    "Quote",
    "SlotForecast",
    "SlotPrice",
    "arrival_rate",
    "arrival_weight",
    "faded_weight",
]

FREE_POLLS: Final = PollThreshold(price=1.0)
"""The threshold where checks cost nothing: they are made as often as they may tell something."""

# Tuned numbers; what "chosen" and "tried" mean stands in forecast.py.

_SHARE: Final = 0.7
"""Part of all delayed generations that a wasted slot really delays.

Tried: 1.0 gives 1.061 / 1.178 and 1.254; 0.5 gives 1.055 / 1.161 and 1.238, but creates wait 2.45
instead of 2.08 s.
"""
_MOMENTS: Final = 10
"""Parts into which the coming window is divided (chosen for speed)."""
_SUMMED_UP: Final = 40
"""Largest number that is counted exactly; beyond it a normal distribution is near enough."""
_PROBABLY: Final = 0.95
"""Chance with which a generation is done at the end of the time that is looked ahead (chosen)."""
_OVERBOOKED: Final = 1.7
"""Checks that may be planned for a slot that comes soon: many turn out to be needless.

Tried: 1.0 gives 1.075 / 1.189 and 1.241, 3.0 gives 1.087 / 1.169 and 1.250.
"""
_MOST_POLLS: Final = 15
"""Checks that one generation is worth, however free the slots are.

Tried: 9 gives 1.062 / 1.165 and 1.251; with 30 batches are the same, and creates wait 2.29 instead
of 2.08 s.
"""
_MOST_POLLS_OF_MANY: Final = 9
"""Checks that one generation is worth while others keep coming (chosen)."""
_MEMORY: Final = 240.0
"""Seconds over which arrivals are averaged.

Tried: batches do not depend on it; 120 gives 1.251 and 480 gives 1.247, but creates wait 2.31 and
2.15 instead of 2.08 s.
"""
_AT_ONCE: Final = 0.5
"""Seconds within which several requests are one arrival (chosen)."""
_REVISIONS: Final = 8
"""Revisions of the demand within a second, at most (chosen for speed)."""
_FEW: Final = 4
"""Generations observed to end below which a batch's checks teach how long comics take (chosen)."""
_TEACHING: Final = 4.0
"""Factor by which such a check is cheaper than it would be otherwise.

Tried: with 1.0 no figure changes.
"""


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
    """Requests a second that will come and go before checks."""


@attrs.frozen(eq=False, repr=False)
class PollGroup:
    """Generations that may be checked, all of the same profile and about the same age."""

    forecast: ProfileForecast
    """The forecast of their profile."""
    age: float
    """Seconds since they were accepted."""
    last_running_age: float
    """The age in seconds at which they were last seen running; 0 if they never were."""
    count: float = 1.0
    """How many they are."""


class PollGroups(Protocol):
    """The generations that are waited for."""

    def running(self, now: float, *, urgent: bool = False) -> float:
        """Return the number of all of them, or of those that somebody waits for interactively."""
        ...

    def groups(self, now: float, *, urgent: bool | None = None) -> list[PollGroup]:
        """Return those that may be checked; of all, or of one sort of waiting."""
        ...


@attrs.frozen(eq=False, repr=False)
class Quote:
    """Thresholds of status checks at the present price."""

    urgent: PollThreshold
    """The threshold of checks that somebody waits for interactively."""
    batch: PollThreshold
    """The threshold of a batch's checks."""
    is_elevated: bool
    """Whether a slot costs more now than it will when some have come back."""

    def earlier(self, seconds: float) -> Quote:
        """Return thresholds at which each check is due some seconds earlier."""
        urgent, batch = (attrs.evolve(one, early=seconds) for one in (self.urgent, self.batch))
        return Quote(urgent, batch, self.is_elevated)


class SlotPrice:
    """The price of one client's slots: the strategy that decides when a check is worth one.

    What slots will be wanted for is worked out whenever something was learned or has changed, but
    not more often than a few times a second: it does not move faster than that. What one of them
    costs then depends on how many are free, and so is worked out each time.
    """

    def __init__(self) -> None:
        self._demands: tuple[_Demand | None, _Demand | None] = (None, None)
        self._state: object = None
        self._revisions: deque[float] = deque([-math.inf] * _REVISIONS, maxlen=_REVISIONS)

    def quote(
        self,
        now: float,
        slots: SlotForecast,
        polls: PollGroups,
        forecasts: Forecasts,
        *,
        batch_waits: bool,
        unfinished: float,
    ) -> Quote:
        """Return the thresholds of status checks at the present price.

        Args:
            now: The time.
            slots: The slots that there will be.
            polls: The generations that are waited for.
            forecasts: How long they take.
            batch_waits: Whether a batch's create is next in the queue.
            unfinished: Generations that are not collected yet, those included that wait to be
                sent; only while a batch's create is next.
        """
        if not slots.free and not batch_waits:
            # The limiter has to say how long the wait is; then the price is asked for again.
            return Quote(urgent=FREE_POLLS, batch=FREE_POLLS, is_elevated=False)
        self._revise(now, slots, polls, forecasts.overall, batch_waits=batch_waits)
        everyone, interactive = self._demands
        if everyone is None or batch_waits:
            is_elevated = False
            price = next_price(_SHARE * unfinished * slots.interval)
            if forecasts.observed < _FEW:
                price /= _TEACHING
        else:
            price = everyone.price(slots)
            is_elevated = price > everyone.least
        urgent = price if interactive is None else min(price, interactive.price(slots))
        return Quote(PollThreshold(price=urgent), PollThreshold(price=price), is_elevated)

    def _revise(
        self,
        now: float,
        slots: SlotForecast,
        polls: PollGroups,
        newcomers: ProfileForecast,
        *,
        batch_waits: bool,
    ) -> None:
        """Work out the demand of all, and of those who wait interactively.

        Where that is the same, or if a batch's creates decide on the price, it is `None`.
        """
        running, urgent = polls.running(now), polls.running(now, urgent=True)
        version = newcomers.forecast.version
        state = (version, running, urgent, batch_waits, slots.interval, slots.per)
        is_old = now - self._revisions[-1] >= slots.interval / 4
        is_missing = not batch_waits and self._demands[0] is None
        may_be_revised = now - self._revisions[0] >= 1.0 or is_missing
        if (state != self._state or is_old) and may_be_revised:
            self._revisions.append(now)
            self._state = state
            everyone = interactive = None
            if not batch_waits:
                everyone = _demand(polls.groups(now), slots, newcomers)
            if urgent and (batch_waits or urgent < running):
                interactive = _demand(polls.groups(now, urgent=True), slots, newcomers)
            self._demands = everyone, interactive


@attrs.frozen(eq=False, repr=False)
class _Demand:
    """The slots that will be wanted; good for as long as nothing new is known."""

    least: float
    """The price where nobody has to wait."""
    moments: list[tuple[float, float]]
    """Seconds from now, and how many slots will be wanted by then."""

    def price(self, slots: SlotForecast) -> float:
        """Return what one of the slots that there will be costs."""
        wait = 0.0
        for moment, wanted in self.moments:
            there = slots.free + bisect.bisect_right(slots.returning, moment)
            wait += _chance_of_at_least(there, mean=wanted)
        return max(self.least, next_price(_SHARE * wait * slots.per / _MOMENTS))


def _demand(
    groups: Sequence[PollGroup], slots: SlotForecast, newcomers: ProfileForecast
) -> _Demand:
    """Return the slots that will be wanted.

    Args:
        groups: The generations that run.
        slots: The slots that there will be.
        newcomers: The forecast of the generations that are not asked for yet.
    """
    step = slots.per / _MOMENTS
    moments: list[tuple[float, float]] = []
    area = 0.0
    for number in range(_MOMENTS):
        moment = step * (number + 0.5)
        wanted = 0.0
        for one in groups:
            wanted += one.count * one.forecast.forecast.chance_done(
                one.age + moment, last_running_age=one.last_running_age
            )
        if slots.arrivals:
            done = newcomers.forecast.chance_done(moment)
            wanted += slots.arrivals * (moment + area + done * step / 2)
            area += done * step
        moments.append((moment, wanted))
    return _Demand(_least_price(groups, slots), moments)


def _least_price(groups: Sequence[PollGroup], slots: SlotForecast) -> float:
    """Return the smallest price at which the checks that are wanted fit the slots."""
    running = horizon = 0.0
    for one in groups:
        running += one.count
        done = one.forecast.forecast.age_when(_PROBABLY, last_running_age=one.last_running_age)
        horizon = max(horizon, done - one.age)
    returned = bisect.bisect_right(slots.returning, horizon)
    moments: list[tuple[float, float]] = []
    for at in sorted({0, returned // 2, returned - 1}):
        if 0 <= at < returned:
            moment = slots.returning[at]
            before = bisect.bisect_left(slots.returning, moment)
            free = slots.free + before - slots.arrivals * moment
            if free >= running:
                moments.append((moment, free))
    total = slots.free + returned + max(0.0, horizon - slots.per) / slots.interval
    most = _MOST_POLLS_OF_MANY if slots.arrivals else _MOST_POLLS
    total = min(total - slots.arrivals * horizon, most * running)
    low, high = 0, PRICES.index(next_price(_SHARE * math.ceil(running) * slots.interval))
    while low < high:
        middle = (low + high) // 2
        if _fits(PRICES[middle], groups, total, moments):
            high = middle
        else:
            low = middle + 1
    return PRICES[low]


def _fits(
    price: float, groups: Sequence[PollGroup], total: float, moments: list[tuple[float, float]]
) -> bool:
    """Whether the checks that are planned at a price fit the slots.

    Args:
        price: The price, in seconds of lateness.
        groups: The generations that run.
        total: Slots until everything is probably done.
        moments: Seconds from now, and the slots that there will be until then.
    """
    wanted = 0.0
    for one in groups:
        wanted += one.count * one.forecast.plan(price).expected_polls(one.last_running_age)
    if wanted > total:
        return False
    for moment, slots in moments:
        wanted = 0.0
        for one in groups:
            wanted += one.count * one.forecast.plan(price).expected_polls_before(
                one.age + moment, last_running_age=one.last_running_age
            )
        if wanted > _OVERBOOKED * slots:
            return False
    return True


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


def arrival_weight(arrived: Iterable[float], now: float) -> float:
    """Return the weight of arrivals, which fade; several at one moment are one.

    Args:
        arrived: When somebody asked for a generation interactively, ascending.
        now: The time.
    """
    weight, last = 0.0, -math.inf
    for at in arrived:
        if at - last >= _AT_ONCE:
            weight = faded_weight(weight, at - last) + 1.0
            last = at
    return faded_weight(weight, now - last)


def faded_weight(weight: float, seconds: float) -> float:
    """Return what is left of a weight of arrivals after some seconds."""
    return weight * math.exp(-seconds / _MEMORY) if weight else 0.0


def arrival_rate(weight: float, age: float) -> float:
    """Return the arrivals a second that are to be expected.

    Args:
        weight: The weight of all arrivals.
        age: Seconds since the first of them.
    """
    seen = 1.0 - math.exp(-max(age, _MEMORY / 4) / _MEMORY)
    return max(0.0, weight - 1.0) / _MEMORY / seen  # one arrival is no rate
