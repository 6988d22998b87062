"""Lines that arrive at any time (stdin, a pipe), read without holding up the event loop.

They are read in a thread that ends when nobody wants them any more; if it reads a terminal at that
time, which can't be cancelled, it ends at the next line. At most one item is read ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar

__all__ = ["iterate_in_thread"]

_T = TypeVar("_T")


async def iterate_in_thread(items: Iterable[_T]) -> AsyncGenerator[_T, None]:
    """Iterate over `items` in a thread, which may block.

    Raises:
        Exception: Any error that the iteration raises.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[_T | _End] = asyncio.Queue()
    wanted, ended = threading.Semaphore(1), threading.Event()

    def put(value: _T | _End) -> None:
        # The loop may be closed: then nobody listens, and the thread ends with the process.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, value)

    def read() -> None:
        try:
            for item in items:
                wanted.acquire()
                if ended.is_set():
                    return
                put(item)
        except Exception as error:  # noqa: BLE001  # raised again where the items are awaited
            put(_End(error))
        else:
            put(_End(None))

    threading.Thread(target=read, name="stories", daemon=True).start()
    try:
        while not isinstance(item := await queue.get(), _End):
            yield item
            wanted.release()
    finally:
        ended.set()
        wanted.release()
    if item.error is not None:
        raise item.error


class _End:
    """The end of the items: there are no more, or an error came."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
