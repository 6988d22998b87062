"""The limiter: who waits for a slot waits here, first come first served.

The ledger is the authority on the count. In front of it stands an `aiolimiter` token bucket that
shapes bursts: a plan with `burst=3` lets three requests leave back to back and spaces the rest,
however many slots the window still has. A plan without `burst` has none: a bucket as wide as the
window never waits where the ledger would not, except wrongly, for a token that a slot which was
given back has used up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping
from typing import Final

from aiolimiter import AsyncLimiter

from llamagen_async.clock import Clock
from llamagen_async.plans import Plan, RequestKind
from llamagen_async.ratelimit.headers import rate_limit_headers
from llamagen_async.ratelimit.ledger import Grant, Ledger, LimitsSnapshot, Outcome, Refusal

__all__ = ["Limiter", "Slot"]

_logger = logging.getLogger(__name__)
_UNMETERED: Final = Grant(slot=0, granted_at=0.0, delay=0.0, took_last=False, quota_left=None)


class Slot:
    """The right to send one request. Report exactly once what became of it."""

    __slots__ = ("_limiter", "_server_left", "_server_limit", "grant")

    def __init__(self, limiter: Limiter, grant: Grant) -> None:
        self._limiter: Limiter | None = limiter
        self._server_limit: int | None = None
        self._server_left: int | None = None
        self.grant = grant

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take note of what an answer's headers say about the limits."""
        self._server_limit, self._server_left = rate_limit_headers(headers)

    async def commit(self, *, refused: bool = False, retry_after: float | None = None) -> None:
        """Report the response, or that the request was given up; later reports do nothing.

        Args:
            refused: The answer was 429.
            retry_after: Seconds that it asked to wait.
        """
        limiter, self._limiter = self._limiter, None
        if limiter is not None and self.grant is not _UNMETERED:
            outcome = Outcome(refused, retry_after, self._server_limit, self._server_left)
            await limiter.ledger.commit(self.grant, outcome)

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
        self._bucket = (
            AsyncLimiter(plan.burst, clock.real(plan.burst * plan.rate.interval))
            if plan.burst
            else None
        )
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()
        self._has_waited = False
        self._ticket = uuid.uuid4().hex
        """One is enough: only the first in this limiter's line asks the ledger."""

    async def acquire(self, kind: RequestKind) -> Slot:
        """Wait for a slot, first come first served, and hold it.

        A cancelled wait leaves nothing behind. A kind that the plan does not meter never waits.
        """
        if not self.plan.meters(kind):
            return Slot(self, _UNMETERED)
        async with self._line:
            slot = Slot(self, await self._granted())
            if self._bucket is not None:
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
        answer = await self.ledger.reserve(self._ticket)
        if isinstance(answer, Grant) and not answer.delay:
            return answer
        unsubscribe = self.ledger.subscribe(self._wake)
        try:
            while isinstance(answer, Refusal):
                self._say_once(answer)
                await self._clock.wait(self._changed, answer.delay)
                self._changed.clear()
                answer = await self.ledger.reserve(self._ticket)
            await self._clock.sleep(answer.delay)
        except BaseException:
            if isinstance(answer, Grant):
                await self.ledger.give_back(answer)
            else:
                await self.ledger.leave(self._ticket)
            raise
        finally:
            unsubscribe()
        return answer

    def _wake(self) -> None:
        # From another thread whose loop outlives this one, too.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._changed.set)

    def _say_once(self, refusal: Refusal) -> None:
        if self._has_waited:
            return
        self._has_waited = True
        if refusal.limit is None:
            _logger.info("the server refused a request: all wait for %.1f s", refusal.delay)
        else:
            _logger.info("the limit of %s is used: waiting %.1f s", refusal.limit, refusal.delay)
