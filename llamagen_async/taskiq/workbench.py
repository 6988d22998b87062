"""The work of a worker at the jobs whose tasks it was given: each is taken to its end, once.

A task claims its job: the lease says who works at it. What to send when is decided where it always
is, by the scheduler of the worker's client; what the hosts have in common is the key's ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.lifecycle import GRACE, Lifecycle
from llamagen_async.batch.prefetcher import Prefetcher
from llamagen_async.batch.task import BatchTask
from llamagen_async.client import LlamaGenClient
from llamagen_async.errors import JournalError, LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.observing import logger_of
from llamagen_async.taskiq.rows import Claimed, Kick, TakenOverError
from llamagen_async.taskiq.store import RedisJobs

__all__ = ["Workbench"]

_logger = logger_of(__name__)

_BEATS: Final = 3
"""How often a lease is renewed in the time that it lasts: one that is late is no death."""

_ROOM: Final = 1_000
"""Jobs in memory that wait to be sent: all that a process is given the tasks of, so that the one
that has waited longest is among them whenever it came."""

_HOLD: Final = 600.0
"""Seconds of the server's clock for which others are told of a hold, unless they are told again:
twice the longest one."""


class Workbench:
    """The jobs that one worker process works at.

    Args:
        client: The client that sends; it is not closed.
        jobs: Where the jobs are kept; it is closed in the end.
        kick: Sends the tasks of jobs.
        out: A folder for the pictures; `None` fetches none.
        timeout: Seconds to wait for each comic's end.
        lease: Real seconds after which a worker that says nothing is taken for dead.
    """

    def __init__(
        self,
        client: LlamaGenClient,
        jobs: RedisJobs,
        kick: Callable[[Sequence[Kick]], Awaitable[None]],
        *,
        out: str | os.PathLike[str] | None,
        timeout: float,
        lease: float,
    ) -> None:
        self._jobs = jobs
        self._kick = kick
        self._lifecycle = Lifecycle(
            jobs,
            client.comics,
            out=out,
            timeout=timeout,
            wait_for_quota=True,
            ended=self._ended,
            followed=self._followed,
            changed=self._changed,
            drawn=self._drawn,
        )
        self._prefetcher = Prefetcher(jobs, self._lifecycle, speed=client.speed, room=_ROOM)
        self._speed = client.speed
        self._lease = lease
        self._done: dict[int, asyncio.Future[Row | None]] = {}
        """The futures of those who wait for each job that is worked at here, by its row."""
        self._errands: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None
        self._is_held = False
        self._is_closed = False

    def start(self) -> None:
        """Begin to work."""
        self._prefetcher.start()
        self._beating = asyncio.create_task(self._beat())

    async def work(self, key: str) -> Claimed:
        """Take a job to its end, unless another worker does, and return it as it is then.

        Without a row, this worker ends and others go on. Whoever is cancelled while waiting for a
        job leaves it, and it goes on.
        """
        claimed = await self._jobs.claim(key, uuid.uuid4().hex)
        row = claimed.row
        if claimed.outcome != "mine" or row is None:
            await self._send_tasks()
            return claimed
        if self._is_closed:
            await self._jobs.release(key)
            return Claimed("done", None)
        done = self._done.get(row.id)
        if done is not None:  # its lease was over, and nobody else came
            return Claimed("done", await asyncio.shield(done))
        done = self._done[row.id] = asyncio.get_running_loop().create_future()
        if row.state is BatchState.QUEUED:
            self._prefetcher.on_submitted(row)
        else:
            self._prefetcher.load(row)
        return Claimed("done", await asyncio.shield(done))

    async def aclose(self, grace: float = GRACE) -> None:
        """Send nothing more, and give back what is not at its end: other workers go on with it.

        Creates in flight are given `grace` real seconds, so that their ids are kept.
        """
        self._is_closed = True
        await self._prefetcher.stop()
        jobs, tasks = self._jobs, self._lifecycle.tasks
        settled = self._lifecycle.stop(grace)
        try:
            await asyncio.wait([asyncio.ensure_future(settled)])
            while self._errands:
                await asyncio.wait(self._errands)
            # What is on its way still is ours: whoever takes it over calls it uncertain.
            sent = {task.row.key for task in tasks.values() if task.is_in_flight}
            for key in set(jobs.held) - sent:
                await jobs.release(key)
        finally:
            if self._beating is not None:
                self._beating.cancel()
                await asyncio.gather(self._beating, return_exceptions=True)
            for done in self._done.values():
                if not done.done():
                    done.set_result(None)

    def _changed(self, task: BatchTask) -> None:
        if task.state is not BatchState.QUEUED:
            self._prefetcher.release(task)
        if task.state is BatchState.RUNNING:
            self._prefetcher.on_accepted()
            self._tell_hold(None)
        elif (reason := self._lifecycle.held_by) is not None:
            self._tell_hold(reason)

    def _drawn(self, task: BatchTask) -> None:
        if task.generation is not None:
            self._errand(self._tell_drawn(task.row.key, task.generation))

    async def _tell_drawn(self, key: str, generation: AnyGeneration) -> None:
        with contextlib.suppress(JournalError):  # its end is told in any case
            await self._jobs.progress(key, generation)

    def _ended(self, task: BatchTask) -> None:
        self._prefetcher.release(task)
        error = task.error
        if task.state is not BatchState.QUEUED or isinstance(error, TakenOverError):
            self._prefetcher.on_ended()
            self._errand(self._finish(task))
            return
        reason = error if isinstance(error, LlamaGenError) else LlamaGenError(repr(error))
        self._prefetcher.rescan(urgent=task.row.urgent)
        self._prefetcher.hold(reason)
        self._tell_hold(reason)

    async def _followed(self, _task: BatchTask) -> None:
        """Send the tasks of changes that have waited for a job."""
        await self._send_tasks()

    async def _finish(self, task: BatchTask) -> None:
        """Let go of a job; the reason for which it was given up is told."""
        row, jobs = task.row, self._jobs
        given_up = (BatchState.RUNNING, BatchState.SUCCEEDED)
        with contextlib.suppress(LlamaGenError):
            if task.state in given_up and task.error is not None and task.journal_error is None:
                origins = (task.state,)
                row = await jobs.change(row, task.state, origins=origins, error=task.error)
            await jobs.release(row.key)
            await self._send_tasks()
        done = self._done.pop(row.id, None)
        if done is not None and not done.done():
            # Of what another worker has now it tells the end, and there is no result here.
            done.set_result(None if isinstance(task.error, TakenOverError) else row)

    def _tell_hold(self, error: LlamaGenError | None) -> None:
        if error is not None or self._is_held:
            self._is_held = error is not None
            self._errand(self._share_hold(error))

    async def _share_hold(self, error: LlamaGenError | None) -> None:
        with contextlib.suppress(JournalError):  # it is told again with the next job
            await self._jobs.hold(error, _HOLD / self._speed)

    async def _send_tasks(self) -> None:
        kicks, self._jobs.kicks = self._jobs.kicks, []
        if kicks:
            await self._kick(kicks)

    async def _beat(self) -> None:
        """Renew the leases, and look for jobs that nobody works at."""
        while True:
            with contextlib.suppress(JournalError):  # Redis is away; the next time may do
                await self._renew()
            await asyncio.sleep(self._lease / _BEATS)

    async def _renew(self) -> None:
        lost = set(await self._jobs.renew())
        for task in [task for task in self._lifecycle.tasks.values() if task.row.key in lost]:
            task.recall(TakenOverError(f"{task.row.key!r} was taken over"))
        await self._jobs.sweep()
        await self._send_tasks()
        if (reason := self._lifecycle.held_by) is not None:
            self._tell_hold(reason)

    def _errand(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
