"""The count in a SQLite file: shared, kept, and the same as that of a window log in memory."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llamagen_async.plans import DAY, Plan, RateLimit
from llamagen_async.ratelimit import ANSWERED, NoSlot, Outcome, Priority, WaitingRequests, Workload
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from tests.support.claims import claim
from tests.support.sqlite_ledgers import (
    FOUR,
    LONG,
    LedgerFactory,
    delay_of,
    ledger_threads,
    stored_state,
    take,
    used_slots,
)


async def test_a_slot_is_back_a_window_after_the_response(factory: LedgerFactory) -> None:
    ledger = factory()
    grants = await take(ledger, 4)
    factory.clock.now += 7
    for grant in grants:
        await ledger.commit(grant, ANSWERED, Workload())
    no_slot = await ledger.reserve(claim("next"))
    assert isinstance(no_slot, NoSlot)
    assert (no_slot.delay, no_slot.limit) == (60.0, FOUR.limits[0])
    factory.clock.now += 59.5
    assert await delay_of(ledger, "next") == pytest.approx(0.5)
    factory.clock.now += 0.5
    assert isinstance(await ledger.reserve(claim("next")), Grant)


async def test_what_was_spent_survives_a_restart(factory: LedgerFactory) -> None:
    first = factory()
    grants = await take(first, 4)
    await first.commit(grants[0], ANSWERED, Workload())
    await first.commit(grants[1], Outcome(refused=True, retry_after=30), Workload())
    await first.aclose()
    second = factory()
    snapshot = await second.snapshot()
    assert (snapshot.windows[0].used, snapshot.in_flight) == (4, 2)
    assert snapshot.paused_for == pytest.approx(30)
    await second.commit(grants[2], ANSWERED, Workload())
    assert (await second.snapshot()).in_flight == 1


async def test_two_ledgers_on_one_file_share_the_count(factory: LedgerFactory) -> None:
    one, other = factory(), factory()
    for ledger in (one, other, one, other):
        await take(ledger)
    assert isinstance(await one.reserve(claim("a")), NoSlot)
    assert isinstance(await other.reserve(claim("b")), NoSlot)
    assert await used_slots(one) == await used_slots(other) == [4]


async def test_a_slot_is_one_slot_whatever_ledger_is_asked_for_it(
    factory: LedgerFactory,
) -> None:
    """A process that was cut short asks again, or gives up what it may have got."""
    one, other = factory(), factory()
    for ledger in (one, other, one):
        assert isinstance(await ledger.reserve(claim("same")), Grant)
    assert await used_slots(one) == [1]
    other.release("unknown", "client")
    assert await used_slots(other) == [1]
    other.release("same", "client")
    assert await used_slots(other) == await used_slots(one) == [0]


async def test_the_wait_queue_is_shared_by_priority_first_come_first_served(
    factory: LedgerFactory,
) -> None:
    one, other = factory(), factory()
    for grant in await take(one, 4):
        factory.clock.now += 1
        await other.commit(grant, ANSWERED, Workload())
    delays = [
        (await ledger.reserve(claim(name, name, priority))).delay  # type: ignore[union-attr]
        for ledger, name, priority in (
            (one, "batch", Priority.BATCH),
            (other, "first", Priority.INTERACTIVE),
            (one, "second", Priority.INTERACTIVE),
        )
    ]
    assert delays == pytest.approx([57.0, 57.0, 58.0])
    assert (await one.snapshot()).waiting == {Priority.INTERACTIVE: 2, Priority.BATCH: 1}
    factory.clock.now += 57
    assert await delay_of(one, "second", "second") == pytest.approx(1.0)
    assert isinstance(await one.reserve(claim("batch", "batch", Priority.BATCH)), NoSlot)
    assert isinstance(await other.reserve(claim("first", "first")), Grant)


async def test_clients_of_other_processes_are_told_of_each_other(factory: LedgerFactory) -> None:
    """Every answer has the waiting requests and the text of the others, until they leave."""
    one, other = factory(plan=Plan.DEMO), factory(plan=Plan.DEMO)
    waiting = (WaitingRequests(Priority.BATCH, 3, 8.0, 2.0),)
    (grant,) = await take(one, 1, "one")
    state = await one.commit(grant, ANSWERED, Workload(waiting, '"learned"'))
    assert (state.peers, state.quota_left) == ((), 14)
    factory.clock.now += 2
    (told,) = await take(other, 1, "other")
    (peer,) = told.state.peers
    assert (peer.client, peer.age, peer.text) == ("one", 2.0, '"learned"')
    assert peer.waiting == (WaitingRequests(Priority.BATCH, 3, 10.0, 4.0),)
    assert (len(told.state.returning), told.state.quota_left) == (2, 13)
    assert (await one.snapshot()).clients == 2
    one.release("", "one", leaves=True)
    assert (await one.snapshot()).clients == 1
    assert (await other.commit(told, ANSWERED, Workload())).peers == ()


async def test_names_and_speeds_have_counts_of_their_own(factory: LedgerFactory) -> None:
    ledgers = [factory(), factory(name="b"), factory(speed=60)]
    await take(ledgers[0], 3)
    assert [await used_slots(ledger) for ledger in ledgers] == [[3], [0], [0]]


async def test_slots_of_a_process_that_is_gone_come_back(factory: LedgerFactory) -> None:
    await take(factory(times=LedgerTimes(lease=100.0)), 4)
    factory.clock.now += 100 + 60
    await take(factory(), 4)


async def test_a_plan_of_short_windows_keeps_what_a_longer_one_needs(
    factory: LedgerFactory,
) -> None:
    demo, paid = factory(plan=Plan.DEMO), factory(plan=Plan.PAID)
    for _ in range(3):
        for grant in await take(demo, 4):
            await demo.commit(grant, ANSWERED, Workload())
        factory.clock.now += 61
    for _ in range(3):
        await take(paid, 1)
        await paid.record(1)
        factory.clock.now += 61
    assert (await used_slots(demo))[1] == 12 + 2 * 3
    assert isinstance(await demo.reserve(claim("next")), NoSlot)
    demo.change_plan(Plan.PAID)
    assert isinstance(await demo.reserve(claim("next")), Grant)
    factory.clock.now += DAY + 900
    assert await used_slots(factory(plan=Plan.DEMO)) == [0, 0]


async def test_old_requests_are_dropped_from_the_file(factory: LedgerFactory) -> None:
    await take(factory(plan=Plan.DEMO))
    paid = factory(plan=Plan.PAID)
    for _ in range(50):
        factory.clock.now += 60
        await paid.record(10)
    assert len(stored_state(factory.path)["spent"]) <= 15 + 20


async def test_windows_that_are_aligned_follow_the_wall_clock(factory: LedgerFactory) -> None:
    plan = Plan("day", limits=RateLimit(1, per=DAY, aligned=True))
    ledger = factory(plan=plan, wall=lambda: factory.clock.now + 5 * DAY - 1_000 - 300)
    (grant,) = await take(ledger)
    await ledger.commit(grant, ANSWERED, Workload())
    assert await delay_of(ledger, "next") == pytest.approx(300)


async def test_a_snapshot_changes_nothing(factory: LedgerFactory) -> None:
    ledger = factory()
    await take(ledger, 4)
    before = stored_state(factory.path)
    factory.clock.now += 30
    assert (await ledger.snapshot(position=5)).next_free_in > 0
    assert stored_state(factory.path) == before


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_history_is_that_of_a_window_log_in_memory(
    factory: LedgerFactory, seed: int
) -> None:
    """Several ledgers on one file, some of them short-lived, do what one window log does."""
    plan = Plan("two windows", limits=(RateLimit(3, per=10), RateLimit(8, per=100)))
    times = LedgerTimes(lease=40.0, grace=2.0, client_lease=50.0, silence=8.0)
    random_ = random.Random(seed)
    log = WindowLog(plan, times)
    ledgers = [factory(plan=plan, times=times) for _ in range(3)]
    held: list[Grant] = []
    for number in range(300):
        factory.clock.now += random_.choice([0, 0, 0.25, 1, 3, 3, 60 * (number % 40 == 7)])
        now, ledger = factory.clock.now, random_.choice(ledgers)
        client = random_.choice("abc")
        waiting = WaitingRequests(random_.choice(list(Priority)), random_.randrange(1, 4), 5.0, 1.0)
        workload = Workload((waiting,) * random_.randrange(2), f"text {number}")
        match random_.choice(["reserve"] * 4 + ["commit"] * 2 + ["release", "record", "restart"]):
            case "reserve":
                name = f"{client} {random_.randrange(2)} {number // 10}"
                priority = random_.choice(list(Priority))
                asked = claim(name, client, priority, waited=1.0, workload=workload)
                answer = await ledger.reserve(asked)
                assert answer == log.reserve(asked, now)
                if isinstance(answer, Grant):
                    held.append(answer)
            case "commit" if held:
                grant = held.pop(random_.randrange(len(held)))
                outcome = random_.choice([ANSWERED, ANSWERED, Outcome(True, None, 3, 0)])
                told = await ledger.commit(grant, outcome, workload)
                assert told == log.commit(grant, outcome, workload, now)
            case "release":
                name = held.pop().id if held and number % 2 else f"{client} 0 {number // 10}"
                leaves = not random_.randrange(4)
                ledger.release(name, client, leaves=leaves)
                await ledger.snapshot()
                log.release(name, client, now, leaves=leaves)
            case "record":
                await ledger.record(1, pause=number % 3)
                log.record(1, now, pause=number % 3)
            case "restart":
                await ledger.aclose()
            case _:
                pass
        position = random_.randrange(3)
        seen = await random_.choice(ledgers).snapshot(position=position)
        assert seen == log.snapshot(now, position=position)


async def test_a_closed_ledger_still_answers_and_ends_its_thread_again(
    factory: LedgerFactory,
) -> None:
    ledger = factory()
    await ledger.aclose()
    await take(ledger, 1)
    await ledger.aclose()
    assert await used_slots(ledger) == [1]
    await ledger.aclose()
    assert not ledger_threads()


def test_several_event_loops_use_one_ledger(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "quota.db", name="a", plan=FOUR, times=LONG)
    grants: list[Grant | NoSlot] = []

    async def use(name: str) -> None:
        grants.append(await ledger.reserve(claim(name)))

    threads = [threading.Thread(target=asyncio.run, args=(use(name),)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(grant, Grant) for grant in grants) == 4
    asyncio.run(ledger.aclose())
    assert not ledger_threads()


def test_a_reservation_of_a_loop_that_has_ended_is_undone(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "quota.db", name="a", plan=FOUR, times=LONG)

    async def begin() -> None:
        task = asyncio.ensure_future(ledger.reserve(claim("next")))
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(begin())
    assert asyncio.run(used_slots(ledger)) == [0]
    asyncio.run(ledger.aclose())


_FORK = """
import asyncio, os, sys
from llamagen_async import Plan
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from tests.support.claims import claim

