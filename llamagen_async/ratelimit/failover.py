"""Failover: when the store of spent requests is away, keep to less or send nothing.

With `"local"` this process goes on by itself. It cannot know what the others send, so it allows
itself an eighth of each short window (at least one request), and begins with these windows full,
as if the others had just used them up. Requests that it sends meanwhile are reported to the store
as soon as it is back. With `"raise"` a request that needs a slot raises `QuotaStoreError`.

The store is asked again every few seconds, when a slot is needed or a request was sent; nobody
waits for it longer than one operation may take.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeVar

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import ClientClosedError, QuotaStoreError
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.memory import MemoryLedger
from llamagen_async.ratelimit.protocol import (
    Grant,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    SharedLedger,
    StoreError,
)

__all__ = ["FailoverLedger", "OnStoreFailure", "degraded_plan"]

OnStoreFailure = Literal["local", "raise"]
"""The choice when the store is away: go on with less, or fail."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

_DEGRADED_SHARE: Final = 8
"""Divisor of the plan's limits while a process is without the store: a guess of its neighbours."""
_ASK_AGAIN: Final = 3.0
"""Real seconds between two attempts to reach the store, at most."""
_ASKS_EACH_WINDOW: Final = 20
"""Attempts in one window, at least: a store that is back must not be overlooked."""


@attrs.define(eq=False)
class _LocalGrant(Grant):
    """A slot that the store does not know of."""


def degraded_plan(plan: Plan) -> Plan:
    """Return the plan of one process on its own, when the others' count is not known."""
    quotas = set(plan.quotas)
    # A long window has to hold what fills the short ones at the beginning, see `_leave_store`.
    begin = max((_share_of(limit) for limit in plan.limits if limit not in quotas), default=0)
    limits = [
        RateLimit(_share_of(limit) + (begin if limit in quotas else 0), per=limit.per)
        for limit in plan.limits
    ]
    return attrs.evolve(plan, limits=tuple(limits))


