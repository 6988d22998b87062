"""The poller: waits for generations without asking more often than useful.

Whoever waits for a generation gets a future; all who wait for the same one share its checks.
When to check is the dispatcher's choice, at the free slot; what the answer means is decided here.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import (
    ClientClosedError,
    QuotaExhaustedError,
    RateLimitError,
    WaitTimeoutError,
)
from llamagen_async.forecasting.forecasts import ANY, Forecasts, Profile
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter, Slot
from llamagen_async.scheduling.dispatcher import Dispatcher
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import Generation, PollTarget
from llamagen_async.scheduling.sender import RequestReport
from llamagen_async.transport import is_retriable

__all__ = ["Poller"]

_logger = logging.getLogger(__name__)

_LONGEST_BACKOFF: Final = 30.0
"""Seconds between two checks of which the first brought no answer, at most."""
_FORGOTTEN: Final = 64
"""Waits that have ended and are still in a list, beyond as many as there are."""
_MOST_EARLY: Final = 1_000
"""Announced ends that nobody waits for yet, at most; the oldest are forgotten."""


@attrs.frozen(eq=False, repr=False)
class _Waiter:
    """Somebody who waits for a generation."""

    id: str
    future: asyncio.Future[Generation]
    deadline: float


class Poller:
    """Waits for the generations of one client.

    Args:
        limiter: Hands out the slots.
        clock: The server's clock.
        max_retries: How many checks in a row may fail before whoever waits is told.
        polling: Seconds between two checks of the same generation, at least.
        announced: Whether ends are announced, so that a check waits for the announcement.
        on_request: Told of each request once it has ended.
    """

    def __init__(
        self,
        limiter: Limiter,
        clock: Clock,
        *,
        max_retries: int,
        polling: float | None = None,
        announced: bool = False,
        on_request: Callable[[RequestReport], None] | None = None,
    ) -> None:
        self.finished = 0
        """How many generations were seen to end."""
        self._limiter = limiter
        self._clock = clock
        self._max_retries = max_retries
        self.forecasts = Forecasts()
        """What was learned of how long generations take."""
        self._watches = PollSet(self.forecasts, least_interval=polling)
        self._waiters: dict[str, list[_Waiter]] = {}
        self._announced = announced
        self._early: dict[str, Generation] = {}
        """Ends that were announced before anybody waited."""
        self._ends: list[tuple[float, int, _Waiter]] = []
        """All who wait, by when they give up."""
        self._most_ends = _FORGOTTEN
        self._numbers = itertools.count()
        self._reads: dict[str, asyncio.Task[Generation]] = {}
        self.dispatcher = Dispatcher(limiter, self._watches, clock, self, on_request)

    def accepted(self, id_: str, *, kind: Profile = ANY, expected: bool) -> None:
        """Remember when the server accepted a generation: now.

        Args:
            id_: Its id.
            kind: What was asked for, from coarse to fine.
            expected: Whether it will be waited for in a moment.
        """
        self._watches.accept(id_, self._clock.now(), kind=kind, expected=expected)

    async def wait(
        self,
        id_: str,
        fetch: Callable[[Slot], Awaitable[Generation]],
        *,
        timeout: float,
        urgent: bool = True,
    ) -> Generation:
        """Return the generation when it has ended, well or not.

        Args:
            id_: Its id.
            fetch: Sends one status check for it.
            timeout: Seconds of the server's clock to wait at most.
            urgent: Whether somebody waits interactively.

        Raises:
            WaitTimeoutError: It has not ended in time; it goes on.
            QuotaExhaustedError: No check can be sent before time is up; it goes on.
            LlamaGenError: Its status can't be had.
        """
        early = self._early.pop(id_, None)
        if early is not None:
            return early
        future: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(id_, future, self._clock.now() + timeout)
        self._waiters.setdefault(id_, []).append(waiter)
        heapq.heappush(self._ends, (waiter.deadline, next(self._numbers), waiter))
        if len(self._ends) > self._most_ends:
            self._ends = [entry for entry in self._ends if not entry[2].future.done()]
            heapq.heapify(self._ends)
            self._most_ends = _FORGOTTEN + 2 * len(self._ends)
        watch = self._watches.get(id_)
        if watch is None:
            self._watches.begin(
                id_, fetch, self._clock.now(), urgent=urgent, announced=self._announced
            )
        elif urgent:
            self._watches.set_urgent(watch)
        self._set_deadline(id_)
        self.dispatcher.wake()
        try:
            async with asyncio.timeout(self._clock.real(timeout)):
                return await future
        except TimeoutError:
            raise WaitTimeoutError(id_, timeout) from None
        finally:
            self._leave(id_, waiter)

    async def read(
        self, name: str, fetch: Callable[[Slot], Awaitable[Generation]], *, whole: bool
    ) -> Generation:
        """Return a generation as it stands now; those who ask at the same time share the answer.

        Args:
            name: Tells what is read from what else is read.
            fetch: Sends one status check for it.
            whole: Whether it is the whole generation, and so news for those who wait for it.
        """
        if not self._limiter.plan.meters(RequestKind.STATUS):
            return await self._read(fetch, whole=whole)  # costs nothing: nothing is to be shared
        task = self._reads.get(name)
        if task is None:
            task = asyncio.create_task(self._read(fetch, whole=whole))
            task.add_done_callback(partial(self._forget, name))
            self._reads[name] = task
        return await asyncio.shield(task)

    def deliver(self, generation: Generation) -> None:
        """Hand a generation that was learned of otherwise to whoever waits for it."""
        watch = self._watches.get(generation.id)
        if watch is not None:
            self._learn(watch, generation, looked_at=self._clock.now())
        elif generation.is_done:
            self._watches.remove(generation.id)

    def announce(self, generation: Generation, *, whole: bool) -> bool:
        """Hand on what a webhook event says, and return whether anybody waits for it.

        Args:
            generation: What the event tells of it.
            whole: Whether that is all there is to know, so that no check is needed.
        """
        watch = self._watches.get(generation.id)
        if not generation.is_done:
            return watch is not None
        if watch is None:
            if whole:
                self._watches.remove(generation.id)
                self._early[generation.id] = generation
                while len(self._early) > _MOST_EARLY:
                    del self._early[next(iter(self._early))]
            return False
        if whole:
            self._learn(watch, generation, looked_at=self._clock.now(), told=True)
        else:
            self._watches.ended(watch)
        self.dispatcher.wake()
        return True

    def checked(
        self, watch: PollTarget, sent_at: float, future: asyncio.Future[Generation]
    ) -> None:
        """Learn from the outcome of a check."""
        not_before: float | None = None
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            self._learn(watch, future.result(), looked_at=sent_at)
        elif error is not None and not isinstance(error, RateLimitError):
            watch.failures += 1
            if is_retriable(error, RequestKind.STATUS) and watch.failures <= self._max_retries:
                delay = random.uniform(0.0, min(_LONGEST_BACKOFF, 2.0**watch.failures))
                not_before = self._clock.now() + delay
            else:
                self._settle(watch.id, error)
        self._watches.back(watch, not_before=not_before)
        self.dispatcher.wake()

    def blocked(self, until: float, error: QuotaExhaustedError) -> None:
        """Tell those whose time will be up before any check can be sent."""
        passed: list[tuple[float, int, _Waiter]] = []
        while self._ends and self._ends[0][0] < until:
            entry = heapq.heappop(self._ends)
            waiter = entry[2]
            if waiter.future.done():
                continue
            passed.append(entry)
            watch = self._watches.get(waiter.id)
            if watch is not None and watch.in_flight:
                continue  # that one may end the wait
            if (
                watch is not None
                and watch.not_done_at
                and error.limit not in self._limiter.plan.quotas
            ):
                continue  # it was looked at, and time that runs out in a minute is no surprise
            told = QuotaExhaustedError(error.limit, error.wait, error.resets_at, waiter.id)
            waiter.future.set_exception(told)
        for entry in passed:
            heapq.heappush(self._ends, entry)

    def broken(self, error: Exception) -> None:
        """Tell all who wait that no check can be sent."""
        for id_ in list(self._waiters):
            self._settle(id_, error)

    async def aclose(self, grace: float) -> None:
        """Stop; give billed requests on their way `grace` real seconds to return."""
        self.broken(ClientClosedError("the client was closed while waiting; the comic goes on"))
        await self.dispatcher.aclose(grace)
        await asyncio.gather(*self._reads.values(), return_exceptions=True)

    async def _read(
        self, fetch: Callable[[Slot], Awaitable[Generation]], *, whole: bool
    ) -> Generation:
        generation: Generation = await self.dispatcher.submit(RequestKind.STATUS, fetch)
        if whole:
            self.deliver(generation)
        return generation

    def _forget(self, name: str, task: asyncio.Task[Generation]) -> None:
        del self._reads[name]
        if not task.cancelled():
            task.exception()  # every caller may have been cancelled before hearing of it

    def _set_deadline(self, id_: str) -> None:
        watch = self._watches.get(id_)
        if watch is not None:
            deadline = max(waiter.deadline for waiter in self._waiters[id_])
            if deadline != watch.deadline:
                self._watches.set_deadline(watch, deadline)

    def _leave(self, id_: str, waiter: _Waiter) -> None:
        waiters = self._waiters.get(id_, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if waiters:
            self._set_deadline(id_)
        else:
            self._waiters.pop(id_, None)
            self._watches.leave(id_)
            self.dispatcher.wake()

    def _learn(
        self, watch: PollTarget, generation: Generation, *, looked_at: float, told: bool = False
    ) -> None:
        if self._watches.get(watch.id) is not watch:
            return  # other news came first
        now = self._clock.now()
        self._watches.seen(watch, done=generation.is_done, looked_at=looked_at, now=now, told=told)
        if generation.is_done:
            self.finished += 1
            self._settle(watch.id, generation)

    def _settle(self, id_: str, outcome: Generation | BaseException) -> None:
        self._watches.remove(id_)
        for waiter in self._waiters.pop(id_, []):
            if waiter.future.done():
                continue
            if isinstance(outcome, BaseException):
                waiter.future.set_exception(outcome)
            else:
                waiter.future.set_result(outcome)
