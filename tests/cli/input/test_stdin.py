"""Lines that arrive one by one, read in a thread."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Iterator

import pytest

from llamagen_async.cli.input.lines import chunks_of
from llamagen_async.cli.input.stdin import iterate_in_thread


async def test_a_thread_reads_no_further_than_asked() -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    items = iterate_in_thread(numbers())
    assert [await anext(items), await anext(items)] == [0, 1]
    assert len(read) <= 4
    await items.aclose()


async def test_the_thread_ends_when_nobody_wants_any_more() -> None:
    """At once if it has read ahead, and at the next line if it waits for one."""
    before = set(threading.enumerate())
    items = iterate_in_thread(range(100))
    assert await anext(items) == 0
    (thread,) = set(threading.enumerate()) - before
    await items.aclose()
    await asyncio.to_thread(thread.join)
    reading, writing = os.pipe()
    with io.FileIO(reading) as source, io.FileIO(writing, "w") as sink:
        arriving = iterate_in_thread(chunks_of(source))
        sink.write(b"one")
        assert await anext(arriving) == b"one"
        (thread,) = {one for one in threading.enumerate() if one.name == thread.name} - before
        await arriving.aclose()
        sink.write(b"two")
        await asyncio.to_thread(thread.join)


async def test_an_error_in_the_thread_is_raised_to_the_reader() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError(5, "read error")

    items = iterate_in_thread(broken())
    assert await anext(items) == 1
    with pytest.raises(OSError, match="read error"):
        await anext(items)


async def test_waiting_for_a_line_can_be_cancelled() -> None:
    reading, writing = os.pipe()

    def arriving() -> Iterator[bytes]:
        with io.FileIO(reading) as source:
            yield from chunks_of(source)

    items = iterate_in_thread(arriving())
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    os.close(writing)
