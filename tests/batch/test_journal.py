"""The journal's file: what is acknowledged is on disk, and nobody else's file is touched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    BadRequestError,
    BatchState,
    ComicGeneration,
    ComicRequest,
    InvalidRequestError,
    JournalError,
    SubmissionUncertainError,
)
from llamagen_async.batch.journal import database
from llamagen_async.batch.journal.codec import Story
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.rows import AccountId, Row
from llamagen_async.errors import LlamaGenError
from tests.support.cli import environment

ORIGIN = AccountId.of("the-key", "https://api.example/v1")
HELD = """
import sys
from pathlib import Path
from llamagen_async.batch.journal.lock import JournalLock

owner = JournalLock(Path(sys.argv[1]))
owner.take()
print("mine", flush=True)
sys.stdin.readline()
"""


@contextlib.asynccontextmanager
async def opened(path: Path | None, origin: AccountId = ORIGIN) -> Any:
    journal = Journal(path, origin)
    try:
        await journal.open()
        yield journal
    finally:
        await journal.aclose()


def comic(id_: str = "c1", status: str = "PENDING") -> ComicGeneration:
    return ComicGeneration.parse({"id": id_, "status": status, "new": {"field": 1}})


async def added(journal: Journal, prompt: str = "a cat", key: str | None = None) -> Row:
    row, _ = await journal.add(Story.parse(prompt, key))
    return row


async def changed(journal: Journal, row: Row, *states: BatchState, **news: Any) -> Row:
    for state in states:
        row = await journal.change(row, state, origins=tuple(BatchState), **news)
    return row


def raw(path: Path, sql: str) -> list[Any]:
    """Ask the file itself, through a connection of our own."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(sql).fetchall()
        connection.commit()
        return rows


# --- what is in it ------------------------------------------------------------------------------


@pytest.mark.parametrize("lasting", [True, False])
async def test_a_story_is_remembered(tmp_path: Path, *, lasting: bool) -> None:
    """Content, key, state, id, times, pictures and attempts, as they were given."""
    request = ComicRequest("a cat", size="512x768", extra={"mood": "dark", "style": 3})
    async with opened(tmp_path / "run.db" if lasting else None) as journal:
        row, is_new = await journal.add(Story.parse(request, "order-42"), urgent=True)
        assert (is_new, row.key, row.state, row.attempts) == (True, "order-42", "queued", 0)
        assert row.request == request
        assert row.urgent
        row = await changed(journal, row, BatchState.SENDING)
        assert row.sent_at is not None
        row = await changed(journal, row, BatchState.RUNNING, generation=comic())
        assert (row.generation_id, row.generation) == ("c1", comic())
        accepted_at = row.accepted_at
        done = comic("c1", "SUCCEEDED")
        row = await changed(journal, row, BatchState.SUCCEEDED, generation=done)
        row = await changed(journal, row, BatchState.SUCCEEDED, files=["a.png", "b/c.png"])
        again, is_new = await journal.add(Story.parse(request, "order-42"))
        assert not is_new
        assert again.state is BatchState.SUCCEEDED
        assert (again.generation, again.files) == (done, ("a.png", "b/c.png"))
        assert (again.attempts, again.accepted_at) == (1, accepted_at)
        assert again.ended_at is not None
        assert again.queued_at <= again.ended_at
        assert again.error(request, done) is None
        assert await journal.counts() == {BatchState.SUCCEEDED: 1}


async def test_it_survives_being_closed(tmp_path: Path) -> None:
    """Who opens the file again finds it as it was; only one file holds it then."""
    path = tmp_path / "new folder" / "run.db"
    async with opened(path) as journal:
        row = await added(journal, key="k")
        await changed(journal, row, BatchState.RUNNING, generation=comic())
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.db", "run.db-owner"]
    async with opened(path) as journal:
        found = await journal.get("k")
        assert found is not None
        assert (found.state, found.generation_id) == (BatchState.RUNNING, "c1")
        assert await journal.get("another") is None


