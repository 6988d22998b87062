"""Ledgers: where spent requests are remembered, behind one small protocol.

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
    "LONGEST_NOTE",
    "Grant",
    "Ledger",
    "LimitState",
    "LimitsSnapshot",
    "NoSlot",
    "Outcome",
    "StoreError",
    "apply_many",
    "fits",
    "refusal",
    "settle",
    "summarize",
]

LONGEST_NOTE: Final = 256 * 1024
"""Bytes of a note, at most."""


class StoreError(Exception):
    """The store behind a ledger does not answer, or not with what was stored."""


@attrs.frozen
class NoSlot:
    """No slot is free; the caller's ticket has a place in the line."""

    delay: float
    """Seconds after which to ask again."""
    limit: RateLimit | None
    """The window that is full; `None` during a pause."""


@attrs.frozen
class Outcome:
    """What became of the request that held a slot."""

    refused: bool = False
    """The answer was 429."""
    retry_after: float | None = None
    """Seconds that a 429 asked to wait."""
    server_limit: int | None = None
    """The limit that the answer's headers speak of."""
    server_left: int | None = None
    """How many requests are left of it, as those headers have it."""


UNMETERED: Final = Grant(slot=0, granted_at=0.0, delay=0.0, took_last=True, quota_left=None)
"""What a request holds that the plan does not meter. The burst is not to blame for its refusal."""
ANSWERED: Final = Outcome()
"""What nearly always becomes of a request."""


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
    """What a key may still send, as far as its ledger knows."""

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
    """What every store of spent requests can do.

    Every coroutine costs a store one round trip, and raises `StoreError` when the
    store is away.
    """

    async def reserve(self, ticket: str) -> Grant | NoSlot:
        """Hold a slot if one is free, else keep a place in the line for `ticket`.

        A ticket that does not ask again a few seconds after the time it was told loses its place.
        """
        ...

    async def reserve_many(self, ticket: str, number: int) -> list[Grant | NoSlot]:
        """Do the same for `number` who stand one behind the other and share a ticket.

        It costs a store one round trip for all of them. Whoever stands behind the first one is
        served like somebody who asks last of all.

        Returns:
            What each of them is told, up to the first one for whom no slot is free: the ticket
            keeps a place in the line for that one. The slots are in the order of `delay`.
        """
        ...

    def leave(self, ticket: str) -> None:
        """Give up the place in the line, without waiting until it is known, and without failing.

        Where the store is away the place is lost by itself.
        """
        ...

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Report the response, or that the request was given up: the slot is spent from now on.

        A refusal (429) pauses everyone on the key, for its `retry_after` seconds in full, also that
        of a request that needed no slot: it is reported with `UNMETERED`.
        """
        ...

    async def give_back(self, grant: Grant) -> None:
        """Report that the request never left: the slot is free again."""
        ...

    def return_unused(self, grants: Sequence[Grant]) -> None:
        """Report that without waiting until it is known, and without failing.

        A store that is away learns of it later, at the latest by the lease.
        """
        ...

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        ...

    async def projected(self, position: int) -> NoSlot:
        """Say how long a request with `position` others before it waits at least, and for what."""
        ...

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        ...

    async def paused_for(self) -> float:
        """Say for how many more seconds a refusal holds everyone, whoever met it; 0 if none does.

        For who got a slot some time before it may be used, or needs none. It costs no round trip
        where a store can do without.
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

    async def recall(self) -> str | None:
        """Return the note that goes with the account: what was learned, not what was spent.

        Everybody who shares the count shares the note. No request depends on it, and nothing is
        counted by asking for it.

        Returns:
            `None` if there is none, or one that is too long to be ours.
        """
        ...

    async def remember(self, text: str) -> None:
        """Put `text` in the place of the note, unless it is longer than `LONGEST_NOTE`.

        Who remembers last is remembered. It must not contain anything secret.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the store. What was counted stays counted."""
        ...


def apply_many(account: WindowLog, ticket: str, number: int, now: float) -> list[Grant | NoSlot]:
    """Reserve up to `number` slots of `account` and say it in durations."""
    answers = account.reserve_many(ticket, number, now)
    return [refusal(one, now) if isinstance(one, SlotWait) else one for one in answers]


def fits(note: str) -> bool:
    """Tell whether a note is short enough to be kept."""
    return len(note.encode(errors="replace")) <= LONGEST_NOTE


def refusal(wait: SlotWait, now: float) -> NoSlot:
    """Say a wait in durations."""
    return NoSlot(max(0.0, wait.ask_at - now), wait.limit)


def settle(account: WindowLog, plan: Plan, grant: Grant, outcome: Outcome, now: float) -> None:
    """Spend a slot of `account` and take over what the answer says about the limits."""
    if outcome is ANSWERED:
        account.answered(grant.slot, grant.granted_at, now)
        return
    account.spend(grant.slot, now)
    if outcome.refused:
        account.refusals.refuse(
            grant.granted_at, now, outcome.retry_after, took_last=grant.took_last
        )
    else:
        account.refusals.accept(grant.granted_at)
    if outcome.server_left is not None:
        limit = next((one for one in plan.limits if one.limit == outcome.server_limit), None)
        if limit is not None:
            account.correct(limit, outcome.server_left, now)


def summarize(account: WindowLog, plan: Plan, now: float) -> LimitsSnapshot:
    """Say how `account` stands, in durations."""
    return LimitsSnapshot(
        plan=plan.name,
        windows=tuple(
            LimitState(state.limit, state.used, state.free, max(0.0, state.next_free_at - now))
            for state in account.states(now)
        ),
        paused_for=max(0.0, account.refusals.paused_until - now),
        burst=account.refusals.burst,
        in_flight=account.held,
    )
