"""One process owns a journal; the second one is told which."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, JournalError
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.lock import JournalLock
from llamagen_async.batch.journal.shared import SharedJournal
from tests.support.cli import environment
from tests.support.journals import ORIGIN, added, changed, comic, opened, raw

HELD = """
import sys
from pathlib import Path
from llamagen_async.batch.journal.lock import JournalLock

owner = JournalLock(Path(sys.argv[1]))
owner.take()
print("mine", flush=True)
sys.stdin.readline()
"""


async def cancelled_after(steps: int, work: Coroutine[Any, Any, object]) -> None:
    """Cancel work after so many steps of the loop, and wait until what it has begun has ended."""
    task = asyncio.create_task(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    threads = [one for one in threading.enumerate() if "llamagen-async-journal" in one.name]
    for thread in threads:
        await asyncio.to_thread(thread.join, 5.0)


@pytest.mark.parametrize("kind", [Journal, SharedJournal])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
async def test_who_is_cancelled_while_it_opens_or_closes_lets_go(
    tmp_path: Path, kind: type[Journal], steps: int
) -> None:
    """The object may live on, in a traceback; the next one in this process can have the file."""
    opening, closing = (kind(tmp_path / "run.db", ORIGIN) for _ in range(2))
    await cancelled_after(steps, opening.__aenter__())
    await closing.open()
    if isinstance(closing, SharedJournal):
        await closing.beat()
    await added(closing)
    await cancelled_after(steps, closing.aclose())
    async with opened(tmp_path / "run.db") as journal:
        assert await journal.counts() == {BatchState.QUEUED: 1}


async def test_a_second_process_is_told_the_first_ones_pid(tmp_path: Path) -> None:
    """And gets the journal at once when that one is gone, even if it was killed."""
    path = tmp_path / "run.db"
    with subprocess.Popen(  # noqa: ASYNC220  # nothing else runs here
        [sys.executable, "-c", HELD, str(path)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "mine\n"
        with pytest.raises(JournalError, match=rf"process {first.pid} works with this journal"):
            await Journal(path, ORIGIN).open()
        first.kill()
        first.wait()
        async with opened(path) as journal:
            await added(journal)


async def test_this_process_is_a_second_one_too(tmp_path: Path) -> None:
    """Also under another name of the same file; and being refused takes nothing from the first."""
    path, link = tmp_path / "run.db", tmp_path / "link.db"
    link.symlink_to(path)
    async with opened(path):
        for name in (path, link):
            with pytest.raises(JournalError, match=rf"this process \({os.getpid()}\) works with"):
                await Journal(name, ORIGIN).open()
        code = HELD.replace("sys.stdin.readline()", "")
        done = subprocess.run(  # noqa: ASYNC221  # nothing else runs here
            [sys.executable, "-c", code, str(path)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"process {os.getpid()} works with this journal" in done.stderr
    async with opened(path):
        pass


@pytest.mark.parametrize("kind", [Journal, SharedJournal])
@pytest.mark.parametrize("name", ["run.db-owner", "run.db-queue"])
async def test_a_damaged_lock_file_is_told(tmp_path: Path, name: str, kind: type[Journal]) -> None:
    """A queue needs both, and a batch looks at both."""
    (tmp_path / name).write_text("x" * 5_000)
    with pytest.raises(JournalError, match=rf"{name}: .*; move that file away"):
        await kind(tmp_path / "run.db", ORIGIN).open()


async def test_a_count_that_can_not_be_kept_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comic that was accepted is written, whatever becomes of the file beside the journal."""

    def fail(_self: JournalLock, _accepted: int) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(JournalLock, "count", fail)
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        row = await changed(journal, await added(journal, "a", "k"), BatchState.SENDING)
        row = await changed(journal, row, BatchState.RUNNING, generation=comic("c1"))
        assert row.generation_id == "c1"
    assert raw(path, "SELECT generation_id FROM job") == [("c1",)]


@pytest.mark.parametrize("shared", [False, True])
def test_a_lock_that_nobody_lets_go_of_ends_with_its_owner(tmp_path: Path, *, shared: bool) -> None:
    """Python 3.13 warns of a connection that is left open, and such a warning fails this test."""
    path = tmp_path / "run.db"
    forgotten = JournalLock(path, shared=shared)
    forgotten.take()
    del forgotten
    gc.collect()
    owner = JournalLock(path)
    owner.take()
    owner.release()


def test_other_queues_are_let_in_once_and_for_all(tmp_path: Path) -> None:
    first, second = (JournalLock(tmp_path / "run.db", shared=True) for _ in range(2))
    first.take()
    assert first.is_alone
    with pytest.raises(JournalError, match="works with this journal"):
        second.take()
    for _ in range(2):
        first.share()
        assert not first.is_alone
    second.take()
    assert not second.is_alone
    for one in (first, second):
        one.release()
