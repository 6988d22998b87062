"""The contract of all ledgers: one suite over memory, SQLite and Redis."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.ratelimit import (
    ANSWERED,
    KeyState,
    NoSlot,
    Outcome,
    Priority,
    WaitingRequests,
    Workload,
)
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import MAX_BLOB, Grant, Ledger
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.window_log import LedgerTimes
from tests.support.claims import IDLE_WORKLOAD, claim
from tests.support.redis_server import RedisServer, connection_to

PAID = Plan.PAID
ONE = Plan("one", limits=RateLimit(1, per=60))
THREE = Plan("three", limits=RateLimit(3, per=60))
TIMES = LedgerTimes(lease=30.0, grace=5.0, client_lease=3600.0, silence=8.0)
BATCH, CHECK, OVERDUE, READ = Priority.BATCH, Priority.CHECK, Priority.OVERDUE, Priority.READ

Make = Callable[..., Ledger]
names = itertools.count()


class ManualClock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def make(
    request: pytest.FixtureRequest, time: ManualClock, tmp_path: Path
) -> AsyncIterator[Make]:
    """Make ledgers of one account; two ledgers of a store share the count."""
    made: list[Ledger] = []
    options: dict[str, Any] = {"name": uuid.uuid4().hex, "times": TIMES, "now": time}

    def ledger(plan: Plan = THREE) -> Ledger:
        one: Ledger
        if request.param == "memory":
            one = made[0] if made else MemoryLedger(plan, time, TIMES)
        elif request.param == "sqlite":
            one = SQLiteLedger(tmp_path / "quota.db", plan=plan, **options)
        else:
            server: RedisServer = request.getfixturevalue("redis_server")
            one = RedisLedger(connection_to(server.url), plan=plan, speed=1.0, **options)
        made.append(one)
        return one

    yield ledger
    for one in made:
        await one.aclose()


async def ask(
    ledger: Ledger, client: str = "a", priority: Priority = BATCH, **fields: Any
) -> Grant | NoSlot:
    """Ask for a slot, with a new id unless one is given."""
    name = fields.pop("name", f"{client}.{next(names)}")
    return await ledger.reserve(claim(name, client, priority, **fields))


async def granted(ledger: Ledger, client: str = "a", **fields: Any) -> Grant:
    """Reserve a slot that has to be free."""
    answer = await ask(ledger, client, **fields)
    assert isinstance(answer, Grant)
    assert answer.client == client
    return answer


async def no_slot(ledger: Ledger, client: str = "a", **fields: Any) -> NoSlot:
    """Ask for a slot that must not be free."""
    answer = await ask(ledger, client, **fields)
    assert isinstance(answer, NoSlot)
    return answer


async def spend(ledger: Ledger, number: int = 1, outcome: Outcome = ANSWERED) -> KeyState:
    """Reserve and answer `number` requests."""
    for _ in range(number):
        grant = await granted(ledger)
        state = await ledger.commit(grant, outcome, IDLE_WORKLOAD)
    return state


async def used(ledger: Ledger) -> int:
    return (await ledger.snapshot()).windows[0].used


async def test_a_slot_is_back_a_window_after_the_response(make: Make, time: ManualClock) -> None:
    """Not after the grant, however long the answer took."""
    ledger = make()
    grants = [await granted(ledger) for _ in range(3)]
    time.now += 20
    for grant in grants:
        state = await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    assert state.returning == pytest.approx([60, 60, 60])
    time.now += 40
    assert (await no_slot(ledger)).delay == pytest.approx(20)
    time.now += 20
    assert (await granted(ledger)).state.returning == pytest.approx([60])


async def test_a_count_is_bounded_whatever_is_reported(make: Make, time: ManualClock) -> None:
    """More requests than fill every window change nothing, and cost nothing."""
    ledger = make()
    await spend(ledger)
    await ledger.record(10**8)
    assert await used(ledger) == 1 + 3
    time.now += 60
    assert await used(ledger) == 0


async def test_to_ask_twice_with_an_id_is_to_ask_once(make: Make, time: ManualClock) -> None:
    """The slot has a whole lease from then on: nothing was sent in it before."""
    ledger, other = make(ONE), make(ONE)
    for wait in (0, 29, 29):
        time.now += wait
        await granted(ledger, name="a.1")
    time.now += 89.5
    await no_slot(other, "b")
    assert await used(ledger) == 1
    time.now += 0.5
    await granted(other, "b")


async def test_a_slot_is_given_up_or_spent_once(make: Make) -> None:
    """Whichever is reported first; what nobody knows changes nothing."""
    ledger = make()
    first, second = await granted(ledger), await granted(ledger)
    ledger.release(first.id, "a")
    ledger.release("unknown", "a")
    await ledger.commit(first, ANSWERED, IDLE_WORKLOAD)
    await ledger.commit(second, ANSWERED, IDLE_WORKLOAD)
    await ledger.commit(second, ANSWERED, IDLE_WORKLOAD)
    ledger.release(second.id, "a")
    assert await used(ledger) == 1


async def test_a_slot_nobody_reports_on_comes_back_by_its_lease(
    make: Make, time: ManualClock
) -> None:
    """As if its answer had come when the lease was over."""
    ledger = make(ONE)
    grant = await granted(ledger)
    time.now += 89
    await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    await no_slot(ledger)
    time.now += 1
    await granted(ledger)


async def test_slots_go_by_priority_and_then_by_waiting_time(make: Make, time: ManualClock) -> None:
    """Over all clients, and whoever asked first."""
    ledger, other = make(ONE), make(ONE)
    await spend(ledger)
    order = [("e", CHECK, 9.0), ("d", BATCH, 1.0), ("c", BATCH, 5.0), ("b", READ, 0.0)]
    for client, priority, waited in order:
        delay = (await no_slot(ledger, client, priority=priority, waited=waited)).delay
        assert delay == pytest.approx(60), "nobody else waits yet that goes before"
        ledger.release(f"{client}.{next(names) - 1}", client)
    for client, priority, waited in order:
        await no_slot(ledger, client, priority=priority, waited=waited, name=f"{client}.x")
    served: list[str] = []
    for _ in order:
        time.now += 60
        for client, priority, waited in order:
            if client in served:
                continue
            answer = await ask(
                other, client, priority, name=f"{client}.x", waited=waited + time.now - 1000
            )
            if isinstance(answer, Grant):
                served.append(client)
                await other.commit(answer, ANSWERED, IDLE_WORKLOAD)
    assert served == ["b", "e", "c", "d"]


@pytest.mark.once
async def test_overdue_checks_and_the_rest_take_turns(make: Make, time: ManualClock) -> None:
    """One of two slots is for an overdue check as long as one waits."""
    ledger = make(ONE)
    await spend(ledger)
    wanted = {"a": OVERDUE, "b": OVERDUE, "c": Priority.INTERACTIVE, "d": READ}
    turns = [
        round((await no_slot(ledger, one, priority=what, name=one)).delay / 60) - 1
        for one, what in wanted.items()
    ]
    assert turns == [0, 1, 1, 3]
    served: list[str] = []
    while wanted:
        time.now += 60
        for one, what in list(wanted.items()):
            answer = await ask(ledger, one, what, name=one)
            if isinstance(answer, Grant):
                served.append(one)
                del wanted[one]
                await ledger.commit(answer, ANSWERED, IDLE_WORKLOAD)
    assert served == ["a", "c", "b", "d"]


async def test_what_a_client_says_waits_is_counted_by_the_others(
    make: Make, time: ManualClock
) -> None:
    """And told them: by priority, with what else the client has to say."""
    ledger, other = make(), make()
    await spend(ledger, 3)
    waiting = WaitingRequests(BATCH, 4, 20.0, 2.0)
    await no_slot(ledger, "a", workload=Workload((waiting,), "text"), priority=READ)
    time.now += 2
    answer = await no_slot(other, "b")
    assert answer.delay == pytest.approx(58 + 60), "the sixth of three in a window"
    (peer,) = answer.state.peers
    assert (peer.client, peer.text) == ("a", "text")
    assert peer.age == pytest.approx(2)
    assert [(one.priority, one.count) for one in peer.waiting] == [(READ, 1), (BATCH, 4)]
    assert [peer.waiting[1].oldest, peer.waiting[1].newest] == pytest.approx([22, 4])
    snapshot = await other.snapshot()
    assert snapshot.waiting == {READ: 1, BATCH: 5}
    assert snapshot.clients == 1 + len(answer.state.peers) == 2
    ledger.release("", "a", leaves=True)
    snapshot = await ledger.snapshot()
    assert (snapshot.waiting, snapshot.clients) == ({BATCH: 1}, 1)


async def test_reads_that_need_no_slot_share_a_pace(make: Make, time: ManualClock) -> None:
    """Of all clients; a pause holds for them, and they take no slot."""
    ledger, other = make(), make()
    assert [await one.admit_read() for one in (ledger, other, ledger, other, ledger)] == [0.0] * 5
    time.now += 0.25
    assert await other.admit_read() == pytest.approx(0.75)
    time.now += 0.75
    assert await other.admit_read() == 0.0
    assert (await ledger.snapshot()).windows[0].used == 0
    await ledger.record(0, pause=30.0)
    time.now += 10.0
    assert await other.admit_read() == pytest.approx(20.0)


async def test_a_position_is_kept_as_long_as_it_is_asked_for(make: Make, time: ManualClock) -> None:
    """A few seconds longer than was said; one that is given up makes room at once."""
    ledger = make(ONE)
    await spend(ledger)
    await no_slot(ledger, "a", name="a")
    assert (await no_slot(ledger, "b", name="b")).delay == pytest.approx(120)
    await no_slot(ledger, "b", name="b", waits=False)
    ledger.release("a", "a")
    for client in "cd":
        await no_slot(ledger, client, name=client)
    assert (await ledger.snapshot()).waiting == {BATCH: 2}
    time.now += 60
    await no_slot(ledger, "d", name="d")
    time.now += 4.9
    await no_slot(ledger, "d", name="d")
    time.now += 0.1
    await granted(ledger, "d", name="d")


async def test_all_windows_of_a_plan_have_to_fit(make: Make, time: ManualClock) -> None:
    """Four in a minute, fifteen in a day."""
    ledger = make(Plan.DEMO)
    for burst in (4, 4, 4, 3):
        state = await spend(ledger, burst)
        time.now += 60
    answer = await no_slot(ledger)
    assert (answer.limit, state.quota_left) == (Plan.DEMO.limits[1], 0)
    assert answer.delay == pytest.approx(86_400 - 240)
    time.now += answer.delay
    assert (await granted(ledger)).state.quota_left == 3


async def test_a_429_pauses_all_and_a_pause_is_only_lengthened(
    make: Make, time: ManualClock
) -> None:
    """Also who holds a slot already, and asks once more before it is used."""
    ledger, other = make(PAID), make(PAID)
    first, second = await granted(ledger), await granted(other, "b")
    held = await granted(other, "b")
    await ledger.commit(first, Outcome(refused=True, retry_after=90), IDLE_WORKLOAD)
    state = await other.commit(second, Outcome(refused=True, retry_after=5), IDLE_WORKLOAD)
    assert state.paused_for == pytest.approx(90)
    answer = await no_slot(other, "b", name=held.id)
    assert answer.limit is None
    assert answer.delay == pytest.approx(90)
    assert (await ledger.snapshot()).paused_for == pytest.approx(90)
    assert (await ledger.snapshot()).in_flight == 0
    time.now += 90
    await granted(other, "b")


async def test_what_was_spent_without_a_slot_is_counted(make: Make, time: ManualClock) -> None:
    """As spent now; a pause without a slot is one, and halves no burst."""
    ledger = make()
    await ledger.record(2)
    await granted(ledger)
    assert (await no_slot(ledger)).delay == pytest.approx(60)
    await ledger.record(0, pause=70)
    await ledger.record(0, pause=10)
    snapshot = await ledger.snapshot()
    assert (snapshot.windows[0].used, snapshot.burst) == (3, 3)
    assert snapshot.paused_for == pytest.approx(70)
    time.now += 70
    assert (await ledger.snapshot()).paused_for == 0


async def test_unexplained_429s_halve_the_burst(make: Make, time: ManualClock) -> None:
    """Down to strict spacing; but not the one of a window's last slot."""
    ledger = make(PAID)
    for _ in range(4):
        time.now += 61
        await spend(ledger, 1, Outcome(refused=True, retry_after=0))
    assert (await ledger.snapshot()).burst == 1
    time.now += 61
    await spend(ledger)
    answer = await no_slot(ledger)
    assert answer.delay == pytest.approx(6)
    assert answer.limit == RateLimit(1, per=6), "who asks is told what to wait for"


