"""Ids that a full disk keeps out of the journal are in its reserve, and in the journal later."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, JournalError
from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.reserve import RECEIPT_SIZE, Receipt, Reserve
from tests.support.journals import ORIGIN, added, changed, comic, opened, raw

RUNNING, SENDING, QUEUED = BatchState.RUNNING, BatchState.SENDING, BatchState.QUEUED
ROWS = "SELECT key, state, generation_id FROM job ORDER BY id"


@contextlib.contextmanager
def full_disk(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every write to a journal fail as on a full disk; the reserve has its room already."""
    transact = Database._transact

    def full(self: Database, operations: Any, *, write: bool) -> list[Any]:
        if write:
            raise JournalError("database or disk is full; make room on the disk")
        return transact(self, operations, write=write)

    with patch.context() as here:
        here.setattr(Database, "_transact", full)
        yield


def receipts(path: Path) -> list[Receipt]:
    reserve = Reserve(path, ORIGIN)
    reserve.open()
    reserve.close()
    return reserve.receipts


async def test_an_id_on_a_full_disk_is_in_the_next_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        paid, lost = await added(journal, "a", "k"), await added(journal, "b", "l")
        for row in (paid, lost):
            await changed(journal, row, SENDING)
        with full_disk(monkeypatch):
            row = await changed(journal, paid, RUNNING, generation=comic("paid"))
        assert (row.state, row.generation_id) == (RUNNING, "paid")
        found = await journal.get("k")
        assert found is not None
        assert found.generation_id == "paid"  # this journal knows it, too
        assert "paid" in caplog.text
    assert [one.id for one in receipts(path)] == ["paid"]
    async with opened(path) as journal:
        found = await journal.get("k")
        assert found is not None
        assert found.generation is not None
        assert found.generation.id == "paid"
    assert raw(path, ROWS) == [("k", "running", "paid"), ("l", "uncertain", None)]
    assert not path.with_name("run.db-ids").exists()
    with pytest.raises(JournalError, match="another API key"):
        await Journal(path, AccountId.of("another-key", ORIGIN.base_url)).open()


async def test_what_was_not_accepted_is_not_uncertain_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A create that provably did not arrive is queued in the next run, though nobody wrote that."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        row = await changed(journal, await added(journal, "a", "k"), SENDING)
        with full_disk(monkeypatch):
            await changed(journal, row, QUEUED)
        # As soon as there is room, it is known to wait.
        assert [one.key for one in await journal.waiting(urgent=False, limit=9)] == ["k"]
        row = await changed(journal, row, SENDING)
        with full_disk(monkeypatch):
            await changed(journal, row, QUEUED)
    async with opened(path):
        pass
    assert raw(path, ROWS) == [("k", "queued", None)]


async def test_what_an_uncertain_story_may_have_cost_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A story that is to be sent again may have been paid for; what never arrived was not."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        lost = await changed(journal, await added(journal, "a", "k"), SENDING, credits_=150.0)
        lost = await changed(journal, lost, BatchState.UNCERTAIN)
        unsent = await changed(journal, await added(journal, "b", "l"), SENDING, credits_=200.0)
        with full_disk(monkeypatch):
            with pytest.raises(JournalError, match="full"):
                await journal.change(lost, QUEUED, origins=(BatchState.UNCERTAIN,))
            await journal.change(unsent, QUEUED, origins=(SENDING,))
    async with opened(path) as journal:
        assert raw(path, ROWS) == [("k", "uncertain", None), ("l", "queued", None)]
        assert journal.spent == 150.0
        await journal.change(lost, QUEUED, origins=(BatchState.UNCERTAIN,))
        again = await journal.get("k")
        assert again is not None
        await changed(journal, again, SENDING, credits_=150.0)
    async with opened(path) as journal:
        assert journal.spent == 300.0