async def test_what_was_being_sent_is_uncertain(tmp_path: Path) -> None:
    """After a crash nobody knows what came of it; it says when it was sent."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await changed(journal, await added(journal, key="k"), BatchState.SENDING)
    async with opened(path) as journal:
        row = await journal.get("k")
        assert row is not None
        assert (row.state, row.attempts) == (BatchState.UNCERTAIN, 1)
        error = row.error(row.request, None)
        assert isinstance(error, SubmissionUncertainError)
        assert error.request == ComicRequest("a cat")
        assert "it was sent at 20" in error.reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BadRequestError(422, "bad_size", "no such size", {"a": 1}), "HTTP 422 bad_size: no such"),
        (InvalidRequestError("prompt", 3, "text"), "prompt: got '3', allowed is text"),
        (SubmissionUncertainError(None, "a timeout"), "the answer to a billed request was lost"),
        (KeyError("odd"), "'odd'"),
    ],
)
async def test_errors_survive_in_kind_and_words(error: Exception, words: str) -> None:
    """What is told after a restart is what was told before."""
    async with opened(None) as journal:
        row = await changed(journal, await added(journal), BatchState.FAILED, error=error)
        kept = row.error(None, None)
        assert isinstance(kept, type(error) if isinstance(error, LlamaGenError) else LlamaGenError)
        assert str(kept).startswith(words)


async def test_late_news_change_nothing(tmp_path: Path) -> None:
    """What must have been in another state before stays as it is, and is returned."""
    async with opened(None) as journal:
        row = await added(journal)
        row = await changed(journal, row, BatchState.RUNNING, generation=comic())
        late = await journal.change(row, BatchState.UNCERTAIN, origins=(BatchState.SENDING,))
        assert late.state is BatchState.RUNNING


# --- keys ---------------------------------------------------------------------------------------


async def test_equal_stories_are_counted_and_others_do_not_move_them(tmp_path: Path) -> None:
    """A line that is inserted above does not make other stories of those below it."""
    path = tmp_path / "run.db"
    before = ["a", "b", "a", "a"]
    after = ["new", "a", "a", "b", "a", "a"]
    async with opened(path) as journal:
        first = [(await added(journal, prompt)).id for prompt in before]
        assert len(set(first)) == 4
    async with opened(path) as journal:
        rows = [await journal.add(Story.parse(prompt)) for prompt in after]
        assert [is_new for _, is_new in rows] == [True, False, False, False, False, True]
        assert {row.id for row, is_new in rows if not is_new} == set(first)


async def test_content_is_what_is_sent(tmp_path: Path) -> None:
    """The spelling of a field and the order of fields make no other story."""
    same: list[Any] = [
        ComicRequest("a", fix_panel_num=3, size="512x768"),
        {"size": "512x768", "fixPanelNum": 3, "prompt": "a"},
        {"prompt": "a", "fix_panel_num": 3, "size": "512x768"},
    ]
    other: list[Any] = [{"prompt": "a", "fix_panel_num": 3}, {"prompt": "a", "size": "512x768"}]
    assert len({Story.parse(given).digest for given in same}) == 1
    assert len({Story.parse(given).digest for given in [*other, same[0]]}) == 3


async def test_a_key_belongs_to_one_story() -> None:
    """Another content under the same key is refused; the field is named."""
    async with opened(None) as journal:
        await added(journal, "a", "k")
        with pytest.raises(InvalidRequestError, match=r"^key: got 'k', allowed is a key of its"):
            await added(journal, "b", "k")
        assert (await added(journal, "a", "k")).id == 1
        with pytest.raises(InvalidRequestError, match=r"^key"):
            await journal.seek(Story.parse("b", "k"))


@pytest.mark.parametrize("bad", ["", " ", True, 1.5, ["x"], "x" * 501, "\ud800"])
def test_a_key_is_text_or_a_number(bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^key: got"):
        Story.parse({"prompt": "a", "key": bad})


def test_a_key_is_not_sent() -> None:
    """It is the user's, and no field of the API."""
    story = Story.parse({"prompt": "a", "key": 42})
    assert (story.key, story.request.to_payload()) == ("42", {"prompt": "a"})
    assert Story.parse({"prompt": "a", "key": None}).key is None


@pytest.mark.parametrize(
    "request_",
    [
        ComicRequest("\x00 \ud800 ü 🐈"),
        ComicRequest("a", extra={"size": "9x9", "b": {1: 2, "c": 3}}),
        ComicRequest("a", pagination={"total_pages": 1, "panels_per_page": 2}, images="data:x"),
        ComicRequest(prompt_url="https://x", comic_roles=[{"name": "x", "age": 3}], upscale=True),
    ],
)
async def test_odd_stories_come_back_as_they_were(request_: ComicRequest) -> None:
    async with opened(None) as journal:
        row, _ = await journal.add(Story.parse(request_))
        assert row.request.to_payload() == Story.parse(row.request).request.to_payload()
        assert Story.parse(row.request).digest == row.digest


# --- one commit for many ------------------------------------------------------------------------


