"""The ledger of one machine: any number of processes share one SQLite file.

Each operation is one short transaction that takes the write lock, loads the account, decides
with the same code as the memory ledger, and stores it; nothing is locked while somebody waits
for a slot. A process that is killed at any instant leaves either all of an operation or nothing:
what it held counts until its lease is over, its place in the line until somebody else's turn.

Neither a slow disk nor another process's transaction holds up the event loop: what may take time
is done by a thread, and the rest at once, see `sqlite_worker`. What was begun is finished, whoever
stops waiting for it: a slot that nobody is there to take goes back.

A pause that somebody's refusal begins is in the account. Who was given a slot some seconds before
it may be used looks for it once more: that reads the row, and nobody waits for it.

Time is the machine's (`machine_clock`), carried on in the file. The file must be on a local disk:
SQLite's locks can't be trusted on network file systems. It never contains the API key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.ledger import (
    ANSWERED,
    Grant,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    StoreError,
    apply_many,
    fits,
    settle,
    summarize,
)
from llamagen_async.ratelimit.sqlite.executor import SQLiteWorker, Work
from llamagen_async.ratelimit.sqlite.store import NotAtOnceError, Operation, SQLiteStore
from llamagen_async.ratelimit.window_log import WindowLog

__all__ = ["SQLiteLedger"]

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

_MOMENT: Final = 0.002
"""Real seconds that an answer waits to be written together with something else."""
_LOCK_SHARE: Final = 0.8
"""How much of an operation's time may pass in waiting for other processes."""


