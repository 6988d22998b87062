"""The ledger of one machine: any number of processes share one SQLite file.

Each operation is one short transaction that takes the write lock, loads the window log, decides
with the same code as the memory ledger, and stores it; nothing is locked while somebody waits
for a slot. A process that is killed at any instant leaves either all of an operation or nothing:
its slots count until their lease is over, its positions until a few seconds after they were due.

All operations run in one thread, in the order in which they were asked for: neither a slow disk
nor another process's transaction holds up the event loop. An operation that was begun is finished
even if its caller stops waiting: a slot that nobody takes is released.

Time is the machine's (`machine_clock`), carried on in the file. The file must be on a local disk:
SQLite's locks can't be trusted on network file systems. It never contains the API key.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from llamagen_async.observing import logger_of
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    KeyState,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    StoreError,
    Workload,
    fits_blob,
)
from llamagen_async.ratelimit.sqlite.store import SQLiteStore
from llamagen_async.ratelimit.window_log import LedgerTimes

__all__ = ["SQLiteLedger"]

_logger = logger_of(__name__)
_T = TypeVar("_T")

_LOCK_SHARE: Final = 0.8
"""Share of an operation's timeout that may pass in waiting for other processes."""

_inherited: Final[list[SQLiteStore]] = []
"""Stores of the processes from which this one was forked. They are kept, since closing their
connections here would disturb those processes."""


class SQLiteLedger:
    """A ledger in a file that all processes of this machine may use at once.

    May be used from any thread and event loop. The file is opened by the first operation. After
    `aclose` an operation still works; it opens the file again.

    Args:
        path: The file. Missing folders are made.
        name: The count's name, such as a hash of key and server; never the API key.
        plan: Which windows to count. A user with shorter windows than others of the same name
            keeps what the others need.
        speed: Seconds of the server's clock in a real one. Each speed has a count of its own.
        times: The times to keep to, in seconds of the server's clock.
        timeout: Real seconds after which an operation raises `StoreError` instead of waiting.
        now: The time in seconds of the server's clock, instead of the machine's. For tests.
        wall: The unix time in seconds of the server's clock, for windows that are aligned to it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        plan: Plan,
        speed: float = 1.0,
        times: LedgerTimes,
        timeout: float = 2.0,
        now: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._path = Path(path).expanduser().absolute()
        self._plan = plan
        self._timeout = timeout
        self._new_store = partial(
            SQLiteStore,
            self._path,
            (name, float(speed)),
            times,
            timeout=_LOCK_SHARE * timeout,
            now=now,
            wall=wall,
        )
        self._guard = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        """The only user of the store; `None` while nobody has asked for anything."""
        self._store: SQLiteStore = self._new_store()
        self._process = os.getpid()
        """The process that the thread and the store belong to."""
        self._jobs: set[asyncio.Future[Any]] = set()
        """The operations that have not ended."""

    def __repr__(self) -> str:
        return f"SQLiteLedger({str(self._path)!r}, {self._plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        self._plan = plan

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Hold a slot if one is free for this claim, else give it a position.

        If this is cancelled, or takes too long, neither the slot nor the position is kept.
        """
        return await self._do(
            lambda store: store.run(self._plan, lambda log, now: log.reserve(claim, now)),
            given_up=partial(self.release, claim.id, claim.client),
        )

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Spend the slot; pause everyone if the answer was 429."""
        return await self._do(
            lambda store: store.run(
                self._plan, lambda log, now: log.commit(grant, outcome, workload, now)
            )
        )

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up a slot or a position without waiting for the file; a failure is logged."""
        self._submit(
            lambda store: store.run(
                self._plan, lambda log, now: log.release(claim, client, now, leaves=leaves)
            )
        ).add_done_callback(_report)

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests that were spent without a slot, and pause everyone."""
        await self._do(
            lambda store: store.run(
                self._plan, lambda log, now: log.record(number, now, pause=pause)
            )
        )

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now."""
        return await self._do(
            lambda store: store.run(
                self._plan, lambda log, now: log.snapshot(now, position=position), write=False
            )
        )

    async def load_blob(self) -> str | None:
        """Return the text that is kept in the file."""
        return await self._do(lambda store: store.load_blob(self._plan))

    async def save_blob(self, text: str) -> None:
        """Replace the text in the file, unless the new one is too long."""
        if fits_blob(text):
            await self._do(lambda store: store.save_blob(text, self._plan))

    async def aclose(self) -> None:
        """Wait for running operations, close the file and end the thread."""
        loop, within = asyncio.get_running_loop(), 2 * self._timeout
        while jobs := [job for job in self._jobs if job.get_loop() is loop]:
            if not (await asyncio.wait(jobs, timeout=within))[0]:
                break  # one that hangs in the operating system can't be ended, nor is it waited for
        with self._guard:
            thread, self._thread = self._thread, None
        if thread is not None and self._process == os.getpid():
            ended = loop.run_in_executor(thread, self._store.close)
            thread.shutdown(wait=False)
            if (await asyncio.wait((ended,), timeout=within))[0]:
                thread.shutdown(wait=True)

    async def _do(
        self, work: Callable[[SQLiteStore], _T], *, given_up: Callable[[], None] | None = None
    ) -> _T:
        """Return the result of the work; if it takes too long, or this is cancelled, give it up.

        The work is done all the same; after it comes what `given_up` asks for.
        """
        job, done = self._submit(work), set[asyncio.Future[_T]]()
        try:
            done, _ = await asyncio.wait((job,), timeout=self._timeout)
        finally:
            if not done:
                job.add_done_callback(_report)
                if given_up is not None:
                    given_up()
        if not done:
            raise StoreError(
                f"{self._path}: no answer within {self._timeout:g} s; name a file on a local disk"
            )
        return job.result()

    def _submit(self, work: Callable[[SQLiteStore], _T]) -> asyncio.Future[_T]:
        """Run the work in the thread, after all that was submitted before."""
        loop = asyncio.get_running_loop()
        with self._guard:
            thread = self._thread
            if thread is None or self._process != os.getpid():
                thread = self._start_thread()
            job = loop.run_in_executor(thread, work, self._store)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def _start_thread(self) -> ThreadPoolExecutor:
        """Start the thread, with a store of its own: none survives a fork."""
        if self._process != os.getpid():
            _inherited.append(self._store)
            self._process, self._jobs = os.getpid(), set()
            self._store = self._new_store()
        thread = self._thread = ThreadPoolExecutor(1, "llamagen-async-ledger")
        finalizer = weakref.finalize(self, _close_unless_forked, os.getpid(), self._store)
        finalizer.atexit = False
        return thread


def _close_unless_forked(process: int, store: SQLiteStore) -> None:
    """Close a store that nobody uses any more; keep one that belongs to the parent process."""
    if process == os.getpid():
        store.close()
    else:
        _inherited.append(store)


def _report(job: asyncio.Future[Any]) -> None:
    """Log the failure of a job that nobody waits for any more."""
    if not job.cancelled() and (error := job.exception()) is not None:
        _logger.warning("a slot may count for longer, or for less, than it should: %s", error)
