"""The jobs of a queue as they stand, their events, and the subscriptions to them. No I/O.

The events of a job are the states that it goes through. Each has a mark that is derived from the
job's row in the journal alone, so a reader that knows the mark of what it has seen goes on from
there, whatever process it asks and however often that was started.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import attrs

from llamagen_async.errors import ClientClosedError, LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState, ComicGeneration, Panel
from llamagen_async.requests import AnyRequest

__all__ = ["ComicJob", "Mark", "Subscription", "Subscriptions", "ended"]

_FINAL: Final = frozenset(
    {BatchState.SUCCEEDED, BatchState.FAILED, BatchState.UNCERTAIN, BatchState.CANCELLED}
)
_RANKS: Final = {
    BatchState.SENDING: 0,
    BatchState.UNCERTAIN: 1,
    BatchState.QUEUED: 2,
    BatchState.CANCELLED: 3,
    BatchState.RUNNING: 4,
    BatchState.FAILED: 5,
    BatchState.SUCCEEDED: 6,
}
"""The order in which a job can go through its states once it was about to be sent. It is queued
again if it was not sent after all, and if an uncertain one is sent again."""
_STEPS: Final = 8
"""Serial numbers for each time that a job was about to be sent."""
_MARK: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?")


@attrs.frozen(order=True)
class Mark:
    """The name of one event among those of its job."""

    serial: int
    """The number of the state: higher than those of all states before it."""
    position: int = attrs.field(default=0, order=False)
    """The position in the queue that the event tells, or how many panels of a comic that runs are
    drawn; 0 if it tells neither."""

    @classmethod
    def of(cls, attempts: int, state: BatchState, position: int | None = None) -> Self:
        """Return the mark of a state, entered after so many attempts to send the job."""
        return cls(attempts * _STEPS + _RANKS[state], position or 0)

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read a mark that a reader gives back; `None` if it is none."""
        found = _MARK.fullmatch(text or "")
        return None if found is None else cls(int(found[1]), int(found[2] or 0))

    def __str__(self) -> str:
        return f"{self.serial}.{self.position}" if self.position else str(self.serial)


@attrs.frozen
class ComicJob:
    """One job of a queue as it stood at one time. Its key is valid at any time, also tomorrow."""

    key: str
    """The job's name: the one it was submitted with, or one that was made up."""
    state: BatchState
    """How far the job has come."""
    attempts: int
    """How often the job was about to be sent."""
    queued_at: datetime
    """The time at which the job was submitted, in UTC."""
    at: datetime
    """The time since which the job is in this state, in UTC."""
    request: AnyRequest | None = None
    """The request; `None` if this version does not allow it any more."""
    generation: AnyGeneration | None = None
    """The server's last answer about the comic."""
    error: Exception | None = None
    """The reason why the job did not succeed, or, in a state that is not final, why it does not go
    on now."""
    files: tuple[Path, ...] = ()
    """The comic's pictures, if they were asked for."""
    position: int | None = None
    """The job's place among those that are queued, from 1; `None` if it is not queued."""
    expected_at: datetime | None = None
    """The time at which the comic should be done, in UTC; `None` if nobody can know."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the job, unless somebody asks for it."""
        return self.state in _FINAL or (self.state is BatchState.RUNNING and self.error is not None)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The panels of the comic in reading order; one may have no picture while it runs."""
        comic = self.generation
        pages = comic.pages if isinstance(comic, ComicGeneration) else ()
        return tuple(panel for page in pages for panel in page.panels)

    @property
    def mark(self) -> Mark:
        """The name of this event among those of the job."""
        is_running = self.state is BatchState.RUNNING
        drawn = sum(one.asset_url is not None for one in self.panels) if is_running else None
        return Mark.of(self.attempts, self.state, self.position or drawn)

    def follows(self, seen: Mark | None) -> bool:
        """Whether this is news for a reader that has seen the event of that mark."""
        mark = self.mark
        if seen is None or mark.serial != seen.serial:
            return seen is None or mark.serial > seen.serial
        if self.position is None:
            return mark.position > seen.position  # more was drawn
        return mark.position != seen.position

    def missed(self, seen: Mark | None) -> Self | None:
        """Return the event of the job's acceptance, if a reader has missed it meanwhile."""
        if seen is None or self.generation is None:
            return None
        comic = self.generation
        if isinstance(comic, ComicGeneration):
            comic = attrs.evolve(comic, pages=())  # nothing was drawn when it was accepted
        running = attrs.evolve(
            self, state=BatchState.RUNNING, generation=comic, error=None, files=()
        )
        return running if seen < running.mark < self.mark else None


