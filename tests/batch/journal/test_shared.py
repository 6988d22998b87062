"""A journal that several workers have open: names, leases, locks, and what the dead have left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import BatchState, JournalError
from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.network_disk import network_type
from llamagen_async.batch.journal.schema import prepare
from llamagen_async.batch.journal.shared import SharedJournal
from llamagen_async.batch.journal.workers import LEASE, Worker, others, renew
from tests.support.journals import ORIGIN, added, changed, comic, raw

pytestmark = pytest.mark.virtual_time

QUEUED, SENDING, RUNNING = BatchState.QUEUED, BatchState.SENDING, BatchState.RUNNING
SUCCEEDED, UNCERTAIN = BatchState.SUCCEEDED, BatchState.UNCERTAIN


@asynccontextmanager
async def worker(path: Path) -> AsyncIterator[SharedJournal]:
    journal = SharedJournal(path, ORIGIN)
    await journal.open()
    await journal.beat()
    try:
        yield journal
    finally:
        await journal.aclose()


def crash(journal: SharedJournal) -> None:
    """Let go of everything as a process does that is killed."""
    database = journal._database
    assert database._connection is not None
    assert database.lock is not None
    assert database.reserve is not None
    database._connection.close()
    database.lock.release()
    os.close(database.reserve._file)
    database.reserve._file, database._connection = -1, None


def files(folder: Path, pattern: str = "*") -> set[str]:
    return {file.name for file in folder.glob(pattern)}


async def test_of_several_workers_that_would_send_a_story_one_does(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        row = await added(first, "a", "k")
        origins = (QUEUED, SENDING)
        mine = await first.change(row, SENDING, origins=origins)
        theirs = await second.change(row, SENDING, origins=origins)
        assert mine.worker == first.worker == theirs.worker
        assert (mine.attempts, theirs.attempts) == (1, 1)
        again = await first.change(mine, SENDING, origins=origins)
        assert (again.worker, again.attempts) == (first.worker, 2)


async def test_a_worker_of_which_nothing_was_heard_loses_its_stories(tmp_path: Path) -> None:
    """A create on its way is uncertain, a comic that runs is another's; late answers count."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        rows = [await added(first, f"s{n}", f"k{n}") for n in range(3)]
        sent = [await changed(first, row, SENDING) for row in rows]
        await changed(first, sent[0], RUNNING, generation=comic("c0"))
        assert (await second.beat()).mine == ()
        await asyncio.sleep(LEASE / 2)
        await second.beat()
        await asyncio.sleep(LEASE / 2 + 1)
        beat = await second.beat()
        assert beat.took_over
        assert beat.mine == (rows[0].id,)
        assert [state for (state,) in raw(path, "SELECT state FROM job")] == [
            "running",
            "uncertain",
            "uncertain",
        ]
        assert (await first.beat()).was_gone
        assert await first.lost([], [rows[0].id]) == {rows[0].id}
        late = await first.change(
            sent[1], RUNNING, origins=tuple(BatchState), generation=comic("c1")
        )
        assert (late.state, late.worker) == (RUNNING, first.worker)
        refused = await first.change(sent[2], QUEUED, origins=(SENDING,))
        assert refused.state is QUEUED


async def test_what_was_sent_again_keeps_its_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer to an earlier attempt does not replace the newer one's; the log has both."""
    path = tmp_path / "run.db"
    async with worker(path) as first, worker(path) as second:
        row = await changed(first, await added(first, "a", "k"), SENDING)
        await asyncio.sleep(LEASE + 1)
        await second.beat()
        again = await second.change(row, QUEUED, origins=(UNCERTAIN,))
        sent = await second.change(again, SENDING, origins=(QUEUED,))
        await second.change(sent, RUNNING, origins=(SENDING,), generation=comic("new"))
        late = await first.change(row, RUNNING, origins=tuple(BatchState), generation=comic("old"))
        assert late.generation_id == "new"
        assert "old" in caplog.text


