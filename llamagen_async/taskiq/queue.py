"""Comics as tasks of a taskiq app: ordered and followed by any process, made by its workers.

The engine is taskiq: it carries the tasks, hands them out, and has their results. What a job is and
how far it has come is in Redis under its key, so the same key is the same job on every host, and a
task that is delivered twice finds that somebody works at its job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final, Self

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, Context, TaskiqDepends, TaskiqEvents
from taskiq.exceptions import NoResultError

from llamagen_async.batch.events import ComicJob, Mark, Subscriptions
from llamagen_async.batch.folder import check_writable
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import RequestLike, Story, checked_key
from llamagen_async.batch.lifecycle import DEFAULT_TIMEOUT, GRACE
from llamagen_async.batch.protocol import JobLike
from llamagen_async.client import LlamaGenClient
from llamagen_async.clock import seconds
from llamagen_async.errors import ClientClosedError, InvalidRequestError, LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.requests import RequestType
from llamagen_async.taskiq.address import url_of
from llamagen_async.taskiq.durability import check_durability
from llamagen_async.taskiq.news import JobNews
from llamagen_async.taskiq.rows import job_of
from llamagen_async.taskiq.store import Kick, RedisJobs
from llamagen_async.taskiq.turns import SharedTurns
from llamagen_async.taskiq.workbench import Workbench
from llamagen_async.validation import checked_path, checked_text, whole_number

__all__ = ["TaskiqQueue", "register"]

_logger = logging.getLogger(__name__)

LEASE: Final = 30.0
"""Real seconds after which a worker that says nothing is taken for dead (chosen: ten times what a
garbage collection, a slow disk or a restart of Redis take)."""
_MOVES: Final = 1.0
"""Real seconds between two looks at the positions of those that are followed."""

_Result = dict[str, Any]
_Task = AsyncTaskiqDecoratedTask[..., Any]


def register(
    broker: AsyncBroker,
    client: LlamaGenClient | None = None,
    *,
    redis: str | None = None,
    out: str | os.PathLike[str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    lease: float = LEASE,
    prefix: str = "llamagen",
) -> TaskiqQueue:
    """Add the tasks `generate`, `continue_write`, `update_panel` and `animate` to a taskiq app.

    Args:
        broker: Your broker, such as a `RedisStreamBroker`.
        client: A client of yours, which is not closed. `None` makes one from the environment, and
            the limits are then counted in the same Redis, unless `$LLAMAGEN_QUOTA` says where.
        redis: The URL of the Redis that keeps the jobs; the broker's if not given.
        out: A folder for the pictures, which all hosts have; `None` fetches none.
        timeout: Seconds to wait for each comic's end, once it was accepted.
        lease: Real seconds after which a worker that says nothing is taken for dead.
        prefix: The beginning of the names of all keys in Redis.

    Returns:
        The queue: `submit`, `get`, `events`, `result`, `list` and `cancel` as of `ComicQueue`, and
        the tasks.

    Raises:
        InvalidRequestError: An argument is not allowed.
    """
    return TaskiqQueue(
        broker, client, redis=redis, out=out, timeout=timeout, lease=lease, prefix=prefix
    )


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
    ) -> None:
        self._broker = broker
        self._given = client
        self._url = redis or url_of(broker)
        self._out = None if out is None else checked_path("out", out)
        self._timeout = seconds("timeout", timeout)
        self._lease = seconds("lease", lease)
        self._prefix = checked_text("prefix", prefix)
        self._make_jobs()  # which tells now that an argument is wrong
        self._subscriptions = Subscriptions()
        self._starting: asyncio.Task[None] | None = None
        self._client: LlamaGenClient | None = None
        self._jobs: RedisJobs | None = None
        self._turns: SharedTurns | None = None
        self._news: JobNews | None = None
        self._workbench: Workbench | None = None
        self._telling: asyncio.Task[None] | None = None
        self._starts_broker = False
        self.generate: Final = self._task("generate", RequestType.COMIC)
        """The task that makes a comic: `await queue.generate.kiq("a cat", key="order-42")`."""
        self.continue_write: Final = self._task("continue_write", RequestType.CONTINUE)
        """The task that continues a comic: its request has `id`, or `of`: the key of its job."""
        self.update_panel: Final = self._task("update_panel", RequestType.UPDATE_PANEL)
        """The task that has a panel drawn again."""
        self.animate: Final = self._task("animate", RequestType.ANIMATION)
        """The task that makes an animation."""
        self._tasks: Final[Mapping[str, _Task]] = {
            RequestType.COMIC: self.generate,
            RequestType.CONTINUE: self.continue_write,
            RequestType.UPDATE_PANEL: self.update_panel,
            RequestType.ANIMATION: self.animate,
        }
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, self._worker_started)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, self._worker_ends)

    @property
    def held_by(self) -> LlamaGenError | None:
        """Why nothing is sent for a while, such as missing credits, as of the last question."""
        return None if self._turns is None else self._turns.held_by

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
        if self._starting is None or (self._starting.done() and self._starting.exception()):
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

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
        return await self._job(await self._add(Story.parse(request, key), urgent=urgent))

    async def get(self, key: str) -> ComicJob | None:
        """Return the job of that key as it stands; `None` if there is none.

        Raises:
            InvalidRequestError: The key is not one that a job can have.
        """
        jobs = await self._started()
        row = await jobs.get(checked_key(key))
        return None if row is None else await self._job(row)

    async def events(
        self, job: JobLike, *, after: str | None = None
    ) -> AsyncGenerator[ComicJob, None]:
        """Yield a job as it stands, and then after each change; the last one is final.

        Args:
            job: The job, or its key.
            after: The `mark` of an event, as text, that the reader has seen, on whatever host: only
                what came after it is yielded, which may be nothing if that was the end.

        Raises:
            ClientClosedError: The queue was closed first; the job goes on.
        """
        key, seen = _key_of(job), Mark.parse(after)
        jobs = await self._started()
        assert self._news is not None
        with self._subscriptions.open(key) as subscription:
            await self._news.listen()
            row = await jobs.again(key)
            await self._send_tasks()
            if row is None:
                raise _unknown(key)
            job = await self._job(row)
            self._subscriptions.latest.setdefault(key, job)
            self._watch_positions()
            missed = job.missed(seen)
            if missed is not None:
                yield missed
            if job.follows(seen):
                yield job
            while not job.is_final:
                event = await subscription.get()
                if event is None:
                    raise ClientClosedError(f"the queue was closed; {key!r} stays in it")
                if not event.follows(job.mark) and event.error is None:
                    continue  # the row that was read is newer than an event that was waiting
                missed = event.missed(job.mark)
                if missed is not None:
                    yield missed
                job = event
                yield event

    async def result(self, job: JobLike) -> AnyGeneration:
        """Return the finished comic or animation of a job, whenever it was submitted.

        Raises:
            GenerationFailedError: It ended without a comic.
            SubmissionUncertainError: It may have been accepted and charged; see `resend`.
            ClientClosedError: The queue was closed first; the job goes on.
            LlamaGenError: It was cancelled, was refused, or takes longer than `timeout`.
        """
        async with aclosing(self.events(job)) as events:
            async for event in events:
                if event.is_final:
                    if event.state is BatchState.SUCCEEDED and event.generation is not None:
                        return event.generation
                    raise event.error or LlamaGenError(f"{event.key!r} is {event.state}")
        raise AssertionError("the events of a job end with a final one")

    async def cancel(self, job: JobLike) -> ComicJob:
        """Cancel a job that is queued, so that it is never sent or paid for.

        Returns:
            The job as it stands then: if it had been sent already, it goes on and is not
            `CANCELLED`. A cancelled job stays cancelled; its key can't be used again.
        """
        jobs = await self._started()
        error = LlamaGenError("cancelled before it was sent; nothing was spent")
        return await self._told(job, await jobs.cancel(_key_of(job), error))

    async def resend(self, job: JobLike) -> ComicJob:
        """Send an uncertain job again, which may be paid for twice; others are left as they are."""
        jobs = await self._started()
        return await self._told(job, await jobs.resend(_key_of(job)))

    async def waiting(self) -> int:
        """Return how many jobs are queued."""
        await self._started()
        assert self._turns is not None
        return (await self._turns.look()).queued

    async def next_turn(self) -> float:
        """Return in about how many seconds a queued job will be sent; 0 if nobody can know."""
        await self._started()
        assert self._turns is not None
        return await self._turns.next_turn()

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
        whole_number("limit", limit, at_least=1)
        jobs, before = await self._started(), None
        if after is not None:
            last = await jobs.get(checked_key(after))
            if last is None:
                raise InvalidRequestError("after", after, "the key of a job")
            before = last.id
        assert self._turns is not None
        rows = await jobs.list(states, before, limit)
        return await self._turns.placed([job_of(row, self._out) for row in rows])

    async def aclose(self, grace: float = GRACE) -> None:
        """End this process's part: whoever reads gets a `ClientClosedError`, and the jobs go on.

        Of a worker, creates in flight are given `grace` real seconds; other workers go on with
        what is not at its end. Closing twice is fine.
        """
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        workbench, self._workbench = self._workbench, None
        jobs, self._jobs = self._jobs, None
        client, self._client = self._client, None
        self._subscriptions.close()
        try:
            if workbench is not None:
                await workbench.aclose(grace)
        finally:
            if self._telling is not None:
                self._telling.cancel()
                await asyncio.gather(self._telling, return_exceptions=True)
                self._telling = None
            if self._news is not None:
                await self._news.aclose()
            if self._starts_broker:
                self._starts_broker = False
                await self._broker.shutdown()
            if jobs is not None:
                await jobs.disconnect()
            if client is not None and client is not self._given:
                await client.aclose()

    async def _start(self) -> None:
        if self._out is not None:
            await asyncio.to_thread(check_writable, self._out)
        jobs = self._make_jobs()
        client = self._given
        with contextlib.suppress(InvalidRequestError):  # who only orders needs no API key
            client = client or LlamaGenClient(quota=os.environ.get("LLAMAGEN_QUOTA") or self._url)
        self._client = client
        if client is not None:
            await jobs.bind(client.account)
        await check_durability(jobs)
        self._jobs, self._turns = jobs, SharedTurns(jobs, client)
        self._news = JobNews(
            self._url, prefix=self._prefix, told=self._hear, missed=self._look_again
        )
        if not self._broker.is_worker_process:
            self._starts_broker = True
            await self._broker.startup()

    async def _started(self) -> RedisJobs:
        await self.start()
        if self._jobs is None:
            raise ClientClosedError("the queue was closed")
        return self._jobs

    async def _worker_started(self, _state: object = None) -> None:
        self._broker.is_worker_process = True
        await self._worker()

    async def _worker_ends(self, _state: object = None) -> None:
        self._starts_broker = False  # it ends by itself
        await self.aclose()

    async def _worker(self) -> Workbench:
        jobs = await self._started()
        if self._workbench is None:
            if self._client is None:
                LlamaGenClient()  # which says what is missing
            assert self._client is not None
            self._workbench = Workbench(
                self._client,
                jobs,
                self._kick,
                out=self._out,
                timeout=self._timeout,
                lease=self._lease,
            )
            self._workbench.start()
        return self._workbench

    def _make_jobs(self) -> RedisJobs:
        return RedisJobs(
            self._url,
            prefix=self._prefix,
            lease=self._lease,
            timeout=self._timeout,
            fetches=self._out is not None,
        )

    def _task(self, name: str, type_: RequestType) -> _Task:
        """Add one task to the app."""

        async def task(
            request: Any = None,
            key: str | None = None,
            *,
            urgent: bool = False,
            context: Annotated[Context, TaskiqDepends()],
        ) -> _Result:
            message = context.message
            if request is not None:
                story = Story.parse(_typed(request, type_), key)
                row = await self._add(story, urgent=urgent, task=message.task_id)
                key = row.key
            if key is None:
                raise InvalidRequestError("request", None, "a prompt or a mapping of fields")
            return await self._work(key)

        task.__name__ = task.__qualname__ = name
        task.__doc__ = f"Make one {type_} to its end; see `TaskiqQueue.{name}`."
        # Never again by taskiq: what may be repeated is known where it is sent.
        return self._broker.register_task(
            task, task_name=f"{self._prefix}:{name}", retry_on_error=False
        )

    async def _work(self, key: str) -> _Result:
        """Take a job to its end in this worker, and return what the task's result says of it.

        Raises:
            NoResultError: Another worker does, or it is not its turn: there is no result yet.
        """
        workbench = await self._worker()
        claimed = await workbench.work(key)
        if claimed.outcome == "gone":
            raise _unknown(key)
        if claimed.outcome != "done" or claimed.row is None:
            raise NoResultError
        job = job_of(claimed.row, self._out)
        return {
            "key": job.key,
            "state": job.state.value,
            "id": job.generation.id if job.generation else None,
            "urls": list(job.generation.asset_urls) if job.generation else [],
            "files": [str(file) for file in job.files],
            "error": None if job.error is None else str(job.error),
        }

    async def _add(self, story: Story, *, urgent: bool, task: str | None = None) -> Row:
        """Take a job in; its task is sent, unless this is it."""
        jobs, made = await self._started(), uuid.uuid4().hex
        row = await jobs.add(story, key=task or made, task=task or made, urgent=urgent)
        if task is not None:
            jobs.kicks = [kick for kick in jobs.kicks if kick[2] != task]
        await self._send_tasks()
        return row

    async def _send_tasks(self) -> None:
        if self._jobs is not None and self._jobs.kicks:
            kicks, self._jobs.kicks = self._jobs.kicks, []
            await self._kick(kicks)

    async def _kick(self, kicks: Sequence[Kick]) -> None:
        """Send tasks. Those that can't be sent now are sent by a worker that looks for them."""
        sent: list[str] = []
        for key, type_, task in kicks:
            try:
                await self._tasks[type_].kicker().with_task_id(task).kiq(None, key=key)
            except Exception as error:  # noqa: BLE001  # brokers raise what they like
                _logger.warning("the task of %s is not sent yet: %s", key, type(error).__name__)
            else:
                sent.append(key)
        if sent and self._jobs is not None:
            with contextlib.suppress(LlamaGenError):
                await self._jobs.kicked(sent)

    async def _job(self, row: Row) -> ComicJob:
        assert self._turns is not None
        (job,) = await self._turns.placed([job_of(row, self._out)])
        return job

    async def _told(self, job: JobLike, row: Row | None) -> ComicJob:
        await self._send_tasks()
        if row is None:
            raise _unknown(_key_of(job))
        return await self._job(row)

    def _hear(self, row: Row) -> None:
        if row.key in self._subscriptions:
            self._subscriptions.tell(job_of(row, self._out))

    async def _look_again(self) -> None:
        """Tell those who read of changes that may have been missed."""
        for key in list(self._subscriptions.latest):
            row = None if self._jobs is None else await self._jobs.get(key)
            if row is not None:
                self._hear(row)

    def _watch_positions(self) -> None:
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_positions())

    async def _tell_positions(self) -> None:
        """Tell those who follow queued jobs of their new positions, as long as there are any."""
        while followed := self._followed():
            await asyncio.sleep(_MOVES)
            with contextlib.suppress(LlamaGenError):
                assert self._turns is not None
                for job in await self._turns.placed(followed):
                    latest = self._subscriptions.latest.get(job.key)
                    if latest is None or latest.mark.serial != job.mark.serial:
                        continue  # what was told meanwhile is newer
                    if job.position is not None and job.follows(latest.mark):
                        self._subscriptions.tell(job)

    def _followed(self) -> list[ComicJob]:
        latest = self._subscriptions.latest.values()
        return [job for job in latest if job.state is BatchState.QUEUED]


def _typed(request: Any, type_: RequestType) -> Any:
    """Return the request of a task, which is of the task's type."""
    if isinstance(request, Mapping):
        fields: dict[str, Any] = {"type": type_.value, **request}
        if fields["type"] != type_.value:
            raise InvalidRequestError("type", fields["type"], f"{type_.value!r} for this task")
        return fields
    if type_ is RequestType.COMIC:
        return request
    raise InvalidRequestError("request", request, "a mapping of fields")


def _key_of(job: JobLike) -> str:
    return job.key if isinstance(job, ComicJob) else checked_key(job)


def _unknown(key: str) -> InvalidRequestError:
    return InvalidRequestError("job", key, "a job of this queue")
