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

DAMAGED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""Errors of a row that is not as it was written."""
_NUMBERS: Final = ("pauses", "burst", "accepted", "grow_after", "horizon", "most")
_TIMES: Final = ("paused_until", "pause_set_at", "last_call", "silent_until")
"""Numbers that may be missing."""


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
        clock = _check(state)
        row = cls.new(WindowLog.load(plan, state, times), plan)
        row.anchor = Anchor(clock[0], Reading(*clock[1:])) if clock else None
        row.horizon = max(row.horizon, state["horizon"])
        row.most = max(row.most, state["most"])
        row.spent = state["spent"]
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


def _check(state: dict[str, Any]) -> list[Any] | None:
    """Return the clock of a row; raise if its content would fail later, or count wrongly."""
    clock: list[Any] | None = state.get("clock")
    spent: list[float] = state["spent"]
    if spent != sorted(spent):
        raise ValueError("times out of order")
    numbers = [
        *spent[:1],
        *spent[-1:],  # those between are no greater
        *(number for _, *slot in state["held"] for number in slot),
        *(state[name] for name in _NUMBERS),
        *(state[name] for name in _TIMES if state[name] is not None),
        *(clock[:3] if clock else ()),
    ]
    for seen_at, share, known, _, claimed, by, waiting, until, _ in state["clients"].values():
        entries = waiting if claimed is None else (claimed, *waiting)
        numbers += (seen_at, share, known, by, until, *(n for entry in entries for n in entry))
    if not all(map(math.isfinite, numbers)) or state["burst"] < 1:
        raise ValueError("a number that can't be")
    return clock


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


# Made once: that takes as long as a row.
_decode: Final = json.JSONDecoder(parse_constant=_refuse).decode
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
