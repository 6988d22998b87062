"""The contract of all ledgers: one suite over memory, SQLite and Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.ratelimit import Grant, MemoryLedger, NoSlot, Outcome, SharedLedger
from llamagen_async.ratelimit.protocol import MAX_BLOB, UNMETERED
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from tests.support.grants import grants_in
from tests.support.redis_server import RedisServer

PAID = Plan.PAID
THREE = Plan("three", limits=RateLimit(3, per=60))
LEASE = 30.0

Make = Callable[..., SharedLedger]


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
    made: list[SharedLedger] = []
    name = uuid.uuid4().hex

    def ledger(plan: Plan = THREE) -> SharedLedger:
        one: SharedLedger
        if request.param == "memory":
            one = made[0] if made else MemoryLedger(plan, time, lease=LEASE)
        elif request.param == "sqlite":
            path = tmp_path / "quota.db"
            one = SQLiteLedger(path, name=name, plan=plan, lease=LEASE, ahead=0.0, now=time)
        else:
            server: RedisServer = request.getfixturevalue("redis_server")
            one = RedisLedger(
                server.url, name=name, plan=plan, speed=1.0, lease=LEASE, ahead=0.0, now=time
            )
        made.append(one)
        return one

    yield ledger
    for one in made:
        await one.aclose()


async def granted(ledger: SharedLedger, waiter_id: str = "t") -> Grant:
    """Reserve a slot that has to be free."""
    answer = await ledger.reserve(waiter_id)
    assert isinstance(answer, Grant)
    return answer


async def granted_many(ledger: SharedLedger, waiter_id: str, number: int) -> list[Grant]:
    """Reserve up to `number` slots, of which one has to be free."""
    grants = grants_in(await ledger.reserve_many(waiter_id, number))
    assert grants
    return grants


async def no_slot(ledger: SharedLedger, waiter_id: str = "t") -> NoSlot:
    """Ask for a slot that must not be free."""
    answer = await ledger.reserve(waiter_id)
    assert isinstance(answer, NoSlot)
    return answer


async def spend(ledger: SharedLedger, number: int = 1, outcome: Outcome | None = None) -> None:
    """Reserve and answer `number` requests."""
    for _ in range(number):
        await ledger.commit(await granted(ledger), outcome or Outcome())


async def test_a_slot_is_back_a_window_after_the_response(make: Make, time: ManualClock) -> None:
    """Not after the grant, however long the answer took."""
    ledger = make()
    grants = [await granted(ledger) for _ in range(3)]
    time.now += 20
    for grant in grants:
        await ledger.commit(grant, Outcome())
    time.now += 40
    assert (await no_slot(ledger)).delay == pytest.approx(20)
    time.now += 20
    await granted(ledger)


async def test_a_slot_that_was_given_back_is_free_at_once(make: Make) -> None:
    """As if it had not been asked for."""
    ledger = make()
    grants = [await granted(ledger) for _ in range(3)]
    await no_slot(ledger)
    await ledger.give_back(grants[1])
    await granted(ledger)
    assert (await ledger.snapshot()).in_flight == 3


async def test_two_reports_on_one_slot_count_once(make: Make) -> None:
    """Whichever comes first."""
    ledger = make()
    grant = await granted(ledger)
    await ledger.commit(grant, Outcome())
    await ledger.commit(grant, Outcome())
    await ledger.give_back(grant)
    assert (await ledger.snapshot()).windows[0].used == 1


async def test_a_slot_nobody_reports_on_comes_back_by_its_lease(
    make: Make, time: ManualClock
) -> None:
    """As if its answer had come when the lease was over."""
    ledger = make()
    for _ in range(3):
        await granted(ledger)
    time.now += LEASE + 59
    await no_slot(ledger)
    time.now += 1
    await granted(ledger)


async def test_the_first_waiter_is_served_first(make: Make, time: ManualClock) -> None:
    """A position in the wait queue keeps its slot, also from newcomers that ask in between."""
    ledger = make()
    await spend(ledger, 2)
    time.now += 10
    await spend(ledger, 1)
    delays = [(await no_slot(ledger, waiter_id)).delay for waiter_id in "abc"]
    assert delays == pytest.approx([50, 50, 60])
    time.now += 50
    assert isinstance(await ledger.reserve("c"), NoSlot), "there are two slots, for a and b"
    assert isinstance(await ledger.reserve("new"), NoSlot)
    await granted(ledger, "b")
    await granted(ledger, "a")


async def test_a_cancelled_wait_makes_room(make: Make, time: ManualClock) -> None:
    """A waiter that does not come back loses its position a few seconds later."""
    ledger = make()
    await spend(ledger, 3)
    for waiter_id in "abc":
        await no_slot(ledger, waiter_id)
    ledger.cancel_wait("a")
    time.now += 60
    await granted(ledger, "b")
    await granted(ledger, "d")
    await no_slot(ledger, "e")
    time.now += 5.5
    await granted(ledger, "e")


async def test_all_windows_of_a_plan_have_to_fit(make: Make, time: ManualClock) -> None:
    """Four in a minute, fifteen in a day."""
    ledger = make(Plan.DEMO)
    for burst in (4, 4, 4, 3):
        await spend(ledger, burst)
        time.now += 60
    answer = await no_slot(ledger)
    assert answer.limit == Plan.DEMO.limits[1]
    assert answer.delay == pytest.approx(86_400 - 240)
    time.now += answer.delay
    assert (await granted(ledger)).quota_left == 3


async def test_a_429_pauses_all_and_a_pause_is_only_lengthened(
    make: Make, time: ManualClock
) -> None:
    """`retry_after` in full, also for other ledgers of the account."""
    ledger, other = make(PAID), make(PAID)
    first, second = await granted(ledger), await granted(other)
    await ledger.commit(first, Outcome(refused=True, retry_after=90))
    await other.commit(second, Outcome(refused=True, retry_after=5))
    assert (await no_slot(other)).delay == pytest.approx(90)
    assert (await ledger.snapshot()).paused_for == pytest.approx(90)
    time.now += 90
    await granted(other)


async def test_a_429_to_an_unmetered_request_pauses_all_and_spends_nothing(
    make: Make, time: ManualClock
) -> None:
    """`paused_for` tells how long the pause lasts, and the burst is not halved."""
    ledger = make()
    assert await ledger.paused_for() == 0
    await ledger.commit(UNMETERED, Outcome(refused=True, retry_after=30))
    assert (await no_slot(ledger)).delay == pytest.approx(30)
    time.now += 10
    assert await ledger.paused_for() == pytest.approx(20)
    await ledger.commit(UNMETERED, Outcome(refused=True, retry_after=5))
    assert await ledger.paused_for() == pytest.approx(20)
    time.now += 21
    assert await ledger.paused_for() == 0
    snapshot = await ledger.snapshot()
    assert (snapshot.windows[0].used, snapshot.burst, snapshot.in_flight) == (0, 3, 0)


async def test_unexplained_429s_halve_the_burst(make: Make, time: ManualClock) -> None:
    """Down to strict spacing: the next request six seconds after the response to the last."""
    ledger = make(PAID)
    for _ in range(4):
        time.now += 61
        await ledger.commit(await granted(ledger), Outcome(refused=True, retry_after=0))
    assert (await ledger.snapshot()).burst == 1
    time.now += 61
    await spend(ledger)
    assert (await no_slot(ledger)).delay == pytest.approx(6)


async def test_a_429_to_the_last_slot_does_not_halve_the_burst(make: Make) -> None:
    """A server whose clock differs a little may count the request in the window before."""
    plan = Plan("one", limits=RateLimit(1, per=60))
    ledger = make(plan)
    await ledger.commit(await granted(ledger), Outcome(refused=True, retry_after=1))
    assert (await ledger.snapshot()).burst == 1
    ledger = make(plan)


async def test_the_servers_count_corrects_downwards_only(make: Make) -> None:
    """Fewer requests left than counted binds; more left than counted is not believed."""
    ledger = make(PAID)
    await spend(ledger, 1, Outcome(server_limit=10, server_left=4))
    assert (await ledger.snapshot()).windows[0].free == 4
    await spend(ledger, 1, Outcome(server_limit=10, server_left=9))
    assert (await ledger.snapshot()).windows[0].free == 3
    await spend(ledger, 1, Outcome(server_limit=77, server_left=0))
    assert (await ledger.snapshot()).windows[0].free == 2


async def test_requests_of_other_programs_are_counted(make: Make) -> None:
    """Such requests count as spent now."""
    ledger = make()
    await ledger.record(2)
    await granted(ledger)
    assert (await no_slot(ledger)).delay == pytest.approx(60)


async def test_two_ledgers_of_an_account_share_its_count(make: Make) -> None:
    """As in two processes."""
    ledger, other = make(), make()
    await spend(ledger, 2)
    await granted(other)
    await no_slot(ledger)
    snapshot = await other.snapshot()
    assert (snapshot.windows[0].used, snapshot.in_flight) == (3, 1)


async def test_the_projection_goes_beyond_the_next_window(make: Make) -> None:
    """The fifth of three per minute waits for the second minute at least."""
    ledger = make()
    await spend(ledger, 3)
    assert (await ledger.projected(0)).delay == pytest.approx(60)
    assert (await ledger.projected(2)).delay == pytest.approx(60)
    assert (await ledger.projected(3)).delay == pytest.approx(120)


async def test_another_plan_keeps_what_was_spent(make: Make) -> None:
    """The demo plan turns out to be the paid one."""
    ledger = make(Plan.DEMO)
    await spend(ledger, 4)
    ledger.change_plan(PAID)
    snapshot = await ledger.snapshot()
    assert (snapshot.plan, snapshot.windows[0].free) == ("paid", 6)


async def test_listeners_hear_of_slots_that_are_given_back(make: Make) -> None:
    """Once for each slot, until they have ended the subscription."""
    ledger = make()
    heard: list[int] = []
    grants = [await granted(ledger) for _ in range(2)]
    stop = ledger.subscribe(lambda: heard.append(1))
    await ledger.give_back(grants[0])
    stop()
    await ledger.give_back(grants[1])
    assert heard == [1]


async def test_many_are_granted_as_far_as_there_are_slots(make: Make, time: ManualClock) -> None:
    """The first request without a slot has a position, and is told when to ask again."""
    ledger = make()
    await spend(ledger, 1)
    *many, last = await ledger.reserve_many("t", 5)
    grants = grants_in(many)
    assert [grant.early_by for grant in grants] == [0.0, 0.0]
    assert len({grant.slot for grant in grants}) == 2
    assert last == NoSlot(60.0, THREE.limits[0])
    assert (await ledger.snapshot()).in_flight == 2
    assert grants_in(await ledger.reserve_many("t", 5)) == []
    time.now += 60
    await no_slot(ledger, "new")
    (one,) = await granted_many(ledger, "t", 5)
    for grant in (*grants, one):
        await ledger.commit(grant, Outcome())
    assert (await ledger.snapshot()).windows[0].used == 3


async def test_reserve_many_keeps_one_position_like_any_waiter(
    make: Make, time: ManualClock
) -> None:
    """Behind earlier waiters and before later ones, until it is given up."""
    ledger, other = make(), make()
    await spend(ledger, 1)
    time.now += 10
    await spend(ledger, 1)
    assert len(await ledger.reserve_many("a", 3)) == 2, "a slot, and a position"
    await no_slot(other, "b")
    time.now += 50
    await no_slot(other, "b")
    await granted(ledger, "a")
    time.now += 10
    assert len(await ledger.reserve_many("a", 3)) == 1, "behind b"
    ledger.cancel_wait("a")
    await granted(other, "b")


async def test_reserve_many_does_not_overtake_the_wait_queue(make: Make, time: ManualClock) -> None:
    """Of three slots one is kept for the waiter behind."""
    ledger, other = make(), make()
    await spend(ledger, 3)
    await no_slot(ledger, "a")
    await no_slot(other, "b")
    time.now += 60
    assert len(await granted_many(ledger, "a", 3)) == 2, "one of three is b's"
    await granted(other, "b")
    await no_slot(other, "c")


async def test_slots_are_returned_without_waiting(make: Make) -> None:
    """The next question finds them free, and listeners hear of it."""
    ledger = make()
    heard: list[int] = []
    many = await granted_many(ledger, "t", 3)
    ledger.subscribe(lambda: heard.append(1))
    ledger.return_unused(many[1:])
    assert len(await granted_many(ledger, "t", 5)) == 2
    assert heard
    assert (await ledger.snapshot()).in_flight == 3


@pytest.mark.parametrize("after", range(6))
async def test_a_cancelled_reserve_many_holds_nothing(make: Make, after: int) -> None:
    """Wherever it was cancelled."""
    ledger = make()
    task = asyncio.ensure_future(_ask_for_many(ledger))
    for _ in range(after):
        await asyncio.sleep(0)
    task.cancel()
    (answer,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(answer, list):  # it ended before
        ledger.return_unused(grants_in(answer))
    for _ in range(200):  # operations in the background come to their end
        if not (await ledger.snapshot()).in_flight:
            break
        await asyncio.sleep(0.005)
    assert len(await granted_many(ledger, "next", 9)) == 3


@pytest.mark.parametrize("after", range(6))
async def test_a_cancelled_reserve_holds_nothing(make: Make, after: int) -> None:
    """Wherever it was cancelled: no slot is lost, and the wait queue is empty."""
    ledger = make(Plan("one", limits=RateLimit(1, per=60)))
    task = asyncio.ensure_future(_ask(ledger))
    for _ in range(after):
        await asyncio.sleep(0)
    task.cancel()
    (answer,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(answer, Grant):  # it ended before
        await ledger.give_back(answer)
    for _ in range(200):  # operations in the background come to their end
        if isinstance(answer := await ledger.reserve("next"), Grant):
            break
        await asyncio.sleep(0.005)
    assert isinstance(answer, Grant)


async def test_two_ledgers_of_an_account_share_its_blob(make: Make) -> None:
    """As in two processes: the last one to save wins."""
    ledger, other = make(), make()
    assert await ledger.load_blob() is None
    assert await other.load_blob() is None
    await ledger.save_blob("é first")
    assert await other.load_blob() == "é first"
    await other.save_blob("second")
    assert await ledger.load_blob() == "second"


async def test_a_blob_is_not_counted_and_outlives_the_count(make: Make, time: ManualClock) -> None:
    """Loading and saving holds no slot, takes no position, and changes nothing that was spent."""
    ledger = make()
    await spend(ledger, 2)
    before = await ledger.snapshot()
    await ledger.save_blob("learned")
    await ledger.load_blob()
    assert await ledger.snapshot() == before
    await granted(ledger)
    await no_slot(ledger)
    time.now += 600
    ledger.change_plan(PAID)
    await spend(ledger, 1)
    assert await ledger.load_blob() == "learned"


@pytest.mark.parametrize("letter", ["x", "é"])
async def test_a_blob_that_is_too_long_is_not_kept(make: Make, letter: str) -> None:
    """The one before stays; the longest that is allowed is kept whole."""
    ledger = make()
    longest = letter * (MAX_BLOB // len(letter.encode()))
    await ledger.save_blob(longest)
    await ledger.save_blob(longest + "x")
    assert await ledger.load_blob() == longest


async def test_blobs_are_loaded_and_saved_while_slots_are_granted(make: Make) -> None:
    """At the same time: neither disturbs the other."""
    ledger, other = make(PAID), make(PAID)
    answers = await asyncio.gather(
        *(spend(one, 1) for one in (ledger, other) * 4),
        *(one.save_blob(f"{number}") for number, one in enumerate((ledger, other) * 4)),
        *(one.load_blob() for one in (ledger, other) * 4),
    )
    assert {str(answer) for answer in answers} <= {"None", *map(str, range(8))}
    assert (await ledger.snapshot()).windows[0].used == 8


@pytest.mark.parametrize("after", range(6))
async def test_loading_and_saving_a_blob_may_be_cancelled(make: Make, after: int) -> None:
    """Wherever that happens: the next operations work, and no task is left."""
    ledger = make()
    tasks = [asyncio.ensure_future(one) for one in (ledger.load_blob(), ledger.save_blob("x"))]
    for _ in range(after):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await spend(ledger, 1)
    await ledger.save_blob("y")
    assert await ledger.load_blob() == "y"
    await ledger.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def _ask(ledger: SharedLedger) -> Grant | NoSlot:
    return await ledger.reserve("gone")


async def _ask_for_many(ledger: SharedLedger) -> list[Grant | NoSlot]:
    return await ledger.reserve_many("gone", 3)
