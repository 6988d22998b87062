"""The bounds beside the windows: a pause, a burst that 429s have taught, the pace of reads.

A 429 pauses everyone for as long as the server asks; if it names no time that can be, for twice as
long as the last time, until a request has another answer. A 429 that the count can't explain,
because the window had room, means that the server counts more strictly than the plan says: the
burst is halved, down to strict spacing, and grows back slowly. Each time that growing turns out to
be a mistake, the next growth takes twice as long.

Where a plan does not meter status checks, nothing but politeness bounds them. Each generation has
its forecast, which says when a check is worth it; over a thousand of them that would still be
hundreds of requests a second. So the ledger counts these reads, too: all clients of a key, in any
process and on any host, share one pace, and each asks before it sends.

Nothing here reads a clock: every call is told `now`, in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llamagen_async.plans import DAY, RateLimit
from llamagen_async.stored_values import NEVER, StateReader

__all__ = ["LONGEST_PAUSE", "READS_PER_SECOND", "Throttle", "guessed_pause"]

LONGEST_PAUSE: Final = DAY
"""Seconds that a server may ask to wait: the plans' longest window. A longer time is not believed,
and counts as none: a mistake in one header must not stop everyone for years."""
MAX_PAUSE: Final = 60.0
"""Seconds that a pause lasts at most when the server names no time: the plans' shortest window."""
GROW_AFTER: Final = 5
"""Windows' worth of answers other than 429 after which the burst grows by one."""
MAX_GROW_AFTER: Final = 160
"""Windows' worth up to which `GROW_AFTER` is doubled, each time that growing was a mistake."""
READS_PER_SECOND: Final = 5
"""Reads without a slot that are let through in any second of the server's clock, at most.

Tried with 60 comics, 10 creates a minute: with 2, 3, 5, 10 and any number of reads a second an end
is noticed 6.0, 4.7, 4.8, 5.2 and 5.2 s late on average, by 5 checks for each comic (the vendor's
clients make 12). Of 1,000 comics that run at once, the last end is noticed 504, 208 and 111 s late
with 2, 5 and 10: one round of checks at that pace, and what the forecast allows.
"""


class Throttle:
    """The pause, the burst and the pace of one key, whose plan's shortest window is `rate`."""

    def __init__(self, rate: RateLimit) -> None:
        self.paused_until: float = NEVER
        """Time at which the last pause ends."""
        self.burst: int = rate.limit
        """Requests that may leave back to back."""
        self.pauses: int = 0
        """Pauses in a row, without an answer to a request that was granted after the last one."""
        self._rate = rate
        self._pause_set_at = NEVER
        self._accepted = 0
        """Answers other than 429 since the last 429, or since the burst has grown."""
        self._grow_after = GROW_AFTER * rate.limit
        """Answers other than 429 after which the burst grows by one."""
        self._reads: list[float] = []
        """Times at which the last reads without a slot were let through, ascending."""

    @property
    def spacing(self) -> RateLimit | None:
        """The window in which a burst that was halved may leave; `None` if it was not halved."""
        if self.burst >= self._rate.limit:
            return None
        return RateLimit(self.burst, per=self.burst * self._rate.interval)

    def refuse(
        self, granted_at: float, now: float, retry_after: float | None, *, is_last_slot: bool
    ) -> None:
        """Report a 429 to a request that was granted at `granted_at`.

        It does not halve the burst if the request took the window's last slot: a server whose
        clock differs a little explains that.
        """
        if granted_at >= self._pause_set_at:
            self.pauses += 1
            self._pause_set_at = now
        if retry_after is None or not 0 <= retry_after <= LONGEST_PAUSE:
            retry_after = guessed_pause(self.pauses, self._rate.interval)
        self.paused_until = max(self.paused_until, now + retry_after)
        self._accepted = 0
        if is_last_slot:
            return
        if self.burst == 1 or self._grow_after > GROW_AFTER * self._rate.limit:
            self._grow_after = min(2 * self._grow_after, MAX_GROW_AFTER * self._rate.limit)
        self.burst = max(1, self.burst // 2)

    def pause(self, now: float, seconds: float) -> None:
        """Pause everyone for some seconds, without learning from it."""
        self.paused_until = max(self.paused_until, now + min(seconds, LONGEST_PAUSE))

    def accept(self, granted_at: float) -> None:
        """Report an answer other than 429; one to a request from before the pause says nothing."""
        if granted_at < self._pause_set_at:
            return
        self.pauses = 0
        if self.burst < self._rate.limit:
            self._accepted += 1
            if self._accepted >= self._grow_after:
                self._accepted = 0
                self.burst += 1

    def admit_read(self, now: float, *, per: float = 1.0) -> float:
        """Count a read that needs no slot if it may leave now; return the seconds until one may.

        `per` are the seconds in which `READS_PER_SECOND` of them may leave.
        """
        if self.paused_until > now:
            return self.paused_until - now
        last = self._reads[-READS_PER_SECOND:]
        if len(last) == READS_PER_SECOND and (wait := last[0] + per - now) > 0:
            return wait
        self._reads = [*last, now][-READS_PER_SECOND:]
        return 0.0

    def dump(self) -> dict[str, Any]:
        """Return all that changes, as JSON can hold it; `None` is what any plan begins with."""
        limit = self._rate.limit
        return {
            "paused_until": self.paused_until,
            "pause_set_at": self._pause_set_at,
            "pauses": self.pauses,
            "burst": None if self.burst == limit else self.burst,
            "accepted": self._accepted,
            "grow_after": None if self._grow_after == GROW_AFTER * limit else self._grow_after,
            "reads": self._reads,
        }

    def load(self, state: Mapping[str, Any], read: StateReader) -> None:
        """Take over what `dump` returned, but for a pause that is longer than any can be."""
        paused_until = read.time(state["paused_until"])
        self.paused_until = NEVER if paused_until > read.now + LONGEST_PAUSE else paused_until
        self._pause_set_at = read.past(state["pause_set_at"])
        self.pauses = read.whole(state["pauses"])
        self._accepted = read.whole(state["accepted"])
        if state["burst"] is not None:
            self.burst = min(read.whole(state["burst"], at_least=1), self._rate.limit)
        if state["grow_after"] is not None:
            self._grow_after = read.whole(state["grow_after"])
        reads = state["reads"]
        if len(reads) > READS_PER_SECOND or list(reads) != sorted(reads):
            raise ValueError("reads that can't be")
        self._reads = [read.past(at) for at in reads]


def guessed_pause(refusals: int, interval: float) -> float:
    """Return the seconds to pause after `refusals` 429s in a row that named no time."""
    return min(MAX_PAUSE, interval * 2.0 ** min(refusals - 1, 32))
