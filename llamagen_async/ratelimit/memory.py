"""The ledger of one process: all its threads and event loops share it, nothing is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Final

import attrs

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    KeyState,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    Workload,
    fits_blob,
)
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog

__all__ = ["KeptCount", "MemoryLedger"]

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


@attrs.frozen
class KeptCount:
    """The count of a key that nobody uses, in a tenth of the memory."""

    plan: Plan
    """The plan whose windows it counts."""
    state: bytes
    """The window log, as JSON."""
    over_at: float
    """The time from which nothing in it counts any more."""
    blob: str | None
    """The text that was saved with it."""

    def is_over(self, now: float) -> bool:
        """Whether it is as good as a new one."""
        return self.blob is None and self.over_at <= now


class MemoryLedger:
    """A ledger in this process.

    Args:
        plan: Which windows to count.
        now: The time in seconds; the same for all threads.
        times: The times to keep to.
        wall: The unix time in seconds, for windows that are aligned to the clock.
        kept: What an earlier ledger has counted.
    """

    def __init__(
        self,
        plan: Plan,
        now: Callable[[], float],
        times: LedgerTimes,
        *,
        wall: Callable[[], float] | None = None,
        kept: KeptCount | None = None,
    ) -> None:
        self._now = now
        self._wall = wall
        self._log = WindowLog(plan, times)
        self._lock = threading.Lock()
        self._blob: str | None = None
        if kept is not None:
            log = WindowLog.load(kept.plan, json.loads(kept.state), times)
            self._log = log if plan == kept.plan else log.with_plan(plan)
            self._blob = kept.blob

    def kept(self) -> KeptCount:
        """Return all that it knows, to go on from later."""
        with self._lock:
            state = _encode(self._log.dump()).encode()
            return KeptCount(self._log.plan, state, self._log.over_at, self._blob)

    def __repr__(self) -> str:
        return f"MemoryLedger({self._log.plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        with self._lock:
            if plan != self._log.plan:
                self._log = self._log.with_plan(plan)

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Hold a slot if one is free for this claim, else give it a position."""
        with self._lock:
            return self._log.reserve(claim, self._tick())

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Spend the slot; pause everyone if the answer was 429."""
        with self._lock:
            return self._log.commit(grant, outcome, workload, self._tick())

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up the slot or the position of a claim."""
        with self._lock:
            self._log.release(claim, client, self._tick(), leaves=leaves)

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests that were spent without a slot, and pause everyone."""
        with self._lock:
            self._log.record(number, self._tick(), pause=pause)

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now."""
        with self._lock:
            return self._log.snapshot(self._tick(), position=position)

    async def load_blob(self) -> str | None:
        """Return the text that was saved last."""
        return self._blob

    async def save_blob(self, text: str) -> None:
        """Keep a text, unless it is too long."""
        if fits_blob(text):
            self._blob = text

    async def aclose(self) -> None:
        """Do nothing: the count outlives its users."""

    def _tick(self) -> float:
        now = self._now()
        if self._wall is not None:
            self._log.wall_offset = self._wall() - now
        return now
