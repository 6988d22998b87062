"""Carries a ledger's operations to the store, several in one call, and remembers what it must.

An operation is a verb of `reserve.lua` and its arguments. Whoever asks for one waits for its
answer only: the courier, a task that lives as long as there is something to carry, delivers it
even if that wait is cancelled. Operations are done in the order in which they were asked for. What
nobody waits for and nothing depends on waits a moment for something to travel with.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from llamagen_async.errors import ClientClosedError
from llamagen_async.plans import HOUR
from llamagen_async.ratelimit.ledger import StoreError
from llamagen_async.ratelimit.redis_link import DroppedError, RedisLink

__all__ = ["Courier", "Notes"]

_TOLERANCE: Final = 0.5
"""Real seconds by which the server's clock may seem to be ahead: an answer can be that slow."""
_DRIFT: Final = 0.01
"""By how much the clocks of two machines may differ in speed."""
_MOMENT: Final = 0.002
"""Real seconds that an operation waits to be carried together with something else."""
_MOST_AT_ONCE: Final = 64
"""Operations in one call: the script must not block the server for long."""
_MOST_UNDELIVERED: Final = 1024
"""Operations kept for when the store is back; beyond that, slots come back with their lease."""
_ALWAYS_DELIVERED: Final = frozenset({"commit", "give_back", "leave", "revoke"})
_FREEING: Final = frozenset({"give_back", "leave", "revoke"})

_HEADER: Final = struct.Struct("<5d")
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

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


class Notes:
    """What a client knows of the account without the store. Does no I/O and reads no clock.

    Args:
        speed: Seconds of the ledger's clock in a real second.
    """

    def __init__(self, speed: float) -> None:
        self.longest = 0.0
        """Seconds of the ledger's clock for which a request counts."""
        self.kept = 0.0
        """Real seconds after which an unused account expires."""
        self._speed = speed
        self._generation = 0
        """Which state this client has seen last; 0 is none."""
        self._restores = False
        """Whether that state has yet to learn what is known here."""
        self._seen: tuple[float, float] | None = None
        """The ledger's time in the last answer, and the steady time at which it was asked for."""
        self._held: dict[int, str] = {}
        """The slots of this client's requests on their way, and the nonce of each."""
        self._spent: deque[float] = deque()
        """When its other requests were answered, for windows of more than an hour."""

    def message(
        self, calls: list[dict[str, Any]], asked_at: float, time: float | None
    ) -> tuple[bytes, bytes]:
        """Return what to send at the steady time `asked_at` for `calls` to be done.

        Args:
            calls: The operations.
            asked_at: The steady time.
            time: For tests: what the server's clock shows.
        """
        expected = latest = math.inf
        if self._seen is not None:
            expected, tolerance, elapsed = self._expected(self._seen, asked_at)
            latest = expected + tolerance
            if elapsed > self.kept:
                # The account may have expired by itself, and with it nothing that still counts.
                self._generation, self._restores = 0, False
                self._held.clear()
                self._spent.clear()
        if self._restores:
            known = {"verb": "restore", "held": [*self._held.items()], "spent": [*self._spent]}
            calls = [known, *calls]
        fresh = 1 + secrets.randbits(51)
        shown = math.nan if time is None else time
        header = _HEADER.pack(self._generation, fresh, expected, latest, shown)
        return header, _encode(calls).encode()

    def answers(self, reply: bytes, asked_at: float) -> tuple[float, list[Any]] | None:
        """Return the time and the answers to the calls of a message.

        Returns:
            `None` if they were not done, because the state has to be restored before: that is
            what the next message does.

        Raises:
            ValueError: The reply is not one of the script.
            TypeError: The same.
        """
        generation, now, answers = json.loads(reply.decode())
        now = float(now)
        was, self._generation = self._generation, generation
        seen, self._seen = self._seen, (now, asked_at)
        if was not in {0, generation}:
            self._restores = True
            if seen is not None:
                expected, tolerance, _ = self._expected(seen, asked_at)
                if abs(now - expected) > tolerance:
                    # The new state's clock is another one.
                    self._spent = deque(at + now - expected for at in self._spent)
            return None
        if self._restores:
            self._restores = False
            return now, answers[1:]
        return now, answers

    def note(self, call: dict[str, Any], now: float, answer: Any) -> None:
        """Take note of what the script did."""
        verb, spent = call["verb"], 0
        if verb == "reserve" and answer[0][0]:
            for grant in answer:
                self._held[grant[2]] = call["nonce"]
        elif verb == "revoke":
            for slot in [slot for slot, nonce in self._held.items() if nonce == call["nonce"]]:
                del self._held[slot]
        elif verb in {"commit", "give_back"}:
            self._held.pop(call["slot"], None)
            spent = int(verb == "commit")
        elif verb == "record":
            spent = call["number"]
        if self.longest > HOUR:
            self._spent.extend([now] * spent)
            while self._spent and self._spent[0] + self.longest <= now:
                self._spent.popleft()

    def _expected(self, seen: tuple[float, float], asked_at: float) -> tuple[float, float, float]:
        """Return the ledger's time by the steady clock, its tolerance, the real seconds since."""
        elapsed = max(0.0, asked_at - seen[1])
        tolerance = (_TOLERANCE + _DRIFT * elapsed) * self._speed
        return seen[0] + elapsed * self._speed, tolerance, elapsed