class SQLiteLedger:
    """Remembers in a file that all processes of this machine may use at once.

    May be used from any thread and event loop. The file is opened by the first operation. After
    `aclose` an operation still works; it opens the file and lets go of it again.

    Args:
        path: The file. Missing folders are made.
        name: Whose requests are counted, such as a hash of key and server; never the API key.
        plan: Which windows to count. Who counts shorter windows than others that use the name
            does not forget what the others need.
        speed: Seconds of the server's clock in a real one. Each speed has a count of its own.
        lease: Seconds of the server's clock after which a slot that nobody reported on counts as
            spent; longer than any request may take.
        ahead: How many seconds of the server's clock before a slot is back it is given to who is
            next, so that asking costs no time.
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
        lease: float,
        ahead: float = 1.0,
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
            lease=lease,
            ahead=ahead,
            now=now,
            wall=wall,
        )
        self._guard = threading.Lock()
        self._worker: SQLiteWorker | None = None
        self._closed = False
        self._listeners: list[Callable[[], None]] = []
        self._answered: list[Grant] = []
        """Slots whose answers are still to be written."""
        self._watched_by: asyncio.AbstractEventLoop | None = None
        """The event loop that has a timer to write them with, if nothing else does."""

    def __repr__(self) -> str:
        return f"SQLiteLedger({str(self._path)!r}, {self._plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        self._plan = plan

    async def reserve(self, ticket: str) -> Grant | NoSlot:
        """Hold a slot if one is free, else keep a place in the line for `ticket`.

        If this is cancelled, or fails, neither the slot nor the place is kept.
        """
        return (await self.reserve_many(ticket, 1))[0]

    async def reserve_many(self, ticket: str, number: int) -> list[Grant | NoSlot]:
        """Do the same for `number` who share a ticket, in one transaction.

        If this is cancelled, or fails, neither slots nor the place are kept.
        """
        return await self._run(
            lambda account, _, now: apply_many(account, ticket, number, now),
            undo=partial(self._undo, ticket),
        )

    def leave(self, ticket: str) -> None:
        """Give up the place in the line without waiting for the file; what fails is logged."""
        self._tell(lambda account, _plan, _now: account.leave(ticket))

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Spend the slot; pause everyone if the server refused the request.

        A plain answer is written without being waited for, together with what is asked next or a
        moment later: nothing depends on when it is there, and until then its slot counts as held.
        """
        if outcome is ANSWERED:
            loop = asyncio.get_running_loop()
            with self._guard:
                self._answered.append(grant)
                watched, self._watched_by = self._watched_by is loop, loop
            if not watched:
                loop.call_later(_MOMENT, self._watch, loop, grant)
            return
        await self._run(lambda account, plan, now: settle(account, plan, grant, outcome, now))

    async def give_back(self, grant: Grant) -> None:
        """Free the slot of a request that never left."""
        await self._run(lambda account, _plan, _now: account.give_back(grant.slot), notify=True)

    def return_unused(self, grants: Sequence[Grant]) -> None:
        """Free slots without waiting for the file; what fails is logged."""

        def free(account: WindowLog, _plan: Plan, _now: float) -> None:
            for grant in grants:
                account.give_back(grant.slot)

        self._tell(free)

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        await self._run(lambda account, _, now: account.spend_unasked(number, now))

    async def projected(self, position: int) -> NoSlot:
        """Say how long a request with `position` others before it waits at least."""

        def look(account: WindowLog, _plan: Plan, now: float) -> NoSlot:
            wait = account.projected(now, position)
            return NoSlot(max(0.0, wait.ask_at - now), wait.limit)

        return await self._run(look, write=False)

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        return await self._run(summarize, write=False)

    async def paused_for(self) -> float:
        """Say for how many more seconds a refusal holds everyone: a look that locks nothing."""
        return await self._do(
            lambda store, deadline: store.paused_for(self._plan, deadline), lambda _: None
        )

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when this object gave a slot back or left the line.

        What other processes do is not noticed; who waits asks again at the time it was told.
        """
        with self._guard:
            self._listeners = [*self._listeners, changed]

        def unsubscribe() -> None:
            with self._guard:
                self._listeners = [kept for kept in self._listeners if kept is not changed]

        return unsubscribe

    async def recall(self) -> str | None:
        """Return the note in the file."""
        return await self._aside(lambda store, deadline: store.recall(self._plan, deadline))

    async def remember(self, text: str) -> None:
        """Replace the note in the file, unless the new one is too long."""
        if fits(text):
            await self._aside(lambda store, deadline: store.remember(text, self._plan, deadline))

    async def aclose(self) -> None:
        """Wait for what is running, close the file and end the thread."""
        self._flush()
        closed: SQLiteWorker | None = None
        while True:
            with self._guard:
                self._closed = True
                worker = self._worker
                if worker is closed or worker is None or worker.process != os.getpid():
                    return
                ended = asyncio.wrap_future(worker.end())
            # What hangs in the operating system can't be ended, nor is it waited for.
            if (await asyncio.wait((ended,), timeout=2 * self._timeout))[0]:
                worker.thread.shutdown(wait=True)
            # What was cancelled meanwhile is undone by another one.
            closed = worker

    async def _run(
        self,
        operation: Operation[_T],
        *,
        write: bool = True,
        notify: bool = False,
        undo: Callable[[Future[_T]], None] | None = None,
    ) -> _T:
        work = self._transaction(operation, write=write, notify=notify)
        return await self._do(work, partial(_give_up, undo))

    def _tell(self, operation: Operation[object]) -> None:
        """Do what frees something, without anybody waiting for it; what fails is logged."""
        work = self._transaction(operation, write=True, notify=True)
        try:
            self._at_once(work)
        except NotAtOnceError:
            self._hand_over(work).add_done_callback(_report)
        except StoreError as error:
            _complain(error)

    async def _aside(self, work: Callable[[SQLiteStore, float], _T]) -> _T:
        """Do what does not touch the count; if nobody waits any more, it may fail unheard."""
        return await self._result(self._hand_over(work), lambda _: None)

    async def _do(self, work: Work[_T], given_up: Callable[[Future[_T]], None]) -> _T:
        try:
            return self._at_once(work)
        except NotAtOnceError:
            return await self._result(self._hand_over(work), given_up)

    async def _result(self, job: Future[_T], given_up: Callable[[Future[_T]], None]) -> _T:
        """Return what a job returns; if it takes too long, or this is cancelled, give it up."""
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        job.add_done_callback(partial(_wake, loop, arrived))
        timer = loop.call_later(self._timeout, _set, arrived)
        completed = False
        try:
            await arrived
            completed = job.done()
        finally:
            timer.cancel()
            if not completed:
                given_up(job)
        if not completed:
            raise StoreError(
                f"{self._path}: no answer within {self._timeout:g} s; name a file on a local disk"
            )
        return job.result()

    def _watch(self, loop: asyncio.AbstractEventLoop, oldest: Grant) -> None:
        """Write what was answered, unless all there was a moment ago is written already."""
        with self._guard:
            late = oldest in self._answered
            newer = None if late or not self._answered else self._answered[0]
            if newer is None and self._watched_by is loop:
                self._watched_by = None
        if newer is not None:
            loop.call_later(_MOMENT, self._watch, loop, newer)
        elif late:
            self._flush()

    def _flush(self) -> None:
        if self._answered:
            # Until the thread comes to it, a question may take it along.
            work = self._transaction(_nothing, write=True, notify=False)
            self._hand_over(work).add_done_callback(_report)

    def _undo(self, ticket: str, job: Future[list[Grant | NoSlot]]) -> None:
        """Give back what `job` gets, or already got."""

        def undo(account: WindowLog, _plan: Plan, _now: float) -> None:
            for answer in job.result() if job.exception() is None else ():
                if isinstance(answer, Grant):
                    account.give_back(answer.slot)
            account.leave(ticket)

        transaction = self._transaction(undo, write=True, notify=True)

        def work(store: SQLiteStore, deadline: float) -> None:
            # One thread does first things first; but `aclose` may have replaced it.
            wait_for((job,))
            transaction(store, deadline)

        self._hand_over(work).add_done_callback(_report)

    def _transaction(self, operation: Operation[_T], *, write: bool, notify: bool) -> Work[_T]:
        """Return what does an operation together with what is still to be written."""

        def work(store: SQLiteStore, deadline: float | None) -> _T:
            with self._guard:
                answered, self._answered = self._answered, []

            def together(account: WindowLog, plan: Plan, now: float) -> _T:
                for grant in answered:
                    settle(account, plan, grant, ANSWERED, now)
                return operation(account, plan, now)

            try:
                answer = store.run(
                    self._plan, together, write=write or bool(answered), deadline=deadline
                )
            except BaseException:
                with self._guard:
                    self._answered[:0] = answered
                raise
            if notify:
                for changed in self._listeners:
                    changed()
            return answer

        return work

    def _at_once(self, work: Work[_T]) -> _T:
        """Do it now, in this thread, or raise `NotAtOnceError`."""
        if self._worker is None:
            raise NotAtOnceError
        return self._worker.do_at_once(work)

    def _hand_over(self, work: Callable[[SQLiteStore, float], _T]) -> Future[_T]:
        """Have it done in the worker's thread."""
        with self._guard:
            worker = self._worker
            if worker is None or not worker.is_usable:
                worker = self._worker = SQLiteWorker(self._new_store(), inherited=worker)
            job = worker.submit(work, _LOCK_SHARE * self._timeout)
            if self._closed:
                worker.end()
            return job


def _give_up(undo: Callable[[Future[_T]], None] | None, job: Future[_T]) -> None:
    """Nobody waits for a job any more that changes the count."""
    job.add_done_callback(_report)
    if undo is not None:
        undo(job)


def _nothing(_account: WindowLog, _plan: Plan, _now: float) -> None:
    """Change nothing: what was answered is written all the same."""


def _wake(loop: asyncio.AbstractEventLoop, arrived: asyncio.Future[None], _: Future[Any]) -> None:
    # A loop that was closed meanwhile has nobody who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_set, arrived)


def _set(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)


def _report(job: Future[Any]) -> None:
    """Say that something failed which nobody waits for any more."""
    if (error := job.exception()) is not None:
        _complain(error)


def _complain(error: BaseException) -> None:
    _logger.warning("a slot may count for longer, or for less, than it should: %s", error)
