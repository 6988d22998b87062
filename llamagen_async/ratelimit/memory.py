"""The ledger of one process: all its threads and event loops share it, nothing is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.ledger import (
    ANSWERED,
    Grant,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    apply_many,
    fits,
    refusal,
    settle,
    summarize,
)
from llamagen_async.ratelimit.window_log import WindowLog

__all__ = ["MemoryLedger"]


class MemoryLedger:
    """Remembers in this process.

    Args:
        plan: Which windows to count.
        now: The time in seconds; the same for all threads.
        lease: Seconds after which a slot that nobody reported on counts as spent.
        wall: The unix time in seconds, for windows that are aligned to the clock.
    """

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
        self._account = WindowLog(plan, lease=lease)
        self._lock = threading.Lock()
        # For what nearly every request does: `with` takes three times as long.
        self._enter, self._leave = self._lock.acquire, self._lock.release
        self._listeners: list[Callable[[], None]] = []
        self._note: str | None = None

    def __repr__(self) -> str:
        return f"MemoryLedger({self._plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        with self._lock:
            self._plan = plan
            self._account = self._account.with_plan(plan)

    async def reserve(self, ticket: str) -> Grant | NoSlot:
        """Hold a slot if one is free, else keep a place in the line for `ticket`."""
        return self.reserve_at(ticket, self._now())

    async def reserve_many(self, ticket: str, number: int) -> list[Grant | NoSlot]:
        """Do the same for `number` who share a ticket."""
        with self._lock:
            now = self._tick()
            return apply_many(self._account, ticket, number, now)

    def reserve_at(self, ticket: str, now: float) -> Grant | NoSlot:
        """Do what `reserve` does without being awaited, for a caller who knows the time."""
        with self._lock:
            if self._wall is not None:
                self._account.wall_offset = self._wall() - now
            answer = self._account.reserve(ticket, now)
        return answer if isinstance(answer, Grant) else refusal(answer, now)

    def hold_free_at(self, now: float) -> int:
        """Do it for a caller whom no window could make wait; see `WindowLog.hold_free`."""
        self._enter()
        try:
            return self._account.hold_free(now)
        finally:
            self._leave()

    def leave(self, ticket: str) -> None:
        """Give up the place in the line."""
        with self._lock:
            self._account.leave(ticket)
        self._notify()

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Spend the slot; pause everyone if the server refused the request."""
        self.commit_at(grant, outcome, self._now())

    def commit_at(self, grant: Grant, outcome: Outcome, now: float) -> None:
        """Do the same without being awaited, for a caller who knows the time."""
        with self._lock:
            if outcome is ANSWERED:
                self._account.answered(grant.slot, grant.granted_at, now)
            else:
                settle(self._account, self._plan, grant, outcome, now)

    def answered_at(self, slot: int, granted_at: float, now: float) -> None:
        """Do it for a plain answer, of which there is nothing more to say."""
        self._enter()
        try:
            self._account.answered(slot, granted_at, now)
        finally:
            self._leave()

    async def give_back(self, grant: Grant) -> None:
        """Free the slot of a request that never left."""
        with self._lock:
            self._account.give_back(grant.slot)
        self._notify()

    def return_unused(self, grants: Sequence[Grant]) -> None:
        """Free slots without being awaited."""
        with self._lock:
            for grant in grants:
                self._account.give_back(grant.slot)
        self._notify()

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        with self._lock:
            self._account.spend_unasked(number, self._tick())

    async def projected(self, position: int) -> NoSlot:
        """Say how long a request with `position` others before it waits at least."""
        with self._lock:
            now = self._tick()
            wait = self._account.projected(now, position)
            return NoSlot(max(0.0, wait.ask_at - now), wait.limit)

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        with self._lock:
            return summarize(self._account, self._plan, self._tick())

    async def paused_for(self) -> float:
        """Say for how many more seconds a refusal holds everyone."""
        return max(0.0, self._account.refusals.paused_until - self._now())

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when a slot was given back or somebody left the line."""
        with self._lock:
            self._listeners = [*self._listeners, changed]

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = [kept for kept in self._listeners if kept is not changed]

        return unsubscribe

    async def recall(self) -> str | None:
        """Return the note that was left by whoever shares this object."""
        return self._note

    async def remember(self, text: str) -> None:
        """Leave a note, unless it is too long."""
        if fits(text):
            self._note = text

    async def aclose(self) -> None:
        """Do nothing: the count outlives its users."""

    def _tick(self) -> float:
        now = self._now()
        if self._wall is not None:
            self._account.wall_offset = self._wall() - now
        return now

    def _notify(self) -> None:
        for changed in self._listeners:
            changed()
