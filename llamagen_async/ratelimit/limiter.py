"""The limiter: asks the ledger for slots in one event loop, and guards what leaves.

The ledger is the authority on the count. In front of each request stands a second guard that no
store can mislead: an `aiolimiter` token bucket for every window of the plan, shared by all clients
of the key in this loop. Should a store be wiped, restored from a backup or wrong, this loop sends
what the buckets admit. A plan with `burst` has a narrower bucket, which spaces the rest.

Who waits for a slot waits elsewhere: the limiter asks once and returns the answer.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from weakref import WeakMethod, WeakSet, WeakValueDictionary

import attrs

from llamagen_async.clock import Clock
from llamagen_async.observing import logger_of
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    KeyState,
    Ledger,
    NoSlot,
    Outcome,
    Workload,
)
from llamagen_async.ratelimit.throttle import guessed_pause

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Limiter", "Slot"]

_logger = logger_of(__name__)

_ROUNDING: Final = 1e-6
"""Part of a token by which a bucket is larger, so that rounding errors delay nothing."""


@attrs.define(eq=False)
class Slot:
    """The right to send one request. Report its end exactly once, by `commit` or `give_back`."""

    _limiter: Limiter | None
    grant: Grant | None
    """The ledger's answer; `None` for a request that the plan does not meter."""

    async def commit(self, outcome: Outcome, workload: Workload) -> KeyState | None:
        """Report the response, or that the request was given up; later reports do nothing.

        Returns:
            How the key stands now, if the ledger was asked.
        """
        limiter, self._limiter = self._limiter, None
        if limiter is None:
            return None
        if self.grant is not None:
            return await limiter.ledger.commit(self.grant, outcome, workload)
        limiter.refusals = limiter.refusals + 1 if outcome.refused else 0
        if outcome.refused:
            pause = outcome.retry_after
            if pause is None:
                pause = guessed_pause(limiter.refusals, limiter.plan.rate.interval)
            await limiter.ledger.record(0, pause=pause)
        return None

    def give_back(self) -> None:
        """Report that the request never left; later reports do nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None and self.grant is not None:
            limiter.give_up(self.grant.id, self.grant.client)
            limiter.give_tokens_back()


class Limiter:
    """The limits of one key in the event loop in which it was made.

    Args:
        plan: The windows, and the kinds of request that are metered.
        ledger: The count; other loops, processes or hosts may use the same one.
        clock: The server's clock.
    """

    def __init__(self, plan: Plan, ledger: Ledger, clock: Clock) -> None:
        self.plan: Plan = plan
        self.named_plan: Plan = plan
        """The plan that its users have named; the server may have said otherwise since."""
        self.ledger: Ledger = ledger
        self.users: WeakSet[object] = WeakSet[object]()
        """The users that have not closed it yet."""
        self.of_loops: WeakValueDictionary[int, Limiter] = WeakValueDictionary[int, Limiter]()
        """The limiters of the same key in all event loops; the registry fills it in."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.refusals: int = 0
        """429s in a row to requests that the plan does not meter, by which their pauses grow."""
        self._clock = clock
        self._buckets = _buckets(plan, clock)
        self._listeners: list[WeakMethod[Callable[[], None]]] = []
        self._has_waited = False

    def change_plan(self, plan: Plan) -> None:
        """Keep the limits of another plan from now on, with what was spent so far."""
        self.plan = plan
        self._buckets = _buckets(plan, self._clock)
        self.ledger.change_plan(plan)

    async def reserve(self, claim: Claim) -> Slot | NoSlot:
        """Ask once for a slot that may be used at once.

        Cancelled, or failed, it leaves neither a slot nor a position behind.
        """
        number, has_waited = 0, False
        try:
            answer = await self.ledger.reserve(claim)
            if isinstance(answer, NoSlot):
                self._log_first_wait(answer)
                return answer
            for bucket in self._buckets:
                has_waited |= await bucket.take()
                number += 1
            if has_waited:
                # Another request may have been refused meanwhile.
                answer = await self.ledger.reserve(claim)
        except BaseException:
            self.give_up(claim.id, claim.client)
            self.give_tokens_back(number)
            raise
        if isinstance(answer, Grant):
            return Slot(self, answer)
        self.give_tokens_back()
        return answer

    async def unmetered_slot(self, *, is_read: bool) -> Slot | float:
        """Ask once whether a request may leave that the plan does not meter: a read has its pace.

        Returns:
            The right to send it; without, the seconds after which to ask again.
        """
        if is_read:
            wait = await self.ledger.admit_read()
        else:
            wait = (await self.ledger.snapshot()).paused_for
        return wait or Slot(self, None)

    def give_up(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up the slot or the position of a claim, or all that a client has if it leaves.

        Who waits in this loop is told, see `subscribe`.
        """
        self.ledger.release(claim, client, leaves=leaves)
        for listener in self._listeners:
            if (changed := listener()) is not None and not self.loop.is_closed():
                self.loop.call_soon(changed)

    def give_tokens_back(self, number: int | None = None) -> None:
        """Give back a token of each bucket, or of the first ones: the request did not leave."""
        for bucket in self._buckets[:number]:
            bucket.returned += 1.0

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Call `changed`, a method, when something was given up here, for as long as it lives.

        What other loops and processes give up is not noticed: who waits asks again in time.
        """
        self._listeners = [listener for listener in self._listeners if listener() is not None]
        self._listeners.append(WeakMethod(changed))

    def _log_first_wait(self, answer: NoSlot) -> None:
        if not self._has_waited:
            full = (
                f"the limit of {answer.limit} has no room" if answer.limit else "the server refused"
            )
            _logger.info("%s: waiting %.1f s", full, answer.delay)
        self._has_waited = True


class _TokenBucket:
    """The token bucket of one window: an `aiolimiter` that takes back what was not used.

    A window of which no more than `limit` requests leave in any `per` seconds never empties a
    bucket of `limit` tokens that gains one every `per / limit` seconds. So it delays nothing that
    a ledger grants, unless the ledger is wrong.
    """

    def __init__(self, size: int, interval: float) -> None:
        self.returned = 0.0
        """Tokens that were given back, and that the bucket has not gained by itself since."""
        self._interval = interval
        """Real seconds in which the bucket gains a token."""
        self._tokens = size + _ROUNDING
        self._full_at = -math.inf
        """The loop's time at which the bucket is full if nothing else is taken."""

    @functools.cached_property
    def _bucket(self) -> AsyncLimiter:
        from aiolimiter import AsyncLimiter  # noqa: PLC0415  # who only reads the count sends nothing

        return AsyncLimiter(self._tokens, self._tokens * self._interval)

    async def take(self) -> bool:
        """Take a token, as soon as there is one, and return whether that took time."""
        loop = asyncio.get_running_loop()
        lacking = max(0.0, (self._full_at - loop.time()) / self._interval)
        self.returned = min(self.returned, lacking)
        amount = 1.0 - min(1.0, self.returned)
        self.returned -= 1.0 - amount
        must_wait = not self._bucket.has_capacity(amount)
        try:
            await self._bucket.acquire(amount)
        except BaseException:
            self.returned += 1.0 - amount
            raise
        self._full_at = max(self._full_at, loop.time()) + amount * self._interval
        return must_wait


def _buckets(plan: Plan, clock: Clock) -> list[_TokenBucket]:
    """Return the token buckets of a plan, one for each window; the shortest has its burst."""

    def size(limit: RateLimit) -> int:
        return min(plan.burst or limit.limit, limit.limit) if limit is plan.rate else limit.limit

    return [_TokenBucket(size(limit), clock.real(limit.interval)) for limit in plan.limits]