async def test_what_comes_at_once_shares_a_commit(tmp_path: Path) -> None:
    """A hundred writes cost two commits or so, and none of them is on the loop's thread."""
    threads: list[int] = []
    sizes: list[int] = []

    class Watched(Database):
        def _together(self, operations: Any, *, write: bool) -> list[Any]:
            threads.append(threading.get_ident())
            sizes.append(len(operations))
            return super()._together(operations, write=write)

    journal = Journal(tmp_path / "run.db", ORIGIN)
    journal._database.__class__ = Watched
    await journal.open()
    rows = await asyncio.gather(*(added(journal, f"s{n}") for n in range(100)))
    await journal.aclose()
    assert [row.id for row in rows] == list(range(1, 101))
    assert max(sizes) >= 90
    assert threading.get_ident() not in threads


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
    """These settings are what makes an acknowledged write survive a power cut."""
    async with opened(tmp_path / "run.db") as journal:
        for name, value in {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1}.items():
            found = await journal._database.run(
                lambda one, name=name: one.execute(f"PRAGMA {name}").fetchone()[0], write=False
            )
            assert found == value


# --- one owner ----------------------------------------------------------------------------------


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


# --- whose file it is ---------------------------------------------------------------------------


def make_foreign(path: Path) -> None:
    raw(path, "CREATE TABLE theirs (x)")


def make_newer(path: Path) -> None:
    raw(path, "PRAGMA user_version = 99")


def make_text(path: Path) -> None:
    path.write_text("these are my stories\n" * 100, encoding="utf-8")


def make_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def make_ledger(path: Path) -> None:
    raw(path, f"PRAGMA application_id = {0x6C6C6771}")


@pytest.mark.parametrize(
    ("make", "is_ours", "words"),
    [
        (make_foreign, False, "database of another program; name another file"),
        (make_ledger, False, "database of another program; name another file"),
        (make_newer, True, "a newer version of llamagen-async wrote it (schema 99"),
        (make_text, False, "file is not a database; name another file"),
        (make_folder, False, "unable to open database file; name a file, not a folder"),
    ],
)
async def test_another_file_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], words: str, *, is_ours: bool
) -> None:
    path = tmp_path / "run.db"
    if is_ours:
        async with opened(path):
            pass
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(JournalError) as caught:
        await Journal(path, ORIGIN).open()
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (AccountId.of("the-key", "https://other.example/v1"), "https://other.example/v1"),
        (AccountId.of("another-key", "https://api.example/v1"), "another API key"),
    ],
)
async def test_another_server_or_key_is_refused(
    tmp_path: Path, origin: AccountId, words: str
) -> None:
    """Its ids mean nothing there. The key is in neither the message nor the file."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await added(journal)
    with pytest.raises(JournalError, match=words) as caught:
        await Journal(path, origin).open()
    assert "the-key" not in str(caught.value)
    assert "another-key" not in str(caught.value)
    assert b"the-key" not in path.read_bytes()
    async with opened(path) as journal:
        assert (await journal.counts()) == {BatchState.QUEUED: 1}


async def test_a_damaged_row_is_told(tmp_path: Path) -> None:
    """It is an error that says where, and not a crash or a guess."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await added(journal, "a", "k")
    raw(path, "UPDATE job SET state = 'dancing'")
    async with opened(path) as journal:
        with pytest.raises(JournalError, match=r"run\.db: it is damaged"):
            await journal.get("k")


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


async def test_a_damaged_lock_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.db-owner").write_text("x" * 5_000)
    with pytest.raises(JournalError, match=r"run\.db-owner: .*; move that file away"):
        await Journal(tmp_path / "run.db", ORIGIN).open()


# --- when it can't be written -------------------------------------------------------------------


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


async def test_another_program_may_look_at_it(tmp_path: Path) -> None:
    """While a batch runs, its journal can be read with any SQLite tool."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await added(journal, "a", "k")
        with contextlib.closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT key, state FROM job").fetchall() == [("k", "queued")]
            await added(journal, "b")


async def test_nothing_is_said_of_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with opened(tmp_path / "run.db") as journal:
            assert "the-key" not in repr(vars(journal))
    assert "the-key" not in caplog.text
    assert "the-key" not in repr(ORIGIN)


async def test_a_forked_process_does_not_wait_for_a_thread_it_has_not(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as journal:
        journal._database._process = 1
        with pytest.raises(JournalError, match="closed"):
            await added(journal)
        journal._database._process = os.getpid()


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