async def test_who_comes_alone_takes_everything_over_at_once(tmp_path: Path) -> None:
    """Nobody else holds the lock, so all others are dead, whatever their leases say."""
    path = tmp_path / "run.db"
    async with worker(path) as first:
        row = await changed(first, await added(first, "a", "k"), SENDING)
        await changed(first, await added(first, "b", "l"), SENDING, RUNNING, generation=comic())
        third = await changed(
            first, await added(first, "c", "m"), SENDING, RUNNING, generation=comic("c3")
        )
        await first.let_go(third, JournalError("given up"))
        crash(first)
        async with worker(path) as second:
            assert [(one.state, one.worker) async for one in second.rows()] == [
                (UNCERTAIN, None),
                (RUNNING, second.worker),
                (RUNNING, second.worker),
            ]
            assert raw(path, "SELECT error FROM job WHERE key = 'm'") == [(None,)]
            assert row.worker != second.worker


async def test_what_a_dead_worker_had_noted_on_a_full_disk_is_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.db"
    transact = Database._transact
    async with worker(path) as first, worker(path) as second:
        row = await changed(first, await added(first, "a", "k"), SENDING)

        def full(self: Database, operations: Any, *, write: bool) -> Any:
            if self is first._database:
                raise JournalError("disk is full")
            return transact(self, operations, write=write)

        with monkeypatch.context() as patch:
            patch.setattr(Database, "_transact", full)
            await changed(first, row, RUNNING, generation=comic("paid"))
        assert len(files(tmp_path, "run.db-ids-*")) == 2
        crash(first)
        await asyncio.sleep(LEASE + 1)
        assert (await second.beat()).mine == (row.id,)
        found = await second.get("k")
        assert found is not None
        assert (found.state, found.generation_id) == (RUNNING, "paid")
        assert len(files(tmp_path, "run.db-ids-*")) == 1


async def test_what_a_living_worker_has_noted_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when others take over from a dead one: it would be lost if they removed its file."""
    path = tmp_path / "run.db"
    transact = Database._transact
    async with worker(path) as first, worker(path) as second, worker(path) as dead:
        row = await changed(first, await added(first, "a", "k"), SENDING)
        unsent = await changed(dead, await added(dead, "b", "l"), SENDING)

        def full(self: Database, operations: Any, *, write: bool) -> Any:
            if self is first._database:
                raise JournalError("disk is full")
            return transact(self, operations, write=write)

        with monkeypatch.context() as patch:
            patch.setattr(Database, "_transact", full)
            await changed(first, row, RUNNING, generation=comic("paid"))
        crash(dead)
        dead._database.reserve = None  # as the process has
        with contextlib.closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE worker SET beat = beat - 1e9 WHERE token = ?", (dead.worker,))
        assert (await second.beat()).took_over
        left = {name for (name,) in raw(path, "SELECT state FROM job WHERE key = 'l'")}
        assert (left, unsent.state) == ({"uncertain"}, SENDING)
        assert raw(path, "SELECT state FROM job WHERE key = 'k'") == [("sending",)]
        assert f"run.db-ids-{first.worker}" in files(tmp_path)


async def test_who_could_not_write_all_that_it_knows_is_not_gone_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others look after its stories as after those of a worker that has died."""
    path = tmp_path / "run.db"
    async with worker(path) as second:
        async with worker(path) as first:
            row = await changed(
                first, await added(first, "a", "k"), SENDING, RUNNING, generation=comic()
            )
            with monkeypatch.context() as patch:
                patch.setattr(first._rows, "behind", {row.id: row})
                await first._farewell()
            crash(first)
        assert (await second.beat()).took_over


