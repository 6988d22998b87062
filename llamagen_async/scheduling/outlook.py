"""Estimates of how long comics take that wait or run: from the limits and what was measured so far.

Pure functions; all times are seconds of the server's clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import attrs

from llamagen_async.forecasting import Forecasts
from llamagen_async.plans import HOUR, Plan, RequestKind
from llamagen_async.ratelimit import LimitsSnapshot, LimitState
from llamagen_async.scheduling.policy import PLENTIFUL, check_threshold

__all__ = [
    "TYPICAL",
    "Counts",
    "Outlook",
    "Pace",
    "affordable",
    "checks_late",
    "requests_each",
    "room_again_in",
    "time_left",
]

TYPICAL: Final = 60.0
"""Seconds that a comic takes, as long as none was seen to end."""
_USUAL_REQUESTS: Final = 2.3
"""Requests per comic, as long as few were seen to end: the create, and somewhat more than one
check."""
_SPARING_REQUESTS: Final = 2.15
"""Requests per comic under a daily limit, where checks come later so that fewer find nothing."""
_RARE: Final = 0.96
"""The chance of being done from which on a check waits for more than what a comic usually takes:
above the scheduler's `ALMOST_CERTAIN`, which it asks for while a long window is merely short."""
_ENOUGH: Final = 3
"""Finished comics from which on the measured number of requests is used."""
_SLOWEST: Final = 1.5
"""Duration of the last one of several comics, divided by that of a typical one."""
_SOON: Final = 5.0
"""Seconds that are assumed to be left for a comic that should have been done already."""


@attrs.frozen
class Outlook:
    """The work that is still to do."""

    queued: int
    """Comics that are not sent yet."""
    ages: Sequence[float] = ()
    """How long each running comic has been running."""
    typical: float = TYPICAL
    """How long a comic takes."""
    each: float = _USUAL_REQUESTS
    """Requests that a comic takes, its create included."""
    uploads: int = 0
    """Files that are uploaded before, each of which takes a request."""


class Counts(Protocol):
    """The `ClientStats` of a client, which stands above this file."""

    @property
    def total(self) -> int:
        """Requests of all kinds."""
        ...

    @property
    def finished(self) -> int:
        """Generations that were seen to end."""
        ...


@attrs.frozen
class Pace:
    """How fast the comics of a key go now."""

    limits: LimitsSnapshot
    """The limits as they are now."""
    typical: float
    """How long a comic takes."""
    each: float
    """Requests that a comic takes, its create included."""

    def time_left(self, queued: int, ages: Sequence[float] = ()) -> float:
        """Return in about how many seconds the last of these comics is done.

        Long windows, such as a day, are waited for.

        Args:
            queued: Comics that are not sent yet.
            ages: How long each running comic has been running.
        """
        return time_left(Outlook(queued, ages, self.typical, self.each), self.limits, quotas=True)

    def next_turn(self, queued: int) -> float:
        """Return in about how many seconds the first of these comics has been sent.

        So there is room for another one that waits.
        """
        if not queued:
            return 0.0
        first = Outlook(1, (), 0.0, 1.0)
        return max(self.limits.next_free_in, time_left(first, self.limits, quotas=True))


def requests_each(plan: Plan, stats: Counts | None = None, *, running: int = 0) -> float:
    """Return how many metered requests a comic takes: measured, or what is usual."""
    if RequestKind.STATUS not in plan.metered:
        return 1.0
    if stats is None or stats.finished < _ENOUGH:
        return _SPARING_REQUESTS if plan.quotas else _USUAL_REQUESTS
    return min(4.0, max(2.0, (stats.total - running) / stats.finished))


