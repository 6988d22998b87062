"""The text in a row of the SQLite ledger: an account as JSON, with the clock it is kept by.

Reading and writing it is most of what a transaction costs, so what was read or written last is
kept: a row that still has the same text need not be read again, and times that were written
before need not be encoded again. Does no I/O and reads no clock.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from typing import Any, Final, Self

import attrs

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.sqlite.machine_clock import Anchor, Reading
from llamagen_async.ratelimit.window_log import WindowLog

__all__ = ["DAMAGED", "Row"]

DAMAGED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What goes wrong when a row is read that is not as it was written."""
_NUMBERS: Final = ("last_slot", "pauses", "burst", "accepted", "patience", "horizon", "most")
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@attrs.define
class Row:
    """An account as it is in its row, and what else the row holds."""

    account: WindowLog
    plan: Plan
    text: str = ""
    """What was read, or written."""
    anchor: Anchor | None = None
    horizon: float = 0.0
    """The longest window in seconds that any plan had."""
    most: int = 0
    """The largest limit that any plan had: no older requests than that matter."""
    spent: list[float] = attrs.field(factory=list[float])
    """When the responses came, as the text has it."""
    _encoded: list[str] = attrs.field(factory=list[str])
    """The same as text; empty if it was read and not written yet."""

    @classmethod
    def new(cls, account: WindowLog, plan: Plan) -> Self:
        """Return a row that is not in the file yet."""
        horizon = max(limit.per for limit in plan.limits)
        return cls(account, plan, horizon=horizon, most=max(limit.limit for limit in plan.limits))

    @classmethod
    def read(cls, text: str, plan: Plan, *, lease: float, ahead: float, grace: float) -> Self:
        """Return what the file has.

        Raises:
            DAMAGED: The text is not as it was written.
        """
        state = json.loads(text)
        clock = _check(state)
        row = cls.new(WindowLog.load(plan, state, lease=lease, ahead=ahead, grace=grace), plan)
        row.text = text
        row.anchor = Anchor(clock[0], Reading(*clock[1:])) if clock else None
        row.horizon = max(row.horizon, state["horizon"])
        row.most = max(row.most, state["most"])
        row.spent = state["spent"]
        return row

    def write(self, now: float) -> str:
        """Bring the text up to date, and return it."""
        state = self.account.dump()
        longest = max(limit.per for limit in self.plan.limits)
        if longest < self.horizon:
            # The account forgets what its own plan needs no more.
            before, after = self.spent, state["spent"]
            first, last = (bisect_right(before, now - age) for age in (self.horizon, longest))
            kept = after[bisect_right(after, now - longest) :]
            state["spent"] = before[first:last][-self.most :] + kept
        self._encode_times(state.pop("spent"))
        state["horizon"], state["most"] = self.horizon, self.most
        if (anchor := self.anchor) is not None:
            reading = anchor.reading
            state["clock"] = (anchor.now, reading.wall, reading.monotonic, reading.boot_id)
        self.text = f'{{"spent":[{",".join(self._encoded)}],{_encode(state)[1:]}'
        return self.text

    def _encode_times(self, spent: list[float]) -> None:
        before, encoded = self.spent, self._encoded
        first = bisect_left(before, spent[0]) if spent else 0
        known = len(before) - first
        if len(encoded) != len(before) or before[first:] != spent[:known]:
            self._encoded = list(map(repr, spent))
        else:
            self._encoded = [*encoded[first:], *map(repr, spent[known:])]
        self.spent = spent


def _check(state: dict[str, Any]) -> list[Any] | None:
    """Raise if a row holds what would only fail later, or count wrongly; return its clock."""
    clock: list[Any] | None = state.get("clock")
    numbers = [
        *state["spent"],
        *(number for pair in state["held"] for number in pair),
        *(until for _, until in state["line"]),
        *(state[name] for name in _NUMBERS),
        *(state[name] for name in ("paused_until", "pause_set_at") if state[name] is not None),
        *(clock[:3] if clock else ()),
    ]
    if not all(map(math.isfinite, numbers)) or state["burst"] < 1:
        raise ValueError("a number that can't be")
    if state["spent"] != sorted(state["spent"]):
        raise ValueError("times out of order")
    return clock