async def test_what_could_not_be_written_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next step of the same story, or when the journal begins anew."""
    path = tmp_path / "run.db"
    async with Journal(path, ORIGIN) as journal:
        first = await changed(journal, await added(journal, "a", "k"), SENDING)
        second = await changed(journal, await added(journal, "b", "l"), SENDING)
        with full_disk(monkeypatch):
            await changed(journal, first, RUNNING, generation=comic("c1"))
            done = comic("c2", "SUCCEEDED")
            await changed(journal, second, RUNNING, BatchState.SUCCEEDED, generation=done)
            files = {"generation": done, "files": ["c2.png"]}
            await changed(journal, second, BatchState.SUCCEEDED, **files)
        await changed(journal, first, BatchState.SUCCEEDED)
        assert raw(path, ROWS) == [("k", "succeeded", "c1"), ("l", "sending", None)]
        await journal.open()
        assert raw(path, ROWS)[1] == ("l", "succeeded", "c2")
        assert raw(path, "SELECT files FROM job WHERE key = 'l'") == [('["c2.png"]',)]
    assert not path.with_name("run.db-ids").exists()


async def test_room_is_taken_before_a_create_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every create in flight the room grows; if there is none, the intent is refused."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        rows = [await added(journal, f"s{n}") for n in range(200)]
        for row in rows[:150]:
            await changed(journal, row, SENDING)
        reserve = path.with_name("run.db-ids")
        assert reserve.stat().st_blocks * 512 >= 150 * RECEIPT_SIZE
        long = "x" * 150
        size = reserve.stat().st_size
        with full_disk(monkeypatch):
            for n, row in enumerate(rows[:150]):
                await changed(journal, row, RUNNING, generation=comic(f"{n:03}{long}"[:150]))
        assert reserve.stat().st_size == size  # nothing had to grow

        def no_room(_file: int, _content: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", no_room)
            sending = asyncio.gather(*(changed(journal, row, SENDING) for row in rows[150:]))
            with pytest.raises(JournalError, match="make room on the disk"):
                await sending
    assert len(receipts(path)) == 150


async def test_an_id_that_even_the_reserve_does_not_take_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears of it, and has the log as the last resort; this journal knows it still."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        row = await changed(journal, await added(journal, "a", "k"), SENDING)

        def broken(_file: int, _content: bytes) -> int:
            raise OSError(5, "Input/output error")

        with full_disk(monkeypatch), monkeypatch.context() as patch:
            patch.setattr(os, "write", broken)
            with pytest.raises(JournalError, match="disk is full"):
                await changed(journal, row, RUNNING, generation=comic("paid"))
        found = await journal.find(generation_id="paid")
        assert found is not None


async def test_a_reserve_belongs_to_the_key_that_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        row = await changed(journal, await added(journal, "a", "k"), SENDING)
        with full_disk(monkeypatch):
            await changed(journal, row, RUNNING, generation=comic("paid"))
    other = AccountId.of("another-key", "https://api.example/v1")
    with pytest.raises(JournalError, match="another API key"):
        await Journal(path, other).open()
    assert [one.id for one in receipts(path)] == ["paid"]


@pytest.mark.parametrize(
    "instead",
    [b"\xff\x01x", b"7", b"[]", b'{"id":"c2"}', b'{"other":1}'],
    ids=["broken", "a number", "a list", "less", "something else"],
)
def test_a_line_that_was_cut_takes_no_other_along(tmp_path: Path, instead: bytes) -> None:
    """The power may go while a receipt is written: those before it count, and more can follow."""
    path = tmp_path / "run.db"
    reserve = Reserve(path, ORIGIN)
    reserve.open()
    for n in range(3):
        reserve.add(Receipt(n, "0" * 16, RUNNING, f"c{n}"))
    reserve.close()
    content = reserve.path.read_bytes()
    last = content.index(b"\n", content.index(b'"c1"')) + 1
    reserve.path.write_bytes(content[:last] + instead + b"\n" + content[last:])
    again = Reserve(path, ORIGIN)
    again.open()
    assert [one.id for one in again.receipts] == ["c0", "c1"]
    again.add(Receipt(9, "0" * 16, RUNNING, "c9"))
    again.close()
    assert [one.id for one in receipts(path)] == ["c0", "c1", "c9"]


def test_a_pipe_is_no_reserve(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        return
    os.mkfifo(tmp_path / "run.db-ids")
    with pytest.raises(OSError, match="is no file"):
        Reserve(tmp_path / "run.db", ORIGIN).open()


async def test_a_change_without_a_story_stays_in_the_reserve_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal was replaced: the id is in the question, and in the log of who goes on."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        row = await changed(journal, await added(journal, "a", "k"), SENDING)
        with full_disk(monkeypatch):
            await changed(journal, row, RUNNING, generation=comic("paid"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM job")
        connection.commit()
    with pytest.raises(JournalError, match=r"generation paid, which it does not know.*start_over"):
        await Journal(path, ORIGIN).open()
    assert [one.id for one in receipts(path)] == ["paid"]
    caplog.clear()
    async with Journal(path, ORIGIN, start_over=True):
        assert "generation paid was accepted" in caplog.text


async def test_room_is_kept_for_creates_on_their_way_only(tmp_path: Path) -> None:
    """A thousand that were answered, one after the other, need no more room than one."""
    path = tmp_path / "run.db"
    reserve = path.with_name("run.db-ids")
    async with opened(path) as journal:
        sizes = set[int]()
        for number in range(70):
            row = await changed(journal, await added(journal, f"s{number}"), SENDING)
            sizes.add(reserve.stat().st_size)
            await changed(journal, row, RUNNING, generation=comic(f"c{number}"))
        assert len(sizes) == 1
        for number in range(70):
            await changed(journal, await added(journal, f"t{number}"), SENDING)
        assert reserve.stat().st_size >= 70 * RECEIPT_SIZE > min(sizes)


def test_receipts_of_all_that_are_dead_are_read_and_then_forgotten(tmp_path: Path) -> None:
    """Files of named workers are read, or of everybody who has left one; never one's own."""
    path = tmp_path / "run.db"
    for name, id_ in (("", "c0"), ("one", "c1"), ("two", "c2"), ("three", "c3")):
        reserve = Reserve(path, ORIGIN, name)
        reserve.open()
        reserve.add(Receipt(1, "ab", RUNNING, id_))
        reserve.close()
    mine = Reserve(path, ORIGIN, "me")
    mine.open()
    mine.add(Receipt(2, "cd", RUNNING, "mine"))
    assert [one.id for one in mine.of_dead(["one", "two", "nobody"])] == ["c1", "c2"]
    mine.clear_left()
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"run.db-ids", "run.db-ids-three", "run.db-ids-me"}
    assert {one.id for one in mine.of_dead()} == {"c0", "c3"}
    assert [one.id for one in mine.receipts] == ["mine"]
    mine.clear()
    mine.close()
    assert not list(tmp_path.iterdir())
    assert mine.of_dead() == []
