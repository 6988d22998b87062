"""Requests that wait for a slot, in the order in which they are served. Sends nothing.

Interactive requests before a batch's, billed ones before reads, first come first served.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs

from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Slot

__all__ = ["Job", "JobQueue"]


@attrs.define(eq=False)
class Job:
    """One request that somebody waits for."""

    kind: RequestKind
    """What it does."""
    call: Callable[[Slot], Awaitable[Any]]
    """Sends it once, in the slot it is given."""
    future: asyncio.Future[Any]
    """What the caller waits for."""
    since: float
    """When it was asked for, in seconds of the server's clock."""
    urgent: bool = True
    """Whether somebody waits for it interactively."""
    max_wait: float | None = None
    """Seconds that it may wait for a slot; `None` is any time within the short windows."""
    wait_for_quota: bool = False
    """Whether it may wait for a long window, such as until tomorrow."""
    prepare: Callable[[], Awaitable[None]] | None = None
    """Awaited right before it is sent; if it raises, nothing is sent."""
    retract: Callable[[], Awaitable[None]] | None = None
    """Awaited if it was prepared and not sent after all, because the caller was gone."""
    orphaned: Callable[[Any], None] | None = None
    """Told the result if the caller is gone."""
    lost: Callable[[BaseException], None] | None = None
    """Told the error if the caller is gone."""
    requeue: bool = True
    """Whether a refusal puts it back into the queue; a check is chosen anew instead."""
    launched: bool = False
    """Whether it is on its way, or has been."""
    answered: bool = False
    """Whether its answer has come: what it started is counted elsewhere now."""
    refusals: int = 0
    """How often the server refused it with a 429."""

    @property
    def waiting(self) -> bool:
        """Whether it is still to be sent."""
        return not (self.launched or self.future.done())

    def succeed(self, result: Any) -> None:
        """Hand the result to the caller, or to `orphaned` if the caller is gone."""
        if not self.future.done():
            self.future.set_result(result)
        elif self.orphaned is not None:
            self.orphaned(result)

    def fail(self, error: BaseException) -> None:
        """Hand the error to the caller, or to `lost` if the caller is gone."""
        if not self.future.done():
            self.future.set_exception(error)
        elif self.lost is not None:
            self.lost(error)


class JobQueue:
    """The line in front of the dispatcher."""

    def __init__(self) -> None:
        self._heap: list[tuple[bool, bool, int, Job]] = []
        self._numbers = itertools.count()
        self._ranks: dict[Job, tuple[bool, bool, int]] = {}

    def __len__(self) -> int:
        """How many wait, those included that were cancelled and have not been passed yet."""
        return len(self._heap)

    def __iter__(self) -> Iterator[Job]:
        """All that wait, in the order in which they are served."""
        return (entry[-1] for entry in sorted(self._heap) if entry[-1].waiting)

    def push(self, job: Job) -> None:
        """Take a place; a job that comes back after a refusal takes its old one."""
        job.launched = False
        rank = self._ranks.get(job)
        if rank is None:
            rank = (not job.urgent, not job.kind.is_billed, next(self._numbers))
            self._ranks[job] = rank
            job.future.add_done_callback(lambda _: self._ranks.pop(job, None))
        heapq.heappush(self._heap, (*rank, job))

    def head(self) -> Job | None:
        """Return the job whose turn it is."""
        heap = self._heap
        while heap and not heap[0][-1].waiting:
            heapq.heappop(heap)
        return heap[0][-1] if heap else None
