"""A journal that is gone, empty or an older copy is not taken for a new one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, JournalError
from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.evidence import journal_name
from llamagen_async.batch.journal.file_names import RESULTS
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.opening import verify_missing
from llamagen_async.batch.journal.reserve import Receipt, Reserve
from llamagen_async.batch.journal.schema import prepare
from tests.support.journals import ORIGIN, added, changed, comic, opened, raw

RUNNING = BatchState.RUNNING
QUESTION = r"is it the right journal\?.*start_over=True.*Nothing was sent"
OTHER = AccountId.of("another-key", "https://api.example/v1")


def write_results(folder: Path, *records: dict[str, Any]) -> None:
    lines = [json.dumps(record) for record in records]
    (folder / RESULTS).write_text("\n".join([*lines, "not JSON", "[]"]), encoding="utf-8")


async def with_comics(path: Path, number: int) -> None:
    """Make a journal that knows so many accepted comics, or more of them."""
    async with opened(path) as journal:
        for n in range(number):
            row = await added(journal, f"s{n}", f"k{n}")
            if row.generation_id is None:
                await changed(journal, row, BatchState.SENDING)
                await changed(journal, row, RUNNING, generation=comic(f"c{n}"))


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("lose", [delete, empty])
@pytest.mark.parametrize("has_owner_file", [True, False])
async def test_a_lost_journal_stops_with_a_question(
    tmp_path: Path, lose: Callable[[Path], None], *, has_owner_file: bool
) -> None:
    """The count of its owners, or the results, are told; nothing is made new."""
    path = tmp_path / "run.db"
    await with_comics(path, 2)
    write_results(tmp_path, {"id": "c0", "key": "k0", "state": "running", "journal": "run.db"})
    if has_owner_file:
        (tmp_path / RESULTS).unlink()
    else:
        path.with_name("run.db-owner").unlink()
    lose(path)
    words = "it had 2 accepted comics, and has 0" if has_owner_file else "has one comic"
    for _ in range(2):  # the question does not answer itself
        with pytest.raises(JournalError, match=QUESTION) as caught:
            await Journal(path, ORIGIN).open()
        assert words in str(caught.value)
    async with Journal(path, ORIGIN, start_over=True) as journal:
        await added(journal, "s0", "k0")


async def test_an_older_copy_stops_with_a_question(tmp_path: Path) -> None:
    path, copy = tmp_path / "run.db", tmp_path / "copy.db"
    await with_comics(path, 1)
    shutil.copy(path, copy)
    await with_comics(path, 3)
    shutil.copy(copy, path)
    with pytest.raises(JournalError, match="it had 3 accepted comics, and has 1"):
        await Journal(path, ORIGIN).open()
    path.with_name("run.db-owner").unlink()
    write_results(
        tmp_path, *({"id": f"c{n}", "key": f"k{n}", "state": "running"} for n in range(3))
    )
    with pytest.raises(JournalError, match=r"has 2 comics that it does not know, such as c1"):
        await Journal(path, ORIGIN).open()
    async with Journal(path, ORIGIN, start_over=True):
        pass
    (tmp_path / RESULTS).unlink()
    async with opened(path):  # whoever goes on without it is not asked by the count again
        pass


@pytest.mark.virtual_time
async def test_who_leaves_while_a_journal_is_refused_does_not_answer_the_question(
    tmp_path: Path,
) -> None:
    """The file was looked at, and nobody has heard that it is another one."""
    path = tmp_path / "run.db"
    await with_comics(path, 2)
    delete(path)
    journal = Journal(path, ORIGIN)
    opening = asyncio.create_task(journal.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await journal.aclose()
    with pytest.raises(JournalError, match="it had 2 accepted comics, and has 0"):
        await Journal(path, ORIGIN).open()


async def test_what_results_know_as_uncertain_is_not_new(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    write_results(tmp_path, {"id": None, "key": "k0", "state": "uncertain", "journal": "run.db"})
    with pytest.raises(JournalError, match="such as k0"):
        await Journal(path, ORIGIN).open()


async def test_a_change_is_not_known_because_its_comic_is(tmp_path: Path) -> None:
    """Both have the same id: it is the key that tells them apart."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await changed(journal, await added(journal, key="a"), RUNNING, generation=comic("c0"))
    record = {"id": "c0", "key": "a", "state": "succeeded", "journal": "run.db", "type": "comic"}
    write_results(tmp_path, record)
    async with opened(path):
        pass
    write_results(tmp_path, {**record, "key": "b", "type": "continue"})
    with pytest.raises(JournalError, match="such as c0"):
        await Journal(path, ORIGIN).open()


