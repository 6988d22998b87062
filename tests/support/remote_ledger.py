"""A store in virtual time, for tests that need a slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from llamagen_async import Plan
from llamagen_async.ratelimit import Claim, KeyState, LimitsSnapshot, NoSlot, Outcome, Workload
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.stored_values import StoreError

__all__ = ["RemoteLedger"]

_T = TypeVar("_T")


class RemoteLedger:
    """A ledger in virtual time behind a latency, as over a network.

    A question that is cancelled is undone; a report that is cancelled arrives all the same, before
    what is given up later. What other clients give up is not noticed. So it is with real stores.

    Args:
        memory: The count, which other ledgers may share.
        latency: Returns the seconds that a question takes on its way, and then its answer.
    """

    def __init__(self, memory: MemoryLedger, latency: Callable[[], float]) -> None:
        self.memory = memory
        self.latency = latency
        self.round_trips = 0
        self.away = False
        self._sent: set[asyncio.Future[Any]] = set()
        """Reports and releases on their way."""

    async def _travel(self, do: Callable[[], Awaitable[_T]]) -> _T:
        self.round_trips += 1
        await asyncio.sleep(self.latency())
        if self.away:
            raise StoreError("away")
        answer = await do()
        await asyncio.sleep(self.latency())
        return answer

    async def _report(self, do: Callable[[], Awaitable[_T]]) -> _T:
        return await asyncio.shield(self._send(self._travel(do)))

    def _send(self, work: Coroutine[Any, Any, _T]) -> asyncio.Future[_T]:
        task = asyncio.ensure_future(work)
        self._sent.add(task)
        task.add_done_callback(self._sent.discard)
        return task

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        try:
            return await self._travel(lambda: self.memory.reserve(claim))
        except asyncio.CancelledError:
            self.release(claim.id, claim.client)
            raise

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        return await self._report(lambda: self.memory.commit(grant, outcome, workload))

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        self.round_trips += 1
        before = list(self._sent)

        async def release() -> None:
            await asyncio.gather(*before, return_exceptions=True)
            if not self.away:
                self.memory.release(claim, client, leaves=leaves)

        self._send(release())

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        await self._report(lambda: self.memory.record(number, pause=pause))

    async def admit_read(self) -> float:
        return await self._travel(self.memory.admit_read)

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        return await self._travel(lambda: self.memory.snapshot(position=position))

    def change_plan(self, plan: Plan) -> None:
        self.memory.change_plan(plan)

    async def load_blob(self) -> str | None:
        return await self._travel(self.memory.load_blob)

    async def save_blob(self, text: str) -> None:
        await self._travel(lambda: self.memory.save_blob(text))

    async def aclose(self) -> None:
        while self._sent:
            # From Python 3.12 on, `gather` of what is done returns before it is discarded.
            await asyncio.wait(self._sent)
