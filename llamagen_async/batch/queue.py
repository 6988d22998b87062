"""An open queue of comics for backends: jobs come one by one, and survive restarts.

A job is on disk when `submit` returns, and the same key is the same job, however often it is
submitted. A job that can't be sent now waits: the queue holds for a while and tries again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, Self

from llamagen_async.batch.behind import orphaned, waiting_behind
from llamagen_async.batch.events import ComicJob, Mark, Subscriptions, ended
from llamagen_async.batch.folder import check_writable
from llamagen_async.batch.home_loop import HomeLoop
from llamagen_async.batch.journal.codec import AccountId, Row
from llamagen_async.batch.journal.order import count_queued, listed
from llamagen_async.batch.journal.shared import SharedJournal
from llamagen_async.batch.journal.story import RequestLike, Story, checked_key
from llamagen_async.batch.lifecycle import GRACE, ComicsPort, Lifecycle
from llamagen_async.batch.prefetcher import Prefetcher
from llamagen_async.batch.protocol import JobLike, key_of
from llamagen_async.batch.readers import JobEvents
from llamagen_async.batch.sharing import Sharing
from llamagen_async.batch.task import BatchTask
from llamagen_async.batch.turns import PacedClient, Turns
from llamagen_async.batch.undivided import Undivided
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.errors import ClientClosedError, InvalidRequestError, LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.validation import check_hook, whole_number
from llamagen_async.waiting import result_for_all

__all__ = ["ComicQueue"]


class _Client(PacedClient, Protocol):
    """A `LlamaGenClient`, which stands above this file."""

    @property
    def account(self) -> AccountId: ...

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
        journal: A SQLite file on a disk of this machine, with which any number of processes of it
            may work at the same time; `None` remembers nothing beyond this object.
        out: A folder for the pictures; `None` fetches none.
        timeout: Seconds to wait for each comic's end, once it was accepted. A comic that takes
            longer stays in the journal as running; ask for its `result` to wait again.
        start_over: Go on with a journal that is new, lost or older than what the files beside it
            know. What only they know may be paid for again.
        announced: Given the body of each webhook event that another worker has announced.

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
        announced: Callable[[dict[str, Any]], object] | None = None,
    ) -> None:
        check_hook("announced", announced, "a function of an event's body")
        self._journal = SharedJournal(journal, client.account, out=out, start_over=start_over)
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
            drawn=lambda task: self._sharing.tell_drawn(task),  # noqa: PLW0108  # it is made below
        )
        self._prefetcher = Prefetcher(self._journal, self._lifecycle, speed=client.speed)
        self._subscriptions = Subscriptions()
        self._turns = Turns(self._journal, self._lifecycle, self._subscriptions, client)
        parts = (self._journal, self._lifecycle, self._prefetcher, self._turns, self._subscriptions)
        self._sharing = Sharing(*parts, announced)
        self._undivided = Undivided()
        self._home = HomeLoop()
        self._starting: asyncio.Task[None] | None = None
        self._closed = False
        self._is_lost = False
        """Whether the client was closed before the queue."""

    @property
    def held_by(self) -> LlamaGenError | None:
        """Why nothing is sent for a while, such as missing credits or an outage of the server."""
        return self._lifecycle.held_by

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
            JournalError: The journal can't be opened, a batch works with it alone, it is on a
                network file system, or it is about another server or key.
            ClientClosedError: The queue or its client is closed, or it was used in another event
                loop before.
        """
        if self._closed or self._is_lost:
            whose = "queue" if self._closed else "queue's client"
            raise ClientClosedError(f"the {whose} is closed: make a new one")
        self._home.enter()
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await result_for_all(self._starting, "the queue was closed")

    async def submit(
        self, request: RequestLike, *, key: str | None = None, urgent: bool = False
    ) -> ComicJob:
        """Submit a job; it is on disk when this returns.

        Args:
            request: A prompt, a request, a mapping of fields or a `BatchStory`, of any type.
            key: The job's name, such as an order number. The same key is the same job, whenever it
                is submitted again; without a key each call is a new job.
            urgent: Whether somebody waits for it interactively: it goes before the others.

        Raises:
            InvalidRequestError: A field is not allowed, or the key belongs to another story.
            JournalError: The job could not be recorded; nothing will be sent.
        """
        await self.start()
        story, made = Story.parse(request, key), os.urandom(16).hex()
        try:
            row, is_new = await self._journal.add(story, key=made, urgent=urgent, is_last=True)
        except asyncio.CancelledError:
            # It is recorded all the same, before the journal is read for the next jobs.
            self._prefetcher.rescan(urgent=urgent)
            self._turns.moved()
            raise
        if is_new and not self._closed:
            self._prefetcher.on_submitted(row)
            self._turns.moved()
        return await self._turns.job(row)

    async def get(self, key: str) -> ComicJob | None:
        """Return the job of that key as it stands, also after a restart; `None` if there is none.

        Raises:
            InvalidRequestError: The key is not one that a job can have.
        """
        await self.start()
        row = await self._journal.get(checked_key(key))
        return None if row is None else await self._turns.job(row)

    def events(self, job: JobLike, *, after: str | None = None) -> AsyncGenerator[ComicJob, None]:
        """Yield a job as it stands, and then after each change; the last one is final.

        Any number of readers may follow the same job. One that is queued is yielded again when its
        position changes. Who was cancelled while it waited for an event may wait for it again.

        Args:
            job: The job, or its key.
            after: The `mark` of an event, as text, that the reader has seen: only what came after
                it is yielded, which may be nothing if that was the end.

        Raises:
            ClientClosedError: The queue was closed first; the job stays in the journal.
        """
        return JobEvents(lambda seen: self._events(job, seen), after)

    async def _events(self, job: JobLike, after: str | None) -> AsyncGenerator[ComicJob, None]:
        key, seen = key_of(job), Mark.parse(after)
        await self.start()
        with self._subscriptions.open(key) as subscription:
            row = await self._journal.claim(await self._known(key))
            job = await self._turns.job(row, is_followed=True)
            if (
                not job.is_final
                and job.state is not BatchState.QUEUED
                and row.worker == self._journal.worker
            ):
                self._prefetcher.load(row)  # it was given up, or its pictures were not fetched
            self._subscriptions.latest.setdefault(key, job)
            self._sharing.ask_about(key)
            async with aclosing(subscription.follow(job, seen)) as events:
                async for event in events:
                    yield event

    async def result(self, job: JobLike) -> AnyGeneration:
        """Return the finished comic or animation of a job, whenever it was submitted.

        Raises:
            GenerationFailedError: It ended without a comic.
            SubmissionUncertainError: It may have been accepted and charged; see `resend`.
            WaitTimeoutError: It takes longer than the queue's `timeout`; ask again to wait again.
            ClientClosedError: The queue was closed first; the job stays in the journal.
            APIError: The server refused it.
            LlamaGenError: It was cancelled.
        """
        return await ended(self.events(job))

    async def cancel(self, job: JobLike) -> ComicJob:
        """Cancel a job that is queued, so that it is never sent or paid for.

        Returns:
            The job as it stands then: if it had been sent already, it goes on and is not
            `CANCELLED`. A cancelled job stays cancelled; its key can't be used again.
        """
        await self.start()
        return await self._undivided.do(self._cancel(await self._known(key_of(job))))

    async def _cancel(self, row: Row) -> ComicJob:
        error = LlamaGenError("cancelled before it was sent; nothing was spent")
        row = await self._journal.change(
            row, BatchState.CANCELLED, origins=(BatchState.QUEUED,), error=error
        )
        if row.state is BatchState.CANCELLED:
            task = self._lifecycle.tasks.get(row.id)
            if task is None:
                self._subscriptions.tell(self._turns.snapshot(row))
                await self._give_up_orphans()
            elif task.state is BatchState.QUEUED:
                task.recall(error)
                task.row, task.state, task.error = row, row.state, error
            self._turns.moved()
        return await self._turns.job(row)

    async def resend(self, job: JobLike) -> ComicJob:
        """Send an uncertain job again, which may be paid for twice; others are left as they are."""
        await self.start()
        return await self._undivided.do(self._resend(await self._known(key_of(job))))

    async def _resend(self, row: Row) -> ComicJob:
        row = await self._journal.change(row, BatchState.QUEUED, origins=(BatchState.UNCERTAIN,))
        if row.state is BatchState.QUEUED:
            self._subscriptions.tell(self._turns.snapshot(row))
            self._prefetcher.rescan(urgent=row.urgent)
        return await self._turns.job(row)

    async def waiting(self) -> int:
        """Return how many jobs are queued."""
        await self.start()
        number: int = await self._journal.ask(count_queued)
        return number

    async def next_turn(self) -> float:
        """Return in about how many seconds a queued job will be sent; 0 if nobody can know."""
        await self.start()
        return await self._turns.next_turn()

    async def announce(self, raw: Mapping[str, Any]) -> None:
        """Hand the body of a verified webhook event to the other workers, to their `announced`."""
        await self.start()
        await self._sharing.announce(raw)

    async def aclose(self, grace: float = GRACE) -> None:
        """Send nothing more, and close the journal. Closing twice is fine.

        Creates in flight are given `grace` real seconds, so that the journal has their
        ids. Whoever waits gets a `ClientClosedError`; the jobs stay in the journal.
        """
        has_ended = self._home.is_gone()
        self._closed = True
        if has_ended:
            await self._journal.aclose()
            return
        try:
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.gather(self._starting, return_exceptions=True)
            await self._undivided.join()
            await self._prefetcher.stop()
            await self._turns.stop()
        finally:
            try:
                await self._lifecycle.stop(grace)
                await self._sharing.stop()
            finally:
                self._sharing.quit()
                self._subscriptions.close()

    async def list(
        self, *states: BatchState, limit: int = 100, after: str | None = None
    ) -> Sequence[ComicJob]:
        """Return jobs, the newest first.

        Args:
            states: Only jobs in these states, if any is given.
            limit: How many are returned at most.
            after: The key of the last job of an earlier answer: those that are older follow.

        Raises:
            InvalidRequestError: There is no job of the key `after`.
        """
        limit = whole_number("limit", limit, at_least=1)
        await self.start()
        before: int | None = None
        if after is not None:
            last = await self._journal.get(checked_key(after))
            if last is None:
                raise InvalidRequestError("after", after, "the key of a job")
            before = last.id
        rows = await self._journal.select(*listed(states, before, limit))
        return await self._turns.placed([self._turns.snapshot(row) for row in rows])

    async def _start(self) -> None:
        if self._lifecycle.out is not None:
            await asyncio.to_thread(check_writable, self._lifecycle.out)
        await self._journal.open()
        if self._journal.worker is None:
            async for row in self._journal.rows(BatchState.RUNNING):
                self._prefetcher.load(row)
        await self._sharing.start()
        await self._give_up_orphans()
        self._prefetcher.start()

    def _changed(self, task: BatchTask) -> None:
        if task.state is not BatchState.QUEUED:
            self._prefetcher.release(task)
        if task.state is BatchState.RUNNING:
            self._prefetcher.on_accepted()
        self._turns.tell_of(task)
        self._turns.moved()

    def _ended(self, task: BatchTask) -> None:
        self._prefetcher.release(task)
        if task.is_elsewhere:
            self._sharing.ask_about(task.row.key)
            return
        self._turns.tell_of(task)
        self._turns.moved()
        error = task.error
        if isinstance(error, ClientClosedError):
            # Nothing can be sent any more: whoever waits must not wait for ever.
            self._lifecycle.halt(error)
            self._is_lost = True
            self._sharing.quit()
            self._subscriptions.close()
        elif task.state is BatchState.QUEUED:
            self._prefetcher.rescan(urgent=task.row.urgent)
            self._prefetcher.hold(error)
        else:
            self._prefetcher.on_ended()

    async def _follow(self, task: BatchTask) -> None:
        """Send the changes that have waited for a job, or fail them if it has failed."""
        if task.state in (BatchState.FAILED, BatchState.CANCELLED):
            await self._give_up_orphans()
        elif task.state is BatchState.UNCERTAIN:
            for row in await waiting_behind(self._journal, task.row):
                self._subscriptions.tell(await self._turns.job(row))
        for urgent in (True, False):
            self._prefetcher.rescan(urgent=urgent)

    async def _give_up_orphans(self) -> None:
        """End the changes whose comic there will never be."""
        for task in await orphaned(self._journal):
            if task.row.id not in self._lifecycle.tasks:
                self._lifecycle.start(task)

    async def _known(self, key: str) -> Row:
        row = await self._journal.get(key)
        if row is None:
            raise InvalidRequestError("job", key, "a job of this queue's journal")
        return row
