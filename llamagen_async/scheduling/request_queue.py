"""The queue of submissions that wait for a slot, in the order in which they are served.

Interactive ones go before those of a batch, billed ones before reads; within a rank the one that
has waited longest is served first. Nothing is sent from here.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from llamagen_async.ratelimit import Priority, WaitingRequests
from llamagen_async.scheduling.submission import Submission

__all__ = ["PRIORITIES", "TOLD_ONE_BY_ONE", "RequestQueue"]

PRIORITIES: Final = (Priority.INTERACTIVE, Priority.READ, Priority.BATCH, Priority.BATCH)
"""The priority of each rank of submissions: interactive or not, billed or not."""
_RANKS: Final = len(PRIORITIES)
TOLD_ONE_BY_ONE: Final = 10
"""Requests of which others are told one by one, the slots of a window of the paid plan: these may
be sent at once, and a slot is left unused if the others are wrong about how many go before."""

_Entry = tuple[float, int, Submission[Any]]
"""A submission behind what it is ordered by: since when it waits, and its number."""


class RequestQueue:
    """The submissions of one client that wait for a slot."""

    def __init__(self) -> None:
        self.size: int = 0
        """Number of submissions that wait."""
        self.billed: int = 0
        """Number of billed submissions among those that wait."""
        self._heaps: list[list[_Entry]] = [[] for _ in range(_RANKS)]
        self._waiting = [0] * _RANKS
        self._newest = [0.0] * _RANKS
        """When the last one of each rank was asked for."""
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Submission[Any]]:
        """Iterate over all that wait, in the order in which they are served."""
        for heap in self._heaps:
            for *_, submission in sorted(heap):
                if _waits(submission):
                    yield submission

    def push(self, submission: Submission[Any]) -> None:
        """Add a submission; one that comes back takes the position that it had."""
        if not submission.number:
            is_read = not submission.request.kind.is_billed
            submission.priority = 2 * (not submission.urgent) + is_read
            submission.number = next(self._numbers)
            submission.future.add_done_callback(partial(self.remove, submission))
        submission.is_queued = True
        self.size += 1
        self.billed += submission.request.kind.is_billed
        self._waiting[submission.priority] += 1
        self._newest[submission.priority] = max(self._newest[submission.priority], submission.since)
        entry = submission.since, submission.number, submission
        heapq.heappush(self._heaps[submission.priority], entry)

    def remove(self, submission: Submission[Any], _ended: object = None) -> None:
        """Take a submission out: it is sent now, or its caller is gone."""
        if submission.is_queued:
            submission.is_queued = False
            self.size -= 1
            self.billed -= submission.request.kind.is_billed
            self._waiting[submission.priority] -= 1
            heap = self._heaps[submission.priority]
            if not self._waiting[submission.priority]:
                heap.clear()
            elif heap and heap[0][-1] is submission:
                heapq.heappop(heap)  # others are passed over when they come to the head

    def before(self, submission: Submission[Any]) -> int:
        """Return how many are served before one that is the last of its rank."""
        return sum(self._waiting[: submission.priority + 1]) - 1

    def waiting(
        self, now: float, *, without: Submission[Any] | None = None
    ) -> Iterator[WaitingRequests]:
        """Iterate over those that wait, but one: the first ones one by one, the others by rank."""
        told = 0
        for rank, heap in enumerate(self._heaps):
            is_left_out = without is not None and without.is_queued and without.priority == rank
            left, since = self._waiting[rank] - is_left_out, now
            for since, _, submission in _in_order(heap):
                if not left or told == TOLD_ONE_BY_ONE:
                    break
                if submission is without or not _waits(submission):
                    continue
                # Some may have come since `now` was read: a ledger refuses times in the future.
                age = max(0.0, now - since)
                yield WaitingRequests(PRIORITIES[rank], 1, age, age)
                left, told = left - 1, told + 1
            if left:
                ages = max(0.0, now - since), max(0.0, now - self._newest[rank])
                yield WaitingRequests(PRIORITIES[rank], left, *ages)

    def counts(self) -> dict[str, int]:
        """Return how many wait, by the name of their priority; any thread may ask."""
        counts = dict.fromkeys((one.name.lower() for one in PRIORITIES), 0)
        for priority, number in zip(PRIORITIES, self._waiting, strict=True):
            counts[priority.name.lower()] += number
        return counts

    def head(self, *, billed: bool = True) -> Submission[Any] | None:
        """Return the submission whose turn it is.

        Args:
            billed: Whether it may be a billed one.
        """
        for rank, heap in enumerate(self._heaps):
            if heap and (billed or rank % 2):
                _drop_void(heap)
                if heap:
                    return heap[0][-1]
        return None


def _waits(submission: Submission[Any]) -> bool:
    """Whether a submission still waits, or is only passed over when it comes to the head."""
    return submission.is_queued and not submission.future.done()


def _drop_void(heap: list[_Entry]) -> None:
    """Drop the submissions at the head of a heap that wait no longer."""
    while heap and not _waits(heap[0][-1]):
        heapq.heappop(heap)


def _in_order(heap: list[_Entry]) -> Iterator[_Entry]:
    """Iterate over the entries of a heap in their order, without changing it."""
    found = [(heap[0], 0)] if heap else []
    while found:
        entry, at = heapq.heappop(found)
        yield entry
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap):
                heapq.heappush(found, (heap[child], child))
