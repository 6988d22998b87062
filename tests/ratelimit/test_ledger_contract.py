"""What every ledger keeps, wherever it remembers: one suite over memory, SQLite and Redis."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.ratelimit import Grant, Ledger, MemoryLedger, NoSlot, Outcome
from llamagen_async.ratelimit.ledger import LONGEST_NOTE, UNMETERED
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.sqlite import executor as sqlite_worker
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from tests.support.grants import grants_in
from tests.support.redis_server import RedisServer

PAID = Plan.PAID
THREE = Plan("three", limits=RateLimit(3, per=60))
LEASE = 30.0

Make = Callable[..., Ledger]


class Time:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["memory", "sqlite", "sqlite in the thread", "sqlite at once", "redis"])
async def make(
    request: pytest.FixtureRequest, time: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Make]:
    """Make ledgers of one account; two of a store share the count."""
    for name, awake in (("sqlite in the thread", -1.0), ("sqlite at once", math.inf)):
        if request.param == name:
            monkeypatch.setattr(sqlite_worker, "_AWAKE", awake)
            monkeypatch.setattr(sqlite_worker, "_QUICK", math.inf)
    made: list[Ledger] = []
    name = uuid.uuid4().hex

    def ledger(plan: Plan = THREE) -> Ledger:
        one: Ledger
        if request.param == "memory":
            one = made[0] if made else MemoryLedger(plan, time, lease=LEASE)
        elif request.param.startswith("sqlite"):
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


async def granted(ledger: Ledger, ticket: str = "t") -> Grant:
    """Reserve a slot that has to be free."""
    answer = await ledger.reserve(ticket)
    assert isinstance(answer, Grant)
    return answer


async def granted_many(ledger: Ledger, ticket: str, number: int) -> list[Grant]:
    """Reserve up to so many slots, of which one has to be free."""
    grants = grants_in(await ledger.reserve_many(ticket, number))
    assert grants
    return grants


async def refused(ledger: Ledger, ticket: str = "t") -> NoSlot:
    """Ask for a slot that must not be free."""
    answer = await ledger.reserve(ticket)
    assert isinstance(answer, NoSlot)
    return answer


async def spend(ledger: Ledger, number: int = 1, outcome: Outcome | None = None) -> None:
    """Reserve and answer `number` requests."""
    for _ in range(number):
        await ledger.commit(await granted(ledger), outcome or Outcome())


async def test_a_slot_is_back_a_window_after_the_response(make: Make, time: Time) -> None:
    """Not after the grant, however long the answer took."""
    ledger = make()
    grants = [await granted(ledger) for _ in range(3)]
    time.now += 20
    for grant in grants:
        await ledger.commit(grant, Outcome())
    time.now += 40
    assert (await refused(ledger)).delay == pytest.approx(20)
    time.now += 20
    await granted(ledger)


async def test_a_slot_that_was_given_back_is_free_at_once(make: Make) -> None:
    """As if nobody had asked."""
    ledger = make()
    grants = [await granted(ledger) for _ in range(3)]
    await refused(ledger)
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


async def test_a_slot_nobody_reports_on_comes_back_by_its_lease(make: Make, time: Time) -> None:
    """As if its answer had come when the lease was over."""
    ledger = make()
    for _ in range(3):
        await granted(ledger)
    time.now += LEASE + 59
    await refused(ledger)
    time.now += 1
    await granted(ledger)


async def test_who_came_first_is_served_first(make: Make, time: Time) -> None:
    """A place in the line keeps its slot, also from those who ask in between."""
    ledger = make()
    await spend(ledger, 2)
    time.now += 10
    await spend(ledger, 1)
    delays = [(await refused(ledger, ticket)).delay for ticket in "abc"]
    assert delays == pytest.approx([50, 50, 60])
    time.now += 50
    assert isinstance(await ledger.reserve("c"), NoSlot), "two slots, and they are a's and b's"
    assert isinstance(await ledger.reserve("new"), NoSlot)
    await granted(ledger, "b")
    await granted(ledger, "a")


async def test_who_leaves_the_line_makes_room(make: Make, time: Time) -> None:
    """And who does not come back loses the place a moment later."""
    ledger = make()
    await spend(ledger, 3)
    for ticket in "abc":
        await refused(ledger, ticket)
    ledger.leave("a")
    time.now += 60
    await granted(ledger, "b")
    await granted(ledger, "d")
    await refused(ledger, "e")
    time.now += 5.5
    await granted(ledger, "e")


async def test_all_windows_of_a_plan_have_to_fit(make: Make, time: Time) -> None:
    """Four in a minute, fifteen in a day."""
    ledger = make(Plan.DEMO)
    for burst in (4, 4, 4, 3):
        await spend(ledger, burst)
        time.now += 60
    answer = await refused(ledger)
    assert answer.limit == Plan.DEMO.limits[1]
    assert answer.delay == pytest.approx(86_400 - 240)
    time.now += answer.delay
    assert (await granted(ledger)).quota_left == 3


async def test_a_refusal_pauses_all_and_a_pause_is_only_lengthened(make: Make, time: Time) -> None:
    """`retry_after` in full, also for those who share the count."""
    ledger, other = make(PAID), make(PAID)
    first, second = await granted(ledger), await granted(other)
    await ledger.commit(first, Outcome(refused=True, retry_after=90))
    await other.commit(second, Outcome(refused=True, retry_after=5))
    assert (await refused(other)).delay == pytest.approx(90)
    assert (await ledger.snapshot()).paused_for == pytest.approx(90)
    time.now += 90
    await granted(other)


async def test_a_refusal_of_what_needs_no_slot_pauses_all_and_spends_nothing(
    make: Make, time: Time
) -> None:
    """Whoever looks for a pause sees how long it lasts, and the burst is not halved."""
    ledger = make()
    assert await ledger.paused_for() == 0
    await ledger.commit(UNMETERED, Outcome(refused=True, retry_after=30))
    assert (await refused(ledger)).delay == pytest.approx(30)
    time.now += 10
    assert await ledger.paused_for() == pytest.approx(20)
    await ledger.commit(UNMETERED, Outcome(refused=True, retry_after=5))
    assert await ledger.paused_for() == pytest.approx(20)
    time.now += 21
    assert await ledger.paused_for() == 0
    snapshot = await ledger.snapshot()
    assert (snapshot.windows[0].used, snapshot.burst, snapshot.in_flight) == (0, 3, 0)


async def test_refusals_nothing_explains_halve_the_burst(make: Make, time: Time) -> None:
    """Down to strict spacing: one request, and the next six seconds after its response."""
    ledger = make(PAID)
    for _ in range(4):
        time.now += 61
        await ledger.commit(await granted(ledger), Outcome(refused=True, retry_after=0))
    assert (await ledger.snapshot()).burst == 1
    time.now += 61
    await spend(ledger)
    assert (await refused(ledger)).delay == pytest.approx(6)


async def test_a_refusal_of_the_last_slot_is_explained(make: Make) -> None:
    """A server whose clock differs a little may count it in the window before."""
    plan = Plan("one", limits=RateLimit(1, per=60))
    ledger = make(plan)
    await ledger.commit(await granted(ledger), Outcome(refused=True, retry_after=1))
    assert (await ledger.snapshot()).burst == 1
    ledger = make(plan)


async def test_what_the_server_counts_corrects_downwards_only(make: Make) -> None:
    """Fewer left than counted binds; more left than counted is not believed."""
    ledger = make(PAID)
    await spend(ledger, 1, Outcome(server_limit=10, server_left=4))
    assert (await ledger.snapshot()).windows[0].free == 4
    await spend(ledger, 1, Outcome(server_limit=10, server_left=9))
    assert (await ledger.snapshot()).windows[0].free == 3
    await spend(ledger, 1, Outcome(server_limit=77, server_left=0))
    assert (await ledger.snapshot()).windows[0].free == 2


async def test_what_was_sent_elsewhere_is_counted(make: Make) -> None:
    """As spent now."""
    ledger = make()
    await ledger.record(2)
    await granted(ledger)
    assert (await refused(ledger)).delay == pytest.approx(60)


async def test_those_who_share_an_account_share_its_count(make: Make) -> None:
    """Two ledgers, as in two processes."""
    ledger, other = make(), make()
    await spend(ledger, 2)
    await granted(other)
    await refused(ledger)
    snapshot = await other.snapshot()
    assert (snapshot.windows[0].used, snapshot.in_flight) == (3, 1)


async def test_the_projection_looks_past_the_line(make: Make) -> None:
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
    """Once each, until they have ended the subscription."""
    ledger = make()
    heard: list[int] = []
    grants = [await granted(ledger) for _ in range(2)]
    stop = ledger.subscribe(lambda: heard.append(1))
    await ledger.give_back(grants[0])
    stop()
    await ledger.give_back(grants[1])
    assert heard == [1]


async def test_many_are_granted_as_far_as_there_are_slots(make: Make, time: Time) -> None:
    """The first one who gets none has a place in the line, and is told when to ask again."""
    ledger = make()
    await spend(ledger, 1)
    *many, last = await ledger.reserve_many("t", 5)
    grants = grants_in(many)
    assert [grant.delay for grant in grants] == [0.0, 0.0]
    assert len({grant.slot for grant in grants}) == 2
    assert last == NoSlot(60.0, THREE.limits[0])
    assert (await ledger.snapshot()).in_flight == 2
    assert grants_in(await ledger.reserve_many("t", 5)) == []
    time.now += 60
    await refused(ledger, "new")
    (one,) = await granted_many(ledger, "t", 5)
    for grant in (*grants, one):
        await ledger.commit(grant, Outcome())
    assert (await ledger.snapshot()).windows[0].used == 3


async def test_who_stands_behind_keeps_a_place_like_anybody_else(make: Make, time: Time) -> None:
    """Behind those who were there before, before those who come later, until it is given up."""
    ledger, other = make(), make()
    await spend(ledger, 1)
    time.now += 10
    await spend(ledger, 1)
    assert len(await ledger.reserve_many("a", 3)) == 2, "a slot, and a place"
    await refused(other, "b")
    time.now += 50
    await refused(other, "b")
    await granted(ledger, "a")
    time.now += 10
    assert len(await ledger.reserve_many("a", 3)) == 1, "behind b"
    ledger.leave("a")
    await granted(other, "b")


async def test_who_comes_with_another_does_not_overtake_the_line(make: Make, time: Time) -> None:
    """Of two slots one is for who is next, and the other one for who stands behind it."""
    ledger, other = make(), make()
    await spend(ledger, 3)
    await refused(ledger, "a")
    await refused(other, "b")
    time.now += 60
    assert len(await granted_many(ledger, "a", 3)) == 2, "one of three is b's"
    await granted(other, "b")
    await refused(other, "c")


async def test_slots_are_returned_without_waiting(make: Make) -> None:
    """What comes next finds them free, and who listens hears of it."""
    ledger = make()
    heard: list[int] = []
    many = await granted_many(ledger, "t", 3)
    ledger.subscribe(lambda: heard.append(1))
    ledger.return_unused(many[1:])
    assert len(await granted_many(ledger, "t", 5)) == 2
    assert heard
    assert (await ledger.snapshot()).in_flight == 3


@pytest.mark.parametrize("after", range(6))
async def test_a_cancelled_question_for_many_holds_nothing(make: Make, after: int) -> None:
    """At whatever point it was cancelled."""
    ledger = make()
    task = asyncio.ensure_future(_ask_for_many(ledger))
    for _ in range(after):
        await asyncio.sleep(0)
    task.cancel()
    (answer,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(answer, list):  # it was faster
        ledger.return_unused(grants_in(answer))
    for _ in range(200):  # what goes on in the background comes to its end
        if not (await ledger.snapshot()).in_flight:
            break
        await asyncio.sleep(0.005)
    assert len(await granted_many(ledger, "next", 9)) == 3


@pytest.mark.parametrize("after", range(6))
async def test_a_cancelled_question_holds_nothing(make: Make, time: Time, after: int) -> None:
    """At whatever point it was cancelled: no slot is lost, and nobody stands in the line."""
    ledger = make(Plan("one", limits=RateLimit(1, per=60)))
    task = asyncio.ensure_future(_ask(ledger))
    for _ in range(after):
        await asyncio.sleep(0)
    task.cancel()
    (answer,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(answer, Grant):  # it was faster
        await ledger.give_back(answer)
    for _ in range(200):  # what goes on in the background comes to its end
        if isinstance(answer := await ledger.reserve("next"), Grant):
            break
        await asyncio.sleep(0.005)
    assert isinstance(answer, Grant)


async def test_those_who_share_an_account_share_its_note(make: Make) -> None:
    """Two ledgers, as in two processes: who remembers last is remembered."""
    ledger, other = make(), make()
    assert await ledger.recall() is None
    assert await other.recall() is None
    await ledger.remember("é first")
    assert await other.recall() == "é first"
    await other.remember("second")
    assert await ledger.recall() == "second"


async def test_a_note_is_not_counted_and_outlives_what_is(make: Make, time: Time) -> None:
    """It holds no slot, takes no place in the line, and changes nothing that was spent."""
    ledger = make()
    await spend(ledger, 2)
    before = await ledger.snapshot()
    await ledger.remember("learned")
    await ledger.recall()
    assert await ledger.snapshot() == before
    await granted(ledger)
    await refused(ledger)
    time.now += 600
    ledger.change_plan(PAID)
    await spend(ledger, 1)
    assert await ledger.recall() == "learned"


@pytest.mark.parametrize("letter", ["x", "é"])
async def test_a_note_that_is_too_long_is_not_kept(make: Make, letter: str) -> None:
    """What was there before stays; the longest that is allowed is kept whole."""
    ledger = make()
    longest = letter * (LONGEST_NOTE // len(letter.encode()))
    await ledger.remember(longest)
    await ledger.remember(longest + "x")
    assert await ledger.recall() == longest


async def test_notes_are_left_and_read_while_slots_are_handed_out(make: Make) -> None:
    """All at once: neither disturbs the other."""
    ledger, other = make(PAID), make(PAID)
    answers = await asyncio.gather(
        *(spend(one, 1) for one in (ledger, other) * 4),
        *(one.remember(f"{number}") for number, one in enumerate((ledger, other) * 4)),
        *(one.recall() for one in (ledger, other) * 4),
    )
    assert {str(answer) for answer in answers} <= {"None", *map(str, range(8))}
    assert (await ledger.snapshot()).windows[0].used == 8


@pytest.mark.parametrize("after", range(6))
async def test_a_note_may_be_given_up(make: Make, after: int) -> None:
    """At whatever point: the next operations work, and no task is left."""
    ledger = make()
    tasks = [asyncio.ensure_future(one) for one in (ledger.recall(), ledger.remember("x"))]
    for _ in range(after):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await spend(ledger, 1)
    await ledger.remember("y")
    assert await ledger.recall() == "y"
    await ledger.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def _ask(ledger: Ledger) -> Grant | NoSlot:
    return await ledger.reserve("gone")


async def _ask_for_many(ledger: Ledger) -> list[Grant | NoSlot]:
    return await ledger.reserve_many("gone", 3)