async def test_a_429_to_the_last_slot_does_not_halve_the_burst(make: Make) -> None:
    """A server whose clock differs a little may count the request in the window before."""
    ledger = make()
    await spend(ledger, 2)
    await spend(ledger, 1, Outcome(refused=True, retry_after=1))
    assert (await ledger.snapshot()).burst == 3


async def test_a_429_to_the_last_slot_but_one_halves_the_burst(make: Make) -> None:
    """The window had room: the server counts more strictly than the plan says."""
    ledger = make()
    await spend(ledger, 1)
    await spend(ledger, 1, Outcome(refused=True, retry_after=1))
    assert (await ledger.snapshot()).burst == 1


async def test_the_servers_count_corrects_downwards_only(make: Make) -> None:
    """Fewer requests left than counted binds; more left than counted is not believed."""
    ledger = make(PAID)
    free: list[int] = []
    for limit, left in ((10, 4), (10, 9), (77, 0), (10, -(10**9))):
        await spend(ledger, 1, Outcome(server_limit=limit, server_left=left))
        free.append((await ledger.snapshot()).windows[0].free)
    assert free == [4, 3, 2, 0]


async def test_shares_are_given_on_when_their_client_knows(make: Make, time: ManualClock) -> None:
    """Not before: it may not have got the answer that has told it of a smaller one."""
    ledger, other = make(PAID), make(PAID)

    async def share(one: Ledger, client: str, known: int) -> int:
        return (await granted(one, client, workload=Workload(share=known))).state.share

    assert await share(ledger, "a", 0) == 9
    assert await share(other, "b", 0) == 0
    assert await share(ledger, "a", 9) == 4
    assert await share(other, "b", 0) == 0, "a may still believe in nine"
    assert await share(ledger, "a", 4) == 4
    assert await share(other, "b", 0) == 4
    time.now += 3599
    assert await share(ledger, "a", 4) == 4
    time.now += 1
    assert await share(ledger, "a", 4) == 9, "b was not heard of for an hour"