ledger = SQLiteLedger(sys.argv[1], name="a", plan=Plan.PAID, times=LedgerTimes(lease=900.0))
asyncio.run(ledger.reserve(claim("parent")))
child = os.fork()
asyncio.run(ledger.reserve(claim(f"either {child}")))
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(asyncio.run(ledger.snapshot()).in_flight)
asyncio.run(ledger.aclose())
os._exit(0) if not child else None
"""


_FORK_MEANWHILE = """
import asyncio, os, sys, threading
from llamagen_async import Plan
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.sqlite.store import SQLiteStore

COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT {}"
inside, forking = threading.Event(), threading.Event()
store, steps = SQLiteStore.shared(sys.argv[1]), []


def use(connection):
    inside.set()
    forking.wait()
    for _ in range(200):
        connection.execute(COUNT.format(2000)).fetchall()
        steps.append(None)


async def main():
    await store.submit(store, use)


os.register_at_fork(before=forking.set)
thread = threading.Thread(target=asyncio.run, args=(main(),))
thread.start()
inside.wait()
child = os.fork()
if not child:
    ledger = SQLiteLedger(store, name="a", plan=Plan.PAID, times=LedgerTimes(lease=900.0))
    asyncio.run(ledger.record(1))
    os._exit(len(steps) != 200)
thread.join()
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(("script", "printed"), [(_FORK, "3"), (_FORK_MEANWHILE, "0")])
def test_a_forked_process_has_a_connection_of_its_own(
    tmp_path: Path, script: str, printed: str
) -> None:
    """No process is forked while a thread uses the file: its child would wait for that thread."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "quota.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == (printed, 0), done.stderr
