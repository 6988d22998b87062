"""When one generation is to be looked at: decided on what is known of it, told the time.

A look is due at the age that a plan for its price names, or at which it is likely enough. However
dear it is, somebody who waits interactively gets one every few minutes; and a generation that has
been ready for minutes, most probably, goes before everything else.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from llamagen_async.forecasting.forecasts import ANY, Profile, ProfileForecast
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.ratelimit import Slot

__all__ = ["Generation", "Poll", "PollTarget", "PollThreshold", "times_of"]

Generation = ComicGeneration | Animation

_LONGEST_INTERVAL: Final = 1_800.0
"""Seconds after which a generation is looked at again, however long it may still take."""
_HARDLY: Final = 0.005
"""A generation that was done earlier than the age of this chance is an exception."""
_PATIENCE: Final = 120.0
"""Seconds past that age, and past each look, after which somebody who waits interactively gets
another one, however dear it is."""
_PROBABLY: Final = 0.8
"""The chance to be done at which a generation may be said to be ready;"""
_LATE: Final = 165.0
"""so many seconds later a look goes before all, if somebody waits interactively."""
_POSSIBLY: Final = 0.02
"""The same chance for a batch, and"""
_BATCH_LATE: Final = 600.0
"""so many seconds later a look goes before its creates."""
_ANNOUNCED: Final = 0.99
"""The chance to be done at which an announcement is overdue, and"""
_ANNOUNCEMENT: Final = 60.0
"""so many seconds later it is looked at."""


@attrs.define(eq=False, repr=False)
class PollTarget:
    """One generation that somebody waits for."""

    id: str
    """The generation's id."""
    fetch: Callable[[Slot], Awaitable[Generation]]
    """Sends one status check in the slot it is given."""
    accepted_at: float
    """When the server accepted it, in seconds of the server's clock."""
    kind: Profile = ANY
    """What was asked for."""
    urgent: bool = True
    """Whether somebody waits interactively."""
    announced: bool = False
    """Whether its end will be announced."""
    has_ended: bool = False
    """Whether its end was announced, and what it came to was not."""
    not_done_at: float = 0.0
    """Its age in seconds when it was last seen not done."""
    not_before: float = -math.inf
    """A check makes no sense before this time."""
    deadline: float = math.inf
    """When the last of those who wait for it gives up."""
    in_flight: bool = False
    """Whether a check is on its way."""
    failures: int = 0
    """Checks in a row that brought no answer."""
    place: int = 0
    """Where it stands: the number of its entry in a group or among those that rest."""

    def age(self, now: float) -> float:
        """Return the seconds since it was accepted."""
        return now - self.accepted_at


@attrs.frozen(eq=False, repr=False)
class PollThreshold:
    """When a look is due: either its chance or its price decides."""

    chance: float | None = None
    """The look must find the generation done with this chance."""
    price: float = 0.0
    """What a look that finds nothing costs, in seconds of lateness."""

    def due_age(self, learned: ProfileForecast, not_done_at: float) -> float:
        """Return the age at which a generation is to be looked at."""
        if self.chance is not None:
            return learned.forecast.age_when(self.chance, not_done_at=not_done_at)
        return learned.plan(self.price).next_age(not_done_at)


@attrs.frozen(eq=False, repr=False)
class Poll:
    """The look that is worth most now, or when there will be one."""

    watch: PollTarget | None
    """What to look at; `None` if no look is due."""
    chance: float
    """The chance that it is done."""
    overdue: bool
    """Whether it goes before everything else."""
    next_at: float
    """When the next look is due, if none is now; infinite if there is none."""


def times_of(
    watch: PollTarget, learned: ProfileForecast, bar: PollThreshold
) -> tuple[float, float]:
    """Return when a look is due, and when it goes before everything else.

    Args:
        watch: What to look at.
        learned: What is known of its kind.
        bar: What is asked of a look.
    """
    forecast, last = learned.forecast, watch.not_done_at
    if watch.has_ended:
        return -math.inf, math.inf
    if watch.announced:
        age = forecast.age_when(_ANNOUNCED, not_done_at=last) + _ANNOUNCEMENT
        return watch.accepted_at + age, watch.accepted_at + age + _BATCH_LATE
    due = min(bar.due_age(learned, last), last + _LONGEST_INTERVAL)
    if bar.chance is not None:
        return watch.accepted_at + due, math.inf
    if watch.urgent:
        due = min(due, max(last, forecast.quantile(_HARDLY)) + _PATIENCE)
        late = forecast.age_when(_PROBABLY, not_done_at=last) + _LATE
    else:
        late = forecast.age_when(_POSSIBLY, not_done_at=last) + _BATCH_LATE
    return watch.accepted_at + min(due, late), watch.accepted_at + late
