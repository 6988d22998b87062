"""The text in a row of the SQLite ledger: a window log as JSON, with the clock it is kept by.

Does no I/O and reads no clock.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from typing import Any, Final, Self

import attrs

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.sqlite.machine_clock import Anchor, Reading
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog

__all__ = ["DAMAGED", "StoredWindowLog"]

DAMAGED: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    RecursionError,
)
"""Errors of a row that is not as it was written."""
_WHOLE_NUMBERS: Final = ("pauses", "burst", "accepted", "grow_after", "most")
_NUMBERS: Final = ("horizon", "paused_until")
_PAST: Final = ("pause_set_at", "last_call", "silent_until")
"""Times that are over, or missing."""
_MOST_WAITING: Final = 1_000_000
"""Requests that a client may have waiting: more than that would be a wait for months."""
_LONGEST_LEASE: Final = 130
"""Leases of this client that the lease of another may be: a request takes 600 s at most, a lease
5 s more, and at least those 5 s."""
_LATEST_CLOCK: Final = 1e10
"""Real seconds that a file may have been in use: three hundred years."""


@attrs.define
class StoredWindowLog:
    """A window log as it is in its row, and what else the row holds."""

    log: WindowLog
    plan: Plan
    anchor: Anchor | None = None
    horizon: float = 0.0
    """Seconds of the longest window that any plan had."""
    most: int = 0
    """The largest limit that any plan had: older requests than that number do not matter."""
    spent: list[float] = attrs.field(factory=list[float])
    """Times of the responses that were read."""
    latest: float = -math.inf
    """The latest of all times that were read and have to be over."""

    @classmethod
    def new(cls, log: WindowLog, plan: Plan) -> Self:
        """Return a row that is not in the file yet."""
        horizon = max(limit.per for limit in plan.limits)
        return cls(log, plan, horizon=horizon, most=max(limit.limit for limit in plan.limits))

    @classmethod
    def read(cls, text: str, plan: Plan, times: LedgerTimes) -> Self:
        """Parse the text of a row in the file.

        Raises:
            DAMAGED: The text is not as it was written.
        """
        state = _decode(text)
        clock, latest = _check(state, times)
        row = cls.new(WindowLog.load(plan, state, times), plan)
        row.anchor = Anchor(clock[0], Reading(*clock[1:])) if clock else None
        row.horizon = max(row.horizon, state["horizon"])
        row.most = max(row.most, state["most"])
        row.spent, row.latest = state["spent"], latest
        return row

    def write(self, now: float) -> str:
        """Return the text to store."""
        state = self.log.dump()
        longest = max(limit.per for limit in self.plan.limits)
        if longest < self.horizon:
            # The window log drops the times that its own plan needs no more; others may need them.
            before, after = self.spent, state["spent"]
            first, last = (bisect_right(before, now - age) for age in (self.horizon, longest))
            kept = after[bisect_right(after, now - longest) :]
            state["spent"] = before[first:last][-self.most :] + kept
        state["horizon"], state["most"] = self.horizon, self.most
        if (anchor := self.anchor) is not None:
            reading = anchor.reading
            state["clock"] = (anchor.now, reading.wall, reading.monotonic, reading.boot_id)
        return _encode(state)


def _check(state: dict[str, Any], times: LedgerTimes) -> tuple[list[Any] | None, float]:
    """Return the clock of a row, and the latest of the times that have to be over.

    Raise if its content would fail later, count wrongly, or have everyone wait for ever.
    """
    clock: list[Any] | None = state.get("clock")
    spent: list[float] = state["spent"]
    if spent != sorted(spent):
        raise ValueError("times out of order")
    numbers = [state[name] for name in _NUMBERS if state[name] is not None]
    past = [state[name] for name in _PAST if state[name] is not None]
    past += spent[-1:]  # those before are no greater
    whole = [state[name] for name in _WHOLE_NUMBERS]
    for _, until, granted_at, *_ in state["held"]:
        past.append(granted_at)
        numbers.append(until)
        if until - granted_at > _LONGEST_LEASE * times.lease:
            raise ValueError("a lease that can't be")
    for client in state["clients"].values():
        found = _numbers_of(client)
        numbers += found[0]
        past += found[1]
        whole += found[2]
    numbers += clock[:3] if clock else ()
    if any(type(number) is not int for number in whole):
        raise ValueError("no whole number")
    if not all(map(math.isfinite, (*numbers, *past, *whole, *spent[:1]))) or state["burst"] < 1:
        raise ValueError("a number that can't be")
    if clock and not 0 <= clock[0] <= _LATEST_CLOCK:
        raise ValueError("a clock that can't be")
    return clock, max(past, default=-math.inf)


def _numbers_of(client: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the numbers of a client: times of any kind, times that are over, whole numbers."""
    seen_at, share, known, _, claimed, by, waiting, until, _ = client
    past, whole = [seen_at], [share, known]
    for priority, count, *when in waiting if claimed is None else (claimed, *waiting):
        past += when
        whole += (priority, count)
        if count > _MOST_WAITING:
            raise ValueError("more requests than can wait")
    return [by, until], past, whole


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


# Made once: that takes as long as a row.
_decode: Final = json.JSONDecoder(parse_constant=_refuse).decode
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