class Subscription:
    """The events of one job that one reader has not taken yet.

    Of those of one state only the newest is kept. So what is kept for a reader that takes none is
    bounded by the states that its job goes through, however often its position changes.
    """

    def __init__(self) -> None:
        self._waiting: deque[ComicJob] = deque()
        self._told = asyncio.Event()
        self._is_closed = False
        self._reason: LlamaGenError | None = None

    def tell(self, job: ComicJob) -> None:
        """Keep an event until it is taken."""
        last = self._waiting[-1] if self._waiting else None
        if last is not None and (last.attempts, last.state) == (job.attempts, job.state):
            self._waiting.pop()
        self._waiting.append(job)
        self._told.set()

    def close(self, reason: LlamaGenError | None = None) -> None:
        """Tell the reader that no more will come, because the queue was closed or for a reason."""
        self._is_closed, self._reason = True, reason
        self._told.set()

    async def follow(self, job: ComicJob, seen: Mark | None) -> AsyncGenerator[ComicJob, None]:
        """Yield a job, and then what is told of it, up to its end.

        Args:
            job: The job as it was read after the subscription was opened.
            seen: The mark of the last event that the reader has seen.

        Raises:
            ClientClosedError: The queue was closed first.
            LlamaGenError: There will be no more events for another reason.
        """
        missed = job.missed(seen)
        if missed is not None:
            yield missed
        if job.follows(seen):
            yield job
        while not job.is_final:
            while not self._waiting:
                if self._is_closed:
                    closed = ClientClosedError(f"the queue was closed; {job.key!r} stays in it")
                    raise self._reason or closed
                self._told.clear()
                await self._told.wait()
            event = self._waiting.popleft()
            if not event.follows(job.mark) and event.error is None:
                continue  # what was read is newer than an event that was waiting
            missed = event.missed(job.mark)
            if missed is not None:
                yield missed
            job = event
            yield event


async def ended(events: AsyncGenerator[ComicJob, None]) -> AnyGeneration:
    """Return the finished generation of a job when its events end, or raise why there is none."""
    async with aclosing(events):
        async for event in events:
            if event.is_final:
                if event.state is BatchState.SUCCEEDED and event.generation is not None:
                    return event.generation
                raise event.error or LlamaGenError(f"{event.key!r} is {event.state}")
    raise AssertionError("the events of a job end with a final one")


class Subscriptions:
    """The readers of each job's events."""

    def __init__(self) -> None:
        self._by_key: dict[str, list[Subscription]] = {}
        self.latest: dict[str, ComicJob] = {}
        """Each job that somebody reads, as it was last told."""

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    @contextmanager
    def open(self, key: str) -> Generator[Subscription, None, None]:
        """Read the events of one job."""
        subscription = Subscription()
        self._by_key.setdefault(key, []).append(subscription)
        try:
            yield subscription
        finally:
            subscriptions = self._by_key[key]
            subscriptions.remove(subscription)
            if not subscriptions:
                del self._by_key[key]
                self.latest.pop(key, None)

    def tell(self, job: ComicJob) -> None:
        """Tell all who read the job."""
        if job.key not in self._by_key:
            return
        self.latest[job.key] = job
        for subscription in self._by_key[job.key]:
            subscription.tell(job)

    def lose(self, key: str, reason: LlamaGenError) -> None:
        """Tell all who read a job why there will be no more of it."""
        for subscription in self._by_key.get(key, ()):
            subscription.close(reason)

    def close(self) -> None:
        """Tell all who read anything that there will be no more."""
        for subscriptions in self._by_key.values():
            for subscription in subscriptions:
                subscription.close()
