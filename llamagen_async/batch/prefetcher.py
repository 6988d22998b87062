"""Which queued jobs of a queue are in memory: the next few, and none while it is held.

Any number of jobs may wait in the journal. The dispatcher needs a choice of the next ones, not all
of them. An error that is no job's own holds everything for a while; then one job is tried.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context, copy_context
from typing import Final

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.lifecycle import READ_AHEAD, Lifecycle
from llamagen_async.batch.protocol import StoryStore
from llamagen_async.batch.task import BatchTask
from llamagen_async.errors import JournalError, LlamaGenError
from llamagen_async.models import BatchState
from llamagen_async.observing import about, logger_of

__all__ = ["Prefetcher"]

_logger = logger_of(__name__)

_FIRST_HOLD: Final = 5.0
"""Seconds of the server's clock for which nothing is sent after an error that is not a job's own;
each further hold in a row is twice as long."""
_LONGEST_HOLD: Final = 300.0
"""Seconds of the longest hold: a user who has paid again need not wait longer than that."""
_MOST_CONTEXTS: Final = 1_000
"""Jobs that wait outside the memory and are sent in their submitters' contexts, at most; others are
sent in an empty one."""


class Prefetcher:
    """Takes queued jobs out of the journal as there is room for them in memory.

    Args:
        journal: The journal that has them.
        lifecycle: Takes them to their end.
        speed: How many times faster than real time the server's clock runs.
        room: How many jobs that wait may be in memory, of the urgent ones and of the others.
    """

    def __init__(
        self,
        journal: StoryStore,
        lifecycle: Lifecycle,
        *,
        speed: float,
        room: int = READ_AHEAD,
    ) -> None:
        self._journal = journal
        self._lifecycle = lifecycle
        self._speed = speed
        self._most = room
        self._room = dict.fromkeys((True, False), room)
        """How many more jobs there may be in memory, of the urgent ones and of the others."""
        self._has_more = dict.fromkeys((True, False), True)
        """Whether there may be queued jobs that are not in memory."""
        self._dirty = dict.fromkeys((True, False), False)
        """Whether a job was queued while the journal was being read."""
        self._contexts: dict[int, Context] = {}
        """The context variables of those who have submitted jobs that are not in memory yet."""
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._holds = 0
        self._hold: asyncio.TimerHandle | None = None
        self._is_probing = False
        self._stopped = False

    def start(self) -> None:
        """Begin to take queued jobs out of the journal."""
        self._loop_task = asyncio.Task(self._run(), context=Context())
        self._wake.set()

    async def stop(self) -> None:
        """Take no more jobs."""
        self._stopped = True
        if self._hold is not None:
            self._hold.cancel()
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)

    def on_submitted(self, row: Row) -> None:
        """Take a new job into memory if there is room, or else later."""
        if len(self._contexts) < _MOST_CONTEXTS:
            self._contexts[row.id] = copy_context()
        # A change waits until the journal says that it is its turn, and so does what may come after
        # jobs that others have submitted.
        is_behind = row.type.is_change or self._journal.worker is not None
        if is_behind or self._has_more[row.urgent] or self._free(urgent=row.urgent) <= 0:
            self.rescan(urgent=row.urgent)
        else:
            self.load(row)  # it is the next one, so it need not be read

    def load(self, row: Row) -> None:
        """Work at a job, if nobody does."""
        if row.id in self._lifecycle.tasks or self._stopped:
            return
        try:
            task = BatchTask.of(row)
        except JournalError as error:
            # That job alone is damaged: the others must not wait behind it.
            task = BatchTask(row, BatchState.FAILED, error=error)
        if task.state is BatchState.QUEUED:
            self._room[row.urgent] -= 1
            task.is_waiting = True
        context = self._contexts.pop(row.id, None) or Context()
        context.run(self._lifecycle.start, task)

    def rescan(self, *, urgent: bool) -> None:
        """Read the queued jobs, and once more if they are being read."""
        self._has_more[urgent] = self._dirty[urgent] = True
        self._wake.set()

    def release(self, task: BatchTask) -> None:
        """Make room for another job if this one has left the queue."""
        if not task.is_waiting:
            return
        task.is_waiting = False
        urgent = task.row.urgent
        self._room[urgent] += 1
        # Not for each one: to read many at a time costs less.
        if self._has_more[urgent] and self._room[urgent] > self._most // 2:
            self._wake.set()

    def on_accepted(self) -> None:
        """Send more: the server takes jobs."""
        self._holds, self._is_probing = 0, False
        self._wake.set()

    def on_ended(self) -> None:
        """Try the next job if one at a time is tried: this one has ended in its own way."""
        if self._is_probing:
            self._wake.set()

    def hold(self, error: Exception | None) -> None:
        """Send nothing for a while: the next job would meet the same error."""
        if not isinstance(error, LlamaGenError):
            error = LlamaGenError(f"a mistake of this package or of a transport: {error!r}")
        self._lifecycle.halt(error)
        if self._hold is not None or self._stopped:
            return
        pause = min(_LONGEST_HOLD, _FIRST_HOLD * 2**self._holds)
        self._holds += 1
        text = "the queue waits %g s before it sends again: %s"
        _logger.error(text, pause, error, extra=about(error))
        loop = asyncio.get_running_loop()
        self._hold = loop.call_later(pause / self._speed, self._resume)

    def _resume(self) -> None:
        self._hold = None
        self._is_probing = True
        self._lifecycle.halted = None
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for urgent in (True, False):
                try:
                    await self._fill(urgent=urgent)
                except LlamaGenError as error:
                    self.rescan(urgent=urgent)
                    self.hold(error)

    async def _fill(self, *, urgent: bool) -> None:
        while self._has_more[urgent] and self._free(urgent=urgent) > 0:
            self._dirty[urgent] = False
            since = time.time() - self._lifecycle.timeout
            page = 2 * self._most  # as some may be in memory already
            rows = await self._journal.waiting(urgent=urgent, limit=page, since=since)
            new = [row for row in rows if row.id not in self._lifecycle.tasks]
            room = self._free(urgent=urgent)
            for row in new[:room]:
                self.load(row)
            is_full = len(new) > room or len(rows) == page
            self._has_more[urgent] = is_full or self._dirty[urgent]
            if not new:
                return

    def _free(self, *, urgent: bool) -> int:
        """Return how many more jobs may come into memory now."""
        if self._lifecycle.halted is not None:
            return 0
        if self._is_probing:
            return 0 if self._has_unsettled() else 1
        return self._room[urgent]

    def _has_unsettled(self) -> bool:
        """Whether there is a job of which it is not known whether it can be sent."""
        tasks = self._lifecycle.tasks.values()
        return any(task.state in (BatchState.QUEUED, BatchState.SENDING) for task in tasks)
