"""Cancelled operations on the SQLite file, and the end of a ledger: nothing is lost or left."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading

import pytest

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit import ANSWERED, Outcome, Workload
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.sqlite.store import SQLiteStore
from llamagen_async.ratelimit.window_log import WindowLog
from llamagen_async.stored_values import StoreError
from tests.support.claims import claim
from tests.support.sqlite_ledgers import (
    Gate,
    LedgerFactory,
    cancel_in_the_middle,
    ledger_threads,
    stored_state,
    take,
    used_slots,
)


async def test_a_cancelled_reserve_keeps_neither_slot_nor_position(
    factory: LedgerFactory, gate: Gate
) -> None:
    ledger = factory()
    await cancel_in_the_middle(gate, ledger.reserve(claim("cancelled")))
    assert await used_slots(ledger) == [0]
    await take(ledger, 4)
    await cancel_in_the_middle(gate, ledger.reserve(claim("gone")))
    assert (await ledger.snapshot()).waiting == {}


async def test_a_cancelled_reserve_gives_up_what_its_claim_had_before(
    factory: LedgerFactory, gate: Gate
) -> None:
    """A slot that was granted and a position that was told are asked for again and given up."""
    ledger = factory()
    gate.open.set()
    assert isinstance(await ledger.reserve(claim("held")), Grant)
    await cancel_in_the_middle(gate, ledger.reserve(claim("held")))
    assert await used_slots(ledger) == [0]
    await take(ledger, 4)
    await ledger.reserve(claim("waits"))
    assert (await ledger.snapshot()).waiting != {}
    await cancel_in_the_middle(gate, ledger.reserve(claim("waits")))
    assert (await ledger.snapshot()).waiting == {}


async def test_a_cancelled_commit_is_committed(factory: LedgerFactory, gate: Gate) -> None:
    ledger = factory()
    gate.open.set()
    one, _ = await take(ledger, 2)
    refused = Outcome(refused=True, retry_after=9)
    await cancel_in_the_middle(gate, ledger.commit(one, refused, Workload()))
    snapshot = await ledger.snapshot()
    assert (snapshot.in_flight, snapshot.windows[0].used, snapshot.paused_for) == (1, 2, 9)
    await cancel_in_the_middle(gate, ledger.record(2, pause=20))
    assert await used_slots(ledger) == [4]
    assert (await ledger.snapshot()).paused_for == 20


async def test_aclose_does_not_wait_for_a_disk_that_hangs(
    factory: LedgerFactory, gate: Gate
) -> None:
    """Nobody can end what hangs in the operating system; the thread ends when that returns."""
    ledger = factory(path=SQLiteStore(factory.path, timeout=0.05))
    with pytest.raises(StoreError, match="no answer within"):
        await ledger.reserve(claim("hangs"))
    await ledger.aclose()
    (name,) = ledger_threads()
    (thread,) = (one for one in threading.enumerate() if one.name == name)
    gate.open.set()
    await asyncio.to_thread(thread.join, 10)
    assert not ledger_threads()


async def test_aclose_waits_for_cancelled_operations(factory: LedgerFactory, gate: Gate) -> None:
    ledger = factory()
    task = asyncio.ensure_future(ledger.reserve(claim("cancelled")))
    await asyncio.to_thread(gate.reached.wait, 10)
    task.cancel()
    closing = asyncio.ensure_future(ledger.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.open.set()
    await closing
    assert task.cancelled()
    assert not ledger_threads()
    assert stored_state(factory.path)["held"] == []


async def test_a_reservation_that_is_cancelled_during_aclose_is_released(
    factory: LedgerFactory, gate: Gate
) -> None:
    ledger = factory()
    task = asyncio.ensure_future(ledger.reserve(claim("cancelled")))
    await asyncio.to_thread(gate.reached.wait, 10)
    closing = asyncio.ensure_future(ledger.aclose())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert task.cancelled()
    gate.open.set()
    await closing
    assert not ledger_threads()
    assert stored_state(factory.path)["held"] == []


@pytest.mark.parametrize("seed", range(5))
async def test_cancelling_at_any_moment_leaks_nothing(factory: LedgerFactory, seed: int) -> None:
    random_ = random.Random(seed)
    ledger = factory(plan=Plan("many", limits=RateLimit(1_000, per=60)))
    kept: list[Grant] = []

    async def work(number: int) -> None:
        grant = await ledger.reserve(claim(f"slot {number}", f"client {number}"))
        assert isinstance(grant, Grant)
        kept.append(grant)
        if number % 3 == 0:
            await ledger.commit(grant, ANSWERED, Workload())

    tasks = [asyncio.ensure_future(work(number)) for number in range(60)]
    while not all(task.done() for task in tasks):
        random_.choice(tasks).cancel()
        for _ in range(random_.randrange(4)):
            await asyncio.sleep(0)
        await asyncio.sleep(random_.random() / 1_000)
    await asyncio.wait(tasks)
    assert await used_slots(ledger) == [len(kept)]
    assert (await ledger.snapshot()).waiting == {}
    await ledger.aclose()
    assert not ledger_threads()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failure_that_nobody_waits_for_is_logged(
    factory: LedgerFactory,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed release raises nothing either."""
    ledger = factory()
    gate.open.set()
    one, two = await take(ledger, 2)

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("the disk is gone")

    monkeypatch.setattr(WindowLog, "dump", gate.before(broken))
    await cancel_in_the_middle(gate, ledger.commit(one, ANSWERED, Workload()))
    ledger.release(two.id, two.client)
    await ledger.aclose()
    assert caplog.text.count("the disk is gone") == 2
