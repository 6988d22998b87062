"""An open queue of comics for backends: jobs come one by one, and survive restarts.

A job is on disk when `submit` returns, and the same key is the same job, however often it is
submitted. A job that can't be sent now waits: the queue holds for a while and tries again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Protocol, Self

import attrs

from llamagen_async.batch.events import ComicEvent, ComicJob, Subscriptions
from llamagen_async.batch.folder import check_writable
from llamagen_async.batch.journal.codec import AccountId, Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import RequestLike, Story, checked_key
from llamagen_async.batch.lifecycle import DEFAULT_TIMEOUT, GRACE, ComicsPort, Lifecycle
from llamagen_async.batch.prefetcher import Prefetcher
from llamagen_async.batch.task import BatchTask
from llamagen_async.errors import ClientClosedError, InvalidRequestError, LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState

__all__ = ["ComicQueue"]


class _Client(Protocol):
    """A `LlamaGenClient`, which stands above this file."""

    @property
    def account(self) -> AccountId: ...

    @property
    def speed(self) -> float: ...

    @property
    def comics(self) -> ComicsPort: ...


class ComicQueue:
    """Comics that are submitted one by one, for as long as the program runs.

    Use it as `async with ComicQueue(client, journal="orders.db") as queue`, or call `start` and
    `aclose`. Jobs that an earlier program left in the journal are gone on with at once: what runs
    is collected, what is queued is sent. What may have been accepted without anyone knowing is
    `uncertain`: it is told and never sent again, unless `resend` is called for it.

    Args:
        client: The client that sends; it is not closed.
        journal: A SQLite file, which one process at a time can work with; `None` remembers nothing
            beyond this object.
        out: A folder for the pictures; `None` fetches none.
        timeout: Seconds to wait for each comic's end, once it was accepted. A comic that takes
            longer stays in the journal as running; ask for its `result` to wait again.
        start_over: Go on with a journal that is new, lost or older than what the files beside it
            know. What only they know may be paid for again.

    Raises:
        InvalidRequestError: An argument is not allowed.
    """

    def __init__(
        self,
        client: _Client,
        journal: str | os.PathLike[str] | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        start_over: bool = False,
    ) -> None:
        self._journal = Journal(journal, client.account, out=out, start_over=start_over)
        # A queue that did not wait for tomorrow's quota would only have to try again tomorrow.
        self._lifecycle = Lifecycle(
            self._journal,
            client.comics,
            out=out,
            timeout=timeout,
            wait_for_quota=True,
            ended=self._ended,
            followed=self._follow,
            changed=self._changed,
        )
        self._prefetcher = Prefetcher(self._journal, self._lifecycle, speed=client.speed)
        self._subscriptions = Subscriptions()
        self._starting: asyncio.Task[None] | None = None
        self._closed = False
        self._is_lost = False
        """Whether the client was closed before the queue."""

    @property
    def held_by(self) -> LlamaGenError | None:
        """Why nothing is sent for a while, such as missing credits or an outage of the server."""
        outage = self._lifecycle.comics.outage
        return self._lifecycle.halted or (None if outage is None else outage.error())

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Open the journal and go on with its jobs. Starting twice is fine.

        Raises:
            JournalError: The journal can't be opened, somebody else works with it, or it is about
                another server or key.
        """
        if self._closed or self._is_lost:
            whose = "queue" if self._closed else "queue's client"
            raise ClientClosedError(f"the {whose} is closed: make a new one")
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            if self._starting.cancelled():
                raise ClientClosedError("the queue was closed") from None
            raise

    async def submit(
        self, request: RequestLike, *, key: str | None = None, urgent: bool = False
    ) -> ComicJob:
        """Submit a job; it is on disk when this returns.

        Args:
            request: A prompt, a request or a mapping of fields.
            key: The job's name, such as an order number. The same key is the same job, whenever it
                is submitted again; without a key each call is a new job.
            urgent: Whether somebody waits for it interactively: it goes before the others.

        Raises:
            InvalidRequestError: A field is not allowed, or the key belongs to another story.
            JournalError: The job could not be recorded; nothing will be sent.
        """
        await self.start()
        story = Story.parse(request, key)
        row, is_new = await self._journal.add(story, key=_new_key(), urgent=urgent, is_last=True)
        if is_new and not self._closed:
            self._prefetcher.on_submitted(row)
        return ComicJob(row.key)

    async def job(self, key: str) -> ComicJob | None:
        """Return the job of that key, also after a restart; `None` if there is none."""
        await self.start()
        row = await self._journal.get(checked_key(key))
        return None if row is None else ComicJob(row.key)

    async def jobs(self, *states: BatchState) -> AsyncIterator[ComicJob]:
        """Yield the jobs in these states (in any, if none is given), oldest first."""
        await self.start()
        async for row in self._journal.rows(*states):
            yield ComicJob(row.key)

    async def status(self, job: ComicJob) -> ComicEvent:
        """Return how far a job has come."""
        await self.start()
        return self._event(await self._known(job))

    async def result(self, job: ComicJob) -> AnyGeneration:
        """Return the finished comic or animation of a job, whenever it was submitted.

        Raises:
            GenerationFailedError: It ended without a comic.
            SubmissionUncertainError: It may have been accepted and charged; see `resend`.
            WaitTimeoutError: It takes longer than the queue's `timeout`; ask again to wait again.
            ClientClosedError: The queue was closed first; the job stays in the journal.
            APIError: The server refused it.
        """
        async with aclosing(self._events(job)) as events:
            async for event in events:
                if event.is_final:
                    if event.state is BatchState.SUCCEEDED and event.generation is not None:
                        return event.generation
                    raise event.error or LlamaGenError(f"{job.key!r} is {event.state}")
        raise AssertionError("the events of a job end with a final one")

    def events(self, job: ComicJob) -> AsyncIterator[ComicEvent]:
        """Yield the state of a job, and then each change; the last one is final.

        Any number of readers may follow the same job.

        Raises:
            ClientClosedError: The queue was closed first; the job stays in the journal.
        """
        return self._events(job)

    async def resend(self, job: ComicJob) -> None:
        """Send an uncertain job again, which may be paid for twice; others are left as they are."""
        await self.start()
        row = await self._known(job)
        origins = (BatchState.UNCERTAIN,)
        row = await self._journal.change(row, BatchState.QUEUED, origins=origins)
        if row.state is BatchState.QUEUED:
            self._subscriptions.tell(self._event(row), row.serial)
            self._prefetcher.rescan(urgent=row.urgent)

    async def aclose(self, grace: float = GRACE) -> None:
        """Send nothing more, and close the journal. Closing twice is fine.

        Creates in flight are given `grace` real seconds, so that the journal has their
        ids. Whoever waits gets a `ClientClosedError`; the jobs stay in the journal.
        """
        self._closed = True
        try:
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.gather(self._starting, return_exceptions=True)
            await self._prefetcher.stop()
        finally:
            try:
                await self._lifecycle.stop(grace)
            finally:
                self._subscriptions.close()

    async def _start(self) -> None:
        if self._lifecycle.out is not None:
            await asyncio.to_thread(check_writable, self._lifecycle.out)
        await self._journal.open()
        async for row in self._journal.rows(BatchState.RUNNING):
            self._prefetcher.load(row)
        await self._give_up_orphans()
        self._prefetcher.start()

    def _changed(self, task: BatchTask) -> None:
        if task.state is not BatchState.QUEUED:
            self._prefetcher.release(task)
        if task.state is BatchState.RUNNING:
            self._prefetcher.on_accepted()
        self._tell_of(task)

    def _ended(self, task: BatchTask) -> None:
        self._prefetcher.release(task)
        self._tell_of(task)
        error = task.error
        if isinstance(error, ClientClosedError):
            # Nothing can be sent any more: whoever waits must not wait for ever.
            self._lifecycle.halt(error)
            self._is_lost = True
            self._subscriptions.close()
        elif task.state is BatchState.QUEUED:
            self._prefetcher.rescan(urgent=task.row.urgent)
            self._prefetcher.hold(error if isinstance(error, LlamaGenError) else _wrapped(error))
        else:
            self._prefetcher.on_ended()

    async def _follow(self, task: BatchTask) -> None:
        """Send the changes that have waited for a job, or fail them if it has failed."""
        if task.state is BatchState.FAILED:
            await self._give_up_orphans()
        for urgent in (True, False):
            self._prefetcher.rescan(urgent=urgent)

    async def _give_up_orphans(self) -> None:
        """End the changes whose comic there will never be."""
        for row in await self._journal.orphans():
            task = BatchTask.of(row)
            allowed = "the key of a job that has not failed"
            task.held_by = InvalidRequestError("of", row.of, allowed)
            if row.id not in self._lifecycle.tasks:
                self._lifecycle.start(task)

    async def _known(self, job: ComicJob) -> Row:
        row = await self._journal.get(job.key)
        if row is None:
            raise InvalidRequestError("job", job.key, "a job of this queue's journal")
        return row

    async def _events(self, job: ComicJob) -> AsyncGenerator[ComicEvent, None]:
        await self.start()
        with self._subscriptions.open(job.key) as subscription:
            row = await self._known(job)
            event = self._event(row)
            if row.state is BatchState.SUCCEEDED and self._lifecycle.out and row.files_text is None:
                event = attrs.evolve(event, state=BatchState.RUNNING)  # until they are there
            if not event.is_final and event.state is not BatchState.QUEUED:
                self._prefetcher.load(row)  # it was given up, or its pictures were not fetched
            yield event
            while not event.is_final:
                item = await subscription.get()
                if item is None:
                    raise ClientClosedError(f"the queue was closed; {job.key!r} stays in it")
                serial, event = item
                # The row that was read may be newer than an event that was waiting.
                if serial > row.serial or event.error is not None:
                    yield event

    def _tell_of(self, task: BatchTask) -> None:
        if task.row.key in self._subscriptions:
            event = ComicEvent(
                ComicJob(task.row.key),
                task.state,
                task.generation,
                task.error,
                task.files,
                datetime.now(UTC),
            )
            self._subscriptions.tell(event, task.row.serial)

    def _event(self, row: Row) -> ComicEvent:
        task = self._lifecycle.tasks.get(row.id) or BatchTask.of(row)
        out = self._lifecycle.out
        at = row.ended_at or row.accepted_at or row.sent_at or row.queued_at
        return ComicEvent(
            ComicJob(row.key),
            row.state,
            row.generation,
            task.error if row.state is task.state else None,
            () if out is None else tuple(out / name for name in row.files),
            datetime.fromtimestamp(at, UTC),
        )


def _wrapped(error: Exception | None) -> LlamaGenError:
    return LlamaGenError(f"a mistake of this package or of a transport: {error!r}")


def _new_key() -> str:
    return os.urandom(16).hex()
