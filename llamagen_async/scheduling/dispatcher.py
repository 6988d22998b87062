"""The dispatcher: the one place that decides what is sent when a slot is free.

It asks the policy, takes a slot, asks again (the wait may have been long) and has it sent.
Requests run in tasks of their own, so that a caller who is cancelled neither loses a slot nor an
id. Only what neither counts nor costs anything is sent by its caller: there is nothing to decide,
and nothing to lose. The task that decides lives only while there is something to decide.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from time import time as wall_time
from typing import Any, Final, Protocol

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import (
    ClientClosedError,
    LlamaGenError,
    RateLimitError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter, Slot
from llamagen_async.scheduling.admission import AdmissionControl, BlockedListener
from llamagen_async.scheduling.decision import DispatchPolicy, Wait
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import PollTarget
from llamagen_async.scheduling.request_queue import Job, RequestQueue
from llamagen_async.scheduling.sender import (
    MOST_REFUSALS,
    DispatchStats,
    RequestReport,
    Sender,
)

__all__ = ["CheckListener", "Dispatcher"]

_logger = logging.getLogger(__name__)

_SLEPT: Final = 10.0
"""Real seconds from one step of the loop to the next that only a machine that slept takes."""


class CheckListener(BlockedListener, Protocol):
    """Who has to know what became of status checks: the poller."""

    def checked(self, watch: PollTarget, sent_at: float, future: asyncio.Future[Any]) -> None:
        """Take the outcome of a check that was sent at `sent_at`."""
        ...

    def broken(self, error: Exception) -> None:
        """Take note that no check can be sent, and why."""
        ...


@attrs.define(eq=False, repr=False)
class _Lane:
    """What one task decides about: requests that draw on the same slots."""

    queue: bool
    checks: bool
    wake: asyncio.Event = attrs.field(factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Dispatcher:
    """Sends the requests of one client.

    Args:
        limiter: Hands out the slots.
        watches: The status checks to choose from.
        clock: The server's clock.
        listener: Told what became of checks, and when waiting takes long or can't go on.
        on_request: Told of each request once it has ended.
    """

    def __init__(
        self,
        limiter: Limiter,
        watches: PollSet,
        clock: Clock,
        listener: CheckListener,
        on_request: Callable[[RequestReport], None] | None = None,
    ) -> None:
        self._sender = Sender(limiter, clock, on_request)
        self._limiter = limiter
        self._watches = watches
        self._clock = clock
        self._listener = listener
        self._queue = RequestQueue()
        self._sending: dict[asyncio.Task[None], tuple[Job, Slot]] = {}
        self._closed = False
        self._patience = AdmissionControl(
            limiter, self._queue, self._count_running, clock, listener
        )
        self._chooser = DispatchPolicy(limiter.plan, self._queue, watches, self._patience, clock)
        # Checks that are not metered must not stand behind creates that wait for a slot.
        together = limiter.plan.meters(RequestKind.STATUS)
        self._lanes = (
            [_Lane(queue=True, checks=True)]
            if together
            else [_Lane(queue=True, checks=False), _Lane(queue=False, checks=True)]
        )

    @property
    def stats(self) -> DispatchStats:
        """What was sent."""
        return self._sender.stats

    async def submit(
        self,
        kind: RequestKind,
        call: Callable[[Slot], Awaitable[Any]],
        *,
        urgent: bool = True,
        max_wait: float | None = None,
        wait_for_quota: bool = False,
        prepare: Callable[[], Awaitable[None]] | None = None,
        retract: Callable[[], Awaitable[None]] | None = None,
        orphaned: Callable[[Any], None] | None = None,
        lost: Callable[[BaseException], None] | None = None,
    ) -> Any:
        """Send a request when its turn has come, and return what `call` returns.

        A request that a rate limit refused goes back to its place in the queue. A read that does
        not count leaves at once, and ends if the caller is cancelled; all others go on.

        Args:
            kind: What the request does.
            call: Sends it once, in the slot it is given.
            urgent: Whether somebody waits for it interactively.
            max_wait: Seconds that it may wait for a slot; `None` is any time within the short
                windows.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            prepare: Awaited right before it is sent, each time; if it raises, nothing is sent and
                the caller is told.
            retract: Awaited if it was prepared and not sent after all: the caller was gone.
            orphaned: Told the result if the caller was cancelled while it was on its way.
            lost: Told the error in the same case.

        Raises:
            QuotaExhaustedError: It would wait too long; nothing was sent.
            QuotaStoreError: The store of spent requests is away; nothing was sent.
            ClientClosedError: The client was closed before it was sent.
        """
        if self._closed:
            raise ClientClosedError("the client is closed; nothing was sent")
        since = self._clock.now()
        metered = self._limiter.plan.meters(kind)
        if not (metered or kind.is_billed or prepare):
            return await self._sender.read(kind, call)
        if metered and not wait_for_quota and (error := await self._patience.quota_error(kind)):
            raise error
        job = Job(
            kind=kind,
            call=call,
            future=asyncio.get_running_loop().create_future(),
            since=since,
            urgent=urgent,
            max_wait=max_wait,
            wait_for_quota=wait_for_quota,
            prepare=prepare,
            retract=retract,
            orphaned=orphaned,
            lost=lost,
        )
        if metered:
            self._queue.push(job)
            job.future.add_done_callback(lambda _: self.wake())
            if urgent and kind.is_billed:
                self._chooser.arrivals.note(job.since)
            self._patience.tell_newcomer(job)
            self.wake()
        else:
            slot = await self._limiter.acquire(kind)  # at once, but for a pause
            if self._closed:
                raise ClientClosedError("the client was closed; nothing was sent")
            self._launch(job, slot)
        return await job.future

    def wake(self) -> None:
        """Decide anew: something was added or has changed."""
        for lane in self._lanes:
            lane.wake.set()
            work = self._has_work(lane)
            if lane.task is None and work and not self._closed:
                lane.task = asyncio.create_task(self._run(lane))
            elif lane.task is not None and not work:
                lane.task.cancel()  # it may wait for a slot that nobody needs any more

    async def aclose(self, grace: float) -> None:
        """Send nothing more; give billed requests on their way `grace` real seconds to return."""
        self._closed = True
        for job in self._queue:
            job.fail(ClientClosedError("the client was closed before the request was sent"))
        for task, (job, _) in self._sending.items():
            if not job.kind.is_billed:
                task.cancel()
        self._sender.close()
        if self._sending:
            await asyncio.wait(self._sending, timeout=grace)
        await self._sender.closed(grace)
        left = list(self._sending.values())
        tasks = [*self._sending, *(lane.task for lane in self._lanes if lane.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job, slot in left:
            # Only those that were cancelled before their first step: the others have reported.
            job.fail(ClientClosedError("the client was closed before the request was sent"))
            await slot.give_back()

    def _has_work(self, lane: _Lane) -> bool:
        return (lane.queue and self._queue.head() is not None) or (
            lane.checks and len(self._watches) > 0
        )

    async def _run(self, lane: _Lane) -> None:
        try:
            while self._has_work(lane):
                lane.wake.clear()
                await self._patience.tell_unaffordable()
                self._chooser.plan = self._limiter.plan
                quota_left = self._limiter.quota_left if lane.queue else None
                choice = self._chooser.choose(quota_left, queue=lane.queue, checks=lane.checks)
                if isinstance(choice, Wait):
                    self._rest(lane)
                    await self._clock.wait(lane.wake, choice.seconds)
                    if self._queue.head() is not None and self._limiter.plan.quotas:
                        await self._limiter.fresh_quota_left()  # it may have come back
                    continue
                kind = choice.kind if isinstance(choice, Job) else RequestKind.STATUS
                slot = await self._limiter.acquire(
                    kind,
                    blocked=self._patience.blocked,
                    wants_more=self._wants_more if lane.queue else None,
                )
                # The wait may have been long: choose again what the slot is worth most for.
                left = slot.grant.quota_left
                choice = self._chooser.choose(
                    None if left is None else left + 1, queue=lane.queue, checks=lane.checks
                )
                if isinstance(choice, Wait):
                    await slot.give_back()
                    continue
                self._chooser.take(choice)
                if isinstance(choice, Job):
                    self._launch(choice, slot)
                else:
                    self._check(choice, slot)
                # Nothing above need have waited; with slots for thousands nobody else would run.
                await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001  # nobody may wait for ever for what broke
            self._fail_all(error)
        finally:
            lane.task = None
            self._rest(lane)
            self.wake()  # work that came while this task was being cancelled

    def _wants_more(self) -> bool:
        """Whether another slot will be wanted as soon as there is one."""
        return len(self._queue) > 1

    def _rest(self, lane: _Lane) -> None:
        """Give up what is kept for the next slot: it is not wanted at once."""
        if lane.queue:
            self._limiter.rest(self._wants_more)

    def _fail_all(self, error: Exception) -> None:
        """Tell everyone who waits that the limits can't be kept, so that nothing is sent."""
        if not isinstance(error, LlamaGenError):
            _logger.error("the dispatcher failed", exc_info=error)
        for job in self._queue:
            job.fail(error)
        self._listener.broken(error)

    def _launch(self, job: Job, slot: Slot) -> None:
        self._queue.launch(job)
        if self._limiter.plan.meters(job.kind):
            self._chooser.spend()
        task = asyncio.create_task(self._send(job, slot, wall_time()))
        self._sending[task] = (job, slot)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        self.wake()

    def _check(self, watch: PollTarget, slot: Slot) -> None:
        now = self._clock.now()
        self._watches.send(watch, now)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        job = Job(RequestKind.STATUS, watch.fetch, future, since=now, requeue=False)
        job.future.add_done_callback(partial(self._listener.checked, watch, now))
        self._launch(job, slot)

    async def _send(self, job: Job, slot: Slot, launched_at: float) -> None:
        """Send one request in its slot, and report what became of both."""
        if job.future.done():  # cancelled since it was chosen
            await slot.give_back()
            return
        if abs(wall_time() - launched_at) > _SLEPT:
            await slot.commit()  # the machine slept: the lease may be over, so ask for another
            self._again(job)
            return
        if error := await self._sender.send(job, slot):
            self._refused(job, error)

    def _refused(self, job: Job, error: RateLimitError) -> None:
        job.refusals += 1
        if not job.requeue or job.refusals > MOST_REFUSALS or self._closed:
            job.fail(error)
        else:
            self.stats.retries += 1
            self._again(job)

    def _again(self, job: Job) -> None:
        """Put a job back into its place; a check is chosen anew instead."""
        if not job.requeue:
            job.future.cancel()
        elif self._closed:
            job.fail(ClientClosedError("the client was closed before the request was sent"))
        elif not job.future.done():
            self._queue.push(job)

    def _count_running(self) -> int:
        """Return how many comics run that still need a check, or soon will."""
        sending = (job for job, _ in self._sending.values() if not job.answered)
        to_collect = self._watches.to_collect(self._clock.now())
        return to_collect + sum(job.kind.is_billed for job in sending)
