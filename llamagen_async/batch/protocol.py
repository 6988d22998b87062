"""The protocol of queues of comics: what web backends use, whatever keeps the jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from llamagen_async.batch.events import ComicJob
from llamagen_async.batch.journal.story import RequestLike
from llamagen_async.errors import LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState

__all__ = ["JobLike", "JobQueue"]

JobLike = ComicJob | str
"""A job, or its key."""


class JobQueue(Protocol):
    """Comics that are ordered one by one. `ComicQueue` says what each method does."""

    @property
    def held_by(self) -> LlamaGenError | None:
        """Why nothing is sent for a while."""
        ...

    async def submit(
        self, request: RequestLike, *, key: str | None = None, urgent: bool = False
    ) -> ComicJob:
        """Submit a job, which is kept before this returns; the same key is the same job."""
        ...

    async def get(self, key: str) -> ComicJob | None:
        """Return the job of that key as it stands."""
        ...

    def events(self, job: JobLike, *, after: str | None = None) -> AsyncGenerator[ComicJob, None]:
        """Yield a job as it stands, and after each change, up to its end."""
        ...

    async def result(self, job: JobLike) -> AnyGeneration:
        """Return the finished comic of a job."""
        ...

    async def cancel(self, job: JobLike) -> ComicJob:
        """Cancel a job that is queued, and return it as it stands then."""
        ...

    async def waiting(self) -> int:
        """Return how many jobs are queued."""
        ...

    async def next_turn(self) -> float:
        """Return in about how many seconds one of the queued jobs will have been sent."""
        ...

    async def list(
        self, *states: BatchState, limit: int = 100, after: str | None = None
    ) -> Sequence[ComicJob]:
        """Return jobs, the newest first."""
        ...
