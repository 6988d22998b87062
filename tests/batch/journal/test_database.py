"""An acknowledged write is on disk, many share a commit, and a failure is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    BatchState,
    JournalError,
)
from llamagen_async.batch.journal import database
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from tests.support.journals import ORIGIN, added, changed, comic, opened, raw


async def test_what_comes_at_once_shares_a_commit(tmp_path: Path) -> None:
    """A hundred writes cost two commits or so, and none of them is on the loop's thread."""
    threads: list[int] = []
    names: set[str] = set()
    sizes: list[int] = []

    class Counted(Database):
        def _transact(self, operations: Any, *, write: bool) -> list[Any]:
            threads.append(threading.get_ident())
            names.add(threading.current_thread().name)
            sizes.append(len(operations))
            return super()._transact(operations, write=write)

    journal = Journal(tmp_path / "run.db", ORIGIN)
    journal._database.__class__ = Counted
    await journal.open()
    rows = await asyncio.gather(*(added(journal, f"s{n}") for n in range(100)))
    await journal.aclose()
    assert [row.id for row in rows] == list(range(1, 101))
    assert max(sizes) >= 90
    assert threading.get_ident() not in threads
    assert len(set(threads)) == 1
    assert names == {"llamagen-async-journal_0"}, "not a thread that others may keep busy"


def test_a_loop_that_ended_during_a_write_stops_nobody(tmp_path: Path) -> None:
    """The next loop is not kept waiting for a commit whose end the last one was to be told."""
    journal, may_go_on = Journal(tmp_path / "run.db", ORIGIN), threading.Event()
    thread = journal._database._thread
    assert thread is not None

    async def ends_early() -> None:
        await journal.open()
        thread.submit(may_go_on.wait)  # a slow disk
        writing = [asyncio.ensure_future(added(journal, name)) for name in "ab"]
        for _ in range(10):
            await asyncio.sleep(0)
        assert not any(one.done() for one in writing)

    async def goes_on() -> int:
        try:
            await added(journal, "c")
            return (await journal.counts())[BatchState.QUEUED]
        finally:
            await journal.aclose()

    asyncio.run(ends_early())
    may_go_on.set()
    assert asyncio.run(goes_on()) in (1, 3), "all of a commit, or nothing"


async def test_one_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as journal:
        await added(journal, "a", "k")
        results = await asyncio.gather(
            added(journal, "b"),
            added(journal, "another", "k"),
            added(journal, "c"),
            return_exceptions=True,
        )
        assert [type(result).__name__ for result in results] == [
            "Row",
            "InvalidRequestError",
            "Row",
        ]
        assert (await journal.counts())[BatchState.QUEUED] == 3


async def test_a_write_is_done_though_its_caller_is_cancelled(tmp_path: Path) -> None:
    """An id that is being written when somebody loses interest is written."""
    async with opened(tmp_path / "run.db") as journal:
        row = await added(journal)
        writing = asyncio.create_task(
            changed(journal, row, BatchState.RUNNING, generation=comic("paid"))
        )
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert writing.cancelled()
    ((id_,),) = raw(tmp_path / "run.db", "SELECT generation_id FROM job")
    assert id_ == "paid"


async def test_closing_waits_for_what_was_asked_for(tmp_path: Path) -> None:
    """More than one commit can hold, and closing at once: all of it is there, and told."""
    path = tmp_path / "run.db"
    journal = Journal(path, ORIGIN)
    await journal.open()
    writing = [asyncio.create_task(added(journal, f"s{n}")) for n in range(1_500)]
    await asyncio.sleep(0)
    await journal.aclose()
    await asyncio.gather(*writing)
    assert raw(path, "SELECT count(*) FROM job") == [(1_500,)]
    await journal.aclose()
    with pytest.raises(JournalError, match="closed"):
        await added(journal, "late")


async def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """The settings with which an acknowledged write survives a power cut."""
    async with opened(tmp_path / "run.db") as journal:
        for name, value in {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1}.items():
            found = await journal._database.run(
                lambda one, name=name: one.execute(f"PRAGMA {name}").fetchone()[0], write=False
            )
            assert found == value


