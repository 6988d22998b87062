"""The queue of requests that wait for a slot: what it says of them to others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from llamagen_async.plans import RequestKind
from llamagen_async.scheduling.request_queue import RequestQueue


async def test_a_request_that_came_after_the_clock_was_read_has_waited_for_no_time() -> None:
    """A store takes a time in the future for damage, and would be of no use from then on."""
    queue = RequestQueue()
    request: Any = SimpleNamespace(kind=RequestKind.CREATE)
    submission: Any = _submission(request, since=10.0)
    queue.push(submission)
    (waiting,) = queue.waiting(9.9)
    assert (waiting.count, waiting.oldest, waiting.newest) == (1, 0.0, 0.0)


async def test_the_one_that_has_waited_longest_is_served_first() -> None:
    """Wherever it has waited; those that have waited as long go as they came."""
    queue = RequestQueue()
    request: Any = SimpleNamespace(kind=RequestKind.CREATE)
    pushed = [_submission(request, since=at) for at in (10.0, 12.0, 9.0, 10.0)]
    for submission in pushed:
        queue.push(submission)
    (waiting,) = queue.waiting(13.0)
    assert (waiting.count, waiting.oldest, waiting.newest) == (4, 4.0, 1.0)
    served = []
    while (head := queue.head()) is not None:
        served.append(pushed.index(head))
        queue.remove(head)
    assert served == [2, 0, 3, 1]


def _submission(request: Any, since: float) -> Any:
    from llamagen_async.scheduling.submission import Submission

    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    return Submission(request, lambda body: body, since, future)
