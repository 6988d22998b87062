"""The best that anybody could do: what a scheduler that knows every duration achieves.

It gives results of real schedulers something to be measured against. It never talks to a server
and never looks at a clock: it is a discrete-event simulation of a perfect sliding window with no
latency, in which every create and every status check that collects a result takes one slot.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence

import attrs

from llamagen_async.plans import RateLimit

__all__ = ["Bound", "best_possible"]


@attrs.frozen
class Bound:
    """When the comics of a batch would be collected, in seconds."""

    last: float
    """The last one, from the start; 0 if there are none."""
    mean: float
    """The mean over all, each from being asked for; 0 if there are none."""


def best_possible(
    durations: Sequence[float], limit: RateLimit, *, arrivals: Sequence[float] | None = None
) -> Bound:
    """Return the better of two schedules that know all durations.

    "Checks first" collects a comic as soon as one is ready and a slot is free, and creates
    otherwise; "creates first" does it the other way round. The one is better for the mean, the
    other for the end of a large batch, so `last` and `mean` may come from different schedules.
    Comics are created in the order given.

    Args:
        durations: Seconds that each comic takes, in the order of the creates.
        limit: The window that all requests must fit.
        arrivals: When each comic is asked for, in seconds from the start, ascending; all at the
            start if not given.
    """
    if not durations:
        return Bound(last=0.0, mean=0.0)
    asked = [0.0] * len(durations) if arrivals is None else arrivals
    schedules = [_collected(durations, asked, limit, checks_first=flag) for flag in (True, False)]
    return Bound(
        last=min(max(times) for times in schedules),
        mean=min(sum(times) - sum(asked) for times in schedules) / len(durations),
    )


def _collected(
    durations: Sequence[float], asked: Sequence[float], limit: RateLimit, *, checks_first: bool
) -> list[float]:
    """Return the time at which each comic is collected, in order of collecting."""
    running: list[float] = []
    collected: list[float] = []
    sent: deque[float] = deque(maxlen=limit.limit)
    created = 0
    now = 0.0
    while len(collected) < len(durations):
        if len(sent) == limit.limit:
            now = max(now, sent[0] + limit.per)
        next_create = asked[created] if created < len(durations) else math.inf
        next_ready = running[0] if running else math.inf
        now = max(now, min(next_create, next_ready))
        if next_create <= now and not (next_ready <= now and checks_first):
            heapq.heappush(running, now + durations[created])
            created += 1
        else:
            heapq.heappop(running)
            collected.append(now)
        sent.append(now)
    return collected
