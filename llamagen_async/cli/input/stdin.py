"""Lines that arrive whenever they like (stdin, a pipe), without holding up the event loop.

They are read in a thread that is left behind when nobody wants them any more: a read of a
terminal can't be cancelled. Reads no further ahead than one chunk and one item.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import BinaryIO, Final, TypeVar

__all__ = ["in_thread", "lines_of"]

_T = TypeVar("_T")

_CHUNK: Final = 1 << 16


def lines_of(source: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of an unbuffered file as soon as each is complete, then close it."""
    rest = b""
    with source:
        while chunk := source.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    if rest:
        yield rest


async def in_thread(items: Iterable[_T]) -> AsyncIterator[_T]:
    """Yield what iterating over `items` yields, in a thread that may block.

    Raises:
        Exception: What the iteration raises.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[_T | _End] = asyncio.Queue()
    wanted = threading.Semaphore(1)

    def tell(value: _T | _End) -> None:
        # The loop may be gone: then nobody listens, and the thread ends with the process.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, value)

    def read() -> None:
        try:
            for item in items:
                wanted.acquire()
                tell(item)
        except Exception as error:  # noqa: BLE001 - raised again where somebody waits for it
            tell(_End(error))
        else:
            tell(_End(None))

    threading.Thread(target=read, name="stories", daemon=True).start()
    while not isinstance(item := await queue.get(), _End):
        yield item
        wanted.release()
    if item.error is not None:
        raise item.error


class _End:
    """Nothing more comes."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
