"""Which queued jobs are in memory, and when nothing is sent: some now, none while it is held up.

Any number of jobs may wait in the journal. The dispatcher needs a choice of the next ones, not all
of them. An error that is no job's own holds everything up for a while; then one job is tried.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.rows import Row
from llamagen_async.batch.lifecycle import READ_AHEAD, Work
from llamagen_async.batch.task import Entry
from llamagen_async.errors import LlamaGenError
from llamagen_async.models import BatchState

__all__ = ["Feeder"]

_logger = logging.getLogger(__name__)

_FIRST_HOLD: Final = 5.0
"""Seconds of the server's clock for which nothing is sent after an error that is not a job's own;
each further one in a row is twice as long."""
_LONGEST_HOLD: Final = 300.0
_AT_A_TIME: Final = 2 * READ_AHEAD
"""Rows that are read at a time; some of them may be in memory already."""


class Feeder:
    """Takes queued jobs out of the journal as there is room for them.

    Args:
        journal: Where they are.
        work: Where they go.
        speed: How many times faster than real time the server's clock runs.
    """

    def __init__(self, journal: Journal, work: Work, *, speed: float) -> None:
        self._journal = journal
        self._work = work
        self._speed = speed
        self._room = dict.fromkeys((True, False), READ_AHEAD)
        """How many more there may be in memory, of the urgent ones and of the others."""
        self._more = dict.fromkeys((True, False), True)
        """Whether there may be some that are not in memory."""
        self._news = dict.fromkeys((True, False), False)
        """Whether one came while those were being looked for."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._holds = 0
        self._hold: asyncio.TimerHandle | None = None
        self._is_probing = False
        self._stopped = False

    def start(self) -> None:
        """Begin to look for queued jobs."""
        self._task = asyncio.create_task(self._feed())
        self._wake.set()

    async def stop(self) -> None:
        """Take no more of them."""
        self._stopped = True
        if self._hold is not None:
            self._hold.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def came(self, row: Row) -> None:
        """Take note of a new job."""
        if self._more[row.urgent] or self._free(urgent=row.urgent) <= 0:
            self.look(urgent=row.urgent)
        else:
            self.begin(row)  # it is the next one, so it need not be read

    def begin(self, row: Row) -> None:
        """Work at a job, if nobody does."""
        if row.id in self._work.entries or self._stopped:
            return
        entry = Entry.of(row)
        if entry.state is BatchState.QUEUED:
            self._room[row.urgent] -= 1
            entry.leave_queue = self._leaver(urgent=row.urgent)
        self._work.begin(entry)

    def look(self, *, urgent: bool) -> None:
        """Look for queued jobs, and once more if they are being looked for."""
        self._more[urgent] = self._news[urgent] = True
        self._wake.set()

    def accepted(self) -> None:
        """Take note that the server takes jobs."""
        self._holds, self._is_probing = 0, False
        self._wake.set()

    def ended(self) -> None:
        """Take note that a job has ended in its own way."""
        if self._is_probing:
            self._wake.set()

    def hold(self, error: LlamaGenError) -> None:
        """Send nothing for a while: the next job would meet the same error."""
        self._work.halt(error)
        if self._hold is not None or self._stopped:
            return
        pause = min(_LONGEST_HOLD, _FIRST_HOLD * 2**self._holds)
        self._holds += 1
        _logger.error("the queue waits %g s before it sends again: %s", pause, error)
        loop = asyncio.get_running_loop()
        self._hold = loop.call_later(pause / self._speed, self._resume)

    def _resume(self) -> None:
        self._hold = None
        self._is_probing = True
        self._work.resume()
        self._wake.set()

    async def _feed(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for urgent in (True, False):
                try:
                    await self._fill(urgent=urgent)
                except LlamaGenError as error:
                    self.look(urgent=urgent)
                    self.hold(error)

    async def _fill(self, *, urgent: bool) -> None:
        while self._more[urgent] and self._free(urgent=urgent) > 0:
            self._news[urgent] = False
            rows = await self._journal.waiting(urgent=urgent, limit=_AT_A_TIME)
            new = [row for row in rows if row.id not in self._work.entries]
            room = self._free(urgent=urgent)
            for row in new[:room]:
                self.begin(row)
            is_full = len(new) > room or len(rows) == _AT_A_TIME
            self._more[urgent] = is_full or self._news[urgent]
            if not new:
                return

    def _free(self, *, urgent: bool) -> int:
        """Return how many more jobs may come into memory now."""
        if self._work.halted is not None:
            return 0
        if self._is_probing:
            return 0 if self._has_unsettled() else 1
        return self._room[urgent]

    def _has_unsettled(self) -> bool:
        """Whether there is a job of which it is not known whether it can be sent."""
        entries = self._work.entries.values()
        return any(entry.state in (BatchState.QUEUED, BatchState.SENDING) for entry in entries)

    def _leaver(self, *, urgent: bool) -> Callable[[], None]:
        waits = True

        def leave() -> None:
            nonlocal waits
            if waits:
                waits = False
                self._room[urgent] += 1
                # Not for each one: to read them some at a time costs less.
                if self._more[urgent] and self._room[urgent] > READ_AHEAD // 2:
                    self._wake.set()

        return leave
