"""Estimates of how long a batch takes: from the plan's limits and what was measured so far.

Pure functions; all times are seconds of the server's clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs

from llamagen_async.client import ClientStats
from llamagen_async.plans import HOUR, Plan, RequestKind
from llamagen_async.ratelimit import LimitsSnapshot

__all__ = ["TYPICAL", "Outlook", "affordable", "requests_each", "time_left"]

TYPICAL: Final = 60.0
"""Seconds that a comic takes, as long as none was seen to end."""
_USUAL_REQUESTS: Final = 2.3
"""Requests per comic, as long as few were seen to end: the create, and somewhat more than one
check."""
_SPARING_REQUESTS: Final = 2.15
"""Requests per comic under a daily limit, where checks come later so that fewer find nothing."""
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


def requests_each(plan: Plan, stats: ClientStats | None = None, *, running: int = 0) -> float:
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
    queued, checks = outlook.queued, max(0.0, outlook.each - 1.0)
    room = _room(snapshot)
    if room is not None and not quotas:
        room_for_new = max(0.0, room - len(outlook.ages) * checks)
        queued = min(queued, math.floor(room_for_new / outlook.each))
    requests = queued * outlook.each + len(outlook.ages) * checks
    left = [_time_for(math.ceil(requests), snapshot, quotas=quotas)]
    several = queued + len(outlook.ages) > 1
    longest = outlook.typical * (_SLOWEST if several else 1.0)
    if queued:
        left.append(_time_for(queued, snapshot, quotas=quotas) + longest)
    if outlook.ages:
        left.append(max(_SOON, longest - min(outlook.ages)))
    return max(left)


def affordable(plan: Plan, snapshot: LimitsSnapshot) -> int | None:
    """Return how many new comics the long windows have room for now; `None` if there is no such.

    This is a likely number, because the checks that a comic needs are not known beforehand.
    """
    room = _room(snapshot)
    return None if room is None else math.floor(room / requests_each(plan))


def _room(snapshot: LimitsSnapshot) -> int | None:
    """Return how many requests the long windows have room for; `None` if there is no such."""
    left = [window.free for window in snapshot.windows if window.limit.per >= HOUR]
    return min(left, default=None)


def _time_for(requests: int, snapshot: LimitsSnapshot, *, quotas: bool) -> float:
    """Return when the last of these requests can be sent, if all windows are kept full."""
    longest = snapshot.paused_for
    for window in snapshot.windows:
        missing = requests - window.free
        if missing <= 0 or (window.limit.per >= HOUR and not quotas):
            continue
        # Slots that are spent at the same moment are free again at the same moment.
        first = window.limit.per if window.free else window.next_free_in
        if window.limit.per >= HOUR:  # the whole of a day's requests is spent at its beginning
            rest = (missing - 1) // window.limit.limit * window.limit.per
        else:
            rest = (missing - 1) * window.limit.interval
        longest = max(longest, first + rest)
    return longest
