"""The pace of reads that need no slot: so many a second for the whole key, and no more.

Where a plan does not meter status checks, nothing but politeness bounds them. Each generation has
its forecast, which says when a check is worth it; over a thousand of them that would still be
hundreds of requests a second. So the ledger counts these reads, too: all clients of a key, in any
process and on any host, share one bound, and each asks before it sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import attrs

from llamagen_async.stored_values import StateReader

__all__ = ["READS_PER_SECOND", "ReadPace"]

READS_PER_SECOND: Final = 5
"""Reads that are let through in any second of the server's clock, at most.

Tried with 60 comics, 10 creates a minute: with 2, 3, 5, 10 and any number of reads a second an end
is noticed 6.0, 4.7, 4.8, 5.2 and 5.2 s late on average, by 5 checks for each comic (the vendor's
clients make 12). Of 1,000 comics that run at once, the last end is noticed 504, 208 and 111 s late
with 2, 5 and 10: one round of checks at that pace, and what the forecast allows.
"""


@attrs.define(eq=False)
class ReadPace:
    """The reads that were let through lately."""

    admitted: list[float] = attrs.Factory(list[float])
    """Times at which they were, ascending, in seconds."""

    def admit(self, now: float, *, per: float = 1.0) -> float:
        """Count a read if it may leave now; return the seconds until one may.

        `per` are the seconds in which `READS_PER_SECOND` reads may leave.
        """
        last = self.admitted[-READS_PER_SECOND:]
        if len(last) == READS_PER_SECOND and (wait := last[0] + per - now) > 0:
            return wait
        self.admitted = [*last, now][-READS_PER_SECOND:]
        return 0.0

    @classmethod
    def load(cls, admitted: Sequence[float], read: StateReader) -> Self:
        """Return a pace with reads that were kept; raise if they can't be."""
        if len(admitted) > READS_PER_SECOND or list(admitted) != sorted(admitted):
            raise ValueError("reads that can't be")
        return cls([read.past(at) for at in admitted])
