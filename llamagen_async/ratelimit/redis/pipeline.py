"""Carries a ledger's operations to the store, several in one call.

An operation is a verb of `reserve.lua` and its arguments. Whoever asks for one waits for its
answer only: the courier delivers it even if that wait is cancelled. ClientCore are done in the
order in which they were asked for. What nobody waits for and nothing depends on waits a moment for
something to travel with.

A task carries them, one call after another, for as long as there is something to carry.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from llamagen_async.errors import ClientClosedError
from llamagen_async.ratelimit.ledger import StoreError
from llamagen_async.ratelimit.redis.connection import DroppedError, RedisLink
from llamagen_async.ratelimit.redis.recovery import Notes

__all__ = ["Courier", "steady_time"]

_MOMENT: Final = 0.002
"""Real seconds that an operation waits to be carried together with something else."""
_EARLY: Final = 0.02
"""By which part of its time an operation may be given up too early."""
_MOST_AT_ONCE: Final = 64
"""ClientCore in one call: the script must not block the server for long."""
_MOST_UNDELIVERED: Final = 1024
"""ClientCore kept for when the store is back; beyond that, slots come back with their lease."""
_ALWAYS_DELIVERED: Final = frozenset({"commit", "give_back", "leave", "revoke"})
_FREEING: Final = frozenset({"give_back", "leave", "revoke"})

_Answer = tuple[float, Any]
"""The ledger's time, and what the script says."""


def steady_time() -> float:
    """Return monotonic seconds that also count while the machine is suspended."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@attrs.define(eq=False)
class _Operation:
    call: dict[str, Any]
    """What the script gets. `again` is set once it was sent."""
    deadline: float = 0.0
    """When, on the event loop's clock, it has failed for whoever waits."""
    answer: asyncio.Future[_Answer] | None = None
    """`None` if nobody waits for it."""


