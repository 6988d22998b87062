"""The limiter: asks the ledger for slots in one event loop, and guards what leaves.

The ledger is the authority on the count. In front of each request stands a second guard that no
store can mislead: an `aiolimiter` token bucket for every window of the plan, shared by all clients
of the key in this loop. Should a store be wiped, restored from a backup or wrong, this loop sends
what the buckets admit. They never delay what a ledger grants that keeps the windows. A plan with
`burst` has a narrower bucket, which spaces the rest.

Who waits for a slot waits elsewhere: the limiter asks once and returns the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable, Sequence

import attrs

from llamagen_async.clock import Clock
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    KeyState,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    SharedLedger,
    Workload,
)
from llamagen_async.ratelimit.throttle import guessed_pause
from llamagen_async.ratelimit.token_bucket import TokenBucket

__all__ = ["Limiter", "Slot"]

_logger = logging.getLogger(__name__)


@attrs.define(eq=False)
class Slot:
    """The right to send one request. Report its end exactly once, by `commit` or `give_back`."""

    _limiter: Limiter | None
    grant: Grant | None
    """The ledger's answer; `None` for a request that the plan does not meter."""
    _tokens: Sequence[TokenBucket] = ()
    """The buckets from which a token was taken."""

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
        if outcome.refused:
            await limiter.pause(outcome.retry_after)
        else:
            limiter.refusals = 0
        return None

    def give_back(self) -> None:
        """Report that the request never left; later reports do nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None and self.grant is not None:
            limiter.ledger.release(self.grant.id, self.grant.client)
            _give_back(self._tokens)


class Limiter:
    """The limits of one key in the event loop in which it was made.

    Args:
        plan: The windows, and the kinds of request that are metered.
        ledger: The count; other loops, processes or hosts may use the same one.
        clock: The server's clock.
    """

    def __init__(self, plan: Plan, ledger: SharedLedger, clock: Clock) -> None:
        self.plan = plan
        self.ledger = ledger
        self.loop = asyncio.get_running_loop()
        self.refusals = 0
        """429s in a row to requests that the plan does not meter."""
        self._clock = clock
        self._buckets = _buckets(plan, clock)
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
        answer = await self.ledger.reserve(claim)
        if isinstance(answer, NoSlot):
            self._log_first_wait(answer)
            return answer
        must_wait = not all(bucket.has_token for bucket in self._buckets)
        taken: list[TokenBucket] = []
        try:
            for bucket in self._buckets:
                await bucket.take()
                taken.append(bucket)
            if must_wait:
                # Another request may have been refused meanwhile.
                answer = await self.ledger.reserve(claim)
        except BaseException:
            self.ledger.release(claim.id, claim.client)
            _give_back(taken)
            raise
        if isinstance(answer, Grant):
            return Slot(self, answer, taken)
        _give_back(taken)
        return answer

    async def unmetered_slot(self) -> Slot:
        """Wait for the end of a pause, and for nothing else."""
        while pause := (await self.ledger.snapshot()).paused_for:
            await self._clock.sleep(pause)
        return Slot(self, None)

    def give_up(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up the position of a claim, or all that a client has if it leaves."""
        self.ledger.release(claim, client, leaves=leaves)

    async def pause(self, retry_after: float | None) -> None:
        """Pause everyone after a 429 to a request that the plan does not meter.

        Args:
            retry_after: Seconds that the server asked to wait; without it, the pause is twice as
                long each time in a row.
        """
        self.refusals += 1
        if retry_after is None:
            retry_after = guessed_pause(self.refusals, self.plan.rate.interval)
        await self.ledger.record(0, pause=retry_after)

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what the ledger knows now, for a request with `position` others before it."""
        return await self.ledger.snapshot(position=position)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed`, a method, in this loop when a slot may be free earlier than was said.

        Returns:
            A function that ends the subscription.
        """
        # The ledger may outlive a client that was forgotten, and must not keep it.
        weak, loop = weakref.WeakMethod(changed), self.loop

        def call() -> None:
            method = weak()
            if method is None:
                unsubscribe()
                return
            # A ledger may call this from another thread, whose loop outlives this one.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(method)

        unsubscribe = self.ledger.subscribe(call)
        return unsubscribe

    async def aclose(self) -> None:
        """Let go of the ledger; nobody may wait for a slot any more."""
        await self.ledger.aclose()

    def _log_first_wait(self, no_slot: NoSlot) -> None:
        if self._has_waited:
            return
        self._has_waited = True
        if no_slot.limit is None:
            _logger.info("the server refused a request: all wait for %.1f s", no_slot.delay)
        else:
            _logger.info("the limit of %s is used: waiting %.1f s", no_slot.limit, no_slot.delay)


def _give_back(taken: Sequence[TokenBucket]) -> None:
    """Give back the tokens of a request that did not leave."""
    for bucket in taken:
        bucket.give_back()


def _buckets(plan: Plan, clock: Clock) -> list[TokenBucket]:
    """Return the token buckets of a plan, one for each window."""
    return [
        TokenBucket(limit, clock, burst=plan.burst if limit is plan.rate else None)
        for limit in plan.limits
    ]
