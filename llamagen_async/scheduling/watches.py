"""The generations that are waited for, and which of them is likeliest to be done.

Told the time; sends nothing and wakes nobody.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import attrs

from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.ratelimit import Slot
from llamagen_async.scheduling.forecast import DurationForecast
from llamagen_async.scheduling.policy import ALMOST_CERTAIN

__all__ = ["Generation", "Watch", "Watches"]

Generation = ComicGeneration | Animation

_OVERDUE_AFTER: Final = 60.0
"""Seconds past the time when it was almost certain, after which a check goes before all."""
_LONGEST_INTERVAL: Final = 120.0
"""Seconds after which a generation is looked at again, however long it may still take."""
_LEAST_INTERVAL: Final = 1.0
"""Seconds between two looks at the same generation, at least."""
_LAST_CALL: Final = 10.0
"""Seconds before a wait ends in which a last look is due."""
_MOMENT: Final = 60.0
"""Seconds from acceptance in which whoever means to wait has begun to."""
_MOST_REMEMBERED: Final = 10_000
"""How many acceptances are remembered for generations that nobody waits for yet."""
_LEAST_SHARE: Final = 0.01
"""The same, as a share of its age: what takes long is not looked at all the time."""


@attrs.define(eq=False)
class Watch:
    """One generation that somebody waits for."""

    id: str
    """The generation's id."""
    fetch: Callable[[Slot], Awaitable[Generation]]
    """Sends one status check in the slot it is given."""
    accepted_at: float
    """When the server accepted it, in seconds of the server's clock."""
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

    def age(self, now: float) -> float:
        """Return the seconds since it was accepted."""
        return now - self.accepted_at


class Watches:
    """All generations of one client that are waited for."""

    def __init__(self, forecast: DurationForecast, *, least_interval: float | None = None) -> None:
        self.forecast = forecast
        self._least_interval = _LEAST_INTERVAL if least_interval is None else least_interval
        self._watches: dict[str, Watch] = {}
        self._accepted: dict[str, float] = {}
        """When each generation that nobody waits for yet was accepted."""
        self._expected: dict[str, float] = {}
        """Those of them that will be waited for in a moment."""

    def __len__(self) -> int:
        return len(self._watches)

    def __iter__(self) -> Iterator[Watch]:
        return iter(self._watches.values())

    def get(self, id_: str) -> Watch | None:
        """Return the watch of a generation, if it is waited for."""
        return self._watches.get(id_)

    def to_collect(self, now: float) -> int:
        """Return how many generations are waited for, or will be in a moment."""
        fresh = sum(now - accepted_at < _MOMENT for accepted_at in self._expected.values())
        return len(self._watches) + fresh

    def accept(self, id_: str, now: float, *, expected: bool) -> None:
        """Take note that the server has accepted a generation.

        Args:
            id_: Its id.
            now: The time.
            expected: Whether it will be waited for in a moment, so that it needs a check.
        """
        if expected:
            self._expected[id_] = now
        self._accepted[id_] = now
        while len(self._accepted) > _MOST_REMEMBERED:
            del self._accepted[next(iter(self._accepted))]

    def begin(self, id_: str, fetch: Callable[[Slot], Awaitable[Generation]], now: float) -> None:
        """Wait for a generation from now on.

        If nobody knows when it was accepted, it is taken to be half way through.
        """
        accepted_at = self._accepted.get(id_, now - self.forecast.quantile(0.5))
        self.add(Watch(id_, fetch, accepted_at))

    def add(self, watch: Watch) -> None:
        """Wait for the generation of `watch` from now on."""
        self._accepted.pop(watch.id, None)
        self._expected.pop(watch.id, None)
        self._watches[watch.id] = watch

    def leave(self, id_: str) -> None:
        """Wait for it no longer; it goes on."""
        watch = self._watches.pop(id_, None)
        if watch is not None:
            self.accept(id_, watch.accepted_at, expected=False)

    def remove(self, id_: str) -> None:
        """Forget a generation: its end was seen, or it can't be looked at."""
        self._watches.pop(id_, None)
        self._accepted.pop(id_, None)
        self._expected.pop(id_, None)

    def seen(self, watch: Watch, *, done: bool, looked_at: float, now: float) -> None:
        """Learn from a look at a generation.

        Args:
            watch: What was looked at.
            done: Whether it has ended.
            looked_at: When the check was sent: what it saw is not older.
            now: When the answer came: what it saw is not newer.
        """
        watch.failures = 0
        if done:
            self.forecast.observe(watch.not_done_at, max(watch.age(now), watch.not_done_at))
        else:
            watch.not_done_at = max(watch.not_done_at, watch.age(looked_at))
            pause = max(self._least_interval, _LEAST_SHARE * watch.not_done_at)
            watch.not_before = looked_at + pause

    def chance(self, watch: Watch, now: float, *, economize: bool = False) -> float:
        """Return what a check sent now is worth; 0 if none may be sent.

        That is the chance that it finds the generation done, and 1 if it is time to look anyway:
        after two minutes without a look, unless checks are scarce, and before a wait ends.
        """
        if watch.in_flight or now < watch.not_before:
            return 0.0
        if now >= self._latest(watch, economize=economize):
            return 1.0
        return self.forecast.chance_done(watch.age(now), not_done_at=watch.not_done_at)

    def likeliest(self, now: float, *, economize: bool = False) -> tuple[Watch, float] | None:
        """Return the watch whose check is worth most, and how much that is."""
        best: tuple[Watch, float] | None = None
        for watch in self._watches.values():
            chance = self.chance(watch, now, economize=economize)
            if chance > 0 and (best is None or chance > best[1]):
                best = (watch, chance)
        return best

    def is_overdue(self, watch: Watch, now: float, *, economize: bool = False) -> bool:
        """Whether its check should have been sent long ago, or has to be now."""
        if watch.deadline - _LAST_CALL <= now and now >= self._latest(watch, economize=True):
            return True
        return not economize and now >= self._when(watch, ALMOST_CERTAIN) + _OVERDUE_AFTER

    def next_at(self, threshold: float, *, economize: bool = False) -> float:
        """Return when the first check is worth that much; infinite if there is none."""
        times = (
            self._when(watch, threshold, economize=economize)
            for watch in self
            if not watch.in_flight
        )
        return min(times, default=math.inf)

    def _when(self, watch: Watch, threshold: float, *, economize: bool = False) -> float:
        age = self.forecast.age_when(threshold, not_done_at=watch.not_done_at)
        latest = self._latest(watch, economize=economize)
        return max(watch.not_before, min(watch.accepted_at + age, latest))

    def _latest(self, watch: Watch, *, economize: bool) -> float:
        last_call = watch.deadline - _LAST_CALL
        if watch.accepted_at + watch.not_done_at >= last_call:
            last_call = math.inf  # it has been looked at since
        if economize:
            return last_call
        return min(last_call, watch.accepted_at + watch.not_done_at + _LONGEST_INTERVAL)
