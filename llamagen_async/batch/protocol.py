"""The protocols of queues of comics: what web backends use, and what keeps the jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from llamagen_async.batch.events import ComicJob
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import RequestLike, checked_key
from llamagen_async.errors import LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.requests.files import UploadStore

__all__ = ["JobLike", "JobQueue", "StoryReader", "StoryStore", "key_of"]

JobLike = ComicJob | str
"""A job, or its key."""


def key_of(job: JobLike) -> str:
    """Return the key of a job.

    Raises:
        InvalidRequestError: The key is not one that a job can have.
    """
    return job.key if isinstance(job, ComicJob) else checked_key(job)


class JobQueue(Protocol):
    """Comics that are ordered one by one. `ComicQueue` says what each method does."""

    async def start(self) -> None:
        """Open what keeps the jobs. Starting twice is fine."""
        ...

    async def aclose(self, grace: float = ...) -> None:
        """Let go of what keeps the jobs; they stay in it. Closing twice is fine."""
        ...

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


class StoryReader(Protocol):
    """The part of a journal that tells how comics were last seen."""

    async def newest(self, generation_id: str, *, failed: bool = False) -> Row | None:
        """Return the story that says how a comic was last seen to end."""
        ...

    async def find(self, *, generation_id: str) -> Row | None:
        """Return the story that was answered with an id."""
        ...


class StoryStore(StoryReader, UploadStore, Protocol):
    """The part of a journal to which the steps of stories are written, whatever keeps it."""

    @property
    def is_lasting(self) -> bool:
        """Whether it outlives this process."""
        ...

    @property
    def has_changes(self) -> bool:
        """Whether any story in it changes a comic."""
        ...

    @property
    def worker(self) -> str | None:
        """The name of one of several workers that share it; `None` if no rows have names."""
        ...

    async def give_back(self) -> None:
        """Let others go on with what was accepted, if it is shared."""
        ...

    async def let_go(self, row: Row, error: BaseException | None) -> None:
        """Note that nothing more is done for a story until somebody asks, and why."""
        ...

    async def change(
        self,
        row: Row,
        state: BatchState,
        *,
        origins: Sequence[BatchState],
        generation: AnyGeneration | None = None,
        error: BaseException | None = None,
        files: Sequence[str] | None = None,
        credits_: float | None = None,
    ) -> Row:
        """Write how far a story has come, if it is in one of `origins`, and return its row then."""
        ...

    async def waiting(self, *, urgent: bool, limit: int, since: float = 0.0) -> list[Row]:
        """Return the first stories that can be sent."""
        ...

    async def forget(self, row: Row) -> None:
        """Remove a story that nobody will ask for."""
        ...

    async def aclose(self) -> None:
        """Let go of it."""
        ...