async def test_who_says_farewell_leaves_no_name(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with worker(path) as second:
        async with worker(path) as first:
            row = await changed(
                first, await added(first, "a", "k"), SENDING, RUNNING, generation=comic()
            )
        assert raw(path, "SELECT count(*) FROM worker") == [(1,)]
        assert (await second.beat()).mine == (row.id,)
    assert files(tmp_path) == {"run.db", "run.db-owner", "run.db-queue"}
    async with worker(path):
        pass


async def test_a_journal_that_a_queue_had_is_a_batchs_again(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with worker(path) as first:
        row = await changed(
            first, await added(first, "a", "k"), SENDING, RUNNING, generation=comic()
        )
        await first.let_go(row, JournalError("given up"))
        assert raw(path, "SELECT worker, error IS NULL FROM job") == [("", 0)]
        with pytest.raises(JournalError, match="a queue works with this journal"):
            await Journal(path, ORIGIN).open()
    journal = Journal(path, ORIGIN)
    await journal.open()
    with pytest.raises(JournalError, match="works with this journal alone"):
        await SharedJournal(path, ORIGIN).open()
    await journal.aclose()
    assert raw(path, "SELECT worker, error IS NULL FROM job") == [(None, 1)]


@pytest.mark.parametrize(
    ("change", "is_dead"),
    [
        ({}, False),
        ({"place": "another-boot/pid:[1]"}, True),
        ({"process": 2**22 + 1}, True),
        ({"process": 2**22 + 1, "place": "boot/pid:[2]"}, False),
        ({"process": 2**22 + 1, "place": "/"}, False),
        ({"beat": -LEASE - 1}, True),
        ({"beat": LEASE + 1}, True),
        ({"beat": LEASE - 1}, False),
    ],
    ids=["alive", "boot", "process", "other space", "unknown", "silent", "ahead", "skewed"],
)
def test_who_counts_as_dead(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], *, is_dead: bool
) -> None:
    """Told by the boot, by a process that is gone where process ids are comparable, or by time."""
    monkeypatch.setattr("llamagen_async.batch.journal.workers.sys.platform", "linux")
    me = Worker("me", ORIGIN, place="boot/pid:[1]")
    beat = change.pop("beat", 0.0)
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        prepare(None, connection)
        renew(attrs.evolve(me, token="other", **change), 1_000 + beat, connection)
        alive, dead = others(me, 1_000, connection)
    assert (len(alive), dead) == ((0, ["other"]) if is_dead else (1, []))


async def test_a_fork_shares_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was made before is the child's own, under a name of its own; an open one is not."""
    path = tmp_path / "run.db"
    made = SharedJournal(path, ORIGIN)
    name = made.worker
    async with worker(path) as open_one:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            with pytest.raises(JournalError, match="before this process was forked"):
                await open_one.get("k")
            await made.open()
            assert made.worker not in (name, open_one.worker)
            await made.beat()
            await made.aclose()


async def test_a_fork_that_is_alone_works_for_the_same_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt of it is taken in by who comes next, with the same key only."""
    path = tmp_path / "run.db"
    made = SharedJournal(path, ORIGIN)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        await made.open()
        await made.beat()
        row = await changed(made, await added(made, "a", "k"), SENDING)

        def full(_self: Database, _operations: Any, *, write: bool) -> Any:
            raise JournalError(f"disk is full ({write})")

        with patch.context() as no_room:
            no_room.setattr(Database, "_transact", full)
            await changed(made, row, RUNNING, generation=comic("paid"))
        crash(made)
    other = SharedJournal(path, AccountId.of("another-key", ORIGIN.base_url))
    with pytest.raises(JournalError, match="another API key"):
        await other.open()
    async with worker(path) as second:
        found = await second.get("k")
        assert found is not None
        assert (found.state, found.generation_id) == (RUNNING, "paid")


def test_network_disks_are_told(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    line = "36 35 {} / /mnt rw,noatime master:1 - {} server:/export rw\n"
    for type_, told in (("nfs4", "nfs4"), ("cifs", "cifs"), ("ext4", None), ("9p", None)):
        mounts.write_text(line.format("0:0", "nfs") + line.format(number, type_))
        assert network_type(tmp_path, mounts) == told
    assert network_type(tmp_path, tmp_path / "none") is None
    assert network_type(tmp_path) is None


async def test_a_journal_on_a_network_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "llamagen_async.batch.journal.network_disk.network_type", lambda _path: "nfs4"
    )
    with pytest.raises(JournalError, match=r"network file system \(nfs4\)"):
        await SharedJournal(tmp_path / "run.db", ORIGIN).open()
    assert not files(tmp_path)
