"""Lines that arrive at any time (stdin, a pipe), read without holding up the event loop.

They are read in a thread that is left behind when nobody wants them any more, because a read of a
terminal can't be cancelled. At most one item is read ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

__all__ = ["iterate_in_thread"]

_T = TypeVar("_T")


async def iterate_in_thread(items: Iterable[_T]) -> AsyncIterator[_T]:
    """Iterate over `items` in a thread, which may block.

    Raises:
        Exception: Any error that the iteration raises.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[_T | _End] = asyncio.Queue()
    wanted = threading.Semaphore(1)

    def put(value: _T | _End) -> None:
        # The loop may be closed: then nobody listens, and the thread ends with the process.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, value)

    def read() -> None:
        try:
            for item in items:
                wanted.acquire()
                put(item)
        except Exception as error:  # noqa: BLE001  # raised again where the items are awaited
            put(_End(error))
        else:
            put(_End(None))

    threading.Thread(target=read, name="stories", daemon=True).start()
    while not isinstance(item := await queue.get(), _End):
        yield item
        wanted.release()
    if item.error is not None:
        raise item.error


class _End:
    """The end of the items: there are no more, or an error came."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
