"""Four algorithms by which a server may count requests, behind one interface.

Nobody outside the vendor knows which of them the real API uses, so the sandbox can enforce each of
them. Every decision is given the time; nothing in this file waits, reads a clock or knows what a
request is. Times are seconds from any origin, and never go back.

- `sliding`: a log of arrivals. An arrival at time a no longer counts at a + per.
- `fixed`: windows aligned to multiples of `per` on the server's clock, shifted by an offset.
- `bucket`: a token bucket. Capacity is the limit, it refills with limit / per tokens a second.
- `spaced`: at least per / limit between counted requests. A window longer than an hour, such as
  the daily one, is counted as `sliding`: a day of strict spacing would make no sense.
"""

from __future__ import annotations

import abc
import math
from collections import deque
from collections.abc import Iterable
from typing import Final, Literal, get_args

import attrs

from llamagen_async.plans import RateLimit
from llamagen_async.validation import InvalidRequestError

__all__ = [
    "ALGORITHMS",
    "TOLERANCE",
    "Algorithm",
    "Meter",
    "Remaining",
    "Window",
    "make_window",
]

Algorithm = Literal["sliding", "fixed", "bucket", "spaced"]
"""The name of an algorithm."""

ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
"""The names of all algorithms."""

TOLERANCE: Final = 1e-6
"""Seconds by which a request may come early.

A client that sends exactly `per` seconds after an earlier answer must be admitted, though adding
and scaling floats moves either time by some 1e-7 seconds (that is their step at today's unix time).
"""

_SPACED_AT_MOST: Final = 3600.0
"""The longest window, in seconds, that `spaced` spaces strictly: one hour, as a minute's limit may
be spaced, but a day's limit that allowed one request in 96 minutes would make no sense."""


@attrs.frozen
class Remaining:
    """The part of a window that is left."""

    limit: RateLimit
    """The window."""
    free: int
    """The number of requests that fit now."""
    reset: float
    """Seconds until one more request fits than now; 0 if the window is empty."""


