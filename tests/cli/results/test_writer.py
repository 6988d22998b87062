"""`results.jsonl` and the page as they are written from a journal."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import JournalError
from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.file_names import RESULTS
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.stories import InputStory
from llamagen_async.cli.results import writer
from llamagen_async.cli.results.folder import is_foreign, prepared_folder
from llamagen_async.cli.results.records import Record, line_of
from llamagen_async.cli.results.unrecorded import Unrecorded
from llamagen_async.cli.results.whole_file import atomic_writer
from llamagen_async.cli.results.writer import Written, write_results
from llamagen_async.models import BatchState
from tests.support.records import DONE, UNSENT, add_row, opened_journal

NOBODY = AccountId("http://127.0.0.1:9", "nobody")
BEGAN = datetime(2025, 6, 2, 11, 30, tzinfo=UTC)


def story(prompt: str, line: int, key: str | None = None) -> Story:
    return Story.parse(prompt, key, label=f"stdin:{line}")


async def write(folder: Path, unrecorded: Unrecorded, **more: Any) -> Written:
    """Write the results of the journal `j.db`."""
    async with opened_journal(folder / "j.db") as journal:
        options = {"title": "Comics", "speed": 1.0, "began": BEGAN, **more}
        return await write_results(folder, journal, unrecorded, **options)


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / RESULTS).read_text("utf-8").splitlines()]


async def test_every_story_of_the_journal_and_of_none_is_written(tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, story("a", 1), 0, BatchState.SUCCEEDED, id="c1", files=("a.png",))
        await add_row(journal, story("b", 2), 1, BatchState.RUNNING, id="c2")
        row = await add_row(journal, story("c", 3), 2)
    unrecorded = Unrecorded()
    unrecorded.explain(row.key, ("the limit is used up", "QuotaExhaustedError"))
    unrecorded.add(Record(3, BatchState.FAILED, "stdin:4", error="stdin:4: no JSON"))
    written = await write(tmp_path, unrecorded, facts=[("requests", "3")], durations={"c1": 63.0})
    assert [(one["label"], one["state"], one["error"]) for one in results(tmp_path)] == [
        ("stdin:1", "succeeded", None),
        ("stdin:2", "running", None),
        ("stdin:3", "queued", "the limit is used up"),
        ("stdin:4", "failed", "stdin:4: no JSON"),
    ]
    assert results(tmp_path)[0]["seconds"] == 63.0
    assert (written.counts.total(), written.running, written.unfinished) == (4, ["c2"], [])
    assert [record.index for record in written.shown] == [0, 1, 2, 3]
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "2025-06-02 11:30 UTC" in page
    assert ">3</dd><dt>requests" in page


async def test_a_run_without_a_journal_is_written_too(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_bytes(line_of(attrs.evolve(DONE, id="old").to_json()))
    unrecorded = Unrecorded()
    unrecorded.add(DONE)
    options = {"title": "Comics", "speed": 1.0, "began": BEGAN}
    written = await write_results(tmp_path, None, unrecorded, **options)  # type: ignore[arg-type]
    assert written.shown == [DONE]
    assert [one["id"] for one in results(tmp_path)] == ["cmc_1"]


async def test_paid_stories_of_other_journals_stay_in_the_results(tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, story("a", 1, "a"), 0, BatchState.SUCCEEDED, id="c1", files=())
        await add_row(journal, story("b", 2, "b"), 1, BatchState.SUCCEEDED, id="c9", files=())
    kept = [
        attrs.evolve(DONE, key="b", id="c2"),  # the same story was another comic there
        attrs.evolve(DONE, key=None, id="c3"),
        Record(5, BatchState.UNCERTAIN, key="elsewhere"),
    ]
    dropped = [
        attrs.evolve(DONE, key="renamed", id="c1"),
        Record(6, BatchState.UNCERTAIN, key="a"),
        UNSENT,  # not paid for: the next run sends it if it is in its input
    ]
    lines = [line_of(record.to_json()) for record in (*kept, *dropped)]
    (tmp_path / RESULTS).write_bytes(b'{"index": 1}\nnot json\n[]\n' + b"".join(lines))
    await write(tmp_path, Unrecorded())
    found = [Record.from_json(one) for one in results(tmp_path)]
    assert [record.id for record in found[:2]] == ["c1", "c9"]
    assert found[2:] == kept
    await write(tmp_path, Unrecorded())
    assert [Record.from_json(one) for one in results(tmp_path)] == found


async def test_unsent_stories_of_stdin_are_taken_into_the_journal(tmp_path: Path) -> None:
    """Stories of equal content are told apart, and a key of another story is left alone."""
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, story("a cat", 1), 0, BatchState.SUCCEEDED, id="c1", files=())
        await add_row(journal, story("a dog", 2, "dog"), 1)
    unrecorded = Unrecorded()
    for number, one in enumerate((story("a cat", 3), story("a fox", 4, "dog")), 2):
        record = Record.of_story(number, one.label, one, BatchState.QUEUED)
        unrecorded.add(attrs.evolve(record, error="no credits"))
    unrecorded.reading[4] = InputStory(4, "stdin:5", story("a cat", 5))
    written = await write(tmp_path, unrecorded, keep_unsent=True)
    assert written.counts == {BatchState.SUCCEEDED: 1, BatchState.QUEUED: 4}
    assert [record.label for record in written.unfinished] == ["stdin:5"]
    async with opened_journal(tmp_path / "j.db") as journal:
        rows = [row async for row in journal.rows()]
    assert [(row.position, row.label, row.state.value) for row in rows] == [
        (0, "stdin:1", "succeeded"),
        (1, "stdin:2", "queued"),
        (2, "stdin:3", "queued"),
        (4, "stdin:5", "queued"),
    ]
    assert [row.key.partition("/")[2] for row in rows] == ["1", "", "2", "3"]


async def test_unsent_stories_of_a_file_stay_out_of_the_journal(tmp_path: Path) -> None:
    unrecorded = Unrecorded()
    unrecorded.add(UNSENT)
    unrecorded.reading[1] = InputStory(1, "s.txt:2", story("a cat", 2))
    written = await write(tmp_path, unrecorded)
    assert [record.prompt for record in written.unfinished] == ["a cat"]
    assert [one["prompt"] for one in results(tmp_path)] == ["C"]
    async with opened_journal(tmp_path / "j.db") as journal:
        assert await journal.counts() == {}


async def test_stories_that_had_not_ended_are_found_in_the_journal(tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, story("old", 1), 0, BatchState.RUNNING, id="c0")
        await add_row(journal, story("new", 1), 0, BatchState.RUNNING, id="c1")
    unrecorded = Unrecorded()
    unrecorded.reading[0] = InputStory(0, "stdin:1", story("new", 1))
    written = await write(tmp_path, unrecorded)
    assert [record.id for record in written.unfinished] == ["c1"]


@pytest.mark.parametrize("request_", ["no json", "5", "[" * 100_000])
async def test_a_damaged_journal_leaves_the_results_as_they_were(
    tmp_path: Path, request_: str
) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, story("a", 1), 0)
    with closing(sqlite3.connect(tmp_path / "j.db")) as connection, connection:
        connection.execute("UPDATE job SET request = ?", (request_,))
    (tmp_path / RESULTS).write_bytes(b"old")
    with pytest.raises(JournalError, match="the journal is damaged at"):
        await write(tmp_path, Unrecorded())
    assert (tmp_path / RESULTS).read_bytes() == b"old"


def test_a_file_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_file(content: bytes) -> None:
        with atomic_writer(tmp_path / "a") as file:
            file.write(content)

    write_file(b"old")

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


async def test_two_runs_that_end_together_keep_both_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a journal of its own, and the same stories: neither loses what the other wrote."""
    for name in "jk":
        async with opened_journal(tmp_path / f"{name}.db") as journal:
            for n in range(30):
                row = story(f"s{n}", n, f"k{n}")
                await add_row(journal, row, n, BatchState.RUNNING, id=f"{name}{n}")
            await add_row(journal, story("unsent", 9, "u"), 999)

    elsewhere = attrs.evolve(DONE, key="x", journal="x.db")
    (tmp_path / RESULTS).write_bytes(line_of(elsewhere.to_json()))
    is_known = writer._is_known

    async def slow(journal: Journal, record: Record, name: str) -> bool:
        for _ in range(50):  # the other run has time to read what is there
            await journal.counts()
        return await is_known(journal, record, name)

    monkeypatch.setattr(writer, "_is_known", slow)

    async def end(name: str) -> Written:
        async with opened_journal(tmp_path / f"{name}.db") as journal:
            options = {"title": "Comics", "speed": 1.0, "began": BEGAN}
            return await write_results(tmp_path, journal, Unrecorded(), **options)  # type: ignore[arg-type]  # the options are mixed

    written = await asyncio.gather(end("j"), end("k"))
    found = [(one["journal"], one["id"]) for one in results(tmp_path)]
    assert len(found) == len(set(found)) == 63
    paid = {id_ for _, id_ in found if id_}
    assert paid == {"cmc_1", *(f"{a}{n}" for a in "jk" for n in range(30))}
    # What the other journal has not sent is not sent by this command.
    assert {one.counts[BatchState.QUEUED] for one in written} == {1}


