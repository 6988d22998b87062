"""The changes of a queue that wait: what for, and which end with what they wait for."""

from __future__ import annotations

import time

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.reading import JournalReader
from llamagen_async.batch.journal.targets import BEHIND, BLOCKER
from llamagen_async.batch.order import waits_for
from llamagen_async.batch.task import BatchTask
from llamagen_async.errors import InvalidRequestError, LlamaGenError
from llamagen_async.models import BatchState

__all__ = ["orphaned", "reason_to_wait", "waiting_behind"]


async def reason_to_wait(journal: JournalReader, row: Row, timeout: float) -> LlamaGenError | None:
    """Return why a change waits for longer than its turn; `None` if it does not, or is no change.

    Args:
        journal: The journal.
        row: The job.
        timeout: Seconds for which a change may be at work that was sent.
    """
    since, seen = time.time() - timeout, set[int]()
    waiting: Row | None = row
    while waiting is not None and waiting.id not in seen and waiting.type.is_change:
        if waiting.state is not BatchState.QUEUED:
            return None
        seen.add(waiting.id)
        names = {"of": waiting.of, "target": waiting.target, "since": since}
        for blocker in await journal.select(BLOCKER, names):
            return waits_for(blocker.key, blocker.state)
        waiting = None if waiting.of is None else await journal.get(waiting.of)
    return None


async def waiting_behind(journal: JournalReader, row: Row) -> list[Row]:
    """Return the changes that wait for a job, and those that wait for these."""
    found: dict[int, Row] = {}
    remaining = [row]
    while remaining:
        one = remaining.pop()
        for other in await journal.select(BEHIND, {"key": one.key, "target": one.target}):
            if other.id not in found:
                found[other.id] = other
                remaining.append(other)
    return list(found.values())


async def orphaned(journal: JournalReader) -> list[BatchTask]:
    """Return the changes whose comic there will never be, each with that as its reason."""
    tasks: list[BatchTask] = []
    for row in await journal.orphans():
        task = BatchTask.of(row)
        task.held_by = InvalidRequestError("of", row.of, "the key of a job that has not failed")
        tasks.append(task)
    return tasks
