"""Workers of one journal: who goes on with a comic, and what they tell each other through it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, ClientClosedError, JournalError
from llamagen_async.batch.journal.codec import AccountId, Row
from llamagen_async.batch.journal.shared import Beat, SharedJournal
from llamagen_async.batch.journal.workers import LEASE, pass_on
from tests.support.journals import ORIGIN, added, changed, comic, raw

pytestmark = pytest.mark.virtual_time

QUEUED, SENDING, RUNNING = BatchState.QUEUED, BatchState.SENDING, BatchState.RUNNING
SUCCEEDED, UNCERTAIN = BatchState.SUCCEEDED, BatchState.UNCERTAIN


@asynccontextmanager
async def worker(path: Path | None, **options: Any) -> AsyncIterator[SharedJournal]:
    journal = SharedJournal(path, ORIGIN, **options)
    await journal.open()
    await journal.beat()
    try:
        yield journal
    finally:
        await journal.aclose()


def a_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def kill(process: subprocess.Popen[bytes], *, is_reaped: bool) -> None:
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if is_reaped else os.WNOWAIT))


async def running(journal: SharedJournal, key: str) -> Row:
    row = await added(journal, f"story {key}", key)
    return await changed(journal, row, SENDING, RUNNING, generation=comic(f"c-{key}"))


async def succeeded(journal: SharedJournal, key: str) -> Row:
    done = comic(f"c-{key}", "SUCCEEDED")
    return await changed(journal, await running(journal, key), SUCCEEDED, generation=done)


async def found(journal: SharedJournal, key: str) -> Row:
    row = await journal.get(key)
    assert row is not None
    return row


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whether a process has ended")
@pytest.mark.parametrize("is_reaped", [True, False])
async def test_a_worker_whose_process_has_ended_is_dead_at_once(
    tmp_path: Path, *, is_reaped: bool
) -> None:
    """Also if its parent does not ask how it has ended, which some servers take a minute for."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        row = await running(first, "k")
        with a_process() as process:
            with closing(sqlite3.connect(path)) as file, file:
                file.execute(
                    "UPDATE worker SET process = ? WHERE token = ?", (process.pid, first.worker)
                )
            assert (await second.beat()).mine == ()
            kill(process, is_reaped=is_reaped)
            beat = await second.beat()
        assert (beat.took_over, beat.mine) == (True, (row.id,))


async def test_a_comic_that_was_given_up_is_whose_asks_for_it(tmp_path: Path) -> None:
    """A comic that another worker waits for stays there; why one was given up is forgotten."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        row = await running(first, "k")
        assert (await second.claim(row)).worker == first.worker
        await first.let_go(row, JournalError("no patience"))
        given_up = await found(second, "k")
        assert given_up.worker == ""
        assert "no patience" in str(given_up.error_text)
        assert (await second.beat()).mine == ()
        mine = await second.claim(given_up)
        assert (mine.worker, mine.error_text) == (second.worker, None)
        assert (await first.claim(row)).worker == second.worker
        await first.let_go(row, JournalError("not its own any more"))
        assert (await found(first, "k")).error_text is None


@pytest.mark.parametrize("has_out", [True, False])
async def test_pictures_that_are_missing_are_somebodys(tmp_path: Path, *, has_out: bool) -> None:
    """With a folder a comic that succeeded goes on until its pictures are there."""
    path = tmp_path / "run.db"
    out = {"out": tmp_path / "out"} if has_out else {}
    async with worker(path, **out) as first, worker(path, **out) as second:
        row = await succeeded(first, "k")
        assert row.worker == (first.worker if has_out else None)
        await first.let_go(row, JournalError("no room"))
        claimed = await second.claim(await found(second, "k"))
        assert claimed.worker == (second.worker if has_out else None)
        whole = await changed(second, claimed, SUCCEEDED, files=["a.png"])
        assert (whole.worker, whole.files) == (None, ("a.png",))
        assert (await first.claim(whole)).worker is None


async def test_only_what_was_accepted_can_be_claimed(tmp_path: Path) -> None:
    """A story that waits belongs to nobody, one that may be lost neither."""
    async with worker(tmp_path / "run.db", out=tmp_path / "out") as one:
        waits = await added(one, "a", "waits")
        lost = await changed(one, await added(one, "b", "lost"), SENDING, UNCERTAIN)
        failed = await changed(one, await running(one, "f"), BatchState.FAILED)
        for row in (waits, lost, failed):
            assert (await one.claim(row)).worker is None


async def test_who_closes_leaves_its_comics_to_the_others_at_once(tmp_path: Path) -> None:
    """One at a time as their waits end, or all that it has, and takes nothing over then."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        rows = [await running(first, key) for key in "abc"]
        await first.let_go(rows[0], ClientClosedError("closed"))
        row = await found(second, "a")
        assert (row.worker, row.error_text) == ("*", None)
        assert await second.has_orphans()
        assert (await second.beat()).mine == (rows[0].id,)
        assert not await second.has_orphans()
        await first.give_back()
        assert await second.has_orphans()
        assert (await first.beat()).mine == ()
        assert (await second.beat()).mine == tuple(row.id for row in rows)
        assert {row.worker async for row in second.rows()} == {second.worker}
        assert await first.lost([], [row.id for row in rows]) == {row.id for row in rows}


