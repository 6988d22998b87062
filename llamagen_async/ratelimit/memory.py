"""The ledger of one process: all its threads and event loops share it, nothing is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import (
    ANSWERED,
    Grant,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    apply_outcome,
    apply_reserve,
    fits_blob,
    no_slot,
    snapshot_of,
)
from llamagen_async.ratelimit.window_log import WindowLog

__all__ = ["MemoryLedger"]


class MemoryLedger:
    """A ledger in this process.

    Args:
        plan: Which windows to count.
        now: The time in seconds; the same for all threads.
        lease: Seconds after which a slot without a report counts as spent.
        wall: The unix time in seconds, for windows that are aligned to the clock.
    """

    is_remote = False

    def __init__(
        self,
        plan: Plan,
        now: Callable[[], float],
        *,
        lease: float,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._plan = plan
        self._now = now
        self._wall = wall if any(limit.aligned for limit in plan.limits) else None
        self._log = WindowLog(plan, lease=lease)
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._blob: str | None = None

    def __repr__(self) -> str:
        return f"MemoryLedger({self._plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        with self._lock:
            if plan != self._plan:
                self._plan = plan
                self._log = self._log.with_plan(plan)

    async def reserve(self, waiter_id: str) -> Grant | NoSlot:
        """Hold a slot if one is free, else give `waiter_id` a position in the wait queue."""
        with self._lock:
            now = self._now() if self._wall is None else self._tick()
            answer = self._log.reserve(waiter_id, now)
        return answer if isinstance(answer, Grant) else no_slot(answer, now)

    async def reserve_many(self, waiter_id: str, number: int) -> list[Grant | NoSlot]:
        """Reserve for `number` requests that share a waiter id."""
        with self._lock:
            now = self._tick()
            return apply_reserve(self._log, waiter_id, number, now)

    def cancel_wait(self, waiter_id: str) -> None:
        """Give up the position in the wait queue."""
        with self._lock:
            self._log.cancel_wait(waiter_id)
        self._notify()

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Spend the slot; pause everyone if the answer was 429."""
        with self._lock:
            now = self._now()
            if outcome is ANSWERED:
                self._log.answered(grant.slot, grant.granted_at, now)
            else:
                apply_outcome(self._log, self._plan, grant, outcome, now)

    async def give_back(self, grant: Grant) -> None:
        """Free the slot of a request that never left."""
        with self._lock:
            self._log.give_back(grant.slot)
        self._notify()

    def return_unused(self, grants: Sequence[Grant]) -> None:
        """Free slots without being awaited."""
        with self._lock:
            for grant in grants:
                self._log.give_back(grant.slot)
        self._notify()

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        with self._lock:
            self._log.record_external(number, self._tick())

    async def projected(self, position: int) -> NoSlot:
        """Return how long a request with `position` others before it waits at least."""
        with self._lock:
            now = self._tick()
            return no_slot(self._log.projected(now, position), now)

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        with self._lock:
            return snapshot_of(self._log, self._plan, self._tick())

    async def paused_for(self) -> float:
        """Return for how many more seconds a 429 pauses everyone."""
        return max(0.0, self._log.throttle.paused_until - self._now())

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when a slot was given back or a wait was cancelled."""
        with self._lock:
            self._listeners = [*self._listeners, changed]

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = [kept for kept in self._listeners if kept is not changed]

        return unsubscribe

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

    def _notify(self) -> None:
        for changed in self._listeners:
            changed()
