"""Comics as tasks of a taskiq app: ordered and followed by any process, made by its workers.

The engine is taskiq: it carries the tasks, hands them out, and has their results. What a job is and
how far it has come is in Redis under its key, so the same key is the same job on every host, and a
task that is delivered twice finds that somebody works at its job.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, Self

import attrs
from taskiq import AsyncBroker, TaskiqEvents
from taskiq.exceptions import NoResultError

from llamagen_async.batch.events import ComicJob, Mark, ended
from llamagen_async.batch.folder import check_writable
from llamagen_async.batch.home_loop import HomeLoop
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import RequestLike, Story, checked_key
from llamagen_async.batch.lifecycle import GRACE
from llamagen_async.batch.protocol import JobLike, key_of
from llamagen_async.batch.readers import JobEvents
from llamagen_async.client import LlamaGenClient
from llamagen_async.errors import ClientClosedError, InvalidRequestError, LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.plans import DAY
from llamagen_async.requests import RequestType
from llamagen_async.taskiq.address import url_of
from llamagen_async.taskiq.durability import check_durability
from llamagen_async.taskiq.readers import JobReaders, unknown
from llamagen_async.taskiq.rows import Kick, job_of
from llamagen_async.taskiq.store import RedisJobs
from llamagen_async.taskiq.tasks import ComicTasks, TaskResult, result_of
from llamagen_async.taskiq.turns import SharedTurns
from llamagen_async.taskiq.workbench import Workbench
from llamagen_async.validation import checked_path, checked_text, seconds, whole_number
from llamagen_async.waiting import result_for_all

__all__ = ["TaskiqQueue"]


@attrs.frozen
class _OpenQueue:
    """The parts of a queue that is started."""

    jobs: RedisJobs
    turns: SharedTurns
    readers: JobReaders
    client: LlamaGenClient | None


class TaskiqQueue:
    """A queue of comics whose engine is taskiq; made by `register`.

    Workers start it by themselves. All other processes use it as `async with queue`, or call
    `start` and `aclose`, which start and end the broker, too; they send nothing to the API.
    """

    def __init__(
        self,
        broker: AsyncBroker,
        client: LlamaGenClient | None,
        *,
        redis: str | None,
        out: str | os.PathLike[str] | None,
        timeout: float,
        lease: float,
        prefix: str,
        forget_after: float | None = None,
    ) -> None:
        self._broker = broker
        self._given = client
        self._url = redis or url_of(broker)
        self._out = None if out is None else checked_path("out", out)
        self._timeout = seconds("timeout", timeout)
        self._lease = seconds("lease", lease)
        self._prefix = checked_text("prefix", prefix)
        if forget_after is not None and seconds("forget_after", forget_after) < DAY:
            raise InvalidRequestError("forget_after", forget_after, f"{DAY:g} seconds or more")
        self._forget_after = forget_after
        self._make_jobs()  # which tells now that an argument is wrong
        self._home = HomeLoop()
        self._starting: asyncio.Task[_OpenQueue] | None = None
        self._opened: _OpenQueue | None = None
        self._workbench: Workbench | None = None
        self._starts_broker = self._is_both = False
        self._is_closed = False
        tasks = self._tasks = ComicTasks(
            broker, prefix=self._prefix, add=self._add_from_task, work=self._work
        )
        self.generate: Final = tasks.by_type[RequestType.COMIC]
        """The task that makes a comic: `await queue.generate.kiq("a cat", key="order-42")`."""
        self.continue_write: Final = tasks.by_type[RequestType.CONTINUE]
        """The task that continues a comic: its request has `id`, or `of`: the key of its job."""
        self.update_panel: Final = tasks.by_type[RequestType.UPDATE_PANEL]
        """The task that has a panel drawn again; its request has `id` or `of`, too."""
        self.animate: Final = tasks.by_type[RequestType.ANIMATION]
        """The task that makes an animation."""
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, self._worker_started)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, self._worker_ends)

    @property
    def held_by(self) -> LlamaGenError | None:
        """Why nothing is sent for a while, such as missing credits, as of the last question."""
        return None if self._opened is None else self._opened.turns.held_by

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
        """Connect to Redis, and start the broker unless this is a worker. Twice is fine.

        Raises:
            JournalError: Redis is away, or has jobs of another server or key.
        """
        self._is_closed = False
        await self._started()

    async def submit(
        self, request: RequestLike, *, key: str | None = None, urgent: bool = False
    ) -> ComicJob:
        """Submit a job; it is in Redis when this returns, and its task is sent.

        Args:
            request: A prompt, a request, a mapping of fields or a `BatchStory`, of any type.
            key: The job's name, such as an order number. The same key is the same job, whenever
                and wherever it is submitted again; without a key each call is a new job.
            urgent: Whether somebody waits for it interactively: it goes before the others that
                workers have taken.

        Raises:
            InvalidRequestError: A field is not allowed, or the key belongs to another story.
            JournalError: The job could not be recorded; nothing will be sent.
        """
        story, opened, made = Story.parse(request, key), await self._started(), uuid.uuid4().hex
        row = await opened.jobs.add(story, key=made, task=made, urgent=urgent)
        await self._send_tasks()
        return await _placed(opened, job_of(row, self._out))

    async def get(self, key: str) -> ComicJob | None:
        """Return the job of that key as it stands; `None` if there is none.

        Raises:
            InvalidRequestError: The key is not one that a job can have.
        """
        opened = await self._started()
        row = await opened.jobs.get(checked_key(key))
        return None if row is None else await _placed(opened, job_of(row, self._out))

    def events(self, job: JobLike, *, after: str | None = None) -> AsyncGenerator[ComicJob, None]:
        """Yield a job as it stands, and then after each change; the last one is final.

        Args:
            job: The job, or its key.
            after: The `mark` of an event, as text, that the reader has seen, on whatever host: only
                what came after it is yielded, which may be nothing if that was the end.

        Raises:
            ClientClosedError: The queue was closed first; the job goes on.
            JournalError: Redis has lost the job, or is away.
        """
        return JobEvents(lambda seen: self._events(job, seen), after)

    async def _events(self, job: JobLike, after: str | None) -> AsyncGenerator[ComicJob, None]:
        key, seen = key_of(job), Mark.parse(after)
        readers = (await self._started()).readers
        async with aclosing(readers.read(key, seen)) as events:
            async for event in events:
                yield event

    async def result(self, job: JobLike) -> AnyGeneration:
        """Return the finished comic or animation of a job, whenever it was submitted.

        Raises:
            GenerationFailedError: It ended without a comic.
            SubmissionUncertainError: It may have been accepted and charged; see `resend`.
            ClientClosedError: The queue was closed first; the job goes on.
            LlamaGenError: It was cancelled, was refused, or takes longer than `timeout`.
        """
        return await ended(self.events(job))

    async def cancel(self, job: JobLike) -> ComicJob:
        """Cancel a job that is queued, so that it is never sent or paid for.

        Returns:
            The job as it stands then: if it had been sent already, it goes on and is not
            `CANCELLED`. A cancelled job stays cancelled; its key can't be used again.
        """
        opened, key = await self._started(), key_of(job)
        error = LlamaGenError("cancelled before it was sent; nothing was spent")
        return await self._told(opened, key, await opened.jobs.cancel(key, error))

    async def resend(self, job: JobLike) -> ComicJob:
        """Send an uncertain job again, which may be paid for twice; others are left as they are."""
        opened, key = await self._started(), key_of(job)
        return await self._told(opened, key, await opened.jobs.resend(key))

    async def waiting(self) -> int:
        """Return how many jobs are queued."""
        return (await (await self._started()).turns.ask()).queued

    async def next_turn(self) -> float:
        """Return in about how many seconds a queued job will be sent; 0 if nobody can know."""
        return await (await self._started()).turns.next_turn()

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
        opened, before = await self._started(), None
        if after is not None:
            last = await opened.jobs.get(checked_key(after))
            if last is None:
                raise InvalidRequestError("after", after, "the key of a job")
            before = last.id
        rows = await opened.jobs.newest_first(states, before, limit)
        return await opened.turns.placed([job_of(row, self._out) for row in rows])

    async def aclose(self, grace: float = GRACE) -> None:
        """End this process's part: whoever reads gets a `ClientClosedError`, and the jobs go on.

        Of a worker, creates in flight are given `grace` real seconds; other workers go on with
        what is not at its end. Closing twice is fine.
        """
        if self._home.is_gone():
            self._starting = self._opened = self._workbench = None
            self._starts_broker = False
        self._home.leave()
        self._is_closed = True
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        opened, self._opened = self._opened, None
        workbench, self._workbench = self._workbench, None
        async with contextlib.AsyncExitStack() as stack:
            if opened is not None:
                if opened.client is not None and opened.client is not self._given:
                    stack.push_async_callback(opened.client.aclose)
                stack.push_async_callback(opened.jobs.disconnect)
            if self._starts_broker:
                self._starts_broker = False
                stack.push_async_callback(self._broker.shutdown)
            if opened is not None:
                stack.push_async_callback(opened.readers.aclose)
            if workbench is not None:
                await workbench.aclose(grace)

    async def _started(self) -> _OpenQueue:
        if self._is_closed and self._opened is None:
            raise ClientClosedError("the queue is closed")
        self._home.enter()
        if self._opened is not None:
            return self._opened
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        starting = self._starting
        try:
            return await result_for_all(starting, "the queue was closed")
        finally:
            if starting.done() and self._starting is starting:
                self._starting = None  # it may be tried again, if it has failed

    async def _start(self) -> _OpenQueue:
        if self._out is not None:
            await asyncio.to_thread(check_writable, self._out)
        jobs, client = self._make_jobs(), self._given
        with contextlib.suppress(InvalidRequestError):  # who only orders needs no API key
            client = client or self._new_client()
        if client is not None:
            await jobs.bind(client.account)
        await check_durability(jobs)
        turns = SharedTurns(jobs, client)
        readers = JobReaders(
            jobs,
            turns,
            url=self._url,
            prefix=self._prefix,
            out=self._out,
            send_tasks=self._send_tasks,
        )
        if not self._broker.is_worker_process:
            self._starts_broker = True
            await self._broker.startup()
        self._opened = _OpenQueue(jobs, turns, readers, client)
        if self._is_both:
            await self._worker()
        return self._opened

    def _new_client(self) -> LlamaGenClient:
        return LlamaGenClient(quota=os.environ.get("LLAMAGEN_QUOTA", "").strip() or self._url)

    def _make_jobs(self) -> RedisJobs:
        return RedisJobs(
            self._url,
            prefix=self._prefix,
            lease=self._lease,
            timeout=self._timeout,
            fetches=self._out is not None,
            forget_after=self._forget_after,
        )

    async def _worker_started(self, _state: object = None) -> None:
        if asyncio.current_task() is self._starting:  # and it can't wait for itself
            self._is_both = True  # an InMemoryBroker orders, and is a worker, too
            return
        self._broker.is_worker_process, self._is_closed = True, False
        await self._worker()

    async def _worker_ends(self, _state: object = None) -> None:
        self._starts_broker = False  # it ends by itself
        await self.aclose()

    async def _worker(self) -> Workbench:
        opened = await self._started()
        if self._workbench is None:
            # A second attempt without an API key says what is missing.
            client = opened.client or self._new_client()
            self._workbench = Workbench(
                client,
                opened.jobs,
                self._kick,
                out=self._out,
                timeout=self._timeout,
                lease=self._lease,
            )
            self._workbench.start()
        return self._workbench

    async def _work(self, key: str) -> TaskResult:
        """Take a job to its end in this worker.

        Raises:
            NoResultError: Another worker does, or it is not its turn: there is no result yet.
        """
        if self._is_closed:
            raise NoResultError  # this worker ends, and others go on
        claimed = await (await self._worker()).work(key)
        if claimed.outcome == "gone":
            raise unknown(key)
        if claimed.outcome != "done" or claimed.row is None:
            raise NoResultError
        return result_of(job_of(claimed.row, self._out))

    async def _add_from_task(self, story: Story, task: str, urgent: bool) -> str:  # noqa: FBT001  # a hook
        """Take in a job whose task is there already."""
        jobs = (await self._started()).jobs
        row = await jobs.add(story, key=task, task=task, urgent=urgent)
        jobs.kicks = [kick for kick in jobs.kicks if kick[2] != task]
        return row.key

    async def _send_tasks(self) -> None:
        jobs = None if self._opened is None else self._opened.jobs
        if jobs is not None and jobs.kicks:
            kicks, jobs.kicks = jobs.kicks, []
            await self._kick(kicks)

    async def _kick(self, kicks: Sequence[Kick]) -> None:
        """Send tasks. Those that can't be sent now are sent by a worker that looks for them."""
        sent = await self._tasks.send(kicks)
        if sent and self._opened is not None:
            with contextlib.suppress(LlamaGenError):
                await self._opened.jobs.kicked(sent)

    async def _told(self, opened: _OpenQueue, key: str, row: Row | None) -> ComicJob:
        await self._send_tasks()
        if row is None:
            raise unknown(key)
        return await _placed(opened, job_of(row, self._out))


async def _placed(opened: _OpenQueue, job: ComicJob) -> ComicJob:
    (placed,) = await opened.turns.placed([job])
    return placed