async def test_a_story_that_another_worker_sends_is_lost_to_who_would_have_sent_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        rows = [await added(first, key, key) for key in "ab"]
        await changed(second, rows[0], SENDING)
        waiting = [row.id for row in rows]
        assert await first.lost(waiting, []) == {rows[0].id}
        assert await first.lost([rows[1].id], []) == set()
        mine = await running(first, "c")
        assert await first.lost([], [mine.id]) == set()


async def test_workers_follow_how_far_comics_are_drawn(tmp_path: Path) -> None:
    """Only of what is the worker's own and runs; others notice that something was written."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        mine, theirs = await running(first, "m"), await running(second, "t")
        done = await succeeded(first, "d")
        before, marks = await second.version(), await second.marks(["m", "t", "nobody's"])
        assert await second.version() == before
        assert set(marks) == {"m", "t"}
        drawn = comic("c-m", "PROCESSING")
        await first.progress({row.id: drawn for row in (mine, theirs, done)})
        assert await second.version() != before
        assert (await found(second, "m")).generation == drawn
        assert (await found(second, "t")).generation == comic("c-t")
        assert (await found(second, "d")).generation == comic("c-d", "SUCCEEDED")
        news = await second.marks(["m", "t"])
        assert news["m"] != marks["m"]
        assert news["t"] == marks["t"]
        await changed(first, mine, SUCCEEDED, generation=comic("c-m", "SUCCEEDED"))
        assert (await second.marks(["m"]))["m"] != news["m"]


async def test_events_reach_the_other_workers_once(tmp_path: Path) -> None:
    """Each event since a worker was last asked, in their order; old ones are forgotten."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        await first.pass_on("before")
        assert await second.passed_on() == [], "it hears what comes from now on"
        await first.pass_on("one")
        await first.pass_on("two")
        assert await second.passed_on() == ["one", "two"]
        assert await second.passed_on() == []
        for offset in (-601, 601):
            raw(path, f"UPDATE event SET at = at + {offset} WHERE text = 'one'")
            await first.pass_on(f"three {offset}")
            assert "one" not in {text for (text,) in raw(path, "SELECT text FROM event")}
            raw(path, "UPDATE event SET text = 'one' WHERE text = 'two'")
        raw(path, "UPDATE event SET at = at - 590")
        await first.pass_on("four")
        assert len(await second.passed_on()) == 3


