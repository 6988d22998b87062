"""The queue of requests that wait for a slot: whose turn it is, and what others are told."""

from __future__ import annotations

import asyncio
from typing import Any

from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit.protocol import Priority, WaitingRequests
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import APIRequest

CREATE, READ = RequestKind.CREATE, RequestKind.STATUS


def submission(kind: RequestKind = CREATE, since: float = 0.0, *, urgent: bool = True) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    request = APIRequest(kind, "POST", "/x")
    return Submission(request, lambda body: body, since, future, urgent=urgent)


def filled(*submissions: Any) -> RequestQueue:
    queue = RequestQueue()
    for one in submissions:
        queue.push(one)
    return queue


async def test_the_order_is_by_rank_and_then_by_time() -> None:
    """Interactive before batch, creates before reads, and whoever came first."""
    late, early = submission(since=2.0), submission(since=1.0)
    read, batch_read = submission(READ), submission(READ, urgent=False)
    batch = submission(urgent=False)
    queue = filled(batch_read, batch, read, late, early)
    assert list(queue) == [early, late, read, batch, batch_read]
    assert (queue.size, queue.billed) == (5, 3)
    assert queue.counts() == {"interactive": 2, "read": 1, "batch": 2}
    assert [queue.before(one) for one in (late, read, batch, batch_read)] == [1, 2, 3, 4]
    for one in list(queue):
        assert queue.head() is one
        queue.remove(one)
    assert queue.head() is None
    assert (queue.size, queue.billed) == (0, 0)


async def test_of_equals_the_first_is_served_first_also_if_it_comes_back() -> None:
    first, second = submission(), submission()
    queue = filled(first, second)
    queue.remove(first)
    assert queue.head() is second
    queue.push(first)
    assert list(queue) == [first, second]
    assert first.number == 1


async def test_the_head_may_have_to_cost_nothing() -> None:
    create, read, batch_read = submission(), submission(READ), submission(READ, urgent=False)
    queue = filled(create, batch_read)
    assert queue.head() is create
    assert queue.head(billed=False) is batch_read
    queue.push(read)
    assert queue.head(billed=False) is read


async def test_whoever_is_gone_waits_no_longer() -> None:
    one, other = submission(), submission()
    answer = other.future
    queue = filled(one, other)
    one.future.cancel()
    assert queue.head() is other
    assert list(queue) == [other]
    await asyncio.sleep(0)
    assert (queue.size, queue.billed) == (1, 1)
    queue.remove(one)  # once more, which changes nothing
    assert queue.size == 1
    answer.set_result(None)
    assert queue.head() is None


async def test_one_that_left_from_the_middle_is_passed_over() -> None:
    one, two, three = (submission(since=float(at)) for at in range(3))
    queue = filled(one, two, three)
    queue.remove(two)
    queue.remove(one)
    assert queue.head() is three
    assert list(queue) == [three]


async def test_what_waits_is_told_one_by_one_with_its_age() -> None:
    one, two = submission(since=1.0), submission(since=4.0)
    batch = submission(since=2.0, urgent=False)
    queue = filled(two, one, batch)
    assert list(queue.waiting(5.0)) == [
        WaitingRequests(Priority.INTERACTIVE, 1, 4.0, 4.0),
        WaitingRequests(Priority.INTERACTIVE, 1, 1.0, 1.0),
        WaitingRequests(Priority.BATCH, 1, 3.0, 3.0),
    ]
    assert [item.oldest for item in queue.waiting(5.0, without=one)] == [1.0, 3.0]
    assert [item.oldest for item in queue.waiting(5.0, without=batch)] == [4.0, 1.0]
    queue.remove(batch)
    assert [item.oldest for item in queue.waiting(5.0, without=batch)] == [4.0, 1.0]


async def test_more_than_can_be_sent_at_once_are_told_together() -> None:
    """Nobody needs to know which of them comes when."""
    reads = [submission(since=float(at), urgent=False) for at in range(40)]
    queue = filled(*(submission(since=float(at)) for at in range(3)), *reads)
    for gone in reads[3:6]:
        queue.remove(gone)
    ages = [
        (item.count, item.oldest, item.newest) for item in queue.waiting(40.0, without=reads[0])
    ]
    one_by_one = [40, 39, 38, 39, 38, 34, 33, 32, 31, 30]
    assert ages == [*((1, age, age) for age in one_by_one), (29, 29.0, 1.0)]


async def test_a_whole_rank_may_be_told_together() -> None:
    batch = [submission(since=float(at), urgent=False) for at in (9, 7)]
    queue = filled(*(submission(since=float(at)) for at in range(11)), *batch)
    told = [(item.priority, item.count, item.oldest, item.newest) for item in queue.waiting(12.0)]
    assert told[10:] == [(Priority.INTERACTIVE, 1, 2.0, 2.0), (Priority.BATCH, 2, 5.0, 3.0)]


async def test_a_request_that_came_after_the_clock_was_read_has_waited_for_no_time() -> None:
    """A store takes a time in the future for damage, and would be of no use from then on."""
    queue = RequestQueue()
    queue.push(submission(since=10.0))
    (waiting,) = queue.waiting(9.9)
    assert (waiting.count, waiting.oldest, waiting.newest) == (1, 0.0, 0.0)


async def test_the_one_that_has_waited_longest_is_served_first() -> None:
    """Wherever it has waited; those that have waited as long go as they came."""
    queue = RequestQueue()
    pushed = [submission(since=at) for at in (10.0, 12.0, 9.0, 10.0)]
    for one in pushed:
        queue.push(one)
    assert [waiting.oldest for waiting in queue.waiting(13.0)] == [4.0, 3.0, 3.0, 1.0]
    served = []
    while (head := queue.head()) is not None:
        served.append(pushed.index(head))
        queue.remove(head)
    assert served == [2, 0, 3, 1]
