"""A journal is read whoever works with it, and its folder stays as it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from llamagen_async.batch.journal.schema import counts_of
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.input import journal_file
from llamagen_async.cli.input.journal_file import journal_in, names_in, read_file
from llamagen_async.models import BatchState
from tests.support.records import add_row, opened_journal


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_a_journal_that_nobody_works_with_is_left_as_it_is(tmp_path: Path) -> None:
    """SQLite would make files beside it, also where it only reads, and leave them there."""
    path = tmp_path / "50% of #1? j.db"
    async with opened_journal(path) as journal:
        await add_row(journal, Story.parse("a"), 0)
    before = files(tmp_path)
    assert read_file(path, counts_of) == {BatchState.QUEUED: 1}
    assert files(tmp_path) == before


async def test_what_is_written_meanwhile_is_seen_and_not_held_up(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    async with opened_journal(path) as journal:
        row = await add_row(journal, Story.parse("a", "k"), 0)
        assert read_file(path, counts_of) == {BatchState.QUEUED: 1}
        await journal.change(row, BatchState.SENDING, origins=(BatchState.QUEUED,))
        assert read_file(path, counts_of) == {BatchState.SENDING: 1}


async def test_somebody_who_begins_to_write_meanwhile_is_noticed(tmp_path: Path) -> None:
    """The answer from a file that nobody seemed to change is thrown away then."""
    path = tmp_path / "j.db"
    async with opened_journal(path) as journal:
        await add_row(journal, Story.parse("a"), 0)
    asked: list[int] = []
    writer = sqlite3.connect(path)

    def question(connection: sqlite3.Connection) -> int:
        asked.append(1)
        (number,) = connection.execute("SELECT count(*) FROM job").fetchone()
        if len(asked) == 1:
            writer.execute("DELETE FROM job")
            writer.commit()
        return int(number)

    try:
        assert read_file(path, question) == 0
    finally:
        writer.close()
    assert len(asked) == 2


def test_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE job (id INTEGER)")
    connection.close()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        read_file(path, lambda one: one.execute("INSERT INTO job VALUES (1)"))


async def test_names_are_few_and_begin_as_they_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_journal(tmp_path / "journal.db") as journal:
        for number in range(5):
            await add_row(journal, Story.parse(f"s{number}", f"a%_{number}"), number)
    assert journal_in(tmp_path) == tmp_path / "journal.db"
    monkeypatch.setattr(journal_file, "_MOST", 2)
    assert names_in(tmp_path, "a%", keys=True) == [("a%_4", "queued"), ("a%_3", "queued")]
    assert names_in(tmp_path, "a_", keys=True) == []
    assert names_in(tmp_path / "gone", "", keys=True) == []