def time_left(outlook: Outlook, snapshot: LimitsSnapshot, *, quotas: bool = False) -> float:
    """Return about how many seconds are left.

    Args:
        outlook: The work that is still to do.
        snapshot: The limits as they are now.
        quotas: Whether long windows (a day) are waited for, too; if not, stories for which they
            have no room are not sent and take no time.
    """
    running, checks = len(outlook.ages), max(0.0, outlook.each - 1.0)
    now = affordable(outlook.each, snapshot, running=running, uploads=outlook.uploads)
    queued = outlook.queued if now is None else min(outlook.queued, now)
    slowest = outlook.typical * (_SLOWEST if queued + running > 1 else 1.0)
    longest = max(slowest, checks_late(outlook, snapshot))
    requests = math.ceil(queued * outlook.each + running * checks) + outlook.uploads
    left = [_time_for(requests if now is None else min(requests, _room(snapshot)), snapshot)]
    if queued:
        left.append(_time_for(queued + outlook.uploads, snapshot) + longest)
    if outlook.ages:
        left.append(max(_SOON, longest - min(outlook.ages)))
    if quotas and queued < outlook.queued:
        left.append(_time_for_later(outlook.queued - queued, outlook, snapshot))
    return max(left)


def affordable(
    each: float, snapshot: LimitsSnapshot, *, running: int = 0, uploads: int = 0
) -> int | None:
    """Return how many new comics the long windows have room for now; `None` if there is no such.

    A comic is started if there is room for it and for one check of each that runs.

    Args:
        each: Requests that a comic takes, its create included.
        snapshot: The limits as they are now.
        running: Comics that run and have to be checked.
        uploads: Files that are uploaded before.
    """
    if not _long_windows(snapshot):
        return None
    spent = running * (_least(each) - 1) + uploads
    return max(0, _room(snapshot) - spent) // _least(each)


def checks_late(outlook: Outlook, snapshot: LimitsSnapshot) -> float:
    """Return the age at which comics are checked if no check may be wasted; 0 if some may be.

    The day has time enough, but hardly more requests than one check for each comic.
    """
    new = affordable(outlook.each, snapshot, running=len(outlook.ages), uploads=outlook.uploads)
    if new is None or _least(outlook.each) == 1:
        return 0.0
    new, running = min(new, outlook.queued), len(outlook.ages)
    if running:
        chance = check_threshold(_room(snapshot), queued=new, running=running)
    elif new:  # as it will be when the first of them was sent
        chance = check_threshold(_room(snapshot) - 1, queued=new - 1, running=1)
    else:
        chance = PLENTIFUL
    return Forecasts().overall.forecast.age_when(chance) if chance > _RARE else 0.0


def room_again_in(snapshot: LimitsSnapshot) -> float:
    """Return in how many seconds a long window has room again, if what it has now is spent."""
    return max((_back_in(window) for window in _long_windows(snapshot)), default=0.0)


def _time_for_later(queued: int, outlook: Outlook, snapshot: LimitsSnapshot) -> float:
    """Return when comics are done for which the long windows have no room now."""
    tightest = min(_long_windows(snapshot), key=lambda window: window.limit.limit)
    each_time = max(1, tightest.limit.limit // _least(outlook.each))
    times, last = divmod(queued - 1, each_time)
    whole_again = attrs.evolve(
        snapshot,
        windows=tuple(
            attrs.evolve(window, used=0, free=window.limit.limit, next_free_in=0.0)
            for window in snapshot.windows
        ),
        paused_for=0.0,
    )
    then = attrs.evolve(outlook, queued=last + 1, ages=(), uploads=0)
    return room_again_in(snapshot) + times * tightest.limit.per + time_left(then, whole_again)


def _least(each: float) -> int:
    """Return how many requests a comic takes at least: its create and, if that counts, a check."""
    return 1 if each <= 1 else 2


def _long_windows(snapshot: LimitsSnapshot) -> list[LimitState]:
    return [window for window in snapshot.windows if window.limit.per >= HOUR]


def _room(snapshot: LimitsSnapshot) -> int:
    """Return how many requests the long windows have room for."""
    return min(window.free for window in _long_windows(snapshot))


def _back_in(window: LimitState) -> float:
    """Return when a window that is full, or soon will be, has room again."""
    return window.limit.per if window.free else window.next_free_in


def _time_for(requests: int, snapshot: LimitsSnapshot) -> float:
    """Return when the last of these requests can be sent, if all short windows are kept full."""
    longest = snapshot.paused_for
    for window in snapshot.windows:
        missing = requests - window.free
        if missing > 0 and window.limit.per < HOUR:
            # Slots that are spent at the same moment are free again at the same moment.
            longest = max(longest, _back_in(window) + (missing - 1) * window.limit.interval)
    return longest
