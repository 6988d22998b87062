"""The dispatcher: takes a slot, has the policy decide what it is used for, and has that sent.

One task at a time decides. Once it has a slot and something to send, the next decision is left to
another task, and it sends what was chosen: so a caller who is cancelled loses neither a slot nor
an id, and no task lives while there is nothing to decide or to send.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import ClientClosedError, LlamaGenError
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter, Slot
from llamagen_async.scheduling.admission import AdmissionControl
from llamagen_async.scheduling.policy import DispatchPolicy, Idle
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import PollTarget
from llamagen_async.scheduling.poller import Poller
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.sender import Sender, fail
from llamagen_async.scheduling.submission import Submission

__all__ = ["Dispatcher"]

_logger = logging.getLogger(__name__)

_CLOSED: Final = "the client was closed before the request was sent"


@attrs.define(eq=False, repr=False)
class _DispatchLoop:
    """The requests that draw on the same slots, and the task that decides about the next one."""

    queue: RequestQueue
    policy: DispatchPolicy
    metered: bool
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    """Set when something was added, ended or learned since the last decision."""
    task: asyncio.Task[None] | None = None
    """The task that decides; `None` if there is nothing to decide."""


class Dispatcher:
    """Sends the requests and status checks of one client.

    Args:
        limiter: Hands out the slots.
        queue: The requests that wait for a slot.
        polls: The generations that are waited for.
        poller: Told of the outcome of each check.
        admission: Rejects those who would wait too long.
        sender: Sends in a slot.
        clock: The server's clock.
    """

    def __init__(
        self,
        limiter: Limiter,
        queue: RequestQueue,
        polls: PollSet,
        poller: Poller,
        admission: AdmissionControl,
        sender: Sender,
        clock: Clock,
    ) -> None:
        self._limiter = limiter
        self._polls = polls
        self._poller = poller
        self._admission = admission
        self._sender = sender
        self._clock = clock
        self._sending: dict[asyncio.Task[None], Submission[Any]] = {}
        self._delayed: dict[Submission[Any], asyncio.TimerHandle] = {}
        """Submissions that failed and wait to be queued again, and the timer of each."""
        self._closed = False
        # What the plan does not count must not stand behind what waits for a slot.
        metered, unmetered = (
            _DispatchLoop(
                one, DispatchPolicy(limiter, one, polls, admission, clock, metered=counts), counts
            )
            for one, counts in ((queue, True), (RequestQueue(), False))
        )
        self._metered, self._unmetered = metered, unmetered
        self._loops = (metered, unmetered)

    def submit(self, submission: Submission[Any]) -> None:
        """Queue a submission; its future gets the answer or the error."""
        kind = submission.request.kind
        loop = self._metered if kind in self._limiter.plan.metered else self._unmetered
        loop.queue.push(submission)
        if submission.urgent and kind.is_billed:
            loop.policy.arrived.append(submission.since)
        submission.future.add_done_callback(self._on_done)
        self.wake()

    def wake(self) -> None:
        """Decide again: something was added, ended or learned."""
        for loop in self._loops:
            loop.changed.set()
            has_work = self._has_work(loop)
            if loop.task is None and has_work and not self._closed:
                loop.task = asyncio.create_task(self._run(loop))
                loop.task.add_done_callback(partial(self._on_task_done, loop))
            elif loop.task is not None and not has_work:
                loop.task.cancel()  # it may wait for a slot that nobody needs any more

    async def aclose(self, grace: float) -> None:
        """Send nothing more; give billed requests on their way `grace` real seconds to return."""
        self._closed = True
        for timer in self._delayed.values():
            timer.cancel()
        for waiting in (*self._metered.queue, *self._unmetered.queue, *self._delayed):
            fail(waiting, ClientClosedError(_CLOSED))
        for task, submission in self._sending.items():
            if not submission.request.kind.is_billed:
                task.cancel()
        if self._sending:
            await asyncio.wait(list(self._sending), timeout=grace)
        tasks = [*self._sending, *(loop.task for loop in self._loops if loop.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _has_work(self, loop: _DispatchLoop) -> bool:
        if loop.queue.size:
            return True
        makes_checks = (RequestKind.STATUS in self._limiter.plan.metered) is loop.metered
        return makes_checks and bool(self._polls.targets)

    async def _run(self, loop: _DispatchLoop) -> None:
        """Decide about the next slot, leave the one after it to another task, and send."""
        try:
            chosen = await self._choose(loop)
        except Exception as error:  # noqa: BLE001  # nobody may wait for ever for what broke
            self._fail_all(error)
            return
        if chosen is None:
            return
        submission, slot = chosen
        task, loop.task = loop.task, None
        assert task is not None
        self._sending[task] = submission
        self.wake()
        if loop.task is None and self._limiter.expected:
            self._limiter.rest(self._wants_more)
        again = await self._sender.send(submission, slot)
        if again is not None:
            self._repeat(submission, again)

    async def _choose(self, loop: _DispatchLoop) -> tuple[Submission[Any], Slot] | None:
        """Return what is sent next and its slot; `None` if nothing is left to send."""
        limiter = self._limiter
        while self._has_work(loop):
            loop.changed.clear()
            if limiter.plan.quotas:
                await self._admission.reject_over_quota()
            decided_at = self._clock.now()
            decision = loop.policy.decide(limiter.quota_left if loop.metered else None)
            if isinstance(decision, Idle):
                if limiter.expected:
                    limiter.rest(self._wants_more)
                await self._clock.wait(loop.changed, decision.seconds)
                if loop.queue.size and limiter.plan.quotas:
                    await limiter.fresh_quota_left()  # it may have come back
                continue
            slot = await limiter.acquire(
                decision.request.kind,
                on_blocked=self._admission.on_blocked,
                wants_more=self._wants_more if loop.metered else None,
            )
            has_waited = loop.changed.is_set() or self._clock.now() > decided_at
            if has_waited or slot.quota_left is not None:
                left = slot.quota_left
                decision = loop.policy.decide(None if left is None else left + 1)
                if isinstance(decision, Idle):
                    await slot.give_back()
                    continue
            return self._take(loop, decision), slot
        return None

    def _take(self, loop: _DispatchLoop, decision: Submission[Any] | PollTarget) -> Submission[Any]:
        """Take what was chosen out of where it waits; return what is to be sent."""
        now = self._clock.now()
        if loop.metered:
            loop.policy.spent.append(now)
            del loop.policy.spent[: -self._limiter.plan.rate.limit]  # older ones have returned
        loop.policy.was_check = isinstance(decision, PollTarget)
        if not isinstance(decision, PollTarget):
            loop.queue.remove(decision)
            return decision
        # A target is in flight from now on, until `_checked` has the outcome.
        self._polls.mark_in_flight(decision, now)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.add_done_callback(partial(self._checked, decision, now))
        return Submission(decision.request, decision.parse, now, future, is_check=True)

    def _checked(self, target: PollTarget, sent_at: float, outcome: asyncio.Future[Any]) -> None:
        self._poller.record_check(target, sent_at, outcome)
        self._polls.mark_idle(target)
        self.wake()

    def _repeat(self, submission: Submission[Any], delay: float) -> None:
        """Queue a submission again in `delay` real seconds, where it was."""
        if submission.future.done():
            return
        if self._closed:
            fail(submission, ClientClosedError(_CLOSED))
            return
        timer = asyncio.get_running_loop().call_later(delay, self._queue_again, submission)
        self._delayed[submission] = timer

    def _queue_again(self, submission: Submission[Any]) -> None:
        del self._delayed[submission]
        if not submission.future.done():
            metered = submission.request.kind in self._limiter.plan.metered
            (self._metered if metered else self._unmetered).queue.push(submission)
            self.wake()

    def _wants_more(self) -> bool:
        """Whether another slot will be wanted as soon as there is one."""
        return self._metered.queue.size > 1

    def _fail_all(self, error: Exception) -> None:
        """Tell everyone who waits that the limits can't be kept, so that nothing is sent."""
        if not isinstance(error, LlamaGenError):
            _logger.error("the dispatcher failed", exc_info=error)
        for submission in (*self._metered.queue, *self._unmetered.queue):
            fail(submission, error)
        self._poller.fail_all(error)

    def _on_done(self, _future: asyncio.Future[Any]) -> None:
        self.wake()

    def _on_task_done(self, loop: _DispatchLoop, task: asyncio.Task[None]) -> None:
        self._sending.pop(task, None)
        if loop.task is task:
            loop.task = None
            if self._limiter.expected:
                self._limiter.rest(self._wants_more)
        self.wake()