class Courier:
    """Has a script do operations, in the event loop that first asks for one.

    Args:
        link: The connection, which only the courier uses.
        key: The account's key, as bytes.
        notes: What this client knows of the account.
        timeout: Real seconds that an operation may take.
        freed: Is called when a slot or a place in the line was given up.
        steady: The monotonic clock in real seconds.
        now: For tests: what the server's clock shows, in real seconds.
    """

    def __init__(
        self,
        link: RedisLink,
        key: bytes,
        notes: Notes,
        *,
        timeout: float,
        freed: Callable[[], None],
        steady: Callable[[], float],
        now: Callable[[], float] | None,
    ) -> None:
        self.settings = b""
        """What the script gets in every call."""
        self._link = link
        self._key = key
        self._notes = notes
        self._timeout = timeout
        self._freed = freed
        self._steady = steady
        self._now = now
        self._queue: deque[_Operation] = deque()
        self._undelivered: deque[_Operation] = deque(maxlen=_MOST_UNDELIVERED)
        self._is_pressed = False
        """Whether there is something to carry now, and not only a moment later."""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._halted = False
        """Whether the event loop has cancelled the task: it is about to end."""
        self._closed = False

    async def ask(self, call: dict[str, Any]) -> _Answer:
        """Have an operation done and return the ledger's time and the script's answer.

        Args:
            call: Its verb and arguments. It belongs to the courier from now on.

        Raises:
            ClientClosedError: The courier is closed, or belongs to another loop.
            StoreError: The store does not answer in time, or with an error.
        """
        if self._closed:
            raise ClientClosedError("this RedisLedger is closed")
        loop = self._bound()
        self._halted = False
        answer: asyncio.Future[_Answer] = loop.create_future()
        self._queue.append(_Operation(call, loop.time() + self._timeout, answer))
        self._wake()
        # A cancellation of this cancels the future and nothing else.
        return await answer

    def tell(self, call: dict[str, Any]) -> None:
        """Have an operation done after all that was asked for, whatever becomes of it."""
        if self._put(call) is not None:
            self._wake()

    def tell_later(self, call: dict[str, Any]) -> None:
        """Do the same for what has a moment's time to travel with a question, if there is one."""
        operation, _ = self._put(call), self._bound()
        if operation is not None and self._timer is None:
            self._watch(operation)

    async def ask_aside(self, *command: bytes) -> Any:
        """Have a command done that has nothing to do with the account, beside all the others.

        Raises:
            ClientClosedError: The courier is closed.
            StoreError: The store does not answer in time, or with an error.
        """
        if self._closed:
            raise ClientClosedError("this RedisLedger is closed")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._link.execute(*command)
        except TimeoutError:
            raise self._late() from None

    async def aclose(self) -> None:
        """Deliver what there is, if the store is there, and close the connection."""
        self._closed = True
        if self._loop is None or self._loop.is_closed():
            return
        self._bound()
        if self._undelivered or self._queue:
            self._wake()
        if self._timer is not None:
            self._timer.cancel()
        while self._task is not None:
            await asyncio.wait({self._task})
        await self._link.close(self._timeout)

    def _bound(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ClientClosedError(
                    "this RedisLedger belongs to another event loop: make one for each loop"
                )
            self._loop, self._task, self._timer = loop, None, None
            self._link.forget()
        return loop

    def _put(self, call: dict[str, Any]) -> _Operation | None:
        operation = _Operation(call)
        if self._halted:
            self._undelivered.append(operation)
            return None
        self._queue.append(operation)
        return operation

    def _watch(self, oldest: _Operation) -> None:
        """Carry `oldest` in a moment if nothing else does, else what was told since."""
        loop = self._bound()

        def look() -> None:
            self._timer = None
            if oldest in self._queue:
                self._wake()
            elif self._queue:
                self._watch(self._queue[0])

        self._timer = loop.call_later(_MOMENT, look)

    def _wake(self) -> None:
        self._is_pressed = True
        if self._task is None:
            loop = self._bound()
            self._task = loop.create_task(self._carry(loop))

    async def _carry(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[_Operation] = []
        try:
            async with asyncio.timeout(None) as limit:
                while self._is_pressed:
                    batch = self._next()
                    if batch:
                        due, was = self._due(batch, loop), limit.when()
                        # Moving it costs something, and who is told a little early is not harmed.
                        if was is None or not due - _EARLY * self._timeout < was <= due:
                            limit.reschedule(due)
                        self._conclude(batch, *await self._delivered(batch))
                        batch = []
                    if not self._is_pressed:
                        # Who has its answer now may ask for more at once: that saves a task.
                        await asyncio.sleep(0)
        except TimeoutError:
            if batch:
                self._fail(batch, self._late())
        except StoreError as error:
            # Who stands behind them would wait as long for the same answer.
            self._fail(batch, error)
        except BaseException:
            self._halted = True
            self._fail(batch, None)
            raise
        finally:
            self._task = None
            if self._is_pressed:
                # The time was over just when the answer was there: who has asked since has its own.
                self._wake()

    def _next(self) -> list[_Operation]:
        batch: list[_Operation] = []
        waiting = self._undelivered or self._queue
        while waiting and len(batch) < _MOST_AT_ONCE:
            batch.append(waiting.popleft())
            waiting = self._undelivered or self._queue
        self._is_pressed = bool(waiting)
        return batch

    def _due(self, batch: Sequence[_Operation], loop: asyncio.AbstractEventLoop) -> float:
        """Return when on the event loop's clock a batch has failed."""
        due = loop.time() + self._timeout
        for operation in batch:
            if operation.answer is not None and operation.deadline < due:
                due = operation.deadline
        return due

    async def _delivered(self, batch: Sequence[_Operation]) -> tuple[float, list[Any]]:
        while True:
            is_new = await self._link.open()
            try:
                answers = await self._exchanged(batch)
            except DroppedError:
                # An old connection may have been idle for too long, or the server was restarted.
                if is_new:
                    raise
                continue
            if answers is not None:
                return answers

    async def _exchanged(self, batch: Sequence[_Operation]) -> tuple[float, list[Any]] | None:
        asked_at = self._steady()
        calls = [operation.call for operation in batch]
        message = self._notes.message(calls, asked_at, self._now and self._now())
        for call in calls:
            call["again"] = True
        reply = await self._link.evaluate(self._key, self.settings, *message)
        try:
            return self._notes.answers(reply, asked_at)
        except (TypeError, ValueError):
            raise StoreError(f"Redis at {self._link.where} gave an answer without sense") from None

    def _late(self) -> StoreError:
        return StoreError(f"no answer from Redis at {self._link.where} within {self._timeout:g} s")

    def _conclude(self, batch: Sequence[_Operation], now: float, answers: Sequence[Any]) -> None:
        frees = False
        for operation, answer in zip(batch, answers, strict=True):
            self._notes.note(operation.call, now, answer)
            if operation.answer is not None and not operation.answer.done():
                operation.answer.set_result((now, answer))
            frees = frees or operation.call["verb"] in _FREEING
        if frees:
            self._freed()

    def _fail(self, batch: Sequence[_Operation], error: StoreError | None) -> None:
        """Say so to all who wait, and keep what the store must learn nonetheless."""
        failed = [*batch, *self._undelivered, *self._queue]
        self._undelivered.clear()
        self._queue.clear()
        self._is_pressed = False
        for operation in failed:
            call, answer = operation.call, operation.answer
            if call["verb"] in _ALWAYS_DELIVERED:
                self._undelivered.append(_Operation(call))
            elif call["verb"] == "reserve" and call.get("again"):
                self._undelivered.append(_Operation({"verb": "revoke", "nonce": call["nonce"]}))
            if answer is None or answer.done():
                continue
            if error is None:
                answer.cancel()
            else:
                answer.set_exception(StoreError(*error.args))
