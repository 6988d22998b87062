"""The journal of a queue: any number of workers open it, and one at a time works on a story.

Which worker works on what stands in the file (see `workers`). What is checked before something is
sent is checked in the transaction that writes that it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from llamagen_async.batch.journal.codec import Row, dump_error, dump_generation
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.opening import take_in
from llamagen_async.batch.journal.schema import check_account
from llamagen_async.batch.journal.targets import has_changes
from llamagen_async.batch.journal.workers import (
    HANDED_OVER,
    Worker,
    adopt,
    claim,
    end,
    give_back,
    has_orphans,
    leave,
    others,
    pass_on,
    passed_on,
    progress,
    remove,
    renew,
    take_all,
    waited_for,
)
from llamagen_async.errors import ClientClosedError, JournalError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.observing import about, logger_of

__all__ = ["Beat", "SharedJournal"]

_logger = logger_of(__name__)

SENDING, RUNNING, SUCCEEDED = BatchState.SENDING, BatchState.RUNNING, BatchState.SUCCEEDED
_MARKS: Final = """
    SELECT key, attempts, state, worker IS NOT '' AND files IS NULL, error IS NULL,
        iif(state = 'running', length(generation), 0) FROM job
    WHERE key IN (SELECT value FROM json_each(?))
"""
_NOT_QUEUED: Final = """
    SELECT id FROM job WHERE id IN (SELECT value FROM json_each(?)) AND state <> 'queued'
"""
_OF_OTHERS: Final = """
    SELECT id FROM job WHERE id IN (SELECT value FROM json_each(?)) AND worker IS NOT ?
"""


@attrs.frozen
class Beat:
    """News that a worker hears when it renews its lease."""

    others: int
    """How many other workers are alive."""
    mine: tuple[int, ...] = ()
    """The numbers of the rows that this worker waits for, those included that it has taken over."""
    took_over: bool = False
    """Whether another worker was found to be dead."""
    was_gone: bool = False
    """Whether the lease had run out, so that others may have taken this worker's stories."""


