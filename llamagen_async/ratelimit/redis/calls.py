"""The calls of one ledger to the script: one at a time, in the order in which they were asked for.

A call is one or more operations, each a verb of `reserve.lua` and its arguments. It is made in a
task of its own: a caller waits for its answer only, and the call goes on if that wait is cancelled.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from llamagen_async.errors import ClientClosedError
from llamagen_async.ratelimit.protocol import StoreError
from llamagen_async.ratelimit.redis.connection import (
    DroppedError,
    MovedError,
    RedisConnection,
    RefusedError,
)
from llamagen_async.ratelimit.redis.recovery import RecoveryState

__all__ = ["ScriptCalls", "boottime"]

_ATTEMPTS: Final = 3
"""Times that a call is sent: its connection may have been idle for too long, its key may move."""
_MAX_UNDELIVERED: Final = 1024
"""Operations kept while the store is away, at most; other slots come back with their lease."""
_ALWAYS_DELIVERED: Final = frozenset({"commit", "give_back", "cancel_wait", "revoke"})
_FREEING: Final = frozenset({"give_back", "cancel_wait", "revoke"})

_Operation = dict[str, Any]
"""A verb and its arguments. `again` is set if it may have been done already."""
_Answers = tuple[float, list[Any]]
"""The ledger's time, and the script's answer to each operation."""


def boottime() -> float:
    """Return monotonic seconds that also count while the machine is suspended."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ScriptCalls:
    """Calls the script in the event loop that first asks for it.

    Args:
        connection: The connection, which only this object uses.
        key: The account's key, as bytes.
        recovery: The state that this client would restore.
        timeout: Real seconds that a call may take, waiting for those before it included.
        freed: Called when a slot or a position was given up.
        steady: The monotonic clock in real seconds.
        now: For tests: what the server's clock shows, in real seconds.
    """

    def __init__(
        self,
        connection: RedisConnection,
        key: bytes,
        recovery: RecoveryState,
        *,
        timeout: float,
        freed: Callable[[], None],
        steady: Callable[[], float],
        now: Callable[[], float] | None,
    ) -> None:
        self.settings = b""
        """The part of the script's arguments that is the same in every call."""
        self._connection = connection
        self._key = key
        self._recovery = recovery
        self._timeout = timeout
        self._freed = freed
        self._steady = steady
        self._now = now
        self._turn = asyncio.Lock()
        self._tasks: dict[asyncio.Task[_Answers], list[_Operation]] = {}
        """The calls that have not ended, and what each of them has yet to do."""
        self._undelivered: list[_Operation] = []
        """Operations of calls that failed, which the next call does first."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_ending = False
        """Whether the event loop has cancelled a call because it is about to end."""
        self._closed = False

    async def ask(
        self, operation: _Operation, *, undo: _Operation | None = None
    ) -> tuple[float, Any]:
        """Do an operation and return the ledger's time and the script's answer.

        Args:
            operation: The verb and its arguments. The dict belongs to this object from now on.
            undo: The operation to do right behind it if this wait is cancelled.

        Raises:
            ClientClosedError: The ledger is closed, or belongs to another loop.
            StoreError: The store does not answer in time, or with an error.
        """
        if self._closed:
            raise ClientClosedError("this RedisLedger is closed")
        self._is_ending = False
        task = self._start([operation])
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            if undo is not None and not task.done():
                self._tasks[task].append(undo)
            elif undo is not None:
                self._is_ending = task.cancelled()
                self.post(undo)
            raise
        now, answers = task.result()
        return now, answers[-1]

    def post(self, *operations: _Operation) -> None:
        """Do operations after all that were asked for, without waiting for their answers."""
        if self._is_ending:
            self._keep([*operations])
        elif operations and not self._closed:
            self._start([*operations])

    async def ask_aside(self, *command: str | bytes) -> Any:
        """Run a command that has nothing to do with the account, beside the calls.

        Raises:
            ClientClosedError: The ledger is closed.
            StoreError: The store does not answer in time, or with an error.
        """
        if self._closed:
            raise ClientClosedError("this RedisLedger is closed")
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._connection.execute(*command)
                except MovedError:
                    return await self._connection.execute(*command)
        except TimeoutError:
            raise self._late() from None

    async def aclose(self) -> None:
        """Finish the calls, with the operations that are left, and close the connection."""
        self._closed = True
        if self._loop is None or self._loop.is_closed():
            return
        self._bound()
        if self._undelivered:
            self._start([])
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._connection.close()

    def _bound(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ClientClosedError(
                    "this RedisLedger belongs to another event loop: make one for each loop"
                )
            if self._loop is not None:
                self._connection.renew()
            self._loop, self._turn, self._is_ending = loop, asyncio.Lock(), False
            for operations in self._tasks.values():
                self._keep(operations)
            self._tasks.clear()
        return loop

    def _start(self, operations: list[_Operation]) -> asyncio.Task[_Answers]:
        loop = self._bound()
        task = loop.create_task(self._run(operations, loop.time() + self._timeout))
        self._tasks[task] = operations
        task.add_done_callback(self._ended)
        return task

    async def _run(self, operations: list[_Operation], deadline: float) -> _Answers:
        """Do operations, and those that are added to the list meanwhile."""
        try:
            async with asyncio.timeout_at(deadline), self._turn:
                try:
                    while True:
                        answers = await self._delivered(operations)
                        if not operations:
                            return answers
                finally:
                    # Before the next call: it does what this one has not done.
                    self._keep(operations)
        except TimeoutError:
            raise self._late() from None

    async def _delivered(self, operations: list[_Operation]) -> _Answers:
        answered, failures, older = None, 0, 0
        sent: list[_Operation] = []
        while answered is None:
            await self._connection.open()
            older = len(self._undelivered)
            sent = [*self._undelivered, *operations]
            try:
                answered = await self._exchanged(sent)
            except (DroppedError, MovedError):
                failures += 1
                if failures == _ATTEMPTS:
                    raise
        del self._undelivered[:older], operations[: len(sent) - older]
        if any(operation["verb"] in _FREEING for operation in sent):
            self._freed()
        return answered

    async def _exchanged(self, sent: list[_Operation]) -> _Answers | None:
        asked_at = self._steady()
        message = self._recovery.build_request(sent, asked_at, self._now and self._now())
        try:
            reply = await self._connection.evaluate(self._key, self.settings, *message)
            answered = self._recovery.parse_reply(reply, asked_at)
            if answered is not None:
                for operation, answer in zip(sent, answered[1], strict=True):
                    self._recovery.apply(operation, answered[0], answer)
        except BaseException as error:
            if not isinstance(error, RefusedError):
                for operation in sent:
                    operation["again"] = True
            if isinstance(error, TypeError | ValueError):
                raise StoreError(
                    f"Redis at {self._connection.address} gave an answer without sense"
                ) from None
            raise
        return answered

    def _ended(self, task: asyncio.Task[_Answers]) -> None:
        # What is left of a call was cancelled before it had its turn.
        self._keep(self._tasks.pop(task, []))
        if task.cancelled():
            # Only an event loop that ends does that: a task made now would never run.
            self._is_ending = True
        else:
            task.exception()  # it was raised, or nobody waits for it

    def _keep(self, operations: list[_Operation]) -> None:
        """Keep those of the operations that the store must learn of although they failed."""
        for operation in operations:
            if operation["verb"] == "reserve" and "again" in operation:
                operation = {"verb": "revoke", "nonce": operation["nonce"]}  # noqa: PLW2901
            if operation["verb"] in _ALWAYS_DELIVERED and len(self._undelivered) < _MAX_UNDELIVERED:
                self._undelivered.append(operation)
        operations.clear()

    def _late(self) -> StoreError:
        return StoreError(
            f"no answer from Redis at {self._connection.address} within {self._timeout:g} s"
        )
