"""The part that ledgers share whose count is a window log, and the one that has it in memory."""

from __future__ import annotations

import abc
import math
import threading
from collections.abc import Callable
from typing import TypeVar

import attrs

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    KeyState,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    Workload,
    fits_blob,
)
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from llamagen_async.stored_values import StateReader, decode, encode

__all__ = ["LogLedger", "MemoryLedger", "Operation"]

_T = TypeVar("_T")
Operation = Callable[[WindowLog, float], _T]
"""An operation on a window log at a time."""


@attrs.define(eq=False)
class LogLedger(abc.ABC):
    """A ledger that does what is asked of it to a window log, one thing after the other."""

    _plan: Plan
    """The windows to count."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        self._plan = plan

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Hold a slot if one is free for this claim, else give it a position."""
        return await self._do(lambda log, now: log.reserve(claim, now), claim=claim)

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Spend the slot; pause everyone if the answer was 429."""
        return await self._do(lambda log, now: log.commit(grant, outcome, workload, now))

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up the slot or the position of a claim, without waiting for it."""
        self._start(lambda log, now: log.release(claim, client, now, leaves=leaves))

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests that were spent without a slot, and pause everyone."""
        await self._do(lambda log, now: log.record(number, now, pause=pause))

    async def admit_read(self) -> float:
        """Count a read that needs no slot if it may leave; return the seconds until one may."""
        return await self._do(lambda log, now: log.throttle.admit_read(now))

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now."""
        return await self._do(lambda log, now: log.snapshot(now, position=position), write=False)

    @abc.abstractmethod
    async def _do(
        self, operation: Operation[_T], *, claim: Claim | None = None, write: bool = True
    ) -> _T:
        """Do an operation and return its result; `claim` is released if that is not waited for.

        Without `write`, the operation changes nothing.
        """

    @abc.abstractmethod
    def _start(self, operation: Operation[None]) -> None:
        """Do an operation for which nobody waits."""


@attrs.define(eq=False, repr=False)
class MemoryLedger(LogLedger):
    """The ledger of one process: all its threads and event loops share it, nothing is kept."""

    _now: Callable[[], float]
    """The time in seconds; the same for all threads."""
    _times: LedgerTimes
    """The times to keep to."""
    _wall: Callable[[], float] | None = attrs.field(default=None, kw_only=True, alias="wall")
    """The unix time in seconds, for windows that are aligned to the clock."""
    _log: WindowLog | bytes = attrs.field(init=False)
    """The count; packed, it is JSON without the names."""
    _over_at: float = attrs.field(init=False, default=math.inf)
    """The time from which nothing in a packed count counts any more."""
    _blob: str | None = attrs.field(init=False, default=None)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        self._log = WindowLog(self._plan, self._times)

    def pack(self) -> None:
        """Keep the count in a tenth of the memory until it is used again."""
        with self._lock:
            if isinstance(self._log, WindowLog):
                self._over_at = self._log.over_at
                self._log = encode([*self._log.dump().values()]).encode()

    def is_over(self, now: float) -> bool:
        """Whether it is packed, and as good as a new one."""
        return isinstance(self._log, bytes) and self._blob is None and self._over_at <= now

    async def load_blob(self) -> str | None:
        """Return the text that was saved last."""
        return self._blob

    async def save_blob(self, text: str) -> None:
        """Keep a text, unless it is too long."""
        if fits_blob(text):
            self._blob = text

    async def aclose(self) -> None:
        """Do nothing: the count outlives its users."""

    async def _do(
        self, operation: Operation[_T], *, claim: Claim | None = None, write: bool = True
    ) -> _T:
        del claim, write
        return self._start(operation)

    def _start(self, operation: Operation[_T]) -> _T:
        with self._lock:
            log = self._log
            if isinstance(log, bytes):
                # Loops may begin their time anew, and nobody else has written it.
                names = WindowLog(self._plan, self._times).dump()
                state = dict(zip(names, decode(log.decode()), strict=True))
                log = WindowLog.load(self._plan, state, self._times, StateReader(math.inf))
            elif log.plan != self._plan:
                log = log.with_plan(self._plan)
            self._log, now = log, self._now()
            if self._wall is not None:
                log.wall_offset = self._wall() - now
            return operation(log, now)
