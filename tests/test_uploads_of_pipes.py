"""Files that can be read only once, or that may never end: pipes, and what a program has opened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from pathlib import Path

import pytest

from llamagen_async.uploads import form_file
from tests.support.cli import needs_posix

PNG = b"\x89PNG\r\n\x1a\n"


@needs_posix
async def test_who_gives_up_a_pipe_that_nobody_writes_to_waits_for_no_thread(
    tmp_path: Path,
) -> None:
    """A program could not be ended by Ctrl+C: it waited for the thread that waited for the pipe."""
    os.mkfifo(tmp_path / "pipe")
    before = set(threading.enumerate())
    task = asyncio.create_task(form_file(tmp_path / "pipe"))
    writer = None
    while writer is None:
        await asyncio.sleep(0.01)
        new = set(threading.enumerate()) - before
        with contextlib.suppress(OSError):  # until somebody reads there
            writer = os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)
    try:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert new
        assert all(thread.daemon for thread in new)
    finally:
        os.close(writer)


async def test_an_open_file_that_never_ends_holds_up_no_program() -> None:
    readers: list[threading.Thread] = []

    class Pipe:
        def read(self, _size: int) -> bytes:
            readers.append(threading.current_thread())
            return PNG if len(readers) == 1 else b""

    form = await form_file(Pipe())
    assert form.content == PNG
    assert all(reader.daemon for reader in readers)


async def test_what_fails_in_the_thread_is_raised_where_it_is_awaited() -> None:
    class Broken:
        def read(self, _size: int) -> bytes:
            raise OSError("it broke")

    with pytest.raises(ValueError, match="it broke"):
        await form_file(Broken())