async def test_results_in_the_folder_of_the_pictures_are_asked_too(tmp_path: Path) -> None:
    path, out = tmp_path / "run.db", tmp_path / "out"
    out.mkdir()
    record = {"id": "c0", "key": "k0", "state": "running", "journal": "../run.db"}
    write_results(out, record)
    with pytest.raises(JournalError, match=QUESTION):
        await Journal(path, ORIGIN, out=out).open()
    assert journal_name(path, out) == "../run.db"


@pytest.mark.parametrize(
    "record",
    [
        {"id": "c9", "key": "k9", "state": "succeeded", "journal": "another.db"},
        {"id": "c9", "key": "k9", "state": "succeeded", "journal": ""},
        {"id": None, "key": "k9", "state": "queued", "journal": "run.db"},
        {"id": None, "key": "k9", "state": "failed", "journal": "run.db"},
        {"id": "c0", "key": "k0", "state": "succeeded", "journal": "run.db"},
        {"id": "c9", "key": None, "state": "succeeded"},
    ],
)
async def test_what_is_no_evidence_stops_nothing(tmp_path: Path, record: dict[str, Any]) -> None:
    """Other journals' comics, stories that cost nothing, and what the journal knows itself."""
    path = tmp_path / "run.db"
    await with_comics(path, 1)
    write_results(tmp_path, record)
    async with opened(path):
        pass


async def test_results_that_are_no_file_stop_nothing(tmp_path: Path) -> None:
    """A pipe would be read for ever."""
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / RESULTS)
        async with opened(tmp_path / "run.db"):
            pass


