"""Steps that belong together: the journal does its part though who asked is gone by then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Undivided"]

_T = TypeVar("_T")


class Undivided:
    """Works that go on to their end, though their callers are cancelled meanwhile."""

    def __init__(self) -> None:
        self._works: set[asyncio.Task[Any]] = set()

    async def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return what a work returns; it sees the caller's context variables."""
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return await asyncio.shield(task)

    async def join(self) -> None:
        """Wait for the works that are going on."""
        if self._works:
            await asyncio.wait(self._works)
