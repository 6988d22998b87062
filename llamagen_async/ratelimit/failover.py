"""Failover: when the store of spent requests is away, keep to a share of the limits.

Each answer of the store tells a client its share. While the store is away, a client goes on within
it, by a count of its own; together all clients never exceed the limits, because:

- Shares never add up to more than the limits (`wait_queue`).
- A share is used only once everything that the store has granted must be over: a lease and a
  window after the outage was noticed. A short outage so makes everyone wait, and loses nothing.
- Who has never reached the store has no share, and sends nothing. So does who has not reached it
  for longer than the store keeps a client's share.
- A day's quota is not shared: what the others have used of it since the last answer is not known.
- Requests that were sent meanwhile are reported before anything else is asked of the store. It is
  asked every few seconds until that is done. After a long silence, the store holds the shares back
  of those that it has not heard of, until they must have reported.

With `on_failure="raise"` a request that needs a slot raises `QuotaStoreError` at once instead.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeVar

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import ClientClosedError, QuotaStoreError
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    KeyState,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    SharedLedger,
    StoreError,
    Workload,
)
from llamagen_async.ratelimit.window_log import Durations, WindowLog, shares_of, short_limits

__all__ = ["FailoverLedger", "OnStoreFailure", "shared_plan"]

OnStoreFailure = Literal["local", "raise"]
"""The choice when the store is away: go on within a share, or fail."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

_ASK_AGAIN: Final = 3.0
"""Real seconds between two attempts to reach the store, at most."""
_ASKS_EACH_WINDOW: Final = 20
"""Attempts in one window, at least: a store that is back must not be overlooked."""
_NEVER: Final = -math.inf


