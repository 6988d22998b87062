"""Requests that wait for a slot, in the order in which they are served. Sends nothing.

Interactive requests before a batch's, billed ones before reads, first come first served.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import attrs

from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Slot

__all__ = ["Job", "RequestQueue"]


@attrs.define(eq=False, repr=False)
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


class RequestQueue:
    """The line in front of the dispatcher."""

    def __init__(self) -> None:
        self._lines: dict[_Sort, list[tuple[int, Job]]] = {sort: [] for sort in _SORTS}
        self._numbers = itertools.count()
        self._tickets: dict[Job, int] = {}
        self._waiting: dict[_Sort, int] = dict.fromkeys(_SORTS, 0)

    def __len__(self) -> int:
        """How many wait."""
        return sum(self._waiting.values())

    def __iter__(self) -> Iterator[Job]:
        """All that wait, in the order in which they are served."""
        for sort in _SORTS:
            yield from (job for _, job in sorted(self._lines[sort]) if job.waiting)

    @property
    def billed(self) -> int:
        """How many billed requests wait."""
        return sum(count for (_, is_read), count in self._waiting.items() if not is_read)

    def push(self, job: Job) -> None:
        """Take a place; a job that comes back after a refusal takes its old one."""
        job.launched = False
        ticket = self._tickets.get(job)
        if ticket is None:
            ticket = self._tickets[job] = next(self._numbers)
            job.future.add_done_callback(lambda _: self._done(job))
        self._waiting[_sort(job)] += 1
        heapq.heappush(self._lines[_sort(job)], (ticket, job))

    def launch(self, job: Job) -> None:
        """Leave the line: it is on its way."""
        if job in self._tickets and job.waiting:
            self._waiting[_sort(job)] -= 1
        job.launched = True

    def ahead_of(self, job: Job) -> int:
        """Return how many would be served before a job that takes the last place of its sort."""
        sort = _sort(job)
        return sum(count for other, count in self._waiting.items() if other <= sort)

    def head(self, *, billed: bool = True) -> Job | None:
        """Return the job whose turn it is; of those that are not billed only, if so asked."""
        for sort in _SORTS:
            line = self._lines[sort]
            while line and not line[0][1].waiting:
                heapq.heappop(line)
            if line and (billed or not line[0][1].kind.is_billed):
                return line[0][1]
        return None

    def _done(self, job: Job) -> None:
        del self._tickets[job]
        if not job.launched:
            self._waiting[_sort(job)] -= 1


_Sort = tuple[bool, bool]
_SORTS: Final[tuple[_Sort, ...]] = ((False, False), (False, True), (True, False), (True, True))


def _sort(job: Job) -> _Sort:
    return not job.urgent, not job.kind.is_billed
