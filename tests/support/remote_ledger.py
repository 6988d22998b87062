"""A store in virtual time, for tests that need a slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from llamagen_async import Plan
from llamagen_async.ratelimit import Grant, MemoryLedger, NoSlot
from llamagen_async.ratelimit.protocol import LimitsSnapshot, Outcome, StoreError
from tests.support.grants import grants_in

__all__ = ["RemoteLedger"]

_T = TypeVar("_T")


class RemoteLedger:
    """A ledger in virtual time behind a latency, as over a network.

    A question that is cancelled while its answer travels has been answered, and is undone.
    """

    is_remote = True

    def __init__(self, memory: MemoryLedger, latency: Callable[[], float]) -> None:
        self.memory = memory
        self.latency = latency
        self.round_trips = 0
        self.asked_for: list[int] = []
        self.away = False

    async def _travel(
        self, do: Callable[[], Awaitable[_T]], undo: Callable[[_T], object] | None = None
    ) -> _T:
        self.round_trips += 1
        await asyncio.sleep(self.latency())
        if self.away:
            raise StoreError("away")
        answer = await do()
        try:
            await asyncio.sleep(self.latency())
        except asyncio.CancelledError:
            if undo is not None:
                undo(answer)
            raise
        return answer

    async def reserve(self, waiter_id: str) -> Grant | NoSlot:
        return (await self.reserve_many(waiter_id, 1))[0]

    async def reserve_many(self, waiter_id: str, number: int) -> list[Grant | NoSlot]:
        self.asked_for.append(number)

        def undo(answers: list[Grant | NoSlot]) -> None:
            self.memory.return_unused(grants_in(answers))
            self.memory.cancel_wait(waiter_id)

        return await self._travel(lambda: self.memory.reserve_many(waiter_id, number), undo)

    def cancel_wait(self, waiter_id: str) -> None:
        self.memory.cancel_wait(waiter_id)

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        await self.memory.commit(grant, outcome)

    async def give_back(self, grant: Grant) -> None:
        await self.memory.give_back(grant)

    def return_unused(self, grants: Sequence[Grant]) -> None:
        self.memory.return_unused(grants)

    async def record(self, number: int) -> None:
        await self.memory.record(number)

    async def projected(self, position: int) -> NoSlot:
        return await self.memory.projected(position)

    async def snapshot(self) -> LimitsSnapshot:
        return await self.memory.snapshot()

    async def paused_for(self) -> float:
        return await self._travel(self.memory.paused_for)

    def change_plan(self, plan: Plan) -> None:
        self.memory.change_plan(plan)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self.memory.subscribe(changed)

    async def load_blob(self) -> str | None:
        return await self._travel(self.memory.load_blob)

    async def save_blob(self, text: str) -> None:
        await self._travel(lambda: self.memory.save_blob(text))

    async def aclose(self) -> None:
        pass
