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
from llamagen_async.ratelimit.protocol import Grant, NoSlot, Outcome
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.window_log import WindowLog
from tests.support.grants import delay_of
from tests.support.sqlite_ledgers import (
    FOUR,
    Gate,
    LedgerFactory,
    cancel_in_the_middle,
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
        await ledger.commit(grant, Outcome())
    no_slot = await ledger.reserve("next")
    assert no_slot == NoSlot(60.0, FOUR.limits[0])
    factory.clock.now += 59.5
    (last,) = await take(ledger)
    assert last.early_by == pytest.approx(0.5)


async def test_what_was_spent_survives_a_restart(factory: LedgerFactory) -> None:
    first = factory()
    grants = await take(first, 4)
    await first.commit(grants[0], Outcome())
    await first.commit(grants[1], Outcome(refused=True, retry_after=30))
    await first.aclose()
    second = factory()
    snapshot = await second.snapshot()
    assert (snapshot.windows[0].used, snapshot.in_flight) == (4, 2)
    assert snapshot.paused_for == pytest.approx(30)
    await second.commit(grants[2], Outcome())
    assert (await second.snapshot()).in_flight == 1


async def test_two_ledgers_on_one_file_share_the_count(factory: LedgerFactory) -> None:
    one, other = factory(), factory()
    for ledger in (one, other, one, other):
        await take(ledger)
    assert isinstance(await one.reserve("a"), NoSlot)
    assert isinstance(await other.reserve("b"), NoSlot)
    assert await used_slots(one) == await used_slots(other) == [4]


async def test_the_wait_queue_is_shared_first_come_first_served(factory: LedgerFactory) -> None:
    one, other = factory(ahead=0.0), factory(ahead=0.0)
    for grant in await take(one, 4):
        factory.clock.now += 1
        await other.commit(grant, Outcome())
    delays = [await delay_of(ledger, name) for ledger, name in ((one, "x"), (other, "y"))]
    assert delays == pytest.approx([57.0, 58.0])
    factory.clock.now += 57
    assert isinstance(await other.reserve("y"), NoSlot)
    assert isinstance(await one.reserve("x"), Grant)


async def test_names_and_speeds_have_counts_of_their_own(factory: LedgerFactory) -> None:
    ledgers = [factory(), factory(name="b"), factory(speed=60)]
    await take(ledgers[0], 3)
    assert [await used_slots(ledger) for ledger in ledgers] == [[3], [0], [0]]


async def test_slots_of_a_process_that_is_gone_come_back(factory: LedgerFactory) -> None:
    await take(factory(lease=100.0), 4)
    factory.clock.now += 100 + 60
    await take(factory(), 4)


async def test_a_plan_of_short_windows_keeps_what_a_longer_one_needs(
    factory: LedgerFactory,
) -> None:
    demo, paid = factory(plan=Plan.DEMO), factory(plan=Plan.PAID)
    for _ in range(3):
        for grant in await take(demo, 4):
            await demo.commit(grant, Outcome())
        factory.clock.now += 61
    for _ in range(3):
        await take(paid, 1)
        await paid.record(1)
        factory.clock.now += 61
    assert (await used_slots(demo))[1] == 12 + 2 * 3
    assert isinstance(await demo.reserve("waiter"), NoSlot)
    demo.change_plan(Plan.PAID)
    assert isinstance(await demo.reserve("waiter"), Grant)
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
    await ledger.commit(grant, Outcome())
    assert await delay_of(ledger, "next") == pytest.approx(300)


async def test_projected_and_snapshot_change_nothing(factory: LedgerFactory) -> None:
    ledger = factory()
    await take(ledger, 4)
    before = stored_state(factory.path)
    factory.clock.now += 30
    assert (await ledger.projected(5)).delay > 0
    await ledger.snapshot()
    assert stored_state(factory.path) == before


async def test_a_random_history_is_that_of_a_window_log_in_memory(factory: LedgerFactory) -> None:
    """Several ledgers on one file, some of them short-lived, do what one window log does."""
    plan = Plan("two windows", limits=(RateLimit(3, per=10), RateLimit(8, per=100)))
    random_ = random.Random(5)
    log = WindowLog(plan, lease=40.0, ahead=1.0)
    ledgers = [factory(plan=plan, lease=40.0) for _ in range(3)]
    held: list[Grant] = []
    for _ in range(300):
        factory.clock.now += random_.choice([0, 0, 0.25, 1, 3])
        now, ledger = factory.clock.now, random_.choice(ledgers)
        match random_.choice(
            ["reserve", "reserve", "commit", "give_back", "cancel_wait", "restart"]
        ):
            case "reserve":
                waiter_id = random_.choice("abc")
                answer, expected = await ledger.reserve(waiter_id), log.reserve(waiter_id, now)
                if isinstance(answer, Grant):
                    held.append(answer)
                    assert answer.slot == expected.slot  # type: ignore[union-attr]
                else:
                    assert answer.delay == expected.ask_at - now  # type: ignore[union-attr]
            case "commit" if held:
                grant = held.pop(random_.randrange(len(held)))
                await ledger.commit(grant, Outcome())
                log.spend(grant.slot, now)
                log.throttle.accept(grant.granted_at)
            case "give_back" if held:
                grant = held.pop(random_.randrange(len(held)))
                await ledger.give_back(grant)
                log.give_back(grant.slot)
            case "cancel_wait":
                ledger.cancel_wait("b")
                await ledger.snapshot()
                log.cancel_wait("b")
            case "restart":
                await ledger.aclose()
            case _:
                pass
        used = [state.used for state in log.states(now)]
        assert await used_slots(random_.choice(ledgers)) == used


async def test_listeners_hear_of_slots_and_positions_given_up_here(
    factory: LedgerFactory, gate: Gate
) -> None:
    ledger, other = factory(), factory()
    heard: list[str] = []
    unsubscribe = ledger.subscribe(lambda: heard.append("changed"))
    gate.open.set()
    one, two = await take(ledger, 2)
    await ledger.commit(one, Outcome())
    assert heard == []
    await ledger.give_back(two)
    ledger.cancel_wait("waiter")
    await ledger.snapshot()
    assert heard == ["changed"] * 2
    other.cancel_wait("waiter")
    await cancel_in_the_middle(gate, ledger.reserve("waiter"))
    await ledger.snapshot()
    assert heard == ["changed"] * 3
    unsubscribe()
    ledger.cancel_wait("waiter")
    await ledger.snapshot()
    assert heard == ["changed"] * 3


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
    ledger = SQLiteLedger(tmp_path / "quota.db", name="a", plan=FOUR, lease=900)
    grants: list[Grant | NoSlot] = []

    async def use() -> None:
        grants.append(await ledger.reserve("waiter"))

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(grant, Grant) for grant in grants) == 4
    asyncio.run(ledger.aclose())
    assert not ledger_threads()


def test_a_reservation_of_a_loop_that_has_ended_is_undone(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "quota.db", name="a", plan=FOUR, lease=900)

    async def begin() -> None:
        task = asyncio.ensure_future(ledger.reserve("waiter"))
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(begin())
    assert asyncio.run(used_slots(ledger)) == [0]
    asyncio.run(ledger.aclose())


_FORK = """
import asyncio, os, sys
from llamagen_async import Plan
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger

ledger = SQLiteLedger(sys.argv[1], name="a", plan=Plan.PAID, lease=900)
asyncio.run(ledger.reserve("parent"))
child = os.fork()
asyncio.run(ledger.reserve("either"))
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(asyncio.run(ledger.snapshot()).in_flight)
asyncio.run(ledger.aclose())
os._exit(0) if not child else None
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_a_connection_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORK, str(tmp_path / "quota.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("3", 0), done.stderr
