"""The scheduler: the one door to what is sent when.

It owns the queue of requests, the generations that are waited for, the poller and the dispatcher.
Nothing outside this room reaches past it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from llamagen_async.clock import Clock
from llamagen_async.errors import ClientClosedError, WaitTimeoutError
from llamagen_async.forecasting import Forecasts
from llamagen_async.ratelimit import Limiter
from llamagen_async.scheduling.admission import AdmissionControl
from llamagen_async.scheduling.circuit import Outage, circuit_of
from llamagen_async.scheduling.dispatcher import Dispatcher
from llamagen_async.scheduling.key_view import KeyView
from llamagen_async.scheduling.load import Load
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import Generation, GenerationWait
from llamagen_async.scheduling.poller import Poller
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.request_report import RequestReport
from llamagen_async.scheduling.sender import DispatchStats, Sender
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import APIRequest, Transport

if TYPE_CHECKING:
    from llamagen_async.webhooks import Announcement

__all__ = ["Scheduler"]

_T = TypeVar("_T")

_YOUNG: Final = 1_800.0
"""Seconds for which somebody may come for a generation that was accepted: a wait's usual time."""


class Scheduler:
    """Sends the requests of one client, each when its turn has come.

    Args:
        transport: Carries one request.
        limiter: Hands out the slots.
        clock: The server's clock.
        max_retries: How often a failed request is sent again, where that is safe.
        polling: Seconds between two checks of the same generation, at least.
        announced: Whether the ends of generations are announced by webhook events.
        on_request: Told of each request once it has ended.
        forecasts: What others have learned of the same server, to learn with them.
    """

    def __init__(
        self,
        transport: Transport,
        limiter: Limiter,
        clock: Clock,
        *,
        max_retries: int,
        polling: float | None = None,
        announced: bool = False,
        on_request: Callable[[RequestReport], None] | None = None,
        forecasts: Forecasts | None = None,
    ) -> None:
        self.forecasts: Forecasts = forecasts or Forecasts()
        """Forecasts of how long generations take, learned from those that were waited for."""
        self._limiter = limiter
        self._clock = clock
        self._queue = RequestQueue()
        self._polls = PollSet(self.forecasts, min_interval=polling)
        self._view = KeyView(limiter, self._queue, self._polls)
        self._circuit = circuit_of(limiter)
        self._poller = Poller(self._polls, limiter, clock, announced=announced)
        self._sender = Sender(
            transport,
            self._polls,
            self._view,
            self._circuit,
            clock,
            max_retries=max_retries,
            on_request=on_request,
        )
        self._admission = AdmissionControl(
            limiter, self._queue, self._polls, self._view, self._sender, self._poller, clock
        )
        self._dispatcher = Dispatcher(
            limiter,
            self._queue,
            self._polls,
            self._view,
            self._poller,
            self._admission,
            self._sender,
            self._circuit,
            clock,
        )
        self._reads: dict[str, asyncio.Task[Generation]] = {}
        self._closed = False

    @property
    def stats(self) -> DispatchStats:
        """Counts of what was sent."""
        return self._sender.stats

    @property
    def outage(self) -> Outage | None:
        """The outage of the server that is going on; `None` if there is none."""
        return self._circuit.outage

    @property
    def finished(self) -> int:
        """How many generations were seen to end."""
        return self._poller.finished

    def load(self, now: float) -> Load:
        """Return what there is to do, and what the limits leave; any thread may ask.

        Args:
            now: The time, in seconds of the server's clock.
        """
        plan = self._limiter.plan
        return Load(
            key=id(self._limiter),
            plan=plan.name,
            per=plan.rate.per,
            slots_used=self._view.used(now),
            slots_limit=plan.rate.limit,
            quota_left=self._view.quota_left,
            waiting=self._queue.counts(),
            running=len(self._polls.targets),
            circuit=self._circuit.state,
        )

    async def submit(self, submission: Submission[_T]) -> _T:
        """Send a request when its turn has come, and return its answer.

        A request that a rate limit refused, or that provably did not arrive, goes back to its
        position in the queue. It goes on if the caller is cancelled while it is on its way.

        Raises:
            QuotaExhaustedError: It would wait too long; nothing was sent.
            QuotaStoreError: The store of spent requests is away; nothing was sent.
            ClientClosedError: The client was closed before it was sent.
            SubmissionUncertainError: It is billed, and its answer was lost.
            LlamaGenError: It failed for good.
        """
        if self._closed:
            raise ClientClosedError("the client is closed; nothing was sent")
        kind = submission.request.kind
        plan = self._limiter.plan
        counts = kind in plan.metered
        if counts and plan.quotas and not submission.wait_for_quota:
            error = await self._admission.quota_error(kind)
            if error is not None:
                raise error
        self._dispatcher.submit(submission)
        if counts and self._admission.blocked_until is not None:
            self._admission.check_deadline(submission)
        try:
            return await submission.future
        except asyncio.CancelledError as reason:
            submission.leave(reason)
            raise

    async def read(
        self,
        name: str,
        request: APIRequest,
        parse: Callable[[object], Generation],
        *,
        whole: bool = True,
    ) -> Generation:
        """Return a generation as it stands now; those who ask at the same time share the answer.

        Args:
            name: Tells what is read from what else is read.
            request: The status check.
            parse: Reads the decoded body of its answer.
            whole: Whether it is the whole generation, and so news for those who wait for it.
        """
        task = self._reads.get(name)
        if task is None:
            task = asyncio.create_task(self._read(request, parse, whole=whole))
            task.add_done_callback(partial(self._forget_read, name))
            self._reads[name] = task
        return await asyncio.shield(task)

    async def wait(self, wait: GenerationWait[Any]) -> Generation:
        """Return a generation when it has ended, well or not.

        Raises:
            WaitTimeoutError: It has not ended in time; it goes on.
            QuotaExhaustedError: No check can be sent before time is up; it goes on.
            LlamaGenError: Its status can't be had.
        """
        waiter = self._poller.add(wait)
        self._dispatcher.wake()
        try:
            async with asyncio.timeout(wait.timeout / self._clock.speed):
                return await waiter.future
        except TimeoutError:
            last_error = self._poller.last_error(wait.id)
            raise WaitTimeoutError(wait.id, wait.timeout, last_error) from None
        finally:
            self._poller.discard(waiter)
            self._dispatcher.wake()

    def recall_end(self, generation: Generation) -> None:
        """Take in how a generation ended that an earlier program has seen."""
        self._polls.changes.recall(generation)

    def announce(self, announcement: Announcement) -> bool:
        """Hand on what a webhook event says, and return whether anybody waits for it."""
        is_waited_for = self._poller.announce(announcement)
        if is_waited_for:
            self._dispatcher.wake()
        return is_waited_for

    def start_learning(self) -> None:
        """Learn from other clients, now that what was learned before is known, or never will be."""
        self._view.learns = True
        self._dispatcher.wake()

    def is_at_rest(self) -> bool:
        """Whether nothing waits, and nothing that was accepted is likely to be asked for yet.

        Something may be on its way, see `settle`.
        """
        waits = self._queue.size or self._dispatcher.delayed or self._polls.targets or self._reads
        if waits or self.outage is not None:
            return False
        young_since = self._clock.now() - _YOUNG
        return all(since < young_since for since, _ in self._polls.accepted.values())

    async def settle(self) -> None:
        """Return when what is on its way has ended, its slot's report included."""
        while sending := list(self._dispatcher.sending):
            await asyncio.wait(sending)

    async def aclose(self, grace: float) -> None:
        """Stop; give billed requests on their way `grace` real seconds to return."""
        self._closed = True
        error = ClientClosedError("the client was closed while waiting")
        self._poller.fail_all(error)
        sending = self._dispatcher.sending.values()
        owners = [one.hooks for one in sending if one.hooks is not None]
        await self._dispatcher.aclose(grace)
        if owners:  # nobody else may be left who waits until a journal has it
            writing = [asyncio.create_task(one.written()) for one in owners]
            _, late = await asyncio.wait(writing, timeout=grace)
            for task in late:
                task.cancel()
        await asyncio.gather(*self._reads.values(), return_exceptions=True)

    async def _read(
        self, request: APIRequest, parse: Callable[[object], Generation], *, whole: bool
    ) -> Generation:
        future: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        asked_at = self._clock.now()
        generation = await self.submit(Submission(request, parse, asked_at, future))
        if whole:
            self._poller.deliver(generation, asked_at)
            self._dispatcher.wake()
        return generation

    def _forget_read(self, name: str, task: asyncio.Task[Any]) -> None:
        del self._reads[name]
        if not task.cancelled():
            task.exception()  # every caller may have been cancelled before hearing of it
