"""The dispatcher: the one place that decides what is sent when a slot is free.

It asks the policy, takes a slot, asks again (the wait may have been long) and sends. Requests
run in tasks of their own, so that a caller who is cancelled neither loses a slot nor an id. The
task that decides lives only while there is something to decide.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import (
    APIConnectionError,
    ClientClosedError,
    QuotaExhaustedError,
    RateLimitError,
    SubmissionUncertainError,
)
from llamagen_async.plans import HOUR, RequestKind
from llamagen_async.ratelimit import Limiter, Slot
from llamagen_async.scheduling.policy import (
    Action,
    Situation,
    can_afford,
    check_threshold,
    choose,
)
from llamagen_async.scheduling.watches import Watch, Watches

__all__ = ["DispatchStats", "Dispatcher"]

_LEAST_WAIT: Final = 0.01
"""Seconds between two decisions that find nothing to send, at least."""
_LONGEST_WAIT: Final = 60.0
"""Seconds between two decisions, at most: a quota may have come back."""
_MOST_REFUSALS: Final = 8
"""How many 429 in a row one request takes before its caller is told."""


@attrs.define
class DispatchStats:
    """What was sent, counted by this client."""

    sent: Counter[RequestKind] = attrs.field(factory=Counter[RequestKind])
    """Requests by kind, repeated ones included."""
    refused: int = 0
    """Answers that were 429."""
    retries: int = 0
    """Requests that were sent again, after a refusal or a failure."""


@attrs.define(eq=False)
class _Job:
    """One request that somebody waits for."""

    kind: RequestKind
    call: Callable[[Slot], Awaitable[Any]]
    future: asyncio.Future[Any]
    urgent: bool = True
    wait_for_quota: bool = False
    orphaned: Callable[[Any], None] | None = None
    rank: tuple[bool, bool, int] = (False, False, 0)
    """Interactive before batch, billed before reads, first come first served."""
    requeue: bool = True
    """Whether a refusal puts it back into the queue; a check is chosen anew instead."""
    launched: bool = False
    """Whether it is on its way, or has been."""
    refusals: int = 0
    """How often the server refused it with a 429."""

    def succeed(self, result: Any) -> None:
        """Hand the result to the caller, or to `orphaned` if the caller is gone."""
        if not self.future.done():
            self.future.set_result(result)
        elif self.orphaned is not None:
            self.orphaned(result)

    def fail(self, error: Exception) -> None:
        """Hand the error to the caller, if there still is one."""
        if not self.future.done():
            self.future.set_exception(error)


@attrs.define(eq=False)
class _Lane:
    """What one task decides about: requests that draw on the same slots."""

    queue: bool
    checks: bool
    wake: asyncio.Event = attrs.field(factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@attrs.frozen
class _Wait:
    """Nothing is worth a slot now."""

    seconds: float


_Choice = _Job | Watch | _Wait
"""What a free slot is used for."""


class Dispatcher:
    """Sends the requests of one client.

    Args:
        limiter: Hands out the slots.
        watches: The status checks to choose from.
        clock: The server's clock.
        checked: Told the outcome of each status check: the watch, when it was sent, the future.
    """

    def __init__(
        self,
        limiter: Limiter,
        watches: Watches,
        clock: Clock,
        checked: Callable[[Watch, float, asyncio.Future[Any]], None],
    ) -> None:
        self.stats = DispatchStats()
        self._limiter = limiter
        self._watches = watches
        self._clock = clock
        self._checked = checked
        self._queue: list[tuple[tuple[bool, bool, int], _Job]] = []
        self._numbers = itertools.count()
        self._sending: dict[asyncio.Task[None], _Job] = {}
        self._closed = False
        # Checks that are not metered must not stand behind creates that wait for a slot.
        together = limiter.plan.meters(RequestKind.STATUS)
        self._lanes = (
            [_Lane(queue=True, checks=True)]
            if together
            else [_Lane(queue=True, checks=False), _Lane(queue=False, checks=True)]
        )

    async def submit(
        self,
        kind: RequestKind,
        call: Callable[[Slot], Awaitable[Any]],
        *,
        urgent: bool = True,
        wait_for_quota: bool = False,
        orphaned: Callable[[Any], None] | None = None,
    ) -> Any:
        """Send a request when its turn has come, and return what `call` returns.

        A request that a rate limit refused goes back to the head of the queue.

        Args:
            kind: What the request does.
            call: Sends it once, in the slot it is given.
            urgent: Whether somebody waits for it interactively.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            orphaned: Told the result if the caller was cancelled while it was on its way.

        Raises:
            QuotaExhaustedError: A long window has no room for it; nothing was sent.
            ClientClosedError: The client was closed before it was sent.
        """
        if self._closed:
            raise ClientClosedError("the client is closed; nothing was sent")
        if not wait_for_quota and (error := await self._quota_error(kind)):
            raise error
        job = _Job(
            kind=kind,
            call=call,
            future=asyncio.get_running_loop().create_future(),
            urgent=urgent,
            wait_for_quota=wait_for_quota,
            orphaned=orphaned,
            rank=(not urgent, not kind.is_billed, next(self._numbers)),
        )
        if self._limiter.plan.meters(kind):
            heapq.heappush(self._queue, (job.rank, job))
            self.wake()
        else:
            self._launch(job, await self._limiter.acquire(kind))
        return await job.future

    def wake(self) -> None:
        """Decide anew: something was added or has changed."""
        for lane in self._lanes:
            lane.wake.set()
            if lane.task is None and not self._closed and self._has_work(lane):
                lane.task = asyncio.create_task(self._run(lane))

    async def aclose(self, grace: float) -> None:
        """Send nothing more; give billed requests on their way `grace` real seconds to return."""
        self._closed = True
        for _, job in self._queue:
            job.fail(ClientClosedError("the client was closed before the request was sent"))
        self._queue.clear()
        for task, job in self._sending.items():
            if not job.kind.is_billed:
                task.cancel()
        if self._sending:
            await asyncio.wait(self._sending, timeout=grace)
        tasks = [*self._sending, *(lane.task for lane in self._lanes if lane.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return sum(not job.future.done() for _, job in self._queue)

    def _has_work(self, lane: _Lane) -> bool:
        return (lane.queue and bool(self._queue)) or (lane.checks and len(self._watches) > 0)

    async def _run(self, lane: _Lane) -> None:
        try:
            while self._has_work(lane):
                lane.wake.clear()
                quota_left = await self._quota_left()
                await self._tell_unaffordable(quota_left)
                choice = self._choose(lane, quota_left)
                if isinstance(choice, _Wait):
                    await self._clock.wait(lane.wake, choice.seconds)
                    continue
                kind = choice.kind if isinstance(choice, _Job) else RequestKind.STATUS
                slot = await self._limiter.acquire(kind)
                # The wait may have been long: choose again what the slot is worth most for.
                left = slot.grant.quota_left
                choice = self._choose(lane, None if left is None else left + 1)
                if isinstance(choice, _Wait):
                    await slot.give_back()
                elif isinstance(choice, _Job):
                    self._launch(choice, slot)
                else:
                    self._check(choice, slot)
        finally:
            lane.task = None

    def _choose(self, lane: _Lane, quota_left: int | None) -> _Choice:
        now = self._clock.now()
        head = self._head(quota_left) if lane.queue else None
        watch, chance = (self._watches.likeliest(now) if lane.checks else None) or (None, 0.0)
        situation = Situation(
            urgent=head is not None and head.urgent,
            queued=len(self._queue) if head else 0,
            running=len(self._watches),
            chance=chance,
            overdue=watch is not None and self._watches.is_overdue(watch, now),
            quota_left=quota_left,
        )
        action = choose(situation)
        if action is Action.SEND and head is not None:
            return head
        if action is Action.CHECK and watch is not None:
            return watch
        if not lane.checks:
            return _Wait(_LONGEST_WAIT)
        wait = self._watches.next_at(check_threshold(situation)) - now
        return _Wait(max(_LEAST_WAIT, min(wait, _LONGEST_WAIT)))

    def _head(self, quota_left: int | None) -> _Job | None:
        """Return the request whose turn it is, if the plan's long windows have room for it."""
        queue = self._queue
        while queue and (queue[0][1].launched or queue[0][1].future.done()):
            heapq.heappop(queue)
        if not queue or quota_left is None or self._can_afford(queue[0][1], quota_left, ahead=0):
            return queue[0][1] if queue else None
        for _, job in sorted(queue):
            waiting = not (job.launched or job.future.done())
            if waiting and self._can_afford(job, quota_left, ahead=0):
                return job
        return None

    def _launch(self, job: _Job, slot: Slot) -> None:
        job.launched = True
        task = asyncio.create_task(self._send(job, slot))
        self._sending[task] = job
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        self.wake()

    def _check(self, watch: Watch, slot: Slot) -> None:
        watch.in_flight = True
        job = _Job(
            kind=RequestKind.STATUS,
            call=watch.fetch,
            future=asyncio.get_running_loop().create_future(),
            requeue=False,
        )
        job.future.add_done_callback(partial(self._checked, watch, self._clock.now()))
        self._launch(job, slot)

    async def _send(self, job: _Job, slot: Slot) -> None:
        """Send one request in its slot, and report what became of both."""
        if job.future.done():  # cancelled since it was chosen
            await slot.give_back()
            return
        self.stats.sent[job.kind] += 1
        try:
            result = await job.call(slot)
        except RateLimitError as error:
            self.stats.refused += 1
            await slot.commit(refused=True, retry_after=error.retry_after)
            self._refused(job, error)
        except APIConnectionError as error:
            if error.request_sent:
                await slot.commit()
            else:
                self.stats.sent[job.kind] -= 1
                await slot.give_back()
            job.fail(error)
        except asyncio.CancelledError:
            job.fail(_interrupted(job))
            await slot.commit()
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to the caller
            await slot.commit()
            job.fail(error)
        else:
            job.succeed(result)
            await slot.commit()

    def _refused(self, job: _Job, error: RateLimitError) -> None:
        job.refusals += 1
        if not job.requeue or job.refusals > _MOST_REFUSALS or self._closed:
            job.fail(error)
        elif not job.future.done():
            self.stats.retries += 1
            job.launched = False
            heapq.heappush(self._queue, (job.rank, job))

    async def _quota_left(self) -> int | None:
        if not self._limiter.plan.quotas:
            return None
        windows = (await self._limiter.snapshot()).windows
        return min(window.free for window in windows if window.limit.per >= HOUR)

    def _can_afford(self, job: _Job, quota_left: int, *, ahead: int) -> bool:
        if not job.kind.is_billed:
            return True
        return can_afford(
            quota_left, running=self._running, ahead=ahead, slots_each=self._slots_each
        )

    @property
    def _running(self) -> int:
        billed = sum(job.kind.is_billed for job in self._sending.values())
        return len(self._watches) + billed

    @property
    def _slots_each(self) -> int:
        return 1 + self._limiter.plan.meters(RequestKind.STATUS)

    async def _quota_error(self, kind: RequestKind) -> QuotaExhaustedError | None:
        """Return the error for a new request that the plan's long windows have no room for."""
        quota_left = await self._quota_left()
        if quota_left is None or not self._limiter.plan.meters(kind):
            return None
        if not kind.is_billed:
            return None if quota_left > 0 else await self._exhausted(position=0)
        ahead = sum(not job.future.done() and job.kind.is_billed for _, job in self._queue)
        if can_afford(quota_left, running=self._running, ahead=ahead, slots_each=self._slots_each):
            return None
        return await self._exhausted(position=self._running + self._slots_each * (ahead + 1) - 1)

    async def _tell_unaffordable(self, quota_left: int | None) -> None:
        """Tell those in the queue who would wait for a quota that checks have used up since."""
        if quota_left is None:
            return
        for _, job in self._queue:
            waiting = not (job.launched or job.future.done() or job.wait_for_quota)
            if waiting and not self._can_afford(job, quota_left, ahead=0):
                position = self._running + self._slots_each - 1
                job.fail(await self._exhausted(position=position))

    async def _exhausted(self, *, position: int) -> QuotaExhaustedError:
        projected = await self._limiter.ledger.projected(position)
        wait = self._clock.real(projected.delay)
        limit = projected.limit or self._limiter.plan.quotas[0]
        return QuotaExhaustedError(limit, wait, datetime.now(UTC) + timedelta(seconds=wait))


def _interrupted(job: _Job) -> Exception:
    if job.kind.is_billed:
        return SubmissionUncertainError(None, "the client was closed before the answer came")
    return ClientClosedError("the client was closed before the answer came")
