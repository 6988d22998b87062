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
import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

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
from llamagen_async.ratelimit.sqlite.store import Operation, SQLiteStore
from llamagen_async.ratelimit.window_log import LedgerTimes

__all__ = ["SQLiteLedger"]

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_Work = Callable[[SQLiteStore], _T]

_LOCK_SHARE: Final = 0.8
"""Share of an operation's timeout that may pass in waiting for other processes."""

_inherited: Final[list[SQLiteStore]] = []
"""Stores of the processes from which this one was forked. They are kept, since closing their
connections here would disturb those processes."""


class SQLiteLedger:
    """A ledger in a file that all processes of this machine may use at once.

    May be used from any thread and event loop. The file is opened by the first operation. After
    `aclose` an operation still works; it opens the file and lets go of it again.

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
        self._store: SQLiteStore = self._new_store()
        self._close_store = self._close_when_collected()
        self._thread: ThreadPoolExecutor | None = None
        """The only user of the store, from the first operation on."""
        self._ended: Future[None] | None = None
        """Done when the thread has closed the file; `None` while it may be given operations."""
        self._process = os.getpid()
        self._closed = False
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"SQLiteLedger({str(self._path)!r}, {self._plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        self._plan = plan

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Hold a slot if one is free for this claim, else give it a position.

        If this is cancelled, or takes too long, neither the slot nor the position is kept.
        """
        reserve = self._transaction(lambda log, now: log.reserve(claim, now))
        return await self._do(reserve, given_up=partial(self.release, claim.id, claim.client))

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Spend the slot; pause everyone if the answer was 429."""
        return await self._run(lambda log, now: log.commit(grant, outcome, workload, now))

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up a slot or a position without waiting for the file; a failure is logged."""
        release = self._transaction(
            lambda log, now: log.release(claim, client, now, leaves=leaves), notify=True
        )
        self._submit(release).add_done_callback(_report)

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests that were spent without a slot, and pause everyone."""
        await self._run(lambda log, now: log.record(number, now, pause=pause))

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now."""
        return await self._run(lambda log, now: log.snapshot(now, position=position), write=False)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when a slot or a position was given up by this object.

        Changes by other processes are not noticed; a waiter asks again at the time it was told.
        """
        with self._guard:
            self._listeners = [*self._listeners, changed]

        def unsubscribe() -> None:
            with self._guard:
                self._listeners = [kept for kept in self._listeners if kept is not changed]

        return unsubscribe

    async def load_blob(self) -> str | None:
        """Return the text that is kept in the file."""
        return await self._do(lambda store: store.load_blob(self._plan))

    async def save_blob(self, text: str) -> None:
        """Replace the text in the file, unless the new one is too long."""
        if fits_blob(text):
            await self._do(lambda store: store.save_blob(text, self._plan))

    async def aclose(self) -> None:
        """Wait for running operations, close the file and end the thread."""
        closed: ThreadPoolExecutor | None = None
        while True:
            with self._guard:
                self._closed = True
                thread = self._thread
                if thread is closed or thread is None or self._process != os.getpid():
                    return
                ended = asyncio.wrap_future(self._end(thread))
            # An operation that hangs in the operating system can't be ended, nor is it waited for.
            if (await asyncio.wait((ended,), timeout=2 * self._timeout))[0]:
                thread.shutdown(wait=True)
            # An operation that was cancelled meanwhile is undone by another thread.
            closed = thread

    async def _run(self, operation: Operation[_T], *, write: bool = True) -> _T:
        return await self._do(self._transaction(operation, write=write))

    async def _do(self, work: _Work[_T], *, given_up: Callable[[], None] | None = None) -> _T:
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

    def _transaction(
        self, operation: Operation[_T], *, write: bool = True, notify: bool = False
    ) -> _Work[_T]:
        """Return the work for an operation, which listeners hear of if `notify` is set."""

        def work(store: SQLiteStore) -> _T:
            answer = store.run(self._plan, operation, write=write)
            if notify:
                for changed in self._listeners:
                    changed()
            return answer

        return work

    def _submit(self, work: _Work[_T]) -> asyncio.Future[_T]:
        """Run the work in the thread, after all that was submitted before."""
        loop = asyncio.get_running_loop()
        with self._guard:
            thread = self._ready_thread()
            job = loop.run_in_executor(thread, work, self._store)
            if self._closed:
                self._end(thread)
        return job

    def _ready_thread(self) -> ThreadPoolExecutor:
        """Return the thread; make another one after an end, or a fork, which none survives."""
        if self._process != os.getpid():
            _inherited.append(self._store)
            self._close_store.detach()
            self._store, self._process = self._new_store(), os.getpid()
            self._close_store = self._close_when_collected()
            self._thread = self._ended = None
        if self._thread is None or self._ended is not None:
            former = [] if self._thread is None else [self._thread]
            self._thread = ThreadPoolExecutor(1, "llamagen-async-ledger", _wait_for_end, (former,))
            self._ended = None
        return self._thread

    def _close_when_collected(self) -> weakref.finalize[..., Any]:
        """Have the file closed when this is collected; the thread ends by itself then."""
        finalizer = weakref.finalize(self, _close_unless_forked, os.getpid(), self._store)
        finalizer.atexit = False
        return finalizer

    def _end(self, thread: ThreadPoolExecutor) -> Future[None]:
        """Have the thread close the file and end, after all that was submitted before."""
        if self._ended is None:
            ended = self._ended = Future[None]()

            def close(store: SQLiteStore) -> None:
                store.close()
                ended.set_result(None)

            asyncio.get_running_loop().run_in_executor(thread, close, self._store)
            thread.shutdown(wait=False)
        return self._ended


def _close_unless_forked(process: int, store: SQLiteStore) -> None:
    """Close a store that nobody uses any more; keep one that belongs to the parent process."""
    if process == os.getpid():
        store.close()
    else:
        _inherited.append(store)


def _wait_for_end(former: list[ThreadPoolExecutor]) -> None:
    """Wait until the thread before has ended, for the store has one user; keep no reference."""
    while former:
        former.pop().shutdown()


def _report(job: asyncio.Future[Any]) -> None:
    """Log the failure of a job that nobody waits for any more."""
    if not job.cancelled() and (error := job.exception()) is not None:
        _logger.warning("a slot may count for longer, or for less, than it should: %s", error)