async def test_after_a_silence_the_shares_of_others_count_as_used(
    make: Make, time: ManualClock
) -> None:
    """Until they are heard of, or must have found out that the store is back."""
    ledger, other = make(PAID), make(PAID)
    shares = {"a": 0, "b": 0, "c": 0}
    for client in [*shares] * 3:
        known = Workload(share=shares[client])
        shares[client] = (await granted(ledger, client, workload=known)).state.share
    assert list(shares.values()) == [3, 3, 3]
    time.now += 91  # all that was held is spent, and counts no more
    assert len([await granted(ledger, "a") for _ in range(4)]) == 4
    assert (await no_slot(ledger, "a", name="wait")).delay == pytest.approx(8)
    time.now += 3
    for _ in range(2):
        await granted(other, "b", workload=Workload(share=3))
    await no_slot(other, "b", waits=False, workload=Workload(share=3))  # a waits, and c has three
    time.now += 5
    await granted(ledger, "a", name="wait")
    for _ in range(3):
        await granted(ledger, "a")


async def test_another_plan_keeps_what_was_spent(make: Make) -> None:
    """The demo plan turns out to be the paid one."""
    ledger = make(Plan.DEMO)
    await spend(ledger, 4)
    ledger.change_plan(PAID)
    snapshot = await ledger.snapshot()
    assert (snapshot.plan, snapshot.windows[0].free) == ("paid", 6)
    assert snapshot.windows[0].limit == PAID.limits[0]


