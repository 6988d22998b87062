"""The events of a job and the items of a batch, as their readers wait for them.

`asyncio.timeout` and `asyncio.wait_for` cancel what they wait for, and a generator that was
cancelled has ended: the next step would look as if there were nothing more to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Final, TypeVar

from llamagen_async.batch.events import ComicJob
from llamagen_async.errors import ClientClosedError
from llamagen_async.models import BatchItem

__all__ = ["Items", "JobEvents"]

_T = TypeVar("_T")
_CUT: Final = (
    "the batch was stopped, because a wait for its next item was cancelled (as asyncio.timeout and "
    "asyncio.wait_for do): a new batch with the same journal goes on where it was. To wait for an "
    "item for a while, use asyncio.wait with a task of anext()"
)


class _Cuttable(AsyncGenerator[_T, None]):
    """The steps of another generator; that a wait for one was cancelled is remembered."""

    def __init__(self, steps: AsyncGenerator[_T, None]) -> None:
        self._steps = steps
        self._is_cut = False

    async def asend(self, value: None) -> _T:
        """Return the next one."""
        try:
            return await self._steps.asend(value)
        except asyncio.CancelledError:
            self._is_cut = True
            raise

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: object = None,
        tb: TracebackType | None = None,
    ) -> _T:
        """Raise an exception where the next one is waited for, which ends them."""
        self._is_cut = False
        if isinstance(typ, BaseException):
            return await self._steps.athrow(typ)
        return await self._steps.athrow(typ, val, tb)

    async def aclose(self) -> None:
        """End them."""
        self._is_cut = False
        await self._steps.aclose()


class Items(_Cuttable[BatchItem]):
    """The items of a batch; several tasks may take them, and each item goes to one of those.

    A task that is cancelled while it waits for an item stops the batch. The stories that are left
    have not ended by that, so whoever asks for the next item is told.
    """

    def __init__(self, items: AsyncGenerator[BatchItem, None]) -> None:
        super().__init__(items)
        self._turn = asyncio.Lock()

    async def asend(self, value: None) -> BatchItem:
        """Return the next item."""
        async with self._turn:
            if self._is_cut:
                raise ClientClosedError(_CUT)
            return await super().asend(value)


class JobEvents(_Cuttable[ComicJob]):
    """The events of a job for one reader, which go on after a wait for one of them was cancelled.

    Args:
        read: Reads the events that come after a mark, or all of them.
        after: The mark of what the reader has seen.
    """

    def __init__(
        self, read: Callable[[str | None], AsyncGenerator[ComicJob, None]], after: str | None
    ) -> None:
        super().__init__(read(after))
        self._read = read
        self._after = after

    async def asend(self, value: None) -> ComicJob:
        """Return the next event."""
        if self._is_cut:
            self._steps, self._is_cut = self._read(self._after), False
        event = await super().asend(value)
        self._after = str(event.mark)
        return event
