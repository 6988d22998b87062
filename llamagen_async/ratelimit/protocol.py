"""The protocol of ledgers, which remember spent requests, and what is asked of them and answered.

A ledger owns the count and the wait queue of one key at one server, and the time by which they are
kept. Callers see durations only, in seconds of the server's clock, so that a ledger may keep its
time by the event loop, by the machine or by a store's server. A ledger never waits for a slot.

Every question and every report carries the client's *workload*: what it waits for, and what others
should know of its generations. Every answer says how the whole key stands, and what the other
clients have reported. So all clients of a key decide by the same facts, without asking for them.
"""

from __future__ import annotations

import enum
from typing import Final, Protocol

import attrs

from llamagen_async.plans import Plan, RateLimit

__all__ = [
    "ANSWERED",
    "MAX_BLOB",
    "BlobStore",
    "Claim",
    "Grant",
    "KeyState",
    "Ledger",
    "LimitState",
    "LimitsSnapshot",
    "NoSlot",
    "Outcome",
    "PeerReport",
    "Priority",
    "WaitingRequests",
    "Workload",
    "fits_blob",
]

MAX_BLOB: Final = 256 * 1024
"""Bytes that a blob may have at most: a store is no place for more."""


class Priority(enum.IntEnum):
    """The order in which requests get slots, whatever client they come from; the lowest is first.

    One exception keeps checks from starving: an overdue check goes before everything if the last
    slot was not used for a check. So two checks in a row never go before an interactive request.
    """

    INTERACTIVE = 0
    """A billed request that somebody waits for."""
    READ = 1
    """A read that somebody waits for."""
    OVERDUE = 2
    """A status check that should have been made long ago."""
    CHECK = 3
    """A status check that is due at the price of slots, which counts the creates that wait."""
    BATCH = 4
    """A request of a batch."""
    SPARE = 5
    """A status check that may wait until a batch has started what is left of it."""

    @property
    def is_check(self) -> bool:
        """Whether it is the priority of a status check."""
        return self in (Priority.OVERDUE, Priority.CHECK, Priority.SPARE)


@attrs.frozen
class WaitingRequests:
    """Requests of one client and priority that wait for slots."""

    priority: Priority
    """Their priority."""
    count: int
    """How many they are."""
    oldest: float
    """Seconds for which the first of them has waited."""
    newest: float
    """Seconds for which the last of them has waited."""


@attrs.frozen
class Workload:
    """The part of a client in what a key has to do, as it tells the others."""

    waiting: tuple[WaitingRequests, ...] = ()
    """Requests that wait for a slot, without the one that a slot is asked for."""
    text: str = ""
    """News for other clients of this one's generations; the ledger hands it on unread."""
    share: int = 0
    """The share that the client knows to be its own; `failover` fills it in."""


@attrs.frozen
class Claim:
    """The question for one slot. To ask twice with the same id is to ask once."""

    id: str
    """The name of the slot that is asked for."""
    client: str
    """The name of the client that asks."""
    priority: Priority
    """The priority of the request that the slot is for, as far as that is known."""
    waited: float
    """Seconds for which that request has waited."""
    workload: Workload
    """The rest of what the client has to do."""
    waits: bool = True
    """Whether it takes a position in the wait queue if no slot is free."""


@attrs.frozen
class PeerReport:
    """The workload of another client of the same key, as it was reported last."""

    client: str
    """The name of the client."""
    age: float
    """Seconds since it was reported."""
    waiting: tuple[WaitingRequests, ...]
    """Requests of the client that still wait for a slot, as of now."""
    text: str
    """The text of the client's workload, as of then."""


@attrs.frozen
class KeyState:
    """The whole key as it stands, as one of its clients is told."""

    returning: tuple[float, ...]
    """Seconds until each slot of the shortest window that is not free comes back, ascending."""
    quota_left: int | None
    """Free slots in the plan's long windows; `None` if it has none."""
    paused_for: float
    """Seconds that a 429 still pauses everyone; 0 if there is no pause."""
    share: int
    """Slots of the tightest short window that are this client's while the store is away."""
    peers: tuple[PeerReport, ...]
    """The reports of the other clients."""


@attrs.frozen
class Grant:
    """A slot that is held until it is spent or given back."""

    id: str
    """The id of the claim."""
    client: str
    """The name of the client that holds it."""
    state: KeyState
    """The key as it stands, this slot included."""


@attrs.frozen
class NoSlot:
    """No slot is free now; the claim has a position in the wait queue."""

    delay: float
    """Seconds after which to ask again."""
    limit: RateLimit | None
    """The window that is full; `None` during a pause."""
    state: KeyState
    """The key as it stands."""
    is_unknown: bool = False
    """Whether nobody knows when a slot is free, because the store is away."""


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
    clients: int = 1
    """Clients that have asked for a slot of the key, and are not closed."""
    waiting: dict[Priority, int] = attrs.field(factory=dict[Priority, int], hash=False)
    """Requests of all clients that wait for a slot, by priority. Priorities of which none waits are
    left out."""

    def before(self, priority: Priority = Priority.INTERACTIVE) -> int:
        """Return how many requests go before one that is asked for now with a priority."""
        return sum(number for one, number in self.waiting.items() if one <= priority)

    @property
    def next_free_in(self) -> float:
        """Seconds until the next request may leave."""
        return max(self.paused_for, *(window.next_free_in for window in self.windows))


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


class Ledger(BlobStore, Protocol):
    """A memory of spent requests.

    Each coroutine costs a store one round trip, and raises `StoreError` when the store is away.
    """

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Hold a slot if one is free for this claim, else give it a position in the wait queue.

        Asked again for a slot that is held already, the answer is that slot, or no slot if a
        pause has begun since. A claim that is not repeated a few seconds after the time it was
        told loses its position. Cancelled, or failed, it leaves neither slot nor position behind.
        """
        ...

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Report the response, or that the request was given up: the slot is spent from now on.

        A 429 pauses everyone on the key, for its `retry_after` seconds in full. Cancelled, it is
        done all the same.
        """
        ...

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up the slot or the position of a claim; neither waits for the store nor fails.

        An unknown claim changes nothing. A client that `leaves` is closed, and shares the key no
        longer. A store that is away frees all by itself: a position soon, a slot with its lease.
        """
        ...

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests that were spent without a slot, and pause everyone for `pause` seconds."""
        ...

    async def admit_read(self) -> float:
        """Count a read that needs no slot if it may leave now; return the seconds until one may.

        That is by the pace that all clients of the key share (`throttle`), or for a pause.
        """
        ...

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now, for a request that `position` others go before."""
        ...

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        ...

    async def aclose(self) -> None:
        """Let go of the store. What was counted stays counted."""
        ...


def fits_blob(text: str) -> bool:
    """Return whether a text is short enough to be kept."""
    return len(text.encode(errors="replace")) <= MAX_BLOB
