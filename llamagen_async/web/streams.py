"""The events of a job as server-sent events, up to its end or the server's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, Protocol

from llamagen_async.batch.events import ComicJob
from llamagen_async.batch.protocol import JobQueue
from llamagen_async.errors import ClientClosedError, JournalError
from llamagen_async.models import BatchState
from llamagen_async.web.facts import job_facts
from llamagen_async.web.messages import StreamEvent, dump

__all__ = ["COMMENT", "FAREWELL", "PING", "Closing", "job_stream"]

PING: Final = 15.0
"""Real seconds between two comments that keep a connection alive: proxies cut those that say
nothing for 30 to 60."""
COMMENT: Final = "waiting"
"""The text of such a comment."""
FAREWELL: Final = 2.0
"""Real seconds that a stream has to end by itself when the server closes."""
_RETRY: Final = 1_000
"""Milliseconds after which a reader is to come back when the server ends the stream."""
_WORDS: Final = {
    BatchState.QUEUED: "queued",
    BatchState.SENDING: "queued",
    BatchState.RUNNING: "running",
}
"""The types of events; all others are `done`."""


class Closing(Protocol):
    """Tells that the server closes: an event of asyncio or anyio."""

    def is_set(self) -> bool:
        """Whether it closes."""
        ...

    async def wait(self) -> object:
        """Return when it closes."""
        ...


async def job_stream(
    queue: JobQueue, key: str, *, root: str, after: str | None, closing: Closing
) -> AsyncGenerator[StreamEvent, None]:
    """Yield the events of a job.

    When the server closes, the reader is told to come back: it goes on with the next server, and
    nothing is lost. Whoever leaves ends this stream and not the job.

    Args:
        queue: The queue that has the job.
        key: The job's key.
        root: The path at which the routes are mounted.
        after: The id of the last event that the reader has seen.
        closing: Set when the server closes.
    """
    events = queue.events(key, after=after)
    closed = asyncio.ensure_future(closing.wait())
    step: asyncio.Future[ComicJob | None] | None = None
    try:
        while not closing.is_set():
            step = asyncio.ensure_future(anext(events, None))
            await asyncio.wait([step, closed], return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                break
            try:
                job = step.result()
            except (ClientClosedError, JournalError):  # the next request is told why
                break
            if job is None:
                return
            name = _WORDS.get(job.state, "done")
            yield StreamEvent(dump(job_facts(job, root)), name, str(job.mark))
        yield StreamEvent(retry=_RETRY)
    finally:
        closed.cancel()
        if step is not None:
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
        await events.aclose()
