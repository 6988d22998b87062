"""Whether a Redis keeps what is written to it: without that, a restart may forget who has paid."""

from __future__ import annotations

from llamagen_async.observing import logger_of
from llamagen_async.stored_values import StoreError
from llamagen_async.taskiq.store import RedisJobs

__all__ = ["check_durability"]

_logger = logger_of(__name__)


async def check_durability(jobs: RedisJobs) -> None:
    """Say in the log which settings of Redis lose jobs.

    It is no error: a Redis for tests need not keep anything, and that of a hosting company may keep
    everything in a way of its own.
    """
    try:
        is_kept, policy = await jobs.durability()
    except StoreError as error:
        _logger.warning(
            "it is not known whether Redis keeps the jobs (%s): see that it has `appendonly yes` "
            "and `maxmemory-policy noeviction`",
            error,
        )
        return
    if not is_kept:
        _logger.warning(
            "Redis at %s forgets jobs when it ends, and what it forgets may be paid for twice: set "
            "`appendonly yes`; with `appendfsync always` not even a power cut loses one",
            jobs.address,
        )
    if policy not in ("", "noeviction"):
        _logger.warning(
            "Redis at %s drops keys when its memory is full, and what it drops may be paid for "
            "twice: set `maxmemory-policy noeviction`, not %s",
            jobs.address,
            policy,
        )
