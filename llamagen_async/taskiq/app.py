"""One line in a taskiq app of yours: `comics = register(broker)`."""

from __future__ import annotations

import os
from typing import Final

from taskiq import AsyncBroker

from llamagen_async.client import LlamaGenClient
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.plans import DAY
from llamagen_async.taskiq.queue import TaskiqQueue

__all__ = ["FORGET_AFTER", "LEASE", "register"]

LEASE: Final = 15.0
"""Real seconds after which a worker that says nothing is taken for dead.

Chosen: five times what a garbage collection, a slow disk or a restart of Redis take. Others look
for its jobs three times in that time, so they have them after twenty seconds at most. Evenly
spaced, the paid plan makes three comics meanwhile; but ten slots may come back at once, and then as
many younger jobs may go before.
"""

FORGET_AFTER: Final = 30 * DAY
"""Real seconds after its end at which a job is forgotten (chosen: whoever orders again by mistake
does so within days)."""


def register(
    broker: AsyncBroker,
    client: LlamaGenClient | None = None,
    *,
    redis: str | None = None,
    out: str | os.PathLike[str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    lease: float = LEASE,
    prefix: str = "llamagen",
    forget_after: float | None = FORGET_AFTER,
) -> TaskiqQueue:
    """Add the tasks `generate`, `continue_write`, `update_panel` and `animate` to a taskiq app.

    Args:
        broker: Your broker, such as a `RedisStreamBroker`.
        client: A client of yours, which is not closed. `None` makes one from the environment, and
            the limits are then counted in the same Redis, unless `$LLAMAGEN_QUOTA` says where.
        redis: The URL of the Redis that keeps the jobs; the broker's if not given.
        out: A folder for the pictures, which all hosts have; `None` fetches none.
        timeout: Seconds to wait for each comic's end, once it was accepted.
        lease: Real seconds after which a worker that says nothing is taken for dead.
        prefix: The beginning of the names of all keys in Redis.
        forget_after: Real seconds after its end, a day or more, at which a job is forgotten and its
            key means a new one; `None` for never. What is uncertain or not ended is kept.

    Returns:
        The queue: `submit`, `get`, `events`, `result`, `list` and `cancel` as of `ComicQueue`, and
        the tasks.

    Raises:
        InvalidRequestError: An argument is not allowed.
    """
    return TaskiqQueue(
        broker,
        client,
        redis=redis,
        out=out,
        timeout=timeout,
        lease=lease,
        prefix=prefix,
        forget_after=forget_after,
    )