def _share_of(limit: RateLimit) -> int:
    return max(1, limit.limit // _DEGRADED_SHARE)


class FailoverLedger:
    """A ledger over a store that may go away.

    Args:
        store: The store's ledger.
        plan: The windows to count.
        clock: The server's clock.
        lease: Seconds after which a slot without a report counts as spent.
        on_failure: `"local"` or `"raise"`.
    """

    is_remote = True

    def __init__(
        self,
        store: SharedLedger,
        plan: Plan,
        clock: Clock,
        *,
        lease: float,
        on_failure: OnStoreFailure = "local",
    ) -> None:
        self._store = store
        self._plan = plan
        self._clock = clock
        self._lease = lease
        self._raises = on_failure == "raise"
        self._local: MemoryLedger | None = None
        """The count while the store is away; `None` while it is there."""
        self._ask_store_at = 0.0
        self._unreported = 0
        """Requests of this process alone that have ended, and that the store does not know of."""
        self._in_flight = 0
        """Requests of this process alone in flight: recorded in the store once it is back, and
        once more when they end."""
        self._has_warned = False

    def __repr__(self) -> str:
        return f"FailoverLedger({self._store!r})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on."""
        self._plan = plan
        self._store.change_plan(plan)
        if self._local is not None:
            self._local.change_plan(degraded_plan(plan))

    async def reserve(self, waiter_id: str) -> Grant | NoSlot:
        """Hold a slot, of the store's or of this process's own."""
        return await self._via_store_or_local(
            lambda: self._store.reserve(waiter_id),
            lambda local: self._reserve_locally(local, waiter_id),
        )

    async def reserve_many(self, waiter_id: str, number: int) -> list[Grant | NoSlot]:
        """Hold up to `number` slots of the store's, or one of this process's own."""
        return await self._via_store_or_local(
            lambda: self._store.reserve_many(waiter_id, number),
            lambda local: self._reserve_first_locally(local, waiter_id),
        )

    def cancel_wait(self, waiter_id: str) -> None:
        """Give up the position in the wait queue."""
        (self._local or self._store).cancel_wait(waiter_id)

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Spend the slot where it was granted; a store that is away learns of it by the lease."""
        if isinstance(grant, _LocalGrant):
            self._in_flight -= 1
            self._unreported += 1
            if self._local is not None:
                await self._local.commit(grant, outcome)
            # Reported now, before the next slot is needed: a store that is back must not miss it.
            await self._report()
            return
        try:
            await self._store.commit(grant, outcome)
        except StoreError as error:
            local = await self._leave_store(error)
            if outcome.refused:
                await local.commit(grant, outcome)

    async def give_back(self, grant: Grant) -> None:
        """Free the slot of a request that never left."""
        if isinstance(grant, _LocalGrant):
            self._in_flight -= 1
            if self._local is not None:
                await self._local.give_back(grant)
            return
        try:
            await self._store.give_back(grant)
        except StoreError as error:
            await self._leave_store(error)

    def return_unused(self, grants: Sequence[Grant]) -> None:
        """Free slots without waiting for the store."""
        of_the_store = [grant for grant in grants if not isinstance(grant, _LocalGrant)]
        local = [grant for grant in grants if isinstance(grant, _LocalGrant)]
        self._in_flight -= len(local)
        if self._local is not None:
            self._local.return_unused(local)
        if of_the_store:
            self._store.return_unused(of_the_store)

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        await self._via_store_or_local(
            lambda: self._store.record(number), lambda local: local.record(number)
        )

    async def projected(self, position: int) -> NoSlot:
        """Return how long a request with `position` others before it waits at least."""
        return await self._via_store_or_local(
            lambda: self._store.projected(position), lambda local: local.projected(position)
        )

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        return await self._via_store_or_local(self._store.snapshot, lambda local: local.snapshot())

    async def paused_for(self) -> float:
        """Return how long a 429 pauses everyone, as far as that is known without the store."""
        if self._local is not None:
            return await self._local.paused_for()
        try:
            return await self._store.paused_for()
        except StoreError as error:
            _logger.debug("it is not known whether there is a pause: %s", error)
            return 0.0

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
        """Let go of the store."""
        await self._store.aclose()

    async def _via_store_or_local(
        self, use: Callable[[], Awaitable[_T]], instead: Callable[[MemoryLedger], Awaitable[_T]]
    ) -> _T:
        local = self._local
        if local is not None and self._clock.now() < self._ask_store_at:
            return await self._locally_or_raise(local, instead)
        try:
            number = self._unreported + (self._in_flight if local is not None else 0)
            if number:
                await self._store.record(number)
                self._unreported = 0
            result = await use()
        except StoreError as error:
            return await self._locally_or_raise(await self._leave_store(error), instead)
        if local is not None:
            self._local = None
            self._has_warned = False
            _logger.warning("the store of spent requests is back")
        return result

    async def _if_there(self, use: Callable[[], Awaitable[_T]]) -> _T | None:
        """Do an operation that no request depends on. A failure says nothing of the count."""
        if self._local is not None and self._clock.now() < self._ask_store_at:
            return None
        try:
            return await use()
        except (StoreError, ClientClosedError) as error:
            _logger.debug("the store did not load or save its text: %s", error)
            return None

    async def _report(self) -> None:
        number, self._unreported = self._unreported, 0
        try:
            await self._store.record(number)
        except StoreError as error:
            self._unreported += number
            await self._leave_store(error)

    async def _locally_or_raise(
        self, local: MemoryLedger, instead: Callable[[MemoryLedger], Awaitable[_T]]
    ) -> _T:
        if self._raises:
            raise QuotaStoreError(
                "the store of spent requests is away; nothing was sent. Try again when it is back, "
                "or use on_store_failure='local' to go on more slowly without it"
            )
        return await instead(local)

    async def _leave_store(self, error: StoreError) -> MemoryLedger:
        pause = min(_ASK_AGAIN * self._clock.speed, self._plan.rate.per / _ASKS_EACH_WINDOW)
        self._ask_store_at = self._clock.now() + pause
        if not self._has_warned:
            self._has_warned = True
            then = "requests that need it fail" if self._raises else "going on at a modest rate"
            _logger.warning("the store of spent requests is away (%s): %s", error, then)
        if self._local is None:
            plan = degraded_plan(self._plan)
            self._local = MemoryLedger(plan, self._clock.now, lease=self._lease)
            short = [limit.limit for limit in plan.limits if limit not in plan.quotas]
            # Held, not spent: the others' requests may still be in flight.
            for number in range(max(short, default=0)):
                await self._local.reserve(f"others {number}")
        return self._local

    async def _reserve_locally(self, local: MemoryLedger, waiter_id: str) -> Grant | NoSlot:
        answer = await local.reserve(waiter_id)
        if isinstance(answer, NoSlot):
            # No waiter should sleep through the store's return.
            again = max(0.0, self._ask_store_at - self._clock.now())
            return NoSlot(min(answer.delay, again), answer.limit)
        self._in_flight += 1
        return _LocalGrant(
            answer.slot, answer.granted_at, answer.early_by, answer.is_last_slot, answer.quota_left
        )

    async def _reserve_first_locally(
        self, local: MemoryLedger, waiter_id: str
    ) -> list[Grant | NoSlot]:
        return [await self._reserve_locally(local, waiter_id)]