async def test_another_plan_keeps_what_429s_have_taught(make: Make) -> None:
    """A burst that no 429 has halved is the whole window of any plan."""
    ledger = make(Plan.DEMO)
    await spend(ledger)
    ledger.change_plan(PAID)
    assert (await ledger.snapshot()).burst == 10
    for _ in range(2):
        await spend(ledger, outcome=Outcome(refused=True, retry_after=0.0))
    ledger.change_plan(Plan.DEMO)
    assert (await ledger.snapshot()).burst == 2


async def test_a_position_may_be_asked_about(make: Make) -> None:
    """The fifth of three per minute waits for the second minute at least."""
    ledger = make()
    await spend(ledger, 3)
    for position, delay in ((0, 60), (2, 60), (3, 120)):
        assert (await ledger.snapshot(position=position)).next_free_in == pytest.approx(delay)


@pytest.mark.parametrize("after", range(6))
async def test_a_cancelled_reserve_leaves_nothing(make: Make, after: int) -> None:
    """Wherever it was cancelled: neither a slot nor a position."""
    ledger = make(ONE)
    for _ in range(2):  # once when a slot is free, once when none is
        task = asyncio.ensure_future(ask(ledger, "gone"))
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        (answer,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(answer, Grant):  # it ended before
            ledger.release(answer.id, "gone")
        elif isinstance(answer, NoSlot):
            return
        assert await used(ledger) == 0
        assert (await ledger.snapshot()).waiting == {}
        kept = await granted(ledger, "kept", name="kept")
        assert kept.id == "kept"
        ledger.release("kept", "kept")


async def test_a_blob_is_shared_and_not_counted(make: Make, time: ManualClock) -> None:
    """The last one to save wins; it outlives the count and a change of the plan."""
    ledger, other = make(), make()
    assert await ledger.load_blob() is None
    await spend(ledger, 2)
    before = await ledger.snapshot()
    await ledger.save_blob("é first")
    assert await other.load_blob() == "é first"
    assert await ledger.snapshot() == before
    time.now += 600
    ledger.change_plan(PAID)
    await spend(ledger)
    assert await ledger.load_blob() == "é first"


@pytest.mark.parametrize("letter", ["x", "é"])
async def test_a_blob_that_is_too_long_is_not_kept(make: Make, letter: str) -> None:
    """The one before stays; the longest that is allowed is kept whole."""
    ledger = make()
    longest = letter * (MAX_BLOB // len(letter.encode()))
    await ledger.save_blob(longest)
    await ledger.save_blob(longest + "x")
    assert await ledger.load_blob() == longest
