"""Who would wait too long, and is told so at once instead.

In three places: when a request is asked for, when the limiter learns how long the wait is, and
when checks have used up what was left of a long window. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from llamagen_async.clock import Clock
from llamagen_async.errors import QuotaExhaustedError
from llamagen_async.plans import HOUR, RateLimit, RequestKind
from llamagen_async.ratelimit import Limiter
from llamagen_async.scheduling.policy import can_afford
from llamagen_async.scheduling.request_queue import Job, RequestQueue

__all__ = ["AdmissionControl", "BlockedListener"]

_PASS: Final = 1e-4
"""Seconds from one look at all who wait to the next, for each of them."""


class BlockedListener(Protocol):
    """Who has to know that no check can be sent for long."""

    def blocked(self, until: float, error: QuotaExhaustedError) -> None:
        """Take note that no check can be sent before `until`."""
        ...


class AdmissionControl:
    """Tells those who would wait longer than they may.

    Args:
        limiter: Knows how long the wait is.
        queue: Who waits.
        running: Returns how many comics run that still need a check.
        clock: The server's clock.
        listener: Told when checks can't be sent for long.
    """

    def __init__(
        self,
        limiter: Limiter,
        queue: RequestQueue,
        running: Callable[[], int],
        clock: Clock,
        listener: BlockedListener,
    ) -> None:
        self._limiter = limiter
        self._queue = queue
        self._running = running
        self._clock = clock
        self._listener = listener
        self._next_pass = 0.0

    def affords(self, kind: RequestKind, quota_left: int, *, ahead: int = 0) -> bool:
        """Whether the plan's long windows have room for a request and what follows from it."""
        if not kind.is_billed:
            return True
        return can_afford(
            quota_left, running=self._running(), ahead=ahead, slots_each=self._slots_each
        )

    async def quota_error(self, kind: RequestKind) -> QuotaExhaustedError | None:
        """Return the error for a new request that the plan's long windows have no room for."""
        plan = self._limiter.plan
        if not plan.quotas or not plan.meters(kind):
            return None
        quota_left = await self._limiter.fresh_quota_left()
        if not kind.is_billed:
            return None if quota_left > 0 else await self._exhausted(position=0)
        ahead = self._queue.billed
        if self.affords(kind, quota_left, ahead=ahead):
            return None
        return await self._exhausted(position=self._running() + self._slots_each * (ahead + 1) - 1)

    async def tell_unaffordable(self) -> None:
        """Tell those whose create or check the plan's long windows have no room for any more."""
        if self._limiter.quota_left is None:
            return
        doomed = [job for job in self._queue if not job.wait_for_quota]
        if self._limiter.quota_left > 0 and all(
            self.affords(job.kind, self._limiter.quota_left) for job in doomed
        ):
            return
        quota_left = await self._limiter.fresh_quota_left()
        for job in doomed:
            if job.waiting and not self.affords(job.kind, quota_left):
                job.fail(await self._exhausted(position=self._running() + self._slots_each - 1))
        if quota_left == 0 and self._slots_each > 1:
            error = await self._exhausted(position=0)
            self._listener.blocked(self._clock.now() + error.wait * self._clock.speed, error)

    def blocked(self) -> None:
        """Tell those who would wait longer than they may, now that the wait is known."""
        until, limit = self._limiter.blocked_until, self._limiter.blocked_by
        now = self._clock.now()
        if until is None or now < self._next_pass:
            return
        self._next_pass = now + _PASS * (len(self._queue) + self._running())
        if self._is_paused_long() or any(job.max_wait is not None for job in self._queue):
            for place, job in enumerate(self._queue):
                self._tell(job, place)
        self._listener.blocked(until, self._error(limit or self._limiter.plan.rate, until - now))

    def tell_newcomer(self, job: Job) -> None:
        """Tell who has just taken a place in the queue if the wait is too long."""
        self._tell(job, self._queue.ahead_of(job) - 1)

    def _tell(self, job: Job, place: int) -> None:
        until, limit = self._limiter.blocked_until, self._limiter.blocked_by
        if until is None:
            return
        rate = self._limiter.plan.rate
        # A lower bound: no more than `rate.limit` slots come back in one window.
        at = until + place // rate.limit * rate.per
        too_long = job.max_wait is not None and at - job.since > job.max_wait
        if too_long or (self._is_paused_long() and not job.wait_for_quota):
            job.fail(self._error(limit or rate, at - self._clock.now()))

    def _is_paused_long(self) -> bool:
        """Whether a server asks for hours: that is as good as a quota that is used up."""
        until = self._limiter.blocked_until
        is_paused = until is not None and self._limiter.blocked_by is None
        return is_paused and until is not None and until - self._clock.now() > HOUR

    async def _exhausted(self, *, position: int) -> QuotaExhaustedError:
        projected = await self._limiter.projected(position)
        return self._error(projected.limit or self._limiter.plan.quotas[0], projected.delay)

    def _error(self, limit: RateLimit, delay: float) -> QuotaExhaustedError:
        wait = self._clock.real(max(0.0, delay))
        return QuotaExhaustedError(limit, wait, datetime.now(UTC) + timedelta(seconds=wait))

    @property
    def _slots_each(self) -> int:
        return 1 + self._limiter.plan.meters(RequestKind.STATUS)
