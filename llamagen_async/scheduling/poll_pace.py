"""The pace of reads that need no slot: so many a second for the whole key, and no more.

Where a plan does not meter status checks, nothing but politeness bounds them. Each generation has
its forecast, which says when a check is worth it; over a thousand of them that would still be
hundreds of requests a second. So the reads of a key share one bound, and the check that is worth
most goes first, as for slots. What somebody reads in person counts, too, and goes before checks.

All clients of a key in one event loop share the bound. Processes divide it by how many clients of
the key the store knows, which each learns with the slots that it takes. A process that never takes
one has a bound of its own, and nobody counts it: to be known, it would have to ask the store again
and again, which costs more than the reads that it makes. One that creates comics is known from its
first create on.
"""

from __future__ import annotations

from collections import deque
from typing import Final
from weakref import WeakKeyDictionary

from llamagen_async.ratelimit import Limiter

__all__ = ["READS_PER_SECOND", "ReadPace", "pace_of"]

READS_PER_SECOND: Final = 5
"""Reads that leave in any second of the server's clock, at most.

Tried with 60 comics, 10 creates a minute: with 2, 3, 5, 10 and any number of reads a second an end
is noticed 6.0, 4.7, 4.8, 5.2 and 5.2 s late on average, by 5 checks for each comic (the vendor's
clients make 12). Of 1,000 comics that run at once, the last end is noticed 504, 208 and 111 s late
with 2, 5 and 10: one round of checks at that pace, and what the forecast allows.
"""


class ReadPace:
    """The reads that the clients of one limiter have sent lately without a slot."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque(maxlen=READS_PER_SECOND)
        """When the last reads were sent, ascending, in seconds of the server's clock."""

    def wait(self, now: float, *, elsewhere: int = 0) -> float:
        """Return the seconds until the next read may leave; 0 if it may leave now.

        Args:
            now: The time.
            elsewhere: Clients of the key in other event loops and processes, each of which has the
                same part of what is sent in a second.
        """
        if len(self._sent) < READS_PER_SECOND:
            return 0.0
        return max(0.0, self._sent[0] + 1.0 + elsewhere - now)

    def take(self, now: float) -> None:
        """Count a read that leaves now."""
        self._sent.append(now)


_paces: Final[WeakKeyDictionary[Limiter, ReadPace]] = WeakKeyDictionary()


def pace_of(limiter: Limiter) -> ReadPace:
    """Return the pace of a limiter's key, which all of its clients share."""
    pace = _paces.get(limiter)
    if pace is None:
        pace = _paces[limiter] = ReadPace()
    return pace