def test_events_cost_the_same_however_many_there_are(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine; and more are forgotten than come."""
    path, now = tmp_path / "run.db", 1_000_000.0

    async def make() -> None:
        async with worker(path):
            pass

    asyncio.run(make())
    steps: list[int] = []
    with closing(sqlite3.connect(path)) as connection:

        def passed_on(at: float) -> int:
            steps.clear()
            pass_on("event", at, connection)
            return len(steps)

        connection.set_progress_handler(lambda: steps.append(1), 1)
        few = [passed_on(now) for _ in range(20)][-1]
        assert [passed_on(now) for _ in range(300)][-1] <= few
        for _ in range(50):
            passed_on(now + 601)
        (left,) = connection.execute("SELECT count(*) FROM event WHERE at = ?", (now,)).fetchone()
        assert left == 0


async def test_without_a_file_there_are_no_others() -> None:
    """Nothing is done that workers do for each other."""
    async with worker(None) as alone:
        row = await running(alone, "k")
        assert row.worker is None
        assert await alone.beat() == Beat(0)
        assert await alone.claim(row) == row
        await alone.progress({row.id: comic("c-k", "PROCESSING")})
        await alone.pass_on("event")
        await alone.let_go(row, JournalError("no patience"))
        await alone.give_back()
        after = await found(alone, "k")
        assert (after.generation, after.error_text, after.worker) == (comic("c-k"), None, None)
        assert await alone.passed_on() == []


async def test_workers_of_another_key_are_refused(tmp_path: Path) -> None:
    """Before anything was accepted, too: their comics must never be in one file."""
    path = tmp_path / "run.db"
    async with worker(path):
        other = SharedJournal(path, AccountId.of("another-key", ORIGIN.base_url))
        await other.open()
        with pytest.raises(JournalError, match=r"run\.db: .*another API key"):
            await other.beat()
        await other.aclose()
        assert raw(path, "SELECT count(*) FROM worker") == [(1,)]


async def test_a_worker_counts_the_others_that_are_alive(tmp_path: Path) -> None:
    """And tells once that one was found to be dead; a lease that had run out is told once, too."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second, worker(path) as third:
        assert [(await one.beat()).others for one in (first, second, third)] == [2, 2, 2]
        await asyncio.sleep(LEASE - 1)
        await second.beat()
        await asyncio.sleep(2)
        beat = await second.beat()
        assert (beat.others, beat.took_over, beat.was_gone) == (0, True, False)
        beat = await second.beat()
        assert (beat.others, beat.took_over) == (0, False)
        back = await first.beat()
        assert (back.others, back.was_gone) == (1, True)
        assert not (await first.beat()).was_gone


async def test_an_attempt_renews_the_lease_in_the_same_transaction(tmp_path: Path) -> None:
    """A worker that was taken for dead is registered before anybody sees that it sends."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        row = await added(first, "a", "k")
        await asyncio.sleep(LEASE + 1)
        await second.beat()
        assert raw(path, "SELECT count(*) FROM worker") == [(1,)]
        sent = await changed(first, row, SENDING)
        assert sent.worker == first.worker
        beat = await second.beat()
        assert (beat.others, beat.took_over) == (1, False)
        assert (await found(second, "k")).state is SENDING
        assert (await first.beat()).was_gone, "others may have taken what it had before"


async def test_what_is_known_not_to_have_been_accepted_waits_again(tmp_path: Path) -> None:
    """Though it was feared lost meanwhile; not if somebody has sent it again."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        rows = [await changed(first, await added(first, key, key), SENDING) for key in "ab"]
        await asyncio.sleep(LEASE + 1)
        await second.beat()
        assert (await found(second, "a")).state is UNCERTAIN
        back = await first.change(rows[0], QUEUED, origins=(SENDING,))
        assert (back.state, back.worker) == (QUEUED, None)
        again = await second.change(rows[1], QUEUED, origins=(UNCERTAIN,))
        sent = await second.change(again, SENDING, origins=(QUEUED,))
        await second.change(sent, UNCERTAIN, origins=(SENDING,))
        late = await first.change(rows[1], QUEUED, origins=(SENDING,))
        assert (late.state, late.attempts) == (UNCERTAIN, 2)


async def test_an_answer_to_an_earlier_attempt_counts_until_the_newer_one_has_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The comic is paid for; who has sent the story again hears of its own answer."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        row = await changed(first, await added(first, "a", "k"), SENDING)
        await asyncio.sleep(LEASE + 1)
        await second.beat()
        again = await second.change(row, QUEUED, origins=(UNCERTAIN,))
        await second.change(again, SENDING, origins=(QUEUED,))
        caplog.clear()
        late = await first.change(row, RUNNING, origins=tuple(BatchState), generation=comic("old"))
        assert (late.state, late.generation_id, late.attempts) == (RUNNING, "old", 2)
        assert not caplog.records
