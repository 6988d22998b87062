"""A machine whose power can be cut at any step, in virtual time: only what is on disk stays.

A step is a commit that begins or ends, a request that leaves or an answer that comes. After the cut
nothing reaches the disk or the server any more, whatever the program still tries.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from llamagen_async import JournalError, LlamaGenClient
from llamagen_async.batch.journal.database import Database
from llamagen_async.transport import APIRequest, APIResponse
from tests.support.scripted import Network

__all__ = ["Power"]

_numbers = itertools.count()


class Power:
    """The power of one machine.

    Args:
        network: The network that its client sends through.
    """

    def __init__(self, network: Network) -> None:
        self.steps = 0
        """Number of steps that were taken."""
        self._network = network
        # What this process remembers of spent requests is of another virtual day.
        self._url = f"https://power-{next(_numbers)}.invalid"
        self._cut_at: int | None = None
        self._out = asyncio.Event()

    async def run(self, program: Callable[[], Awaitable[Any]], *, cut_at: int | None) -> bool:
        """Run a program until it ends, or until the power is cut at a step.

        Returns:
            Whether it came to its end.
        """
        self.steps, self._cut_at = 0, cut_at
        self._out.clear()
        task = asyncio.ensure_future(program())
        out = asyncio.ensure_future(self._out.wait())
        with self._over_the_disk():
            await asyncio.wait([task, out], return_when=asyncio.FIRST_COMPLETED)
            out.cancel()
            is_done = not self._out.is_set()
            # A program without power cleans up in vain; afterwards its process is gone.
            if not is_done:
                task.cancel()
            results: Sequence[Any] = await asyncio.gather(task, out, return_exceptions=True)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        if is_done and isinstance(results[0], BaseException):
            raise results[0]
        return is_done

    @asynccontextmanager
    async def client(self, plan: Any) -> AsyncIterator[LlamaGenClient]:
        """Yield a client whose requests need power, too."""
        client = LlamaGenClient(
            self._network.key, plan=plan, base_url=self._url, transport=_Mains(self, self._network)
        )
        async with client:
            yield client

    def step(self) -> bool:
        """Take a step; return whether there was power for it."""
        if not self._out.is_set():
            self.steps += 1
            if self.steps == self._cut_at:
                self._out.set()
        return not self._out.is_set()

    @contextmanager
    def _over_the_disk(self) -> Iterator[None]:
        transact = Database._transact
        power = self

        def powered(self: Database, operations: Any, *, write: bool) -> list[Any]:
            if not power.step():
                raise JournalError("the power is cut")
            values = transact(self, operations, write=write)
            if not power.step():
                raise JournalError("the power is cut")
            return values

        Database._transact = powered  # type: ignore[method-assign]  # for as long as this lasts
        try:
            yield
        finally:
            Database._transact = transact  # type: ignore[method-assign]


class _Mains:
    """A network that needs power."""

    def __init__(self, power: Power, network: Network) -> None:
        self._power = power
        self._network = network

    async def send(self, request: APIRequest) -> APIResponse:
        if not self._power.step():
            await asyncio.Event().wait()
        try:
            return await self._network.send(request)
        finally:
            if not self._power.step():
                await asyncio.Event().wait()

    async def aclose(self) -> None:
        pass
