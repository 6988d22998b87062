"""The poller: who waits for which generation, and what the answer to a status check means.

All who wait for one generation share its checks. When to check is the policy's choice, at the free
slot; the dispatcher sends the check and hands its outcome in here.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import APIError, NotFoundError, QuotaExhaustedError, RateLimitError
from llamagen_async.forecasting import ANY
from llamagen_async.observing import JOB_KEY, about, logger_of
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter
from llamagen_async.scheduling.early_ends import EarlyEnds
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import Generation, GenerationWait, PollTarget
from llamagen_async.transport import bounds, delays, is_outage, says_later

if TYPE_CHECKING:
    from llamagen_async.webhooks import Announcement

__all__ = ["Poller", "Waiter"]

_COMPACT_AT: Final = 64
"""Waits that have ended and are still in the list of ends before it is compacted, at least."""
_LONGEST_DELAY: Final = 60.0
"""Seconds at most before a generation is checked again whose checks fail while others succeed."""
_COSTLY_DELAYS: Final = (30.0, 1_800.0)
"""Seconds before the next such check where it takes a slot of a long window such as a day's: at
first, and at most, each twice as long as the one before. An hour takes six slots (chosen)."""
_DENIED_FOR: Final = 120.0
"""Seconds for which a server may say that there is no such generation before it is believed, if it
has accepted or shown that generation (chosen: on the demo plan it takes three checks)."""
_SEVERAL: Final = 2
"""Generations whose checks fail after which all checks are taken to fail."""
_MOST_MISSED: Final = 3
"""Ends in a row without an announcement after which none is waited for any more (chosen)."""

_FAILING: Final = 5
"""Checks of one generation that fail in a row before that is told (chosen)."""
_TOLD_EVERY: Final = 600.0
"""Seconds between two such lines at least, whatever they are about."""

_logger = logger_of(__name__)


@attrs.frozen(eq=False, repr=False)
class Waiter:
    """Somebody who waits for a generation."""

    id: str
    """The generation's id."""
    future: asyncio.Future[Generation]
    """The generation, once it has ended."""
    deadline: float
    """When the waiter gives up, in seconds of the server's clock."""
    progress: Callable[[Any], None] | None = None
    """Called with the generation whenever it was seen unfinished."""
    context: Context = attrs.field(factory=copy_context)
    """The waiter's context variables."""


