"""A queue among others on the same journal: its lease, and what the others do.

While this queue is alone nothing is asked but to renew the lease. With others, the file is asked
many times a second whether somebody has written to it, which costs nothing; only then it is read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from typing import Any, Final

from llamagen_async.batch.events import Mark, Subscriptions
from llamagen_async.batch.journal.shared import SharedJournal
from llamagen_async.batch.journal.workers import BEAT
from llamagen_async.batch.lifecycle import Lifecycle
from llamagen_async.batch.prefetcher import Prefetcher
from llamagen_async.batch.task import BatchTask
from llamagen_async.batch.turns import Turns
from llamagen_async.errors import JournalError, LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.observing import logger_of

__all__ = ["Sharing"]

_logger = logger_of(__name__)

_GLANCE: Final = 0.2
"""Real seconds between two questions whether others have written (chosen: who follows a job that
another worker has waits no longer for its news)."""
_ACCEPTED: Final = (BatchState.RUNNING, BatchState.SUCCEEDED)


class Sharing:
    """The part of a queue that knows of other workers.

    Args:
        journal: The journal that they share.
        lifecycle: Works at the jobs of this one.
        prefetcher: Told of jobs that others have submitted or left.
        turns: Words what is told of jobs.
        subscriptions: Those who follow jobs here.
        announced: Told of the webhook events that came to other workers.
    """

    def __init__(
        self,
        journal: SharedJournal,
        lifecycle: Lifecycle,
        prefetcher: Prefetcher,
        turns: Turns,
        subscriptions: Subscriptions,
        announced: Callable[[dict[str, Any]], object] | None,
    ) -> None:
        self._journal = journal
        self._lifecycle = lifecycle
        self._prefetcher = prefetcher
        self._turns = turns
        self._subscriptions = subscriptions
        self._announced = announced
        self._others = 0
        self._version = 0
        self._unreadable: set[int] = set()
        """Rows of jobs of this worker that could not be read, which was said."""
        self._unseen: set[str] = set()
        """Keys of jobs of which there may be news that were overlooked."""
        self._lengths: dict[str, int] = {}
        """How much the journal had of each comic that is followed and drawn elsewhere."""
        self._drawn: dict[int, AnyGeneration] = {}
        """Comics of this worker of which there are more pictures, by the numbers of their rows."""
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._has_failed = False

    async def start(self) -> None:
        """Become one of the workers, and take over what dead ones have left.

        Raises:
            JournalError: The file can't be written, or the others work for another server or key.
        """
        if self._journal.worker is None:
            return
        await self._beat()
        await self._journal.passed_on()  # those from before are over
        steps = (self._beat_on(), self._follow_others())
        self._tasks = [asyncio.Task(step, context=Context()) for step in steps]

    def quit(self) -> None:
        """Renew the lease no more."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Renew the lease no more, and leave nothing behind."""
        self.quit()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask_about(self, key: str) -> None:
        """Tell those who follow a job, soon, what has become of it at another worker."""
        if self._journal.worker is not None:
            self._unseen.add(key)
            self._wake.set()

    def tell_drawn(self, task: BatchTask) -> None:
        """Tell those who follow a job, here and soon elsewhere, that more of it is drawn."""
        self._turns.tell_of(task)
        if self._others and task.generation is not None:
            self._drawn[task.row.id] = task.generation
            self._wake.set()

    async def announce(self, raw: Mapping[str, Any]) -> None:
        """Hand a webhook event on to the other workers."""
        if self._others:
            await self._journal.pass_on(json.dumps(dict(raw)))

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self._beat()
            except LlamaGenError as error:
                if self._lifecycle.stopped:
                    return
                if not self._has_failed:  # once, not every few seconds
                    _logger.warning("the lease of this queue can't be renewed: %s", error)
                self._has_failed = True
            else:
                self._has_failed = False

    async def _beat(self) -> None:
        beat = await self._journal.beat()
        self._others = beat.others
        await self._load(beat.mine)
        if beat.was_gone:
            _logger.warning("this queue was not heard of for long; others may have its jobs now")
            await self._drop_lost(_ACCEPTED)
        if beat.took_over:
            self._unseen.update(self._subscriptions.latest)
        if self._others or self._unseen:
            self._wake.set()

    async def _load(self, mine: Iterable[int]) -> None:
        """Work at the jobs that are this worker's by the journal, and at which nobody works.

        Others have left them, or whoever asked for them was cancelled just then. One that can't be
        read now is read later.
        """
        for id_ in mine:
            if id_ in self._lifecycle.tasks:  # also as it was before another one had sent it
                continue
            try:
                row = await self._journal.at(id_)
            except JournalError as error:
                if id_ not in self._unreadable:  # once, not every few seconds
                    self._unreadable.add(id_)
                    _logger.error("a job of this worker can't be read: %s", error)  # noqa: TRY400  # the error says it all
            else:
                self._unreadable.discard(id_)
                if row.worker == self._journal.worker:  # still, and not only when that was read
                    self._prefetcher.load(row)

    async def _follow_others(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_GLANCE if self._others else None):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._read()
            except LlamaGenError as error:
                _logger.debug("the journal could not be read: %s", error)

    async def _read(self) -> None:
        keys, self._unseen = self._unseen, set()
        try:
            await self._read_about(keys)
        except BaseException:
            self._unseen |= keys  # they are looked at again
            raise

    async def _read_about(self, keys: set[str]) -> None:
        if self._drawn:
            drawn, self._drawn = self._drawn, {}
            await self._journal.progress(drawn)
        version = await self._journal.version()
        if version == self._version:
            await self._tell_news(keys)
            return
        self._version = version
        for urgent in (True, False):
            self._prefetcher.rescan(urgent=urgent)
        self._turns.moved()
        if await self._journal.has_orphans():
            await self._beat()
        await self._drop_lost()
        for text in await self._journal.passed_on():
            self._tell_announced(text)
        await self._tell_news({*keys, *self._subscriptions.latest})

    def _tell_announced(self, text: str) -> None:
        """Give an event to who is told of them here; what goes wrong there ends nothing else."""
        if self._announced is not None:
            try:
                self._announced(json.loads(text))
            except (Exception, asyncio.CancelledError):  # as of a future that it asks
                _logger.exception("the announced= of a queue has failed")

    async def _drop_lost(self, accepted: tuple[BatchState, ...] = ()) -> None:
        """Do nothing more for jobs that others have."""
        tasks = self._lifecycle.tasks
        states = (BatchState.QUEUED, *accepted)
        mine = [task for task in tasks.values() if task.state in states and not task.is_in_flight]
        waiting = [task.row.id for task in mine if task.state is BatchState.QUEUED]
        others = [task.row.id for task in mine if task.state is not BatchState.QUEUED]
        if not mine:
            return
        for id_ in await self._journal.lost(waiting, others):
            if (task := tasks.get(id_)) is not None and task.state in states:
                task.drop()

    async def _tell_news(self, keys: Iterable[str]) -> None:
        """Tell those who follow jobs of other workers what they have not heard of."""
        latest = self._subscriptions.latest
        followed = [key for key in keys if key in latest]
        self._lengths = {key: number for key, number in self._lengths.items() if key in latest}
        if not followed:
            return
        for key, mark in (await self._journal.marks(followed)).items():
            last = latest.get(key)
            if last is None:
                continue
            is_more = mark[-1] != self._lengths.get(key, 0)
            self._lengths[key] = mark[-1]
            if not (is_more or self._is_news(mark, last.mark, has_error=last.error is not None)):
                continue
            row = await self._journal.get(key)
            last = latest.get(key)
            if row is None or last is None or row.id in self._lifecycle.tasks:
                continue  # what is done here is told by who does it
            job = self._turns.timed(self._turns.snapshot(row, is_followed=True))
            if job.follows(last.mark) or (job.error is not None and last.error is None):
                self._subscriptions.tell(job)

    def _is_news(self, mark: tuple[Any, ...], last: Mark, *, has_error: bool) -> bool:
        attempts, name, is_pending, is_fine, _ = mark
        state = BatchState(name)
        if state is BatchState.SUCCEEDED and is_pending and self._lifecycle.out is not None:
            state = BatchState.RUNNING
        return Mark.of(attempts, state) > last or not (is_fine or has_error)