async def test_a_run_without_a_journal_leaves_those_of_journals_alone(tmp_path: Path) -> None:
    """The demo in the folder of a real batch does not cost its ids."""
    paid = attrs.evolve(DONE, key="k", journal="j.db")
    (tmp_path / RESULTS).write_bytes(line_of(paid.to_json()))
    unrecorded = Unrecorded()
    unrecorded.add(attrs.evolve(DONE, id="of the demo"))
    options = {"title": "Comics", "speed": 1.0, "began": BEGAN}
    written = await write_results(tmp_path, None, unrecorded, **options)  # type: ignore[arg-type]  # the options are mixed
    assert [one["id"] for one in results(tmp_path)] == ["of the demo", "cmc_1"]
    assert written.counts.total() == 1


async def test_comics_of_a_journal_that_was_lost_stay_in_the_results(tmp_path: Path) -> None:
    """The ids are there for those who go on without it, and nobody is asked again."""
    lost = attrs.evolve(DONE, key="k", journal="j.db", id="paid")
    (tmp_path / RESULTS).write_bytes(line_of(lost.to_json()))
    with pytest.raises(JournalError, match="paid"):
        await write(tmp_path, Unrecorded())
    journal = Journal(tmp_path / "j.db", NOBODY, start_over=True)
    async with journal:
        await add_row(journal, story("a cat", 1, "k"), 0)
        options = {"title": "Comics", "speed": 1.0, "began": BEGAN}
        await write_results(tmp_path, journal, Unrecorded(), **options)  # type: ignore[arg-type]  # the options are mixed
    assert [(one["id"], one["journal"]) for one in results(tmp_path)] == [
        (None, "j.db"),
        ("paid", ""),
    ]
    await write(tmp_path, Unrecorded())
    assert len(results(tmp_path)) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("name", [RESULTS, "index.html"])
async def test_a_pipe_in_the_folder_is_not_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert is_foreign(tmp_path) is (name == "index.html")
    with pytest.raises(CommandError, match=f"--out .*{name}"):
        prepared_folder(str(tmp_path))
    await write(tmp_path, Unrecorded())  # it takes the pipe's place


async def test_a_full_disk_leaves_results_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stories of stdin that the journal can't take in are in the results all the same."""
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, story("a", 1), 0, BatchState.RUNNING, id="c1")
        row = await add_row(journal, story("b", 2), 1, BatchState.SENDING)
        assert row.state is BatchState.SENDING

        async def full(*_: Any, **__: Any) -> None:
            raise JournalError("the disk is full")

        monkeypatch.setattr(journal, "add", full)
        unrecorded = Unrecorded()
        unrecorded.add(UNSENT)
        options = {"title": "Comics", "speed": 1.0, "began": BEGAN, "keep_unsent": True}
        await write_results(tmp_path, journal, unrecorded, **options)  # type: ignore[arg-type]  # the options are mixed
    assert [(one["state"], one["id"]) for one in results(tmp_path)] == [
        ("running", "c1"),
        ("uncertain", None),
        ("queued", None),
    ]
