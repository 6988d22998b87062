"""Admission control: a request that would wait longer than it may fails at once instead.

That is found out in three places: when a request is asked for, when the limiter learns how long the
wait is, and when checks have used up what was left of a long window. Sends nothing.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from llamagen_async.clock import Clock
from llamagen_async.errors import QuotaExhaustedError, QuotaStoreError
from llamagen_async.plans import DAY, HOUR, RateLimit, RequestKind
from llamagen_async.ratelimit import Limiter
from llamagen_async.scheduling.circuit import Circuit
from llamagen_async.scheduling.failures import fail
from llamagen_async.scheduling.key_view import KeyView
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poller import Poller
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.sender import Sender
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import retry_span

__all__ = ["AdmissionControl", "can_afford"]

_LATEST: Final = 100 * 365 * DAY
"""Real seconds ahead of now at which the latest end of a wait is given as a date: none has to be
farther, and every date up to then exists in each time zone."""
_CHECKED_EVERY: Final = 1e-4
"""Seconds from one look over all that wait to the next, for each of them."""


class AdmissionControl:
    """Tells the callers of requests that would wait longer than they may.

    Args:
        limiter: Knows how long the wait is.
        queue: The requests that wait.
        polls: The generations that are waited for.
        sender: Knows the creates that are on their way.
        poller: Told when no check can be sent for long.
        view: Knows what is left of the plan's long windows.
        clock: The server's clock.
    """

    def __init__(
        self,
        limiter: Limiter,
        queue: RequestQueue,
        polls: PollSet,
        view: KeyView,
        sender: Sender,
        poller: Poller,
        clock: Clock,
    ) -> None:
        self._limiter = limiter
        self._queue = queue
        self._polls = polls
        self._view = view
        self._sender = sender
        self._poller = poller
        self._clock = clock
        self.unanswered: set[Submission[Any]] = sender.unanswered
        """The creates that are on their way."""
        self._next_check = 0.0
        self.blocked_until: float | None = None
        """The clock's time before which no slot is free; `None` if one may be."""
        self._blocked_by: RateLimit | None = None
        """The window that is full; `None` during a pause."""

    def has_quota(self, kind: RequestKind, quota_left: int, *, ahead: int = 0) -> bool:
        """Whether the plan's long windows have room for a request and what follows from it."""
        if not kind.is_billed:
            return True
        running, slots_each = self.running, self._slots_each
        return can_afford(quota_left, running=running, ahead=ahead, slots_each=slots_each)

    async def quota_error(self, kind: RequestKind) -> QuotaExhaustedError | None:
        """Return the error for a new request that the plan's long windows have no room for."""
        quota_left = await self.fresh_quota_left()
        if not kind.is_billed:
            return None if quota_left > 0 else await self._exhausted(position=0)
        ahead = self._queue.billed
        if self.has_quota(kind, quota_left, ahead=ahead):
            return None
        return await self._exhausted(position=self.running + self._slots_each * (ahead + 1) - 1)

    async def reject_over_quota(self) -> None:
        """Reject those whose create or check the plan's long windows have no room for any more."""
        left = self._view.quota_left
        if left is None or (left > 0 and self.has_quota(RequestKind.CREATE, left)):
            return  # nobody has to be looked at: there is room for any kind
        impatient = [one for one in self._queue if not one.wait_for_quota]
        if left > 0 and not any(one.request.kind.is_billed for one in impatient):
            return
        quota_left = await self.refresh_quota()
        if quota_left is None:
            return
        for one in impatient:
            kind = one.request.kind
            if one.is_queued and not (quota_left > 0 and self.has_quota(kind, quota_left)):
                ahead = self.running + self._slots_each - 1 if kind.is_billed else 0
                fail(one, await self._exhausted(position=ahead))
        if quota_left == 0 and self._slots_each > 1:
            error = await self._exhausted(position=0)
            until = self._clock.now() + error.wait * self._clock.speed
            self._poller.reject_blocked(until, error)

    def block(self, seconds: float, limit: RateLimit | None) -> None:
        """Reject those who would wait longer than they may, now that the wait is known.

        Args:
            seconds: Seconds before which no slot is free.
            limit: The window that is full; `None` during a pause.
        """
        now = self._clock.now()
        self.blocked_until, self._blocked_by = now + seconds, limit
        if now < self._next_check and not self._is_paused_long():
            return
        self._next_check = now + _CHECKED_EVERY * (self._queue.size + self.running)
        if self._is_paused_long() or any(one.max_wait is not None for one in self._queue):
            position = 0
            for one in self._queue:
                position += not self._rejects_late(one, position)
        error = self._error(limit, seconds)
        self._poller.reject_blocked(self.blocked_until, error)

    def check_deadline(self, submission: Submission[Any]) -> None:
        """Reject a submission that has just been queued if its wait would be too long."""
        self._rejects_late(submission, self._queue.before(submission))

    def reject_unanswered(self, queue: RequestQueue, circuit: Circuit) -> float:
        """Reject those who have waited for the server as long as they may.

        Args:
            queue: The requests that wait; the billed ones wait for the server.
            circuit: The server's silence, whether it is known to be an outage yet or not.

        Returns:
            Seconds after which the next one has waited long enough.
        """
        now, next_at, silence = self._clock.now(), math.inf, circuit.silence
        assert silence is not None
        span = retry_span(self._sender.max_retries)
        for one in list(queue):
            if not one.request.kind.is_billed:
                continue
            if one.outage_timeout is not None:
                until = one.since + one.outage_timeout
            elif circuit.outage is not None:
                until = max(one.since, circuit.opened_at) + span
            else:
                continue  # the next probes say whether it is one
            if until <= now:
                fail(one, silence.error())
            else:
                next_at = min(next_at, until)
        return next_at - now

    async def refresh_quota(self) -> int | None:
        """Ask the ledger how many slots are left; `None` if it is away."""
        try:
            return await self.fresh_quota_left()
        except QuotaStoreError:
            return None  # whoever asks for a slot hears of that

    async def fresh_quota_left(self) -> int:
        """Ask the ledger how many slots the plan's long windows have left."""
        windows = (await self._limiter.ledger.snapshot()).windows
        quotas = self._limiter.plan.quotas
        self._view.quota_left = min(one.free for one in windows if one.limit in quotas)
        return self._view.quota_left

    def _rejects_late(self, submission: Submission[Any], position: int) -> bool:
        """Reject a submission if its wait would be too long; return whether it would."""
        until, limit = self.blocked_until, self._blocked_by
        if until is None:
            return False
        rate = self._limiter.plan.rate
        # A lower bound: no more than `rate.limit` slots return in one window.
        at = until + position // rate.limit * rate.per
        is_late = submission.max_wait is not None and at - submission.since > submission.max_wait
        if not (is_late or (self._is_paused_long() and not submission.wait_for_quota)):
            return False
        fail(submission, self._error(limit, at - self._clock.now()))
        self._queue.remove(submission)  # now: it is in the way of none that is asked for next
        return True

    def _is_paused_long(self) -> bool:
        """Whether the server asks to wait for hours: no better than a quota that is used up."""
        until = self.blocked_until
        is_pause = until is not None and self._blocked_by is None
        return is_pause and until is not None and until - self._clock.now() > HOUR

    async def _exhausted(self, *, position: int) -> QuotaExhaustedError:
        snapshot = await self._limiter.ledger.snapshot(position=position)
        last = max(snapshot.windows, key=lambda one: one.next_free_in)
        is_pause = snapshot.paused_for > last.next_free_in
        return self._error(None if is_pause else last.limit, snapshot.next_free_in)

    def _error(self, limit: RateLimit | None, delay: float) -> QuotaExhaustedError:
        """Return the error for a wait until a window has room, or until a pause (`None`) ends."""
        wait = self._clock.real(max(0.0, delay))
        resets_at = datetime.now(UTC) + timedelta(seconds=min(wait, _LATEST))
        return QuotaExhaustedError(limit, wait, resets_at)

    @property
    def running(self) -> int:
        """How many comics run that still need a check, or soon will."""
        return self._polls.to_collect(self._clock.now()) + len(self._sender.unanswered)

    @property
    def _slots_each(self) -> int:
        return 1 + (RequestKind.STATUS in self._limiter.plan.metered)


def can_afford(quota_left: int | None, *, running: int, ahead: int, slots_each: int) -> bool:
    """Whether a long window has room for one more comic, its create and its check.

    Args:
        quota_left: Free slots in the plan's long windows; `None` if it has none.
        running: Comics that run and still need a check.
        ahead: Creates that will be sent before.
        slots_each: Slots that a comic takes at least: its create and, if checks count, one check.
    """
    if quota_left is None:
        return True
    return quota_left >= running * (slots_each - 1) + slots_each * (ahead + 1)
