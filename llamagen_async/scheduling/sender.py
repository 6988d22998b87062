"""Sends one request, and tells all who have to know what became of it. Decides nothing.

Its slot learns of the answer, its caller gets it, and whoever keeps metrics hears of it. There are
two ways: in a task of its own, which outlives a caller who is gone, and in the caller's task, for
reads that neither count nor cost anything. Both give one account.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import (
    APIConnectionError,
    ClientClosedError,
    RateLimitError,
    SubmissionUncertainError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter, Slot
from llamagen_async.scheduling.request_queue import Job

__all__ = ["MOST_REFUSALS", "DispatchStats", "RequestReport", "Sender"]

_logger = logging.getLogger(__name__)

MOST_REFUSALS: Final = 8
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


@attrs.frozen
class RequestReport:
    """What became of one request, for metrics."""

    kind: RequestKind
    """What it did."""
    outcome: str
    """`answered`, `refused` (429), `failed`, or `not sent` (no connection was made)."""
    waited: float
    """Seconds from being asked for to being sent, by the server's clock."""
    took: float
    """Seconds from being sent to its end, by the server's clock."""


class Sender:
    """Sends the requests of one client.

    Args:
        limiter: Says when what does not count may leave.
        clock: The server's clock.
        on_request: Told of each request once it has ended.
    """

    def __init__(
        self,
        limiter: Limiter,
        clock: Clock,
        on_request: Callable[[RequestReport], None] | None,
    ) -> None:
        self.stats = DispatchStats()
        self._limiter = limiter
        self._clock = clock
        self._on_request = on_request
        self._readers: dict[asyncio.Task[Any], bool] = {}
        """Callers who are just sending a read themselves, and whether it has left."""
        self._no_readers = asyncio.Event()
        self._closed = False

    async def send(self, job: Job, slot: Slot) -> RateLimitError | None:
        """Send a job in its slot, unless it can't be prepared; return the refusal if it was one.

        Whatever else becomes of it is told to the job.
        """
        if job.prepare is not None and not await _prepared(job):
            await slot.give_back()
            return None
        self.stats.sent[job.kind] += 1
        sent_at = self._clock.now()
        account = partial(self._account, job.kind, slot, since=job.since, sent_at=sent_at)
        failure: Exception | None = None
        # Whoever waits for the answer does not wait for a store that may be slow: told first.
        try:
            result = await job.call(slot)
        except asyncio.CancelledError as error:
            job.fail(_interrupted(job))
            await account(error)
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to the caller
            failure = error
            if not isinstance(error, RateLimitError):
                job.fail(error)
        else:
            job.answered = True
            job.succeed(result)
        await account(failure)
        return failure if isinstance(failure, RateLimitError) else None

    async def read(self, kind: RequestKind, call: Callable[[Slot], Awaitable[Any]]) -> Any:
        """Send a read that does not count in its caller's task, and return the answer.

        Who is cancelled gives it up. One that is refused is sent again after the pause.

        Raises:
            ClientClosedError: It was closed before there was an answer.
            RateLimitError: It was refused again and again.
        """
        reader = asyncio.current_task()
        assert reader is not None
        cancelled = reader.cancelling()
        is_alone = not self._readers
        self._readers[reader] = False
        refusals = 0
        try:
            if not is_alone:
                # Those whose answers came together ask again together: that wakes the server, or
                # its network, once for all (benchmarks/overhead.py: a fifth faster, 100 at once).
                await asyncio.sleep(0)
            while True:
                try:
                    return await self._read_once(kind, call, reader)
                except RateLimitError:
                    refusals += 1
                    if refusals > MOST_REFUSALS or self._closed:
                        raise
                    self.stats.retries += 1
        except (Exception, asyncio.CancelledError) as error:
            only_by_closing = self._closed and reader.uncancel() <= cancelled
            if only_by_closing and isinstance(error, asyncio.CancelledError):
                what = " before the answer came" if self._readers[reader] else "; nothing was sent"
                raise ClientClosedError(f"the client was closed{what}") from None
            raise
        finally:
            del self._readers[reader]
            if self._closed and not self._readers:
                self._no_readers.set()

    def close(self) -> None:
        """Send no read any more: who waits for one is told."""
        self._closed = True
        for reader in self._readers:
            reader.cancel()  # which is taken back there

    async def closed(self, grace: float) -> None:
        """Wait until all of them were told, `grace` real seconds at most."""
        if self._readers:
            await self._clock.wait(self._no_readers, grace * self._clock.speed)

    async def _read_once(
        self,
        kind: RequestKind,
        call: Callable[[Slot], Awaitable[Any]],
        reader: asyncio.Task[Any],
    ) -> Any:
        since = self._clock.now()
        slot = await self._limiter.acquire(kind)  # at once, but for a pause
        self._readers[reader] = True
        self.stats.sent[kind] += 1
        sent_at = self._clock.now()
        failure: BaseException | None = None
        try:
            return await call(slot)
        except BaseException as error:
            failure = error
            raise
        finally:
            await self._account(kind, slot, failure, since=since, sent_at=sent_at)

    async def _account(
        self,
        kind: RequestKind,
        slot: Slot,
        failure: BaseException | None,
        *,
        since: float,
        sent_at: float,
    ) -> None:
        """Count one request that has ended, tell its slot and report it."""
        outcome = "answered" if failure is None else "failed"
        try:
            if isinstance(failure, RateLimitError):
                outcome = "refused"
                self.stats.refused += 1
                await slot.commit(refused=True, retry_after=failure.retry_after)
            elif isinstance(failure, APIConnectionError) and not failure.request_sent:
                outcome = "not sent"
                self.stats.sent[kind] -= 1
                await slot.give_back()
            else:
                await slot.commit()
        finally:
            if self._on_request is not None:
                now = self._clock.now()
                self._report(RequestReport(kind, outcome, sent_at - since, now - sent_at))

    def _report(self, report: RequestReport) -> None:
        assert self._on_request is not None
        try:
            self._on_request(report)
        except Exception:
            _logger.exception("on_request raised")


async def _prepared(job: Job) -> bool:
    """Do what has to be done before it is sent; return whether it may be."""
    assert job.prepare is not None
    try:
        await job.prepare()
        if job.future.done() and job.retract is not None:
            await job.retract()
    except asyncio.CancelledError:
        job.fail(ClientClosedError("the client was closed before the request was sent"))
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is belongs to the caller
        job.fail(error)
    return not job.future.done()


def _interrupted(job: Job) -> Exception:
    if job.kind.is_billed:
        return SubmissionUncertainError(None, "the client was closed before the answer came")
    return ClientClosedError("the client was closed before the answer came")
