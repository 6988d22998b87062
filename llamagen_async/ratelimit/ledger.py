"""Ledgers: where spent requests are remembered, behind one small protocol.

A ledger owns the count of one key at one server and the time by which it is kept. Callers see
durations only, so that a ledger may keep its time by the event loop, by the machine or by a
store's server. A ledger never waits for a slot; the limiter does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import attrs

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.windows import Account

__all__ = ["Grant", "Ledger", "LimitState", "LimitsSnapshot", "MemoryLedger", "Refusal"]


@attrs.frozen
class Grant:
    """A slot that is held until it is spent or given back."""

    slot: int
    """The ledger's number for it."""
    granted_at: float
    """When, on the ledger's clock."""
    quota_left: int | None
    """How many more slots the plan's long windows have; `None` if it has no long window."""


@attrs.frozen
class Refusal:
    """No slot is free."""

    delay: float
    """Seconds after which asking again makes sense, if nothing changes before."""
    limit: RateLimit | None
    """The window that is full; `None` during a pause."""


@attrs.frozen
class LimitState:
    """One window of the plan as it stands."""

    limit: RateLimit
    """The window."""
    used: int
    """Slots that count now: answered within the window, or on their way."""
    free: int
    """Slots that are free now."""
    next_free_in: float
    """Seconds until a slot is free; 0 if one is free now."""


@attrs.frozen
class LimitsSnapshot:
    """What a key may still send, as far as this ledger knows."""

    plan: str
    """The plan's name."""
    windows: tuple[LimitState, ...]
    """Every window of the plan."""
    paused_for: float
    """Seconds that a refusal of the server still holds everyone; 0 if there is none."""
    burst: int
    """How many requests may leave back to back, as learned from refusals."""
    in_flight: int
    """Requests that are on their way."""

    @property
    def next_free_in(self) -> float:
        """Seconds until the next request may leave."""
        return max(self.paused_for, *(window.next_free_in for window in self.windows))


class Ledger(Protocol):
    """What every store of spent requests can do."""

    async def reserve(self) -> Grant | Refusal:
        """Hold a slot if one is free now."""
        ...

    async def commit(self, grant: Grant, *, refused: bool, retry_after: float | None) -> None:
        """Report the response, or that the request was given up: the slot is spent from now on.

        A refusal (429) pauses everyone on the key, for `retry_after` seconds if it says so.
        """
        ...

    async def give_back(self, grant: Grant) -> None:
        """Report that the request never left: the slot is free again."""
        ...

    async def projected(self, position: int) -> Refusal:
        """Say how long a request with `position` others before it waits at least, and for what."""
        ...

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed`, from any thread, when a slot may be free earlier than was said.

        Returns:
            A function that ends the subscription.
        """
        ...


class MemoryLedger:
    """Remembers in this process, for all its threads and event loops.

    Args:
        plan: Which windows to count.
        now: The time in seconds; the same for all threads.
        lease: Seconds after which a slot that nobody reported on counts as spent.
    """

    def __init__(self, plan: Plan, now: Callable[[], float], *, lease: float) -> None:
        self._plan = plan
        self._now = now
        self._lease = lease
        self._account = Account(plan)
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"MemoryLedger({self._plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        with self._lock:
            self._plan = plan
            self._account = self._account.with_plan(plan)

    async def reserve(self) -> Grant | Refusal:
        """Hold a slot if one is free now."""
        with self._lock:
            now = self._now()
            account = self._account
            verdict = account.ask(now)
            if not verdict.admitted:
                return Refusal(verdict.ask_at - now, verdict.limit)
            return Grant(account.hold(now, self._lease), now, account.quota_left(now))

    async def commit(self, grant: Grant, *, refused: bool, retry_after: float | None) -> None:
        """Spend the slot; pause everyone if the server refused the request."""
        with self._lock:
            now = self._now()
            self._account.spend(grant.slot, now)
            if refused:
                self._account.refuse(grant.granted_at, now, retry_after)
            else:
                self._account.accept(grant.granted_at)
        self._notify()

    async def give_back(self, grant: Grant) -> None:
        """Free the slot of a request that never left."""
        with self._lock:
            self._account.give_back(grant.slot)
        self._notify()

    async def projected(self, position: int) -> Refusal:
        """Say how long a request with `position` others before it waits at least."""
        with self._lock:
            now = self._now()
            verdict = self._account.projected(now, position)
            return Refusal(max(0.0, verdict.ask_at - now), verdict.limit)

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        with self._lock:
            now = self._now()
            account = self._account
            return LimitsSnapshot(
                plan=self._plan.name,
                windows=tuple(
                    LimitState(state.limit, state.used, state.free, state.next_free_at - now)
                    for state in account.states(now)
                ),
                paused_for=max(0.0, account.paused_until - now),
                burst=account.burst,
                in_flight=account.held,
            )

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` whenever a slot was spent or given back."""
        with self._lock:
            self._listeners = [*self._listeners, changed]

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = [kept for kept in self._listeners if kept is not changed]

        return unsubscribe

    def _notify(self) -> None:
        for changed in self._listeners:
            changed()
