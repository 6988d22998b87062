"""The thread of the ledger in a SQLite file: the only user of the file, and never waited for."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.ratelimit import ANSWERED, Workload
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.sqlite.store import SQLiteStore
from llamagen_async.ratelimit.window_log import WindowLog
from llamagen_async.simulation import VirtualTimeLoop
from tests.support.claims import claim
from tests.support.sqlite_ledgers import (
    LONG,
    WIDE,
    Gate,
    LedgerFactory,
    ManualClock,
    fails,
    ledger_threads,
    take,
    used_slots,
)


async def test_operations_are_done_in_the_order_in_which_they_were_asked_for(
    factory: LedgerFactory, gate: Gate
) -> None:
    """Also those that nobody waits for."""
    ledger, done = factory(plan=WIDE), list[str]()
    gate.open.set()
    one, two = await take(ledger, 2)
    gate.open.clear()
    committing = asyncio.ensure_future(ledger.commit(one, ANSWERED, Workload()))
    committing.add_done_callback(lambda _: done.append("committed"))
    await asyncio.sleep(0)
    ledger.release(two.id, two.client)
    asking = asyncio.ensure_future(used_slots(ledger))
    asking.add_done_callback(lambda _: done.append("asked"))
    await asyncio.sleep(0.01)
    assert done == []
    gate.open.set()
    assert await asking == [1]
    assert done == ["committed", "asked"]


async def test_the_event_loop_goes_on_while_another_process_has_the_lock(
    factory: LedgerFactory,
) -> None:
    """Nothing is done twice."""
    ledger = factory(plan=WIDE)
    await take(ledger, 2)
    with contextlib.closing(sqlite3.connect(factory.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asking = asyncio.ensure_future(ledger.reserve(claim("waits")))
        await asyncio.sleep(0.05)
        assert not asking.done()
        other.execute("COMMIT")
        assert isinstance(await asking, Grant)
    assert await used_slots(ledger) == [3]


async def test_a_disk_that_hangs_does_not_hang_the_event_loop(
    factory: LedgerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, gate = factory(), Gate()
    await take(ledger, 2)
    with monkeypatch.context() as hanging:
        hanging.setattr(WindowLog, "dump", gate.before(WindowLog.dump))
        hanging.setattr(ledger._store, "timeout", 0.03)
        await fails(ledger, str(factory.path), "no answer within 0.03 s")
    gate.open.set()
    # The slot that nobody waited for any more was released.
    assert await used_slots(ledger) == [2]


def test_loops_in_several_threads_never_use_the_file_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the ledger was closed before: then each operation may have a thread of its own."""
    ledger = SQLiteLedger(tmp_path / "quota.db", name="a", plan=WIDE, times=LONG)
    inside, dump, most = list[None](), WindowLog.dump, list[int]()

    def counting(*arguments: Any) -> dict[str, Any]:
        inside.append(None)
        most.append(len(inside))
        try:
            return dump(*arguments)
        finally:
            inside.pop()

    monkeypatch.setattr(WindowLog, "dump", counting)

    async def use() -> None:
        for grant in await take(ledger, 30):
            if int(grant.id.split()[-1]) % 2:
                ledger.release(grant.id, grant.client)
        await ledger.snapshot()

    for rounds in (1, 2):
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(asyncio.run, use()) for _ in range(4)]:
                done.result()
        assert max(most) == 1
        assert asyncio.run(ledger.snapshot()).in_flight == rounds * 4 * 15
        asyncio.run(ledger.aclose())
        assert not ledger_threads()


async def test_after_closing_the_order_is_kept_and_no_thread_stays(
    factory: LedgerFactory,
) -> None:
    ledger = factory(plan=WIDE)
    await ledger.aclose()
    for number in range(20):
        (grant,) = await take(ledger)
        ledger.release(grant.id, grant.client)
        assert await used_slots(ledger) == [0], number
    await ledger.aclose()
    assert not ledger_threads()


async def test_what_was_reported_before_closing_is_in_the_file(
    factory: LedgerFactory, gate: Gate
) -> None:
    """Also if nobody waited for the report."""
    ledger = factory(plan=WIDE)
    gate.open.set()
    one, two = await take(ledger, 2)
    gate.open.clear()
    committing = asyncio.ensure_future(ledger.commit(one, ANSWERED, Workload()))
    await asyncio.sleep(0)
    ledger.release(two.id, two.client)
    closing = asyncio.ensure_future(ledger.aclose())
    await asyncio.sleep(0)
    committing.cancel()
    gate.open.set()
    await closing
    seen = await factory(plan=WIDE).snapshot()
    assert (seen.in_flight, seen.windows[0].used) == (0, 1)


def test_in_virtual_time_no_thread_is_needed(tmp_path: Path) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        path = tmp_path / "quota.db"
        ledger = SQLiteLedger(path, name="a", plan=WIDE, times=LONG, now=loop.time)
        (grant, _) = await take(ledger, 2)
        await ledger.commit(grant, ANSWERED, Workload())
        await asyncio.sleep(59)
        used = await used_slots(ledger)
        await asyncio.sleep(2)
        used += await used_slots(ledger)
        await ledger.aclose()
        assert loop.time() == 61
        return used

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == [2, 1]
    assert not ledger_threads()


async def test_ledgers_that_share_a_store_share_its_thread(factory: LedgerFactory) -> None:
    """The thread ends when the last of them is closed, and begins again when it is needed."""
    store = SQLiteStore.shared(factory.path)
    assert SQLiteStore.shared(str(factory.path)) is store
    one, other = factory(path=store), factory(path=store, name="b")
    await take(one, 2)
    await take(other)
    assert len(ledger_threads()) == 1
    await one.aclose()
    assert len(ledger_threads()) == 1
    assert await used_slots(other) == [1]
    await other.aclose()
    assert not ledger_threads()
    assert await used_slots(one) == [2]


@pytest.mark.parametrize("is_forked", [False, True])
async def test_the_connection_of_a_ledger_that_was_collected_is_closed(
    factory: LedgerFactory, *, is_forked: bool
) -> None:
    """Though nobody has closed it; in a process that was forked it is kept instead."""
    ledger = factory()
    await take(ledger)
    connection = ledger._store._file._connection
    assert connection is not None
    if is_forked:
        ledger._store._file._process = 0
    factory.made.clear()
    del ledger
    gc.collect()
    # The thread may be the last one that has the file: a connection can't be used while it closes.
    for thread in threading.enumerate():
        if thread.name in ledger_threads():
            await asyncio.to_thread(thread.join, 10)
    if is_forked:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.close()
    else:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_time_is_up_when_nothing_has_ended_for_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of operations of other keys may be done before: that takes as long as it takes."""
    store, time = SQLiteStore(tmp_path / "quota.db"), ManualClock(10.0)
    monkeypatch.setattr("llamagen_async.ratelimit.sqlite.store.monotonic", time)
    assert store.time_left(9.0) == 1.0
    store.tell_end(None)
    assert store.time_left(9.0) == 2.0
    time.now = 12.0
    assert store.time_left(9.0) == 0.0
    assert store.time_left(11.5) == 1.5
