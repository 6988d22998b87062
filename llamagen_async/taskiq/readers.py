"""Readers of jobs in this process: each is told every state of its job once, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Final

from llamagen_async.batch.events import ComicJob, Mark, Subscriptions
from llamagen_async.batch.journal.codec import Row
from llamagen_async.errors import InvalidRequestError, LlamaGenError
from llamagen_async.models import BatchState
from llamagen_async.taskiq.news import JobNews
from llamagen_async.taskiq.rows import job_of
from llamagen_async.taskiq.store import RedisJobs
from llamagen_async.taskiq.turns import SharedTurns

__all__ = ["JobReaders", "unknown"]

_MOVES: Final = 1.0
"""Real seconds between two looks at the positions of the jobs that are followed (chosen: a person
reads no faster)."""


class JobReaders:
    """The readers of jobs' events.

    Args:
        jobs: Where the jobs are kept.
        turns: Knows the positions of jobs.
        url: The URL of the Redis that tells of changes.
        prefix: The beginning of the names of all keys of the jobs.
        out: The folder of the pictures; `None` if none are fetched.
        send_tasks: Sends the tasks that the jobs have asked for.
    """

    def __init__(
        self,
        jobs: RedisJobs,
        turns: SharedTurns,
        *,
        url: str,
        prefix: str,
        out: Path | None,
        send_tasks: Callable[[], Awaitable[None]],
    ) -> None:
        self._jobs = jobs
        self._turns = turns
        self._out = out
        self._send_tasks = send_tasks
        self._subscriptions = Subscriptions()
        self._news = JobNews(url, prefix=prefix, told=self._hear, missed=self._read_again)
        self._telling: asyncio.Task[None] | None = None
        self._keys: Counter[str] = Counter()
        """The keys of the jobs that are read, with how many read each."""

    async def read(self, key: str, seen: Mark | None) -> AsyncGenerator[ComicJob, None]:
        """Yield the states of a job that follow the one of a mark, up to its end."""
        with self._subscriptions.open(key) as subscription, self._counted(key):
            await self._news.listen()
            row = await self._jobs.again(key)
            await self._send_tasks()
            if row is None:
                raise unknown(key)
            (job,) = await self._turns.placed([job_of(row, self._out)])
            self._subscriptions.latest.setdefault(key, job)
            self._watch_positions()
            async with aclosing(subscription.follow(job, seen)) as events:
                async for event in events:
                    yield event

    @contextmanager
    def _counted(self, key: str) -> Generator[None, None, None]:
        self._keys[key] += 1
        try:
            yield
        finally:
            self._keys[key] -= 1
            if not self._keys[key]:
                del self._keys[key]

    async def aclose(self) -> None:
        """Tell all readers that there will be no more."""
        self._subscriptions.close()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await self._news.aclose()

    def _hear(self, row: Row) -> None:
        if row.key in self._subscriptions:
            job = self._turns.timed(job_of(row, self._out))
            self._subscriptions.tell(job)
            if job.state is BatchState.QUEUED:  # it may be so again, and its position is not known
                self._watch_positions()

    async def _read_again(self) -> None:
        """Tell those who read of changes that may have been missed."""
        for key in list(self._keys):
            row = await self._jobs.get(key)
            if row is not None:
                self._hear(row)
            elif key in self._subscriptions.latest:  # it was there when they began to read
                self._subscriptions.lose(key, self._jobs.gone(key))

    def _watch_positions(self) -> None:
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_positions())

    async def _tell_positions(self) -> None:
        """Tell those who follow queued jobs of their new positions, as long as there are any."""
        while followed := self._followed():
            await asyncio.sleep(_MOVES)
            with contextlib.suppress(LlamaGenError):
                for job in await self._turns.placed(followed):
                    latest = self._subscriptions.latest.get(job.key)
                    if latest is None or latest.mark.serial != job.mark.serial:
                        continue  # what was told meanwhile is newer
                    if job.position is not None and job.follows(latest.mark):
                        self._subscriptions.tell(job)

    def _followed(self) -> list[ComicJob]:
        latest = self._subscriptions.latest.values()
        return [job for job in latest if job.state is BatchState.QUEUED]


def unknown(key: str) -> InvalidRequestError:
    """Return the error that says that there is no job of a key."""
    return InvalidRequestError("job", key, "a job of this queue")
