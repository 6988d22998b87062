"""A lower bound for batch times: the result of a scheduler that knows every duration.

Results of real schedulers are measured against this bound. It is a discrete-event simulation of a
perfect sliding window with no latency, in which every create and every status check that collects
a result takes one slot. Comics are created in the order given. It sends nothing and reads no clock.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence

import attrs

from llamagen_async.plans import RateLimit

__all__ = ["Bound", "Schedule", "best_possible", "known_schedule"]


@attrs.frozen
class Bound:
    """The times at which the comics of a batch would be collected, in seconds."""

    last: float
    """Seconds from the start to the last comic; 0 if there are none."""
    mean: float
    """Seconds from asking for a comic to having it, the mean over all; 0 if there are none."""


@attrs.frozen
class Schedule(Bound):
    """A bound for one order of creating and collecting, and the waits in it."""

    create_wait: float
    """Seconds from being asked for to being sent, the mean over all creates."""
    latest: float
    """The longest time in seconds from being ready to being collected."""


def best_possible(
    durations: Sequence[float], limit: RateLimit, *, arrivals: Sequence[float] | None = None
) -> Bound:
    """Return the better of two schedules that know all durations.

    "Checks first" is better for the mean, "creates first" for the end of a large batch, so `last`
    and `mean` may come from different schedules.

    Args:
        durations: Seconds that each comic takes, in the order of the creates.
        limit: The window that all requests must fit.
        arrivals: When each comic is asked for, in seconds from the start, ascending; all at the
            start if not given.
    """
    schedules = [
        known_schedule(durations, limit, arrivals=arrivals, checks_first=flag)
        for flag in (True, False)
    ]
    return Bound(last=min(one.last for one in schedules), mean=min(one.mean for one in schedules))


def known_schedule(
    durations: Sequence[float],
    limit: RateLimit,
    *,
    checks_first: bool,
    arrivals: Sequence[float] | None = None,
) -> Schedule:
    """Return the times of a batch if every duration is known, so that no check is wasted.

    Args:
        durations: Seconds that each comic takes, in the order of the creates.
        limit: The window that all requests must fit.
        checks_first: Collect a comic as soon as one is ready and a slot is free, and create
            otherwise; if not, the other way round.
        arrivals: When each comic is asked for, in seconds from the start, ascending; all at the
            start if not given.
    """
    if not durations:
        return Schedule(last=0.0, mean=0.0, create_wait=0.0, latest=0.0)
    asked = [0.0] * len(durations) if arrivals is None else arrivals
    running: list[float] = []
    collected: list[float] = []
    sent: deque[float] = deque(maxlen=limit.limit)
    created = 0
    now = waited = latest = 0.0
    while len(collected) < len(durations):
        if len(sent) == limit.limit:
            now = max(now, sent[0] + limit.per)
        next_create = asked[created] if created < len(durations) else math.inf
        next_ready = running[0] if running else math.inf
        now = max(now, min(next_create, next_ready))
        if next_create <= now and not (next_ready <= now and checks_first):
            heapq.heappush(running, now + durations[created])
            waited += now - next_create
            created += 1
        else:
            latest = max(latest, now - heapq.heappop(running))
            collected.append(now)
        sent.append(now)
    return Schedule(
        last=max(collected),
        mean=(sum(collected) - sum(asked)) / len(durations),
        create_wait=waited / len(durations),
        latest=latest,
    )