class SharedJournal(Journal):
    """A journal that others may have open, too; without a file, one that nobody else has.

    The arguments are those of `Journal`. `now`, which tests may set, is the clock of leases: that
    of the event loop, which nobody can set and all processes of a machine share.
    """

    now: Callable[[], float] | None = None
    """The clock of leases, in real seconds."""
    _loop: asyncio.AbstractEventLoop | None = None
    _is_worker = False
    """Whether it has had a lease."""
    _takes_over = True
    """Whether it goes on with what others have left."""
    _heard: int | None = None
    """The number of the last webhook event that was read."""
    _was_gone = False
    """Whether the lease had run out when it was last renewed."""

    async def open(self) -> None:
        """Open the journal. Call `beat` then, to become one of its workers.

        Raises:
            JournalError: The file can't be opened, a batch works with it alone, it is about
                another server or key, or it is not the one that the files beside it know.
        """
        self._loop = asyncio.get_running_loop()
        if self.worker is not None and self._database.renew(name := _new_name()):
            self.worker: str | None = name
        await super().open()

    async def beat(self) -> Beat:
        """Renew the lease, and look after what dead workers have left.

        Raises:
            JournalError: The file can't be written, or the others work for another server or key.
        """
        if self.worker is None:
            return Beat(0)
        beat = await self._database.beat(self._beat)
        reserve = self._database.reserve
        if reserve is not None and reserve.left:
            await self._database.apart(reserve.clear_left)
        return beat

    async def progress(self, generations: Mapping[int, AnyGeneration]) -> None:
        """Write how far comics are drawn, by their rows, for those who follow at other workers."""
        if self.worker is not None:
            texts = {id_: dump_generation(one) for id_, one in generations.items()}
            await self._database.beat(partial(progress, self.worker, texts))

    async def pass_on(self, text: str) -> None:
        """Write a webhook event down for the workers of which one may wait for it."""
        if self.worker is not None:
            await self._database.beat(partial(pass_on, text, time.time()))

    async def passed_on(self) -> list[str]:
        """Return the webhook events that came since this was last called."""
        self._heard, texts = await self.ask(partial(passed_on, self._heard))
        return list(texts)

    async def version(self) -> int:
        """Return a number that changes when another worker has written."""
        return await self._database.version()

    async def has_orphans(self) -> bool:
        """Whether there are stories that nobody works on and that somebody has to."""
        found: bool = await self.ask(has_orphans)
        return found

    async def claim(self, row: Row) -> Row:
        """Return a story that was accepted; it is this worker's if nobody else works on it."""
        has_all = row.files_text is not None or self._out is None
        if self.worker is None or not (
            row.state is RUNNING or (row.state is SUCCEEDED and not has_all)
        ):
            return row
        return await self._database.run(partial(self._claim, row), write=True)

    async def let_go(self, row: Row, error: BaseException | None) -> None:
        """Note that nothing more is done for a story until somebody asks, and why.

        If this worker's client was closed, others go on at once.
        """
        if self.worker is not None and row.worker == self.worker:
            text = None if error is None else dump_error(error)
            next_ = HANDED_OVER if isinstance(error, ClientClosedError) else ""
            text = None if next_ else text
            work = partial(leave, self.worker, row.id, next_, text)
            with contextlib.suppress(JournalError):  # it is this worker's as long as that lives
                await self._database.run(work, write=True)

    async def give_back(self) -> None:
        """Let others go on at once with what was accepted, and take nothing over any more."""
        self._takes_over = False
        if self.worker is not None and self._is_open:
            with contextlib.suppress(JournalError):  # others will miss its beats
                await self._database.run(partial(give_back, self.worker), write=True)

    async def aclose(self) -> None:
        """Finish what is being written, and let go of stories and file. Closing twice is fine."""
        try:
            if self._is_open and not self._stays_open:
                await self._farewell()
        finally:
            await super().aclose()

    async def marks(self, keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Return what tells for each key whether there is news of its story."""
        text = _json(keys)

        def read(connection: sqlite3.Connection) -> dict[str, tuple[Any, ...]]:
            return {key: tuple(mark) for key, *mark in connection.execute(_MARKS, (text,))}

        found: dict[str, tuple[Any, ...]] = await self.ask(read)
        return found

    async def lost(self, waiting: Sequence[int], accepted: Sequence[int]) -> set[int]:
        """Return which stories of this worker are not its own any more.

        Args:
            waiting: The rows of those that it would send.
            accepted: The rows of those that it waits for.
        """

        def read(connection: sqlite3.Connection) -> set[int]:
            found = connection.execute(_NOT_QUEUED, (_json(waiting),)).fetchall()
            found += connection.execute(_OF_OTHERS, (_json(accepted), self.worker)).fetchall()
            return {id_ for (id_,) in found}

        found: set[int] = await self.ask(read)
        return found

    def _name_of_worker(self, path: Path | None) -> str | None:
        return None if path is None else _new_name()

    async def _farewell(self) -> None:
        reserve, worker = self._database.reserve, self.worker
        if worker is not None:
            is_clean = not (self._rows.behind or (reserve and reserve.receipts))
            with contextlib.suppress(JournalError):  # others will miss its beats
                await self._database.run(partial(end, worker, is_clean=is_clean), write=True)

    # What follows runs inside a transaction.

    def _now(self) -> float:
        assert self._loop is not None
        return self.now() if self.now is not None else self._loop.time()

    def _clear_away(self, connection: sqlite3.Connection) -> None:
        if self.worker is None:
            return
        remove(self._database.dead, connection)
        if self._database.was_alone:
            take_all(connection)

    def _renew(self, connection: sqlite3.Connection) -> None:
        """Renew the lease; note if it had run out."""
        assert self.worker is not None
        me = Worker(self.worker, self._account)
        if not renew(me, self._now(), connection) and self._is_worker:
            self._was_gone = True

    def _beat(self, connection: sqlite3.Connection) -> Beat:
        assert self.worker is not None
        path, me = self._database.path, Worker(self.worker, self._account)
        alive, dead = others(me, self._now(), connection)
        if not self._is_worker and path is not None:
            # What runs at another server or for another key must never be in one file.
            for account in alive:
                check_account(path, attrs.asdict(account), self._account)
        self._renew(connection)
        self._is_worker = True
        if dead and self._takes_over:
            _logger.warning("%s: workers that are gone: %d; taking over", path, len(dead))
            remove(dead, connection)
            reserve = self._database.reserve
            receipts = reserve.of_dead(dead) if reserve else []
            take_in(receipts, self._account, connection)
        mine: tuple[int, ...] = ()
        if self._takes_over:
            adopt(self.worker, connection)
            mine = tuple(waited_for(self.worker, connection))
        was_gone, self._was_gone = self._was_gone, False
        self.has_changes: bool = has_changes(connection)
        return Beat(len(alive), mine, bool(dead), was_gone)

    def _claim(self, row: Row, connection: sqlite3.Connection) -> Row:
        assert self.worker is not None
        claim(self.worker, row.id, connection)
        (row,) = self._rows.select("WHERE id = ?", (row.id,), connection)
        return row

    def _change(
        self,
        origins: frozenset[BatchState],
        values: dict[str, Any],
        connection: sqlite3.Connection,
    ) -> Row:
        if self.worker is None:
            return super()._change(origins, values, connection)
        state = BatchState(values["state"])
        rows = self._rows.select("WHERE id = ?", (values["id"],), connection)
        row = rows[0] if rows else None
        is_pending = state is SUCCEEDED and self._out is not None and values["files"] is None
        if state in (SENDING, RUNNING) or is_pending:
            values["worker"] = self.worker
        if row is not None and state is SENDING:
            if row.state is SENDING and row.worker != self.worker:
                return row  # somebody else is about to send it
            self._renew(connection)
        is_same = row is not None and row.attempts == values["tried"]
        if is_same and state is BatchState.QUEUED and SENDING in origins:
            # It was feared lost when the lease ran out, and is known not to have been accepted.
            origins |= {BatchState.UNCERTAIN}
        if row is not None and _is_second(row, values):
            _logger.error(
                "%s: %r is generation %s, and %s was accepted for it, too: it was sent again",
                self.path,
                row.key,
                row.generation_id,
                values["generation_id"],
                extra=about(generation_id=row.generation_id, job_key=row.key),
            )
            return row
        return super()._change(origins, values, connection)


def _is_second(row: Row, values: dict[str, Any]) -> bool:
    """Whether an answer is to an earlier attempt than the one that the row tells of."""
    id_ = values["generation_id"]
    is_other = id_ is not None and row.generation_id not in (None, id_)
    return is_other and row.attempts != values["tried"]


def _new_name() -> str:
    return os.urandom(6).hex()


def _json(values: Sequence[object]) -> str:
    return json.dumps(list(values))
