"""The limiter: who waits for a slot waits here, first come first served.

The ledger is the authority on the count. In front of it stands one `aiolimiter` token bucket
per plan, which shapes bursts: a plan with `burst=3` lets three requests leave back to back and
spaces the rest, however many slots the window still has. With the default burst, which is the
whole window, the bucket is wider than the ledger and never the one that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from aiolimiter import AsyncLimiter

from llamagen_async.clock import Clock
from llamagen_async.plans import Plan, RequestKind
from llamagen_async.ratelimit.ledger import Grant, Ledger, LimitsSnapshot, Refusal

__all__ = ["Limiter", "Slot"]

_logger = logging.getLogger(__name__)
_UNMETERED: Final = Grant(slot=0, granted_at=0.0, quota_left=None)


class Slot:
    """The right to send one request. Report exactly once what became of it."""

    __slots__ = ("_limiter", "grant")

    def __init__(self, limiter: Limiter, grant: Grant) -> None:
        self._limiter: Limiter | None = limiter
        self.grant = grant

    async def commit(self, *, refused: bool = False, retry_after: float | None = None) -> None:
        """Report the response, or that the request was given up; later reports do nothing.

        Args:
            refused: The answer was 429.
            retry_after: Seconds that it asked to wait.
        """
        limiter, self._limiter = self._limiter, None
        if limiter is not None and self.grant is not _UNMETERED:
            await limiter.ledger.commit(self.grant, refused=refused, retry_after=retry_after)

    async def give_back(self) -> None:
        """Report that the request never left; later reports do nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None and self.grant is not _UNMETERED:
            await limiter.ledger.give_back(self.grant)


class Limiter:
    """Hands out slots of one key in the event loop in which it was made.

    Args:
        plan: What is counted.
        ledger: Who counts; other loops, processes or hosts may use the same one.
        clock: The server's clock.
    """

    def __init__(self, plan: Plan, ledger: Ledger, clock: Clock) -> None:
        self.plan = plan
        self.ledger = ledger
        self._clock = clock
        self.loop = asyncio.get_running_loop()
        burst = plan.burst or plan.rate.limit
        self._bucket = AsyncLimiter(burst, clock.real(burst * plan.rate.interval))
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()
        self._has_waited = False

    async def acquire(self, kind: RequestKind) -> Slot:
        """Wait for a slot, first come first served, and hold it.

        A cancelled wait leaves nothing behind. A kind that the plan does not meter never waits.
        """
        if not self.plan.meters(kind):
            return Slot(self, _UNMETERED)
        async with self._line:
            grant = await self._granted()
            slot = Slot(self, grant)
            try:
                await self._bucket.acquire()
            except BaseException:
                await slot.give_back()
                raise
            return slot

    async def snapshot(self) -> LimitsSnapshot:
        """Return what the ledger knows now."""
        return await self.ledger.snapshot()

    async def _granted(self) -> Grant:
        answer = await self.ledger.reserve()
        if isinstance(answer, Grant):
            return answer
        self._say_once(answer)

        def wake() -> None:
            # From another thread whose loop outlives this one, too.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._changed.set)

        unsubscribe = self.ledger.subscribe(wake)
        try:
            while isinstance(answer, Refusal):
                self._changed.clear()
                answer = await self.ledger.reserve()
                if isinstance(answer, Refusal):
                    await self._clock.wait(self._changed, answer.delay)
            return answer
        finally:
            unsubscribe()

    def _say_once(self, refusal: Refusal) -> None:
        if self._has_waited:
            return
        self._has_waited = True
        why = f"the limit of {refusal.limit} is used" if refusal.limit else "the server refused"
        _logger.info("waiting %.1f s for the next request: %s", refusal.delay, why)
