"""Several workers on one journal in virtual time: each may be killed, or suspended for a while."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from llamagen_async import ComicQueue, LlamaGenClient
from llamagen_async.webhooks import WebhookEvent
from tests.support.machine import Machine

__all__ = ["Station", "crew"]


class Station:
    """One worker: a queue and its client, as if they were a process of their own."""

    def __init__(self, machine: Machine, **settings: Any) -> None:
        self.client: LlamaGenClient = machine.open()
        self.queue = ComicQueue(
            self.client,
            machine.journal,
            announced=lambda raw: self.client.deliver(WebhookEvent.parse(raw)),
            **settings,
        )
        self.is_alive = True
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self._freeze()

    async def start(self) -> None:
        """Start the worker."""
        await self.client.__aenter__()
        await self.queue.start()

    async def close(self) -> None:
        """End the worker in order."""
        self.resume()
        if self.is_alive:
            self.is_alive = False
            await self.queue.aclose()
        await self.client.aclose()

    async def kill(self) -> None:
        """End the worker as SIGKILL does: what has left has left, and nothing more is written."""
        self.is_alive = False
        database, sharing = self.queue._journal._database, self.queue._sharing
        sharing.quit()
        connection, database._connection = database._connection, None
        lock, reserve = database.lock, database.reserve
        assert connection is not None
        assert lock is not None
        assert reserve is not None
        connection.close()
        lock.release()
        os.close(reserve._file)
        reserve._file = -1
        self.resume()
        self.queue._prefetcher._stopped = True
        for task in list(self.queue._lifecycle._runners):
            task.cancel()
        with contextlib.suppress(Exception):
            await self.queue.aclose(0.0)

    @property
    def is_suspended(self) -> bool:
        """Whether the worker was stopped and does not go on yet."""
        return not self._goes_on.is_set()

    def suspend(self) -> None:
        """Stop the worker's steps, as SIGSTOP does."""
        self._goes_on.clear()

    def resume(self) -> None:
        """Let a worker that was suspended go on."""
        self._goes_on.set()

    def _freeze(self) -> None:
        """Have everything that the worker writes or asks wait while it is suspended."""
        database = self.queue._journal._database

        def gated(method: Callable[..., Any]) -> Callable[..., Any]:
            async def waiting(*values: Any, **named: Any) -> Any:
                await self._goes_on.wait()
                result = await method(*values, **named)
                await self._goes_on.wait()
                return result

            return waiting

        for name in ("run", "beat", "version"):
            setattr(database, name, gated(getattr(database, name)))


@asynccontextmanager
async def crew(machine: Machine, number: int, **settings: Any) -> AsyncIterator[list[Station]]:
    """Workers on one journal, from their start to their end."""
    stations = [Station(machine, **settings) for _ in range(number)]
    try:
        for station in stations:
            await station.start()
        yield stations
    finally:
        for station in stations:
            await station.close()
