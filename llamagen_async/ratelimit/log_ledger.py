"""The part that ledgers share whose count is a window log: each operation, said once."""

from __future__ import annotations

import abc
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
)
from llamagen_async.ratelimit.window_log import WindowLog

__all__ = ["LogLedger", "Operation"]

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
        return await self._do(lambda log, now: log.admit_read(now))

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now."""
        return await self._do(lambda log, now: log.snapshot(now, position=position), write=False)

    @abc.abstractmethod
    async def _do(
        self, operation: Operation[_T], *, claim: Claim | None = None, write: bool = True
    ) -> _T:
        """Do an operation and return its result.

        Args:
            operation: What to do.
            claim: The claim to release if its answer is not waited for.
            write: Whether the operation may change the count.
        """

    @abc.abstractmethod
    def _start(self, operation: Operation[None]) -> None:
        """Do an operation for which nobody waits."""