class Poller:
    """Keeps who waits for the generations of one client.

    Args:
        polls: The generations that are waited for.
        limiter: Knows the plan.
        clock: The server's clock.
        announced: Whether ends are announced, so that a check waits for the announcement.
    """

    def __init__(
        self,
        polls: PollSet,
        limiter: Limiter,
        clock: Clock,
        *,
        announced: bool = False,
    ) -> None:
        self.finished: int = 0
        """How many generations were seen to end."""
        self._polls = polls
        self._limiter = limiter
        self._clock = clock
        self._announced = announced
        self._missed = 0
        """Ends in a row that were announced too late, or not at all."""
        self._heard = False
        """Whether an event has come since the last of these."""
        self._failed: set[str] = set()
        """The first of the generations whose checks have failed since one was answered."""
        self._delays: Iterator[float] | None = None
        """Seconds between two checks while those of several fail and each costs a day's slot."""
        self._told_at = -math.inf
        """Time at which it was said that checks fail."""
        self._early = EarlyEnds() if announced else None
        self._waiters: dict[str, list[Waiter]] = {}
        self._ends: list[tuple[float, int, Waiter]] = []
        """All who wait, by when they give up."""
        self._compact_at = _COMPACT_AT
        self._numbers = itertools.count()

    def add(self, wait: GenerationWait[Any]) -> Waiter:
        """Begin to wait for a generation."""
        now, id_ = self._clock.now(), wait.id
        future: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        waiter = Waiter(id_, future, now + wait.timeout, wait.progress)
        if wait.after is not None:
            self._polls.changes.expect(wait.after, now - wait.age)
        has_ended = self._early is not None and self._take_early(waiter, wait.parse)
        if waiter.future.done():
            return waiter
        waiters = self._waiters.setdefault(id_, [])
        waiters.append(waiter)
        heapq.heappush(self._ends, (waiter.deadline, next(self._numbers), waiter))
        if len(self._ends) > self._compact_at:
            self._ends = [entry for entry in self._ends if not entry[2].future.done()]
            heapq.heapify(self._ends)
            self._compact_at = _COMPACT_AT + 2 * len(self._ends)
        target = self._polls.targets.get(id_)
        if target is None:
            known = self._polls.accepted.get(id_)
            half = self._polls.forecasts.overall.forecast.age_when(0.5)
            # One of which nothing is known is taken to be half way through.
            accepted_at, profile = known or (now - half, ANY)
            target = PollTarget(
                id_,
                wait.request,
                wait.parse,
                accepted_at,
                profile,
                urgent=wait.urgent,
                announced=self._announced and not has_ended and self._missed < _MOST_MISSED,
                heard=self._heard,
                has_ended=has_ended,
                deadline=waiter.deadline,
                is_known=known is not None,
                context=waiter.context,
            )
            self._polls.add(target)
        else:
            if wait.urgent:
                self._polls.set_urgent(target)
            self._update_deadline(target)
        return waiter

    def discard(self, waiter: Waiter) -> None:
        """End a wait, whatever came of it; the generation goes on."""
        waiters = self._waiters.get(waiter.id)
        if waiters is None or waiter not in waiters:
            return
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.id]
            self._polls.discard(waiter.id)
        elif (target := self._polls.targets.get(waiter.id)) is not None:
            target.context = waiters[0].context
            self._update_deadline(target)

    def record_check(
        self, target: PollTarget, checked_at: float, outcome: asyncio.Future[Generation]
    ) -> None:
        """Learn from the outcome of a check that was sent at `checked_at`."""
        if outcome.cancelled():
            return
        error = outcome.exception()
        if error is None:
            self._failed.clear()
            self._delays = self._polls.held_until = None
            has_ended = self._learn(target, outcome.result(), checked_at=checked_at)
            if has_ended and target.announced:
                self._miss_announcement()
        elif not isinstance(error, RateLimitError):
            if not (is_outage(error) or says_later(error) or self._is_denied(target, error)):
                self._end(target.id, error)
                return
            target.failures, target.last_error = target.failures + 1, str(error)
            self._tell_failing(target, error)
            self._polls.hold_back(target, self._clock.now(), self._delay(target))

    def _is_denied(self, target: PollTarget, error: BaseException) -> bool:
        """Whether the server does not know a generation that it has known, and is not believed yet.

        The answer may be that of a copy of its data which is behind, or of a new version of it that
        is only half there.
        """
        if not (isinstance(error, NotFoundError) and target.is_known):
            return False
        now = self._clock.now()
        target.unknown_since = min(target.unknown_since, now)
        return now - target.unknown_since < _DENIED_FOR

    def _delay(self, target: PollTarget) -> float:
        """Return the seconds before a generation is checked again whose check has failed."""
        plan, now = self._limiter.plan, self._clock.now()
        is_costly = bool(plan.quotas) and RequestKind.STATUS in plan.metered
        if target.delays is None:
            longest = delays(longest=_LONGEST_DELAY)
            target.delays = bounds(*_COSTLY_DELAYS) if is_costly else longest
        if is_costly and len(self._failed) < _SEVERAL:
            self._failed.add(target.id)
        if is_costly and len(self._failed) >= _SEVERAL:
            # All checks may fail: one finds out when that is over, and not one of each generation.
            self._delays = self._delays or bounds(*_COSTLY_DELAYS)
            self._polls.held_until = now + next(self._delays)
        return next(target.delays)

    def _tell_failing(self, target: PollTarget, error: BaseException) -> None:
        """Say that the checks of a generation fail, of one for all at a time."""
        now = self._clock.now()
        if target.failures >= _FAILING and now - self._told_at >= _TOLD_EVERY:
            self._told_at = now
            reason = error.summary if isinstance(error, APIError) else str(error)
            what = "%s can't be checked for now (%s); it goes on, and is waited for"
            known = about(error, generation_id=target.id, job_key=target.context.get(JOB_KEY))
            _logger.warning(what, target.id, reason, extra=known)

    def deliver(self, generation: Generation, asked_at: float) -> None:
        """Hand a generation that was read otherwise to those who wait for it.

        Args:
            generation: The generation.
            asked_at: When it was asked for.
        """
        target = self._polls.targets.get(generation.id)
        if target is not None:
            self._learn(target, generation, checked_at=asked_at)
        elif self._polls.changes.shows_end(generation, asked_at):
            self._polls.remove(generation.id)

    def announce(self, announcement: Announcement) -> bool:
        """Hand on what a webhook event says, and return whether anybody waits for it."""
        self._heard = True
        target = self._polls.targets.get(announcement.id)
        if not announcement.has_ended:
            if target is not None:
                self._polls.mark_heard(target)
            return target is not None
        if target is None:
            if self._early is not None and not self._early.keep(announcement):
                self._missed = 0  # it came after all
            return False
        now, self._missed = self._clock.now(), 0
        generation = announcement.read(target.parse)
        if generation is None:
            self._polls.mark_ended(target, now)
        else:
            self._learn(target, generation, checked_at=now, announced=True)
        return True

    def reject_blocked(self, until: float, error: QuotaExhaustedError) -> None:
        """Tell those whose time will be up before any check can be sent."""
        passed: list[tuple[float, int, Waiter]] = []
        while self._ends and self._ends[0][0] < until:
            entry = heapq.heappop(self._ends)
            waiter = entry[2]
            if waiter.future.done():
                continue
            passed.append(entry)
            target = self._polls.targets.get(waiter.id)
            if target is not None and target.in_flight:
                continue  # that check may end the wait
            was_checked = target is not None and (target.last_running_age or target.failures)
            if was_checked and error.limit not in self._limiter.plan.quotas:
                continue  # time that runs out in a minute is no surprise after a check
            waiter.future.set_exception(
                QuotaExhaustedError(error.limit, error.wait, error.resets_at, waiter.id)
            )
        for entry in passed:
            heapq.heappush(self._ends, entry)

    def last_error(self, id_: str) -> str | None:
        """Return the failure of the last status check of a generation, if it has failed."""
        target = self._polls.targets.get(id_)
        return None if target is None else target.last_error

    def fail_all(self, error: Exception) -> None:
        """Tell all who wait that no check can be sent."""
        for id_ in list(self._waiters):
            self._end(id_, error)

    def _update_deadline(self, target: PollTarget) -> None:
        deadline = max(waiter.deadline for waiter in self._waiters[target.id])
        if deadline != target.deadline:
            self._polls.set_deadline(target, deadline)

    def _learn(
        self,
        target: PollTarget,
        generation: Generation,
        *,
        checked_at: float,
        announced: bool = False,
    ) -> bool:
        """Learn from what a generation looks like; return whether that has ended the wait for it.

        Args:
            target: The generation that is waited for.
            generation: The generation as it was seen.
            checked_at: When the server was asked.
            announced: Whether its end was announced, and so has just come.
        """
        if self._polls.targets.get(target.id) is not target:
            return False  # other news came first
        done = self._polls.changes.shows_end(generation, checked_at)
        self._polls.record_result(
            target,
            done=done,
            checked_at=checked_at,
            now=self._clock.now(),
            announced=announced,
        )
        if done:
            self.finished += 1
            if self._early is not None:
                self._early.mark_seen(target.id)
            self._end(target.id, generation)
        elif not generation.is_done:  # else it is the state before a change
            self._tell_progress(generation)
        return done

    def _tell_progress(self, generation: Generation) -> None:
        """Show an unfinished generation to those who wait for it and want to see it."""
        for waiter in self._waiters.get(generation.id, ()):
            if waiter.progress is None:
                continue
            try:
                waiter.progress(generation)
            except (Exception, asyncio.CancelledError):  # as of a future that it asks
                _logger.exception("the progress= of a wait for %s has failed", generation.id)

    def _take_early(self, waiter: Waiter, parse: Callable[[object], Generation]) -> bool:
        """Return whether an end was announced or seen before; end the wait if that tells it all."""
        assert self._early is not None
        early = self._early.take(waiter.id)
        # An end that was seen is not announced again, unless the generation was changed since.
        was_seen = self._early.forget_seen(waiter.id) and waiter.id not in self._polls.accepted
        generation = None if early is None else early.read(parse)
        now = self._clock.now()
        if generation is not None and self._polls.changes.shows_end(generation, now):
            self.finished += 1
            self._polls.remove(waiter.id)
            waiter.future.set_result(generation)
        return was_seen or early is not None

    def _miss_announcement(self) -> None:
        """Count an end that was not announced before a check found it."""
        self._missed, self._heard = self._missed + 1, False
        if self._missed == _MOST_MISSED:
            _logger.warning(
                "%d generations in a row ended without a webhook event: do the events reach this "
                "client's deliver? Until one comes, ends are checked for as without webhooks",
                self._missed,
            )

    def _end(self, id_: str, outcome: Generation | BaseException) -> None:
        """Tell all who wait for a generation how it ended, or why its status can't be had."""
        self._polls.remove(id_)
        for waiter in self._waiters.pop(id_, []):
            if waiter.future.done():
                continue
            if isinstance(outcome, BaseException):
                waiter.future.set_exception(outcome)
            else:
                waiter.future.set_result(outcome)