def shared_plan(plan: Plan, share: int) -> Plan:
    """Return the plan of clients that have `share` slots of the tightest short window."""
    shares = max(1, shares_of(plan))
    limits = [
        RateLimit(max(1, share * (limit.limit - 1) // shares), per=limit.per)
        for limit in short_limits(plan)
    ]
    return attrs.evolve(plan, limits=tuple(limits))


@attrs.define(eq=False)
class _Outage:
    """The time without the store, and what is sent in it."""

    log: WindowLog | None
    """The count of this ledger's clients; `None` if they have no share."""
    begins_at: float
    """The clock's time from which the share may be used."""
    ask_at: float
    """The clock's time at which the store is asked again."""


class FailoverLedger:
    """A ledger over a store that may go away.

    Args:
        store: The store's ledger.
        plan: The windows to count.
        clock: The server's clock.
        durations: The durations that the store keeps to.
        on_failure: `"local"` or `"raise"`.
    """

    def __init__(
        self,
        store: SharedLedger,
        plan: Plan,
        clock: Clock,
        durations: Durations,
        *,
        on_failure: OnStoreFailure = "local",
    ) -> None:
        self._store = store
        self._plan = plan
        self._clock = clock
        self._durations = durations
        self._raises = on_failure == "raise"
        self._outage: _Outage | None = None
        self._shares: dict[str, int] = {}
        """The share of each client of this ledger, as the store has told it last."""
        self._told_at = _NEVER
        """The clock's time of the store's last answer."""
        self._paused_until = _NEVER
        """The clock's time at which the last pause ends."""
        self._local: set[str] = set()
        """Claims that hold a slot that the store does not know of."""
        self._unreported = 0
        """Requests without the store that have ended, and of which it does not know."""
        self._reporting: asyncio.Task[None] | None = None
        self._has_warned = False

    def __repr__(self) -> str:
        return f"FailoverLedger({self._store!r})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on."""
        self._plan = plan
        self._store.change_plan(plan)

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Hold a slot, of the store's or of the clients' share."""
        self._shares.setdefault(claim.client, 0)

        async def reserve() -> Grant | NoSlot:
            answer = await self._store.reserve(claim)
            self._told(claim.client, answer.state)
            return answer

        return await self._via_store(reserve, lambda outage: self._reserve(outage, claim))

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Spend the slot where it was granted; a store that is away learns of it by the lease."""
        if grant.id in self._local:
            self._local.discard(grant.id)
            self._unreported += 1
            self._report_soon()
            if self._outage is not None and self._outage.log is not None:
                self._outage.log.commit(grant, outcome, workload, self._clock.now())
        else:
            try:
                state = await self._store.commit(grant, outcome, workload)
            except StoreError as error:
                self._leave_store(error)
            else:
                return self._told(grant.client, state)
        if outcome.refused:
            self._pause(outcome.retry_after or self._plan.rate.interval)
        return self._state(grant.client)

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up the slot or the position of a claim."""
        if leaves:
            self._shares.pop(client, None)
        if claim in self._local:
            self._local.discard(claim)
            if self._outage is not None and self._outage.log is not None:
                self._outage.log.release(claim, client, self._clock.now())
        else:
            self._store.release(claim, client, leaves=leaves)

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests that were spent without a slot, as soon as the store is there."""
        self._pause(pause)
        try:
            await self._store.record(number, pause=pause)
        except StoreError as error:
            self._unreported += number
            self._leave_store(error)
            self._report_soon()

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now, of the share while the store is away."""
        return await self._via_store(
            lambda: self._store.snapshot(position=position),
            lambda outage: self._log_of(outage).snapshot(self._clock.now(), position=position),
        )

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when a slot may be free earlier than was said."""
        return self._store.subscribe(changed)

    async def load_blob(self) -> str | None:
        """Return the store's text; `None` while it is away, whatever `on_failure` says."""
        return await self._if_there(self._store.load_blob)

    async def save_blob(self, text: str) -> None:
        """Save a text in the store; do nothing while it is away."""
        await self._if_there(lambda: self._store.save_blob(text))

    async def aclose(self) -> None:
        """Report what the store does not know of, if it is there, and let go of it."""
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        if self._unreported:
            await self._if_there(self._report)
        await self._store.aclose()

    async def _via_store(
        self, use: Callable[[], Awaitable[_T]], instead: Callable[[_Outage], _T]
    ) -> _T:
        outage = self._outage
        if outage is not None and self._clock.now() < outage.ask_at:
            return instead(self._checked(outage))
        if outage is not None:
            outage.ask_at = self._clock.now() + self._ask_again  # nobody else asks meanwhile
        try:
            if outage is not None:
                await self._report()
            answer = await use()
        except StoreError as error:
            return instead(self._checked(self._leave_store(error)))
        self._come_back()
        return answer

    async def _if_there(self, use: Callable[[], Awaitable[_T]]) -> _T | None:
        """Do an operation that no request depends on. A failure says nothing of the count."""
        if self._outage is not None and self._clock.now() < self._outage.ask_at:
            return None
        try:
            return await use()
        except (StoreError, ClientClosedError) as error:
            _logger.debug("the store did not do what no request depends on: %s", error)
            return None

    def _reserve(self, outage: _Outage, claim: Claim) -> Grant | NoSlot:
        now = self._clock.now()
        if outage.log is None or now < outage.begins_at or now < self._paused_until:
            limit = None if now < self._paused_until else self._plan.rate
            return NoSlot(max(0.0, outage.ask_at - now), limit, self._state(claim.client))
        answer = outage.log.reserve(claim, now)
        if isinstance(answer, NoSlot):
            # No waiter should sleep through the store's return.
            delay = min(answer.delay, max(0.0, outage.ask_at - now))
            return attrs.evolve(answer, delay=delay)
        self._local.add(claim.id)
        return answer

    def _checked(self, outage: _Outage) -> _Outage:
        """Return the outage, unless it has to be told to who asks for a slot."""
        now = self._clock.now()
        waits_for_share = self._told_at > _NEVER and now < outage.begins_at
        is_forgotten = now >= self._told_at + self._durations.client_lease
        if self._raises or is_forgotten or (outage.log is None and not waits_for_share):
            raise QuotaStoreError(
                "the store of spent requests is away; nothing was sent. Try again when it is "
                "back; quota='memory' counts without a store, for one process at a time"
            )
        return outage

    def _log_of(self, outage: _Outage) -> WindowLog:
        return outage.log or WindowLog(self._plan, self._durations)

    def _leave_store(self, error: StoreError) -> _Outage:
        now = self._clock.now()
        if self._outage is None:
            longest = max((limit.per for limit in short_limits(self._plan)), default=0.0)
            share, log = sum(self._shares.values()), None
            if share and not self._plan.quotas:
                log = WindowLog(shared_plan(self._plan, share), self._durations)
            self._outage = _Outage(log, now + self._durations.lease + longest, 0.0)
        self._outage.ask_at = now + self._ask_again
        if not self._has_warned:
            self._has_warned = True
            then = "requests that need it fail" if self._raises else "going on within a share"
            _logger.warning("the store of spent requests is away (%s): %s", error, then)
        return self._outage

    def _come_back(self) -> None:
        if self._outage is not None:
            self._outage = None
            self._has_warned = False
            _logger.warning("the store of spent requests is back")

    @property
    def _ask_again(self) -> float:
        """Seconds after which the store is asked again."""
        return min(_ASK_AGAIN * self._clock.speed, self._plan.rate.per / _ASKS_EACH_WINDOW)

    def _pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, self._clock.now() + seconds)

    def _told(self, client: str, state: KeyState) -> KeyState:
        self._shares[client] = state.share
        self._told_at = self._clock.now()
        if state.paused_for:
            self._pause(state.paused_for)
        return state

    def _state(self, client: str) -> KeyState:
        """Return how the key stands as far as that is known without the store."""
        now = self._clock.now()
        log = self._outage.log if self._outage is not None else None
        return KeyState(
            returning=() if log is None else log.returning(now),
            quota_left=None if not self._plan.quotas else 0,
            paused_for=max(0.0, self._paused_until - now),
            clients=1,
            share=self._shares.get(client, 0),
            peers=(),
        )

    def _report_soon(self) -> None:
        """Ask the store until it knows of all requests that were sent without it."""
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._insist())

    async def _insist(self) -> None:
        while self._unreported:
            try:
                await self._report()
            except StoreError as error:
                self._leave_store(error)
                await self._clock.sleep(self._ask_again)

    async def _report(self) -> None:
        """Report all requests that were sent without the store, those in flight included."""
        number, self._unreported = self._unreported, 0
        try:
            left = max(0.0, self._paused_until - self._clock.now())
            await self._store.record(number + len(self._local), pause=left)
        except BaseException:
            self._unreported += number
            raise
        self._come_back()