@pytest.mark.parametrize("lose", [delete, empty])
async def test_sqlites_newest_changes_are_not_removed_with_their_journal(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    """SQLite would take them for another file's; the ids are in them."""
    path, changes = tmp_path / "run.db", tmp_path / "run.db-wal"
    async with opened(path) as journal:
        row = await changed(journal, await added(journal), BatchState.SENDING)
        await changed(journal, row, RUNNING, generation=comic("paid-once"))
        kept = changes.read_bytes()
    assert b"paid-once" in kept
    path.with_name("run.db-owner").unlink()
    lose(path)
    changes.write_bytes(kept)
    with pytest.raises(JournalError, match=QUESTION):
        await Journal(path, ORIGIN).open()
    assert changes.read_bytes() == kept
    async with Journal(path, ORIGIN, start_over=True):
        pass
    assert (tmp_path / "run.db-wal-old").read_bytes() == kept


@pytest.mark.parametrize("content", [bytes(8_192), b"hello\n" * 1_000])
async def test_a_journal_that_had_comics_is_no_file_to_do_without(
    tmp_path: Path, content: bytes
) -> None:
    """Another file, as is right instead of one that never was a journal, would pay once more."""
    path = tmp_path / "run.db"
    await with_comics(path, 2)
    path.write_bytes(content)
    with pytest.raises(JournalError, match="it knows what was paid"):
        await Journal(path, ORIGIN).open()
    other = tmp_path / "other.db"
    other.write_bytes(content)
    with pytest.raises(JournalError, match="name another file"):
        await Journal(other, ORIGIN).open()


async def test_text_that_can_not_be_read_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    await with_comics(path, 2)
    raw(path, "UPDATE job SET generation = CAST(x'7b22ff227d' AS TEXT)")

    async def use() -> None:
        async with opened(path) as journal:
            async for _ in journal.rows():
                pass

    with pytest.raises(JournalError, match="it is damaged; restore it"):
        await use()


@pytest.mark.parametrize("size", [1, 50, 100, 1_000, 4_096, 5_000, 12_288])
async def test_a_journal_that_was_cut_is_told(tmp_path: Path, size: int) -> None:
    path = tmp_path / "run.db"
    await with_comics(path, 2)
    path.write_bytes(path.read_bytes()[:size])

    async def use() -> None:
        async with opened(path) as journal:
            async for _ in journal.rows():
                pass

    with pytest.raises(JournalError, match=r"run\.db"):
        await use()


@pytest.mark.parametrize("state", list(BatchState))
async def test_the_first_acceptance_binds_a_journal(tmp_path: Path, state: BatchState) -> None:
    """A wrong key or URL binds nothing: it was not accepted."""
    path = tmp_path / "run.db"
    is_accepted = state in (RUNNING, BatchState.SUCCEEDED)
    async with opened(path) as journal:
        row = await added(journal)
        await changed(journal, row, state, generation=comic() if is_accepted else None)
    journal = Journal(path, OTHER)
    if is_accepted:
        with pytest.raises(JournalError, match="another API key"):
            await journal.open()
    else:
        await journal.open()
        await changed(journal, row, RUNNING, generation=comic())
    await journal.aclose()
    bound = {"base_url": ORIGIN.base_url, "account": (ORIGIN if is_accepted else OTHER).account}
    assert dict(raw(path, "SELECT name, value FROM meta")) == bound


def verified(path: Path, *folders: Path, start_over: bool = False) -> None:
    """Ask whether a run could go on without a journal that is gone."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        prepare(None, connection)
        verify_missing(path, ORIGIN, folders, connection, start_over=start_over)


def test_a_missing_journal_that_was_never_there_is_none(tmp_path: Path) -> None:
    """Neither a folder nor a file is made for the question."""
    path = tmp_path / "nowhere" / "run.db"
    verified(path)
    verified(path, tmp_path)
    assert not path.parent.exists()
    verified(tmp_path / "run.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("evidence", ["count", "changes", "reserve", "results", "elsewhere"])
def test_a_missing_journal_is_asked_for_if_files_know_its_comics(
    tmp_path: Path, evidence: str
) -> None:
    """Each of the files beside it is enough; `start_over` goes on, and removes none of them."""
    path, out = tmp_path / "run.db", tmp_path / "out"
    out.mkdir()
    asyncio.run(with_comics(path, 2))
    path.unlink()
    count = path.with_name("run.db-owner").read_bytes()
    path.with_name("run.db-owner").unlink()
    verified(path, out)
    words = {
        "count": "it had 2 accepted comics, and has 0",
        "changes": "its newest changes are in",
        "reserve": "its reserve has generation c7",
        "results": "has one comic that it does not know, such as c0",
        "elsewhere": "has one comic that it does not know, such as c0",
    }
    if evidence == "count":
        path.with_name("run.db-owner").write_bytes(count)
    elif evidence == "changes":
        path.with_name("run.db-wal").write_bytes(b"changes")
    elif evidence == "reserve":
        reserve = Reserve(path, ORIGIN)
        reserve.open()
        reserve.add(Receipt(1, "ab", RUNNING, "c7"))
        reserve.close()
    elif evidence == "results":
        write_results(tmp_path, {"id": "c0", "key": "k0", "journal": "run.db"})
    else:
        write_results(out, {"id": "c0", "key": "k0", "journal": "../run.db"})
    before = sorted(tmp_path.iterdir())
    for _ in range(2):
        with pytest.raises(JournalError, match=QUESTION) as caught:
            verified(path, out)
        assert words[evidence] in str(caught.value)
    verified(path, out, start_over=True)
    assert sorted(tmp_path.iterdir()) == before


def test_a_reserve_of_another_key_is_told_of_a_missing_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    reserve = Reserve(path, OTHER)
    reserve.open()
    reserve.add(Receipt(1, "ab", RUNNING, "c7"))
    reserve.close()
    with pytest.raises(JournalError, match="another API key"):
        verified(path)


def test_results_of_others_hide_none_of_this_journals(tmp_path: Path) -> None:
    """Lines of another journal, of changes and of stories that were not sent stand among them."""
    others = [
        {"id": "c1", "key": "k1", "journal": "other.db"},
        {"id": "c2"},
        {"key": "k3", "state": "queued"},
        {"key": "k4", "state": "failed"},
    ]
    write_results(tmp_path, *others)
    verified(tmp_path / "run.db")
    for unknown, told in (
        ({"id": "c5", "key": "k5", "state": "running"}, "c5"),
        ({"key": "k6", "state": "uncertain"}, "k6"),
        ({"id": "c7", "key": "k7", "type": "redraw"}, "c7"),
    ):
        write_results(tmp_path, *others, unknown)
        with pytest.raises(JournalError, match=f"has one comic .* such as {told}"):
            verified(tmp_path / "run.db")
    write_results(tmp_path, *others, {"id": "c5", "key": "k5"}, {"id": "c6", "key": "k6"})
    with pytest.raises(JournalError, match="has 2 comics that it does not know, such as c5"):
        verified(tmp_path / "run.db")
