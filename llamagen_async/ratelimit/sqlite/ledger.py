"""The ledger of one machine: any number of processes share one SQLite file.

Each operation is one short transaction that takes the write lock, loads the window log, decides
with the same code as the memory ledger, and stores it; nothing is locked while somebody waits
for a slot. A process that is killed at any instant leaves either all of an operation or nothing:
its slots count until their lease is over, its positions until a few seconds after they were due.
An operation that was begun is finished even if its caller stops waiting: a slot that nobody takes
is released.

Time is the machine's (`machine_clock`), carried on in the file. The file must be on a local disk:
SQLite's locks can't be trusted on network file systems. It never contains the API key.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from time import time as wall_time
from typing import Any, Final, TypeVar

from llamagen_async.machine_clock import Anchor, advance, read_machine_clock
from llamagen_async.observing import logger_of
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.log_ledger import LogLedger, Operation
from llamagen_async.ratelimit.protocol import MAX_BLOB, Claim, fits_blob
from llamagen_async.ratelimit.sqlite.store import SQLiteStore
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from llamagen_async.stored_values import DAMAGED, StateReader, StoreError, decode, encode

__all__ = ["SQLiteLedger"]

_logger = logger_of(__name__)
_T = TypeVar("_T")

_LOAD: Final = "SELECT state FROM account WHERE name = ? AND speed = ?"
_SAVE: Final = """
    INSERT INTO account (name, speed, state) VALUES (?, ?, ?)
    ON CONFLICT (name, speed) DO UPDATE SET state = excluded.state
"""
_LOAD_BLOB: Final = """
    SELECT text FROM note
    WHERE name = ? AND speed = ? AND typeof(text) = 'text' AND length(CAST(text AS BLOB)) <= ?
"""
_SAVE_BLOB: Final = """
    INSERT INTO note (name, speed, text) VALUES (?, ?, ?)
    ON CONFLICT (name, speed) DO UPDATE SET text = excluded.text
"""


class SQLiteLedger(LogLedger):
    """A ledger in a file that all processes of this machine may use at once.

    May be used from any thread and event loop. The file is opened by the first operation. After
    `aclose` an operation still works; it opens the file again.

    Args:
        store: The file, or the store that several ledgers share.
        name: The count's name, such as a hash of key and server; never the API key.
        plan: Which windows to count. A user with shorter windows than others of the same name
            keeps what the others need.
        speed: Seconds of the server's clock in a real one. Each speed has a count of its own.
        times: The times to keep to, in seconds of the server's clock.
        now: The time in seconds of the server's clock, instead of the machine's. For tests.
        wall: The unix time in seconds of the server's clock, for windows that are aligned to it.
    """

    def __init__(
        self,
        store: SQLiteStore | str | os.PathLike[str],
        *,
        name: str,
        plan: Plan,
        speed: float = 1.0,
        times: LedgerTimes,
        now: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(plan)
        self._store = store if isinstance(store, SQLiteStore) else SQLiteStore(store)
        self._key = (name, float(speed))
        self._times = times
        self._now = now
        self._wall = wall or (lambda: wall_time() * speed)

    async def load_blob(self) -> str | None:
        """Return the text that is kept in the file."""

        def load(connection: sqlite3.Connection) -> str | None:
            row = connection.execute(_LOAD_BLOB, (*self._key, MAX_BLOB)).fetchone()
            return None if row is None else str(row[0])

        return await self._result(self._store.submit(self, load))

    async def save_blob(self, text: str) -> None:
        """Replace the text in the file, unless the new one is too long."""

        def save(connection: sqlite3.Connection) -> None:
            connection.execute(_SAVE_BLOB, (*self._key, text))

        if fits_blob(text):
            await self._result(self._store.submit(self, save, write=True))

    async def aclose(self) -> None:
        """Wait for running operations, and let go of the file."""
        await self._store.leave(self)

    async def _do(
        self, operation: Operation[_T], *, claim: Claim | None = None, write: bool = True
    ) -> _T:
        # A window of a minute is over when a machine whose power failed is up again. What is spent
        # of a day's quota must not be forgotten, and is worth waiting for the disk before a request
        # leaves; its end may be, since the slot then counts until a lease later.
        durable = claim is not None and bool(self._plan.quotas)
        work = partial(self._apply, operation, write=write)
        job = self._store.submit(self, work, write=write, durable=durable)
        return await self._result(job, claim)

    def _start(self, operation: Operation[None]) -> None:
        job = self._store.submit(self, partial(self._apply, operation), write=True)
        job.add_done_callback(_report)

    async def _result(self, job: asyncio.Future[_T], claim: Claim | None = None) -> _T:
        """Return the result of a job; if it takes too long, or this is cancelled, give it up.

        The job is done all the same, and then the claim is released.
        """
        asked_at, done = monotonic(), set[asyncio.Future[_T]]()
        try:
            # Before it may be those of thousands of other keys: only a standstill takes too long.
            while not done and (left := self._store.time_left(asked_at)) > 0:
                done, _ = await asyncio.wait((job,), timeout=left)
        finally:
            if not done:
                job.add_done_callback(_report)
                if claim is not None:
                    self.release(claim.id, claim.client)
        if not done:
            within = f"no answer within {self._store.timeout:g} s"
            raise StoreError(f"{self._store.path}: {within}; name a file on a local disk")
        return job.result()

    def _apply(
        self, operation: Operation[_T], connection: sqlite3.Connection, *, write: bool = True
    ) -> _T:
        """Do an operation to the window log in the file, inside a transaction."""
        plan = self._plan
        found = connection.execute(_LOAD, self._key).fetchone()
        try:
            state: dict[str, Any] = {} if found is None else decode(found[0])
            now, clock = self._tick(state.get("clock"))
            if found is None:
                log = WindowLog(plan, self._times)
            else:
                log = WindowLog.load(plan, state, self._times, StateReader(now))
        except DAMAGED as error:
            raise StoreError(
                f"{self._store.path}: the count in it is damaged ({error!r}); move the file away; "
                "what was spent is then forgotten"
            ) from error
        if any(limit.aligned for limit in plan.limits):
            log.wall_offset = self._wall() - now
        answer = operation(log, now)
        if write:
            text = encode({**log.dump(), "clock": clock})
            connection.execute(_SAVE, (*self._key, text))
        return answer

    def _tick(self, clock: list[Any] | None) -> tuple[float, Sequence[Any] | None]:
        """Return the time, and the clock to be stored, given the one that was stored last."""
        before = None if clock is None else Anchor.load(clock)
        if self._now is not None:
            return self._now(), clock
        anchor = advance(before, read_machine_clock())
        return round(anchor.now * self._key[1], 6), anchor


def _report(job: asyncio.Future[Any]) -> None:
    """Log the failure of a job that nobody waits for any more."""
    if not job.cancelled() and (error := job.exception()) is not None:
        _logger.warning("a slot may count for longer, or for less, than it should: %s", error)