async def test_a_lease_is_renewed_without_waiting_for_the_disk(tmp_path: Path) -> None:
    """And only that: what is written afterwards survives a power cut again."""

    def setting(connection: sqlite3.Connection) -> int:
        (found,) = connection.execute("PRAGMA synchronous").fetchone()
        return int(found)

    async with opened(tmp_path / "run.db") as journal:
        database = journal._database
        assert await database.beat(setting) == 1
        assert await database.run(setting, write=True) == 2


async def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        for n in range(300):
            await added(journal, f"story {n} " + "x" * 200)
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = b"\x55" * (len(content) // 2 - 4096)
    path.write_bytes(content)

    async def read() -> None:
        async with opened(path) as journal:
            async for _ in journal.rows():
                pass

    with pytest.raises(JournalError, match=r"run\.db: .*(malformed|damaged|not a database)"):
        await read()


async def limit_disk(journal: Journal) -> None:
    """Let the file not grow any more: SQLite says the same as for a full disk."""
    await journal._database.run(
        lambda one: one.execute("PRAGMA max_page_count = 1").fetchone(), write=False
    )


async def protect(journal: Journal) -> None:
    """SQLite says the same as for a file that may not be written."""
    await journal._database.run(lambda one: one.execute("PRAGMA query_only = 1"), write=False)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (limit_disk, "database or disk is full; make room on the disk"),
        (protect, "attempt to write a readonly database; it may not be written"),
    ],
)
async def test_what_can_not_be_written_is_told_and_reading_goes_on(
    tmp_path: Path, spoil: Callable[[Journal], Any], words: str
) -> None:
    async with opened(tmp_path / "run.db") as journal:
        row = await added(journal, "a", "k")
        await spoil(journal)
        with pytest.raises(JournalError) as caught:
            await added(journal, "b" * 400_000)
        assert words in str(caught.value)
        results: Sequence[Any] = await asyncio.gather(
            journal.get("k"), added(journal, "b" * 400_000), return_exceptions=True
        )
        assert results[0].id == row.id
        assert isinstance(results[1], JournalError)


async def test_a_file_that_was_moved_away_takes_nothing_more(tmp_path: Path) -> None:
    """Nobody would find what is written to it."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await added(journal, "a")
        path.rename(tmp_path / "moved.db")
        with pytest.raises(JournalError, match="was moved away or deleted"):
            await added(journal, "b")
        (tmp_path / "moved.db").rename(path)
        await added(journal, "c")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nobody keeps root out")
async def test_a_file_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with opened(path):
        pass
    path.chmod(0o400)
    with pytest.raises(JournalError, match="may not be written"):
        await Journal(path, ORIGIN).open()


async def test_another_program_may_read_it(tmp_path: Path) -> None:
    """While a batch runs, its journal can be read with any SQLite tool."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await added(journal, "a", "k")
        with contextlib.closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT key, state FROM job").fetchall() == [("k", "queued")]
            await added(journal, "b")


async def test_a_forked_process_does_not_wait_for_a_thread_it_has_not(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as journal:
        journal._database._process = 1
        with pytest.raises(JournalError, match="closed"):
            await added(journal)
        await journal._database.aclose()
        journal._database._process = os.getpid()
        assert (await added(journal)).id == 1, "the file is still that of the parent"


def test_the_folder_of_a_new_file_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could take the file's name away with all that is in it."""
    synced: list[Path] = []
    monkeypatch.setattr(database, "_sync_folder", synced.append)

    async def main() -> None:
        async with opened(tmp_path / "run.db"):
            pass

    asyncio.run(main())
    assert synced == [tmp_path.resolve()]


async def test_a_value_that_no_file_holds_is_told_and_harms_nobody(tmp_path: Path) -> None:
    """Python's own errors of encoding and of size are the journal's, too."""
    async with opened(tmp_path / "run.db") as journal:
        results = await asyncio.gather(
            journal.get("half a pair \ud800"),
            journal.add(Story.parse("b", label="half a pair \ud800")),
            journal.add(Story.parse("c"), position=1 << 70),
            added(journal, "a", "k"),
            return_exceptions=True,
        )
    assert [type(result).__name__ for result in results] == ["JournalError"] * 3 + ["Row"]
    assert all("run.db" in str(result) for result in results[:3])
