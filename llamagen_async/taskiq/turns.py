"""When jobs that wait in Redis have their turn: their positions, and when they should be done."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from llamagen_async.batch.events import ComicJob
from llamagen_async.batch.turns import PacedClient
from llamagen_async.errors import LlamaGenError
from llamagen_async.models import BatchState
from llamagen_async.scheduling.outlook import Pace
from llamagen_async.taskiq.rows import TurnsInRedis
from llamagen_async.taskiq.store import RedisJobs

__all__ = ["SharedTurns"]

_FRESH: Final = 1.0
"""Real seconds for which what was found out of the limits is told again (chosen: a person reads no
faster)."""
_LATEST: Final = 366 * 86_400.0
"""Seconds after which nobody can know when a job is done."""


class SharedTurns:
    """The positions of jobs, and when they should be done.

    Args:
        jobs: Where the jobs are kept.
        client: Knows how fast comics go; `None` if there is no API key here.
    """

    def __init__(self, jobs: RedisJobs, client: PacedClient | None) -> None:
        self._jobs = jobs
        self._client = client
        self._pace: Pace | None = None
        self._asked_at: float | None = None
        self._turns = TurnsInRedis(0, {}, (), None)
        self.held_by: LlamaGenError | None = None
        """Why nothing is sent, as far as was found out."""

    async def ask(self, keys: Sequence[str] = ()) -> TurnsInRedis:
        """Return where jobs stand."""
        self._turns = await self._jobs.turns(keys)
        self.held_by = self._turns.held_by
        return self._turns

    async def placed(self, jobs: Sequence[ComicJob]) -> list[ComicJob]:
        """Return jobs with their positions, and when they should be done."""
        if all(job.is_final for job in jobs):
            return list(jobs)
        queued = [job.key for job in jobs if job.state is BatchState.QUEUED]
        turns = await self.ask(queued)
        await self._refresh()
        return [self.timed(attrs.evolve(job, position=turns.places.get(job.key))) for job in jobs]

    def timed(self, job: ComicJob) -> ComicJob:
        """Return a job with the time at which it should be done, as far as was found out."""
        return attrs.evolve(job, expected_at=self._expected_at(job))

    async def next_turn(self) -> float:
        """Return in about how many real seconds a job that waits has been sent."""
        await self._refresh()
        if self._pace is None or self._client is None or self.held_by is not None:
            return 0.0
        return self._pace.next_turn(1) / self._client.speed

    async def _refresh(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._client is None or (self._asked_at is not None and now - self._asked_at < _FRESH):
            return
        self._asked_at = now
        with contextlib.suppress(LlamaGenError):
            self._pace = await self._client.pace()

    def _expected_at(self, job: ComicJob) -> datetime | None:
        pace, client, now, turns = self._pace, self._client, time.time(), self._turns
        if pace is None or client is None or turns.held_by is not None or job.is_final:
            return None
        if job.state is BatchState.RUNNING:
            left = pace.time_left(0, [max(0.0, now - job.at.timestamp()) * client.speed])
        else:
            ages = [max(0.0, now - at) * client.speed for at in turns.accepted]
            left = pace.time_left(job.position or 1, ages)
        if not left / client.speed < _LATEST:
            return None
        return datetime.now(UTC) + timedelta(seconds=left / client.speed)
