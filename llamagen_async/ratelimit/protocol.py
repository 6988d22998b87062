"""The protocol of ledgers, which remember spent requests, and what they answer.

A ledger owns the count of one key at one server, and the time by which it is kept. Callers see
durations only, in seconds of the server's clock, so that a ledger may keep its time by the event
loop, by the machine or by a store's server. A ledger never waits for a slot; the limiter does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.window_log import Grant, SlotWait, WindowLog

__all__ = [
    "ANSWERED",
    "MAX_BLOB",
    "UNMETERED",
    "BlobStore",
    "Grant",
    "Ledger",
    "LimitState",
    "LimitsSnapshot",
    "NoSlot",
    "Outcome",
    "SharedLedger",
    "StoreError",
    "apply_outcome",
    "apply_reserve",
    "fits_blob",
    "no_slot",
    "snapshot_of",
]

MAX_BLOB: Final = 256 * 1024
"""Bytes that a blob may have at most: a store is no place for more."""


class StoreError(Exception):
    """The store behind a ledger does not answer, or not with what was stored."""


@attrs.frozen
class NoSlot:
    """No slot is free now; the waiter has a position in the wait queue."""

    delay: float
    """Seconds after which to ask again."""
    limit: RateLimit | None
    """The window that is full; `None` during a pause."""


@attrs.frozen
class Outcome:
    """The end of the request that held a slot."""

    refused: bool = False
    """Whether the answer was 429."""
    retry_after: float | None = None
    """Seconds that a 429 asked to wait."""
    server_limit: int | None = None
    """The limit that the answer's headers speak of."""
    server_left: int | None = None
    """Requests left of that limit, by the answer's headers."""


UNMETERED: Final = Grant(slot=0, granted_at=0.0, early_by=0.0, is_last_slot=True, quota_left=None)
"""The grant of a request that the plan does not meter. The burst is not to blame for its 429."""
ANSWERED: Final = Outcome()
"""The outcome of nearly every request: an answer other than 429."""


@attrs.frozen
class LimitState:
    """One window of the plan as it stands."""

    limit: RateLimit
    """The window."""
    used: int
    """Slots that count now: answered within the window, or in flight."""
    free: int
    """Slots that are free now."""
    next_free_in: float
    """Seconds until a slot is free; 0 if one is free now."""


@attrs.frozen
class LimitsSnapshot:
    """The requests that a key may still send, as far as its ledger knows."""

    plan: str
    """The plan's name."""
    windows: tuple[LimitState, ...]
    """Every window of the plan."""
    paused_for: float
    """Seconds that a 429 still pauses everyone; 0 if there is no pause."""
    burst: int
    """Requests that may leave back to back, as learned from 429s."""
    in_flight: int
    """Requests that were sent and have no answer yet."""

    @property
    def next_free_in(self) -> float:
        """Seconds until the next request may leave."""
        return max(self.paused_for, *(window.next_free_in for window in self.windows))


class Ledger(Protocol):
    """The operations of every memory of spent requests.

    Every coroutine costs a store one round trip, and raises `StoreError` when the
    store is away.
    """

    is_remote: bool
    """Whether it costs a round trip to ask."""

    async def reserve(self, waiter_id: str) -> Grant | NoSlot:
        """Hold a slot if one is free, else give `waiter_id` a position in the wait queue.

        A waiter that does not ask again a few seconds after the time it was told loses its
        position.
        """
        ...

    async def reserve_many(self, waiter_id: str, number: int) -> list[Grant | NoSlot]:
        """Reserve for `number` requests, one after the other, that share a waiter id.

        The store is asked in one round trip for all of them. Those after the first one are
        served like waiters that come last of all.

        Returns:
            The answer to each of them, up to the first one for which no slot is free: the waiter
            id keeps a position in the wait queue for that one. The slots are in the order of
            `early_by`.
        """
        ...

    def cancel_wait(self, waiter_id: str) -> None:
        """Give up the position in the wait queue; neither waits for the store nor fails.

        Where the store is away the position is lost by itself.
        """
        ...

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Report the response, or that the request was given up: the slot is spent from now on.

        A 429 pauses everyone on the key, for its `retry_after` seconds in full, also that of a
        request that needed no slot: it is reported with `UNMETERED`.
        """
        ...

    async def give_back(self, grant: Grant) -> None:
        """Report that the request never left: the slot is free again."""
        ...

    def return_unused(self, grants: Sequence[Grant]) -> None:
        """Report that several requests never left; neither waits for the store nor fails.

        A store that is away learns of it later, at the latest by the lease.
        """
        ...

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        ...

    async def projected(self, position: int) -> NoSlot:
        """Return how long a request with `position` others before it waits, and for what."""
        ...

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        ...

    async def paused_for(self) -> float:
        """Return for how many more seconds a 429 pauses everyone on the key; 0 without a pause.

        Asked by holders of a slot that was granted some time before it may be used, and by
        requests that need none. It costs no round trip where a store can do without.
        """
        ...

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed`, from any thread, when a slot may be free earlier than was said.

        Returns:
            A function that ends the subscription.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the store. What was counted stays counted."""
        ...


class BlobStore(Protocol):
    """A text kept beside the count, such as what was learned from earlier generations.

    All users of the count share the text. No request depends on it, and nothing is
    counted by reading or writing it.
    """

    async def load_blob(self) -> str | None:
        """Return the text; `None` if there is none, or one that is too long to be ours."""
        ...

    async def save_blob(self, text: str) -> None:
        """Replace the text, unless the new one is longer than `MAX_BLOB` bytes.

        The last one to save wins. The text must not contain anything secret.
        """
        ...


class SharedLedger(Ledger, BlobStore, Protocol):
    """A ledger whose store also keeps a text."""


def apply_reserve(log: WindowLog, waiter_id: str, number: int, now: float) -> list[Grant | NoSlot]:
    """Reserve up to `number` slots of `log`, and return the answers in durations."""
    answers = log.reserve_many(waiter_id, number, now)
    return [no_slot(one, now) if isinstance(one, SlotWait) else one for one in answers]


def apply_outcome(log: WindowLog, plan: Plan, grant: Grant, outcome: Outcome, now: float) -> None:
    """Spend a slot of `log` and take over what the answer says about the limits."""
    if outcome.refused:
        log.spend(grant.slot, now)
        log.throttle.refuse(
            grant.granted_at, now, outcome.retry_after, is_last_slot=grant.is_last_slot
        )
    else:
        log.answered(grant.slot, grant.granted_at, now)
    if outcome.server_left is not None:
        limit = next((one for one in plan.limits if one.limit == outcome.server_limit), None)
        if limit is not None:
            log.reconcile(limit, outcome.server_left, now)


def no_slot(wait: SlotWait, now: float) -> NoSlot:
    """Return the answer to a waiter in durations."""
    return NoSlot(max(0.0, wait.ask_at - now), wait.limit)


def snapshot_of(log: WindowLog, plan: Plan, now: float) -> LimitsSnapshot:
    """Return how `log` stands, in durations."""
    return LimitsSnapshot(
        plan=plan.name,
        windows=tuple(
            LimitState(state.limit, state.used, state.free, max(0.0, state.next_free_at - now))
            for state in log.states(now)
        ),
        paused_for=max(0.0, log.throttle.paused_until - now),
        burst=log.throttle.burst,
        in_flight=log.held,
    )


def fits_blob(text: str) -> bool:
    """Return whether a text is short enough to be kept."""
    return len(text.encode(errors="replace")) <= MAX_BLOB
