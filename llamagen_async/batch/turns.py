"""When the jobs of a queue have their turn: their positions, and when they should be done.

A job that is followed is told when its position changes. All who follow share one question to the
journal and one to the limits, and neither is asked more than once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

import attrs

from llamagen_async.batch.behind import reason_to_wait
from llamagen_async.batch.events import ComicJob, Subscriptions
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.order import count_ahead, queued_keys
from llamagen_async.batch.lifecycle import Lifecycle
from llamagen_async.batch.task import BatchTask
from llamagen_async.errors import JournalError, LlamaGenError
from llamagen_async.models import BatchState
from llamagen_async.scheduling.outlook import Pace

__all__ = ["PacedClient", "Turns"]

FAILED: Final = BatchState.FAILED
_FRESH: Final = 1.0
"""Real seconds for which what was found out is told again (chosen: a person reads no faster)."""
_LATEST: Final = timedelta(days=366)
"""The time after which nobody can know when a job is done."""


class PacedClient(Protocol):
    """The part of a `LlamaGenClient` that knows how fast comics go."""

    @property
    def speed(self) -> float:
        """How many times faster than real time the server's clock runs."""
        ...

    async def pace(self) -> Pace | None:
        """Return how fast the key's comics go; `None` while nobody can know."""
        ...


class Turns:
    """The positions of jobs, and when they should be done.

    Args:
        journal: The journal that has the jobs.
        lifecycle: Works at them.
        subscriptions: Those who follow jobs.
        client: Knows how fast comics go.
    """

    def __init__(
        self,
        journal: Journal,
        lifecycle: Lifecycle,
        subscriptions: Subscriptions,
        client: PacedClient,
    ) -> None:
        self._journal = journal
        self._lifecycle = lifecycle
        self._subscriptions = subscriptions
        self._client = client
        self._pace: Pace | None = None
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        self._stopped = False

    def snapshot(self, row: Row, *, is_followed: bool = False) -> ComicJob:
        """Return a job as its row has it; one whose pictures are still to come is running."""
        task, out = self._lifecycle.tasks.get(row.id), self._lifecycle.out
        state, at = row.state, row.ended_at or row.accepted_at
        try:
            known = task or BatchTask.of(row)
            names = row.files
        except (JournalError, ValueError, TypeError) as error:  # that job alone is damaged
            state, names, known = FAILED, (), BatchTask(row, FAILED, error=error)
        is_left = row.worker == "" and task is None
        is_at_work = task is not None or is_followed or row.worker is not None
        is_fetching = out is not None and is_at_work and not is_left
        if state is BatchState.SUCCEEDED and is_fetching and row.files_text is None:
            state, at = BatchState.RUNNING, row.accepted_at
        return ComicJob(
            row.key,
            state,
            row.attempts,
            datetime.fromtimestamp(row.queued_at, UTC),
            datetime.fromtimestamp(at or row.sent_at or row.queued_at, UTC),
            known.request,
            known.generation,
            known.error if known.state in (row.state, FAILED) else None,
            () if out is None else tuple(out / name for name in names),
        )

    async def job(self, row: Row, *, is_followed: bool = False) -> ComicJob:
        """Return a job with all that is known of it."""
        (job,) = await self.placed([self.snapshot(row, is_followed=is_followed)])
        reason = await reason_to_wait(self._journal, row, self._lifecycle.timeout)
        return job if reason is None else attrs.evolve(job, error=reason)

    def tell_of(self, task: BatchTask) -> None:
        """Tell those who follow a job of its step."""
        if task.row.key in self._subscriptions:
            event = attrs.evolve(
                self.snapshot(task.row),
                state=task.state,
                generation=task.generation,
                error=task.error,
                files=task.files,
                at=datetime.now(UTC),
            )
            self._subscriptions.tell(self.timed(event))

    async def placed(self, jobs: Sequence[ComicJob]) -> list[ComicJob]:
        """Return jobs with their positions, and when they should be done."""
        queued = [job for job in jobs if job.state is BatchState.QUEUED]
        positions: dict[str, int] = {}
        if len(queued) == 1:
            key = queued[0].key
            positions[key] = 1 + await self._journal.ask(partial(count_ahead, key))
        elif queued:
            keys: list[str] = await self._journal.ask(queued_keys)
            positions = {key: position for position, key in enumerate(keys, 1)}
        if not all(job.is_final for job in jobs):
            await self._refresh()
        return [self.timed(attrs.evolve(job, position=positions.get(job.key))) for job in jobs]

    def timed(self, job: ComicJob) -> ComicJob:
        """Return a job with the time at which it should be done, as far as was found out."""
        return attrs.evolve(job, expected_at=self._expected_at(job))

    def moved(self) -> None:
        """Tell those who follow queued jobs of their new positions, soon."""
        if self._stopped or self._timer is not None or not self._followed():
            return
        self._timer = asyncio.get_running_loop().call_later(_FRESH, self._start_telling)

    async def next_turn(self) -> float:
        """Return in about how many real seconds a job that waits has been sent."""
        await self._refresh()
        pace = None if self._lifecycle.halted else self._pace
        return 0.0 if pace is None else pace.next_turn(1) / self._client.speed

    async def stop(self) -> None:
        """Tell nobody any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    def _followed(self) -> list[ComicJob]:
        latest = self._subscriptions.latest.values()
        return [job for job in latest if job.state is BatchState.QUEUED]

    def _start_telling(self) -> None:
        self._timer = None
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())
        else:
            self.moved()

    async def _tell(self) -> None:
        with contextlib.suppress(LlamaGenError):  # those who follow hear of it otherwise
            for job in await self.placed(self._followed()):
                latest = self._subscriptions.latest.get(job.key)
                if latest is None or latest.mark.serial != job.mark.serial:
                    continue  # what was told meanwhile is newer
                if job.position is not None and job.follows(latest.mark):
                    self._subscriptions.tell(job)

    async def _refresh(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._asked_at and now - self._asked_at < _FRESH:
            return
        self._asked_at = now
        with contextlib.suppress(LlamaGenError):
            self._pace = await self._client.pace()

    def _expected_at(self, job: ComicJob) -> datetime | None:
        pace, speed, now = self._pace, self._client.speed, time.time()
        if pace is None or self._lifecycle.halted is not None or job.is_final:
            return None
        if job.state is BatchState.RUNNING:
            left = pace.time_left(0, [max(0.0, now - job.at.timestamp()) * speed])
        else:
            tasks = self._lifecycle.tasks.values()
            accepted = [task.row.accepted_at for task in tasks if task.state is BatchState.RUNNING]
            ages = [max(0.0, now - (at or now)) * speed for at in accepted]
            left = pace.time_left(job.position or 1, ages)
        if not left / speed < _LATEST.total_seconds():
            return None
        return datetime.now(UTC) + timedelta(seconds=left / speed)
