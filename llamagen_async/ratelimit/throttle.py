"""What is learned from refusals: how long everyone pauses, and how many may leave back to back.

A 429 holds everyone for as long as the server asks; if it does not say, for twice as long as the
last time. One that the count can't explain, because the window had room, means that the server
counts more strictly than the plan says: the burst is halved, down to strict spacing, and grows back
slowly. Each time that growing was a mistake it takes twice as long.

Nothing here reads a clock: every call is told `now`, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from llamagen_async.plans import RateLimit

__all__ = ["Throttle", "guessed_pause"]

LONGEST_PAUSE: Final = 60.0
"""The longest pause in seconds that is guessed when the server names none."""
PATIENCE: Final = 5
"""How many windows' worth of answers without a refusal let the burst grow by one."""
MOST_PATIENCE: Final = 160
"""What that number is doubled up to, each time that growing was a mistake."""


class Throttle:
    """The refusals of one key.

    Args:
        rate: The plan's shortest window.
    """

    def __init__(self, rate: RateLimit) -> None:
        self.paused_until = -math.inf
        """When the last pause ends."""
        self.burst = rate.limit
        """How many requests may leave back to back."""
        self._rate = rate
        self._pause_set_at = -math.inf
        self._pauses = 0
        """How many in a row."""
        self._accepted = 0
        """Answers since the last one, or since the burst has grown."""
        self._patience = PATIENCE * rate.limit
        """How many answers without a refusal let the burst grow by one."""

    @property
    def spacing(self) -> RateLimit | None:
        """The window in which a burst that was halved may leave; `None` if all may."""
        if self.burst >= self._rate.limit:
            return None
        return RateLimit(self.burst, per=self.burst * self._rate.interval)

    def refuse(
        self, granted_at: float, now: float, retry_after: float | None, *, took_last: bool
    ) -> None:
        """Report a 429 to a request that was granted at `granted_at`.

        Everyone pauses for `retry_after` seconds in full; without it for twice as long as the
        last time. The burst is halved, unless the request took the window's last slot: a server
        whose clock differs a little explains that.
        """
        if granted_at >= self._pause_set_at:
            self._pauses += 1
            self._pause_set_at = now
        if retry_after is None:
            retry_after = guessed_pause(self._pauses, self._rate.interval)
        self.paused_until = max(self.paused_until, now + retry_after)
        self._accepted = 0
        if took_last:
            return
        if self.burst == 1 or self._patience > PATIENCE * self._rate.limit:
            self._patience = min(2 * self._patience, MOST_PATIENCE * self._rate.limit)
        self.burst = max(1, self.burst // 2)

    def accept(self, granted_at: float) -> None:
        """Report an answer other than 429.

        The next pause starts small again, and after several windows' worth of answers without
        a refusal the burst grows by one.
        """
        if granted_at < self._pause_set_at:
            return
        self._pauses = 0
        if self.burst < self._rate.limit:
            self._accepted += 1
            if self._accepted >= self._patience:
                self._accepted = 0
                self.burst += 1

    def dump(self) -> dict[str, Any]:
        """Return all that changes, as JSON can hold it."""
        return {
            "paused_until": _finite(self.paused_until),
            "pause_set_at": _finite(self._pause_set_at),
            "pauses": self._pauses,
            "burst": self.burst,
            "accepted": self._accepted,
            "patience": self._patience,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.paused_until = _infinite(state["paused_until"])
        self._pause_set_at = _infinite(state["pause_set_at"])
        self._pauses = state["pauses"]
        self.burst = min(state["burst"], self._rate.limit)
        self._accepted = state["accepted"]
        self._patience = state["patience"]


def guessed_pause(refusals: int, interval: float) -> float:
    """Return the seconds to wait after so many refusals in a row that named none."""
    return min(LONGEST_PAUSE, interval * 2.0 ** min(refusals - 1, 32))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _infinite(value: float | None) -> float:
    return -math.inf if value is None else value