class Courier:
    """Has a script do operations, in the event loop that first asks for one.

    Args:
        link: The connection, which only the courier uses.
        key: The account's key.
        notes: What this client knows of the account.
        timeout: Real seconds that an operation may take.
        freed: Is called when a slot or a place in the line was given up.
        steady: The monotonic clock in real seconds.
        now: For tests: what the server's clock shows, in real seconds.
    """

    def __init__(
        self,
        link: RedisLink,
        key: str,
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
            self._task = self._bound().create_task(self._carry())

    async def _carry(self) -> None:
        batch: list[_Operation] = []
        try:
            while self._is_pressed:
                waiting = self._undelivered or self._queue
                while waiting and len(batch) < _MOST_AT_ONCE:
                    batch.append(waiting.popleft())
                    waiting = self._undelivered or self._queue
                self._is_pressed = bool(waiting)
                if batch:
                    self._conclude(batch, *await self._delivered(batch))
                batch = []
                if not self._is_pressed:
                    # Who has its answer now may ask for more at once: that saves a task.
                    await asyncio.sleep(0)
        except StoreError as error:
            # Who stands behind them would wait as long for the same answer.
            self._fail(batch, error)
        except BaseException:
            self._halted = True
            self._fail(batch, None)
            raise
        finally:
            self._task, self._is_pressed = None, False

    async def _delivered(self, batch: Sequence[_Operation]) -> tuple[float, list[Any]]:
        deadlines = [operation.deadline for operation in batch if operation.answer is not None]
        latest = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(min([*deadlines, latest])):
                while True:
                    is_new = await self._link.open()
                    try:
                        answers = await self._exchanged(batch)
                    except DroppedError:
                        # An old connection may have been idle for too long, or the server was
                        # restarted.
                        if is_new:
                            raise
                        continue
                    if answers is not None:
                        return answers
        except TimeoutError:
            raise self._late() from None

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
        for operation, answer in zip(batch, answers, strict=True):
            self._notes.note(operation.call, now, answer)
            if operation.answer is not None and not operation.answer.done():
                operation.answer.set_result((now, answer))
        if any(operation.call["verb"] in _FREEING for operation in batch):
            self._freed()

    def _fail(self, batch: Sequence[_Operation], error: StoreError | None) -> None:
        """Say so to all who wait, and keep what the store must learn nonetheless."""
        failed = [*batch, *self._undelivered, *self._queue]
        self._undelivered.clear()
        self._queue.clear()
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
