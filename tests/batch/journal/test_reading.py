"""Questions to a journal: the newest stories, and answers though a disk is full or locked."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from llamagen_async import BatchState, JournalError
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.journal.order import count_queued, listed
from llamagen_async.batch.journal.story import Story
from tests.support.journals import added, changed, comic, opened

QUEUED, RUNNING, FAILED = BatchState.QUEUED, BatchState.RUNNING, BatchState.FAILED


async def test_the_newest_stories_are_listed_first() -> None:
    """In some states or in any, before one of them, and no more than were asked for."""
    async with opened(None) as journal:
        for number in range(5):
            row = await added(journal, f"s{number}", f"k{number}")
            if number % 2:
                await changed(journal, row, FAILED)

        async def keys(*states: BatchState, before: int | None = None, limit: int = 9) -> list[str]:
            return [row.key for row in await journal.select(*listed(states, before, limit))]

        assert await keys() == ["k4", "k3", "k2", "k1", "k0"]
        assert await keys(limit=2) == ["k4", "k3"]
        assert await keys(before=4, limit=2) == ["k2", "k1"]
        assert await keys(before=1) == []
        assert await keys(FAILED) == ["k3", "k1"]
        assert await keys(FAILED, QUEUED, before=3) == ["k1", "k0"]


async def test_a_row_that_no_disk_has_is_found_by_its_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that could not be written is known to the journal that was told."""
    async with opened(tmp_path / "run.db") as journal:
        other = await added(journal, "a", "other")
        await changed(journal, other, BatchState.SENDING, RUNNING, generation=comic("c1"))
        row = await changed(journal, await added(journal, "b", "k"), BatchState.SENDING)

        def full(_self: Database, _operations: object, *, write: bool) -> object:
            raise JournalError(f"disk is full ({write})")

        with monkeypatch.context() as patch:
            patch.setattr(Database, "_transact", full)
            await changed(journal, row, RUNNING, generation=comic("c2"))
        for names in ({"generation_id": "c2"}, {"key": "k"}, {"key": "k", "generation_id": "c1"}):
            found = await journal.find(**names)
            assert found is not None
            assert (found.key, found.generation_id, found.state) == ("k", "c2", RUNNING)
        assert (await journal.find(generation_id="c1")).key == "other"
        assert await journal.find(generation_id="c3") is None
        (read,) = [one async for one in journal.rows() if one.key == "k"]
        assert read.generation == comic("c2")


async def test_a_journal_says_whether_it_lasts(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with opened(path) as lasting, opened(None) as passing:
        assert (lasting.is_lasting, lasting.path) == (True, path)
        assert (passing.is_lasting, passing.path) == (False, None)


async def test_reading_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    """Another program may hold up every write: each question is answered at once."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        row = await changed(journal, await added(journal, "a", "k"), BatchState.SENDING, RUNNING)
        await journal.keep_upload("digest", "https://cdn/a.png", 5.0)
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert (await journal.get("k")).id == row.id
            assert (await journal.at(row.id)).key == "k"
            assert (await journal.find(key="k")).id == row.id
            assert await journal.newest("c1") is None
            assert await journal.orphans() == []
            assert await journal.waiting(urgent=False, limit=1) == []
            assert [one.key for one in await journal.select("WHERE id > ?", (0,))] == ["k"]
            assert [one.key async for one in journal.rows()] == ["k"]
            assert await journal.counts() == {RUNNING: 1}
            assert (await journal.seek(Story.parse("a", "k"))).id == row.id
            assert await journal.uploaded("digest", 5.0) == "https://cdn/a.png"
            assert await journal.ask(count_queued) == 0
            other.execute("ROLLBACK")