class Window(abc.ABC):
    """The count of one `RateLimit`. It can be asked without counting."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit: Final = limit

    def admit(self, now: float) -> float | None:
        """Return `None` if the request passes and is counted, else the seconds until it could."""
        wait = self.wait(now)
        if wait is None:
            self.count(now)
        return wait

    @abc.abstractmethod
    def wait(self, now: float) -> float | None:
        """Return `None` if a request would pass, else the seconds until one could."""

    @abc.abstractmethod
    def count(self, now: float) -> None:
        """Count a request, whether it passes or not."""

    @abc.abstractmethod
    def remaining(self, now: float) -> Remaining:
        """Return the part of the window that is left."""


class Meter:
    """All windows of a key together: a request passes all of them or is counted in none.

    Args:
        limits: The windows.
        algorithm: The algorithm by which each window counts.
        offset: Seconds by which `fixed` windows are shifted against the clock's origin.
        count_refused: Whether a refused request counts too, and then in every window, as some
            servers do to punish retries.
    """

    def __init__(
        self,
        limits: Iterable[RateLimit],
        *,
        algorithm: Algorithm = "sliding",
        offset: float = 0.0,
        count_refused: bool = False,
    ) -> None:
        self._windows: Final = tuple(
            make_window(algorithm, limit, offset=offset) for limit in limits
        )
        self._count_refused: Final = count_refused

    def admit(self, now: float) -> float | None:
        """Return `None` if the request passes and is counted, else the seconds until it could.

        The seconds hold for a client that sends nothing else meanwhile.
        """
        wait = self._wait(now)
        if wait is None or self._count_refused:
            for window in self._windows:
                window.count(now)
        # A refused request that counts has just made the wait longer.
        return self._wait(now) if wait is not None and self._count_refused else wait

    def remaining(self, now: float) -> Remaining:
        """Return the remaining part of the window that has the least left."""
        return min((window.remaining(now) for window in self._windows), key=_tightness)

    def _wait(self, now: float) -> float | None:
        longest: float | None = None
        for window in self._windows:
            wait = window.wait(now)
            if wait is not None and (longest is None or wait > longest):
                longest = wait
        return longest


def make_window(algorithm: Algorithm, limit: RateLimit, *, offset: float = 0.0) -> Window:
    """Return an empty window that counts by `algorithm`.

    Args:
        algorithm: One of `ALGORITHMS`.
        limit: The limit that the window enforces.
        offset: Seconds by which `fixed` windows are shifted against the clock's origin.

    Raises:
        InvalidRequestError: There is no such algorithm.
    """
    if algorithm == "fixed":
        return _FixedWindow(limit, offset)
    if algorithm == "bucket":
        return _Bucket(limit)
    if algorithm == "spaced" and limit.per <= _SPACED_AT_MOST:
        return _Spaced(limit)
    if algorithm in ("sliding", "spaced"):
        return _SlidingWindow(limit)
    raise InvalidRequestError("algorithm", algorithm, " or ".join(map(repr, ALGORITHMS)))


class _SlidingWindow(Window):
    """A log of the times at which arrivals stop counting.

    Only the newest `limit` arrivals can decide anything, so no more of them are kept.
    """

    def __init__(self, limit: RateLimit) -> None:
        super().__init__(limit)
        self._ends: Final[deque[float]] = deque(maxlen=limit.limit)

    def wait(self, now: float) -> float | None:
        self._forget(now)
        return self._ends[0] - now if len(self._ends) == self.limit.limit else None

    def count(self, now: float) -> None:
        self._ends.append(self._end(now))

    def remaining(self, now: float) -> Remaining:
        self._forget(now)
        reset = self._ends[0] - now if self._ends else 0.0
        return Remaining(self.limit, free=self.limit.limit - len(self._ends), reset=reset)

    def _end(self, arrival: float) -> float:
        return arrival + self.limit.per

    def _forget(self, now: float) -> None:
        while self._ends and self._ends[0] <= now + TOLERANCE:
            self._ends.popleft()


class _FixedWindow(_SlidingWindow):
    """A sliding log in which all arrivals of an aligned window stop counting at that window's end.

    No arrival counts for longer than `per`, even if rounding puts it just before a window begins.
    """

    def __init__(self, limit: RateLimit, offset: float) -> None:
        super().__init__(limit)
        self._offset: Final = offset

    def _end(self, arrival: float) -> float:
        per = self.limit.per
        # Twice the tolerance: an arrival so near to the window's end that it is forgotten at once
        # belongs to the next window, or it would never be counted.
        nth = math.floor((arrival - self._offset + 2 * TOLERANCE) / per)
        return min(arrival + per, self._offset + (nth + 1) * per)


class _Bucket(Window):
    """A token bucket, stored as the time at which it will be full again.

    One number instead of two, and no sum of small refills that could drift.
    """

    def __init__(self, limit: RateLimit) -> None:
        super().__init__(limit)
        self._full_at = -math.inf

    def wait(self, now: float) -> float | None:
        wait = self._full_at + self.limit.interval - self.limit.per - now
        return wait if wait > TOLERANCE else None

    def count(self, now: float) -> None:
        # A refused request that counts takes what is there: a bucket is never emptier than empty.
        emptiest = now + self.limit.per + TOLERANCE
        self._full_at = min(max(self._full_at, now) + self.limit.interval, emptiest)

    def remaining(self, now: float) -> Remaining:
        missing = max(self._full_at - now, 0.0)
        free = math.floor((self.limit.per - missing + TOLERANCE) / self.limit.interval)
        reset = missing - (self.limit.limit - free - 1) * self.limit.interval
        return Remaining(
            self.limit, free=free, reset=max(reset, 0.0) if missing > TOLERANCE else 0.0
        )


class _Spaced(Window):
    """Strict spacing: after each request none passes for per / limit seconds."""

    def __init__(self, limit: RateLimit) -> None:
        super().__init__(limit)
        self._next_at = -math.inf

    def wait(self, now: float) -> float | None:
        wait = self._next_at - now
        return wait if wait > TOLERANCE else None

    def count(self, now: float) -> None:
        self._next_at = now + self.limit.interval

    def remaining(self, now: float) -> Remaining:
        wait = self.wait(now)
        return Remaining(self.limit, free=int(wait is None), reset=wait or 0.0)


def _tightness(remaining: Remaining) -> tuple[int, float]:
    return remaining.free, -remaining.reset
