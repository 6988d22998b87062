"""Answers while the store is away: what a client is told then is what it counts itself."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.clock import Clock
from llamagen_async.errors import QuotaStoreError
from llamagen_async.plans import DAY
from llamagen_async.ratelimit import ANSWERED, NoSlot, Outcome, Priority
from llamagen_async.ratelimit.failover import FailoverLedger
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.window_log import LedgerTimes
from tests.support.claims import IDLE_WORKLOAD, claim
from tests.support.remote_ledger import RemoteLedger

pytestmark = pytest.mark.virtual_time

GUESSED = 60.0 / 9
"""Seconds between two requests of the share, nine of the plan's ten."""
TIMES = LedgerTimes(lease=30.0, grace=5.0, client_lease=3600.0, silence=8.0)


@attrs.define
class Away:
    """A client whose store can be switched off."""

    plan: Plan = Plan.PAID
    store: RemoteLedger = attrs.field(init=False)
    ledger: FailoverLedger = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        memory = MemoryLedger(self.plan, Clock().now, TIMES)
        self.store = RemoteLedger(memory, lambda: 0.0)
        self.ledger = FailoverLedger(self.store, self.plan, Clock(), TIMES)

    async def reserve(self, name: str, client: str = "a") -> Grant | NoSlot:
        return await self.ledger.reserve(claim(name, client))

    async def granted(self, name: str, client: str = "a") -> Grant:
        answer = await self.reserve(name, client)
        while isinstance(answer, NoSlot):
            await asyncio.sleep(max(0.01, answer.delay))
            answer = await self.reserve(name, client)
        return answer

    async def begin(self) -> None:
        """Use a slot of the store, which is away from then on, until the share may be used."""
        await self.ledger.commit(await self.granted("first"), ANSWERED, IDLE_WORKLOAD)
        self.store.away = True
        self.ledger.release((await self.granted("second")).id, "a")

    async def close(self) -> None:
        self.store.away = False
        await self.ledger.aclose()


async def test_a_slot_of_the_share_that_is_given_up_is_free_again() -> None:
    """At once, and for whoever asks."""
    away = Away()
    await away.begin()
    grants = [await away.granted(f"a.{number}") for number in range(9)]
    assert isinstance(await away.reserve("next"), NoSlot)
    away.ledger.release(grants[4].id, "a")
    assert isinstance(await away.reserve("next"), Grant)
    assert isinstance(await away.reserve("another"), NoSlot)
    await away.close()


async def test_a_snapshot_in_an_outage_is_of_the_share() -> None:
    """What is in flight and spent of it, and when a request with others before it gets a slot."""
    away = Away()
    await away.begin()
    grants = [await away.granted(f"a.{number}") for number in range(9)]
    for grant in grants[:7]:
        await away.ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    snapshot = await away.ledger.snapshot()
    (window,) = snapshot.windows
    assert (window.limit.limit, window.used, window.free) == (9, 9, 0)
    assert snapshot.in_flight == 2
    assert window.next_free_in == pytest.approx(60)
    snapshot = await away.ledger.snapshot(position=9)
    assert snapshot.windows[0].next_free_in == pytest.approx(120)
    await away.close()


async def test_a_refusal_in_a_slot_of_the_store_narrows_no_share() -> None:
    """A window may be full of what the store has counted beside it, and is not known here."""
    away = Away()
    slot = await away.granted("a.slot")
    await away.begin()
    refused = Outcome(refused=True, retry_after=90.0)
    await away.ledger.commit(slot, refused, IDLE_WORKLOAD)
    assert (await away.ledger.snapshot()).paused_for == pytest.approx(90.0)
    await asyncio.sleep(120)
    await away.granted("a.0")
    began = asyncio.get_running_loop().time()
    for number in range(1, 9):
        await away.granted(f"a.{number}")
    assert asyncio.get_running_loop().time() == pytest.approx(began)
    await away.close()


async def test_a_client_that_leaves_in_an_outage_waits_no_more() -> None:
    """No other request waits behind its create any more."""
    away = Away()
    await away.begin()
    for number in range(9):
        await away.granted(f"a.{number}")
    assert isinstance(await away.reserve("b.0", "b"), NoSlot)
    before = await away.ledger.snapshot()
    away.ledger.release("", "b", leaves=True)
    after = await away.ledger.snapshot()
    assert (before.clients, before.before()) == (2, 1)
    assert (after.clients, after.before()) == (1, 0)
    await away.close()


async def test_a_snapshot_of_the_store_is_for_the_position_that_was_asked_about() -> None:
    away = Away()
    for number in range(10):
        grant = await away.granted(f"a.{number}")
        await away.ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    for position, delay in ((0, 60), (9, 60), (10, 120)):
        snapshot = await away.ledger.snapshot(position=position)
        assert snapshot.windows[0].next_free_in == pytest.approx(delay, abs=1e-3)
    await away.close()


async def test_a_snapshot_without_a_share_is_of_nothing_until_the_outage_is_long() -> None:
    """A day's quota is not shared; then the error says that the store is away."""
    away = Away(Plan.DEMO)
    await away.ledger.commit(await away.granted("first"), ANSWERED, IDLE_WORKLOAD)
    away.store.away = True
    snapshot = await away.ledger.snapshot()
    assert [window.limit for window in snapshot.windows] == list(Plan.DEMO.limits)

    async def ask_on() -> None:
        while asyncio.get_running_loop().time() < 600:
            await asyncio.sleep(3)
            await away.ledger.snapshot()

    with pytest.raises(QuotaStoreError, match="the store of spent requests is away"):
        await ask_on()
    await away.close()


@pytest.mark.parametrize(("plan", "left"), [(Plan.PAID, None), (Plan.DEMO, 0)])
async def test_nothing_of_a_quota_is_known_to_be_left_in_an_outage(
    plan: Plan, left: int | None
) -> None:
    """A plan without a long window has none of which anything could be left."""
    away = Away(plan)
    grant = await away.granted("first")
    away.store.away = True
    state = await away.ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    assert (state.quota_left, state.peers) == (left, ())
    assert state.paused_for == 0
    await away.close()


async def test_a_refusal_in_an_outage_pauses_the_share() -> None:
    """For as long as the server asks; who asks for a slot is told when the pause ends."""
    plan = Plan("two", limits=(RateLimit(4, per=10), RateLimit(9, per=40)))
    away = Away(plan)
    await away.begin()
    grant = await away.granted("a.1")
    state = await away.ledger.commit(grant, Outcome(refused=True, retry_after=50.0), IDLE_WORKLOAD)
    assert state.paused_for == pytest.approx(50)
    assert len(state.returning) == 1, "the refused request counts in the shortest window"
    answer = await away.reserve("a.2")
    assert isinstance(answer, NoSlot)
    assert answer.limit is None
    await asyncio.sleep(49)
    assert isinstance(await away.reserve("a.2"), NoSlot)
    await asyncio.sleep(2)
    assert isinstance(await away.granted("a.2"), Grant)
    await away.close()


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [(None, GUESSED), (50.0, 50.0), (0.0, 0.0), (-1.0, GUESSED), (DAY + 1, GUESSED)],
)
async def test_a_pause_that_can_not_be_is_guessed_in_an_outage_too(
    retry_after: float | None, pause: float
) -> None:
    """As the store would do it; a shorter one that follows does not end it."""
    away = Away()
    grants = [await away.granted(f"a.{number}") for number in range(2)]
    away.store.away = True
    refused = Outcome(refused=True, retry_after=retry_after)
    state = await away.ledger.commit(grants[0], refused, IDLE_WORKLOAD)
    assert state.paused_for == pytest.approx(pause)
    shorter = Outcome(refused=True, retry_after=0.0)
    state = await away.ledger.commit(grants[1], shorter, IDLE_WORKLOAD)
    assert state.paused_for == pytest.approx(pause)
    await away.close()


async def test_requests_without_a_slot_are_counted_once_the_store_is_back() -> None:
    """With the pause that they have met; until then not all is known to it."""
    away = Away()
    await away.granted("first")
    assert away.ledger.is_settled
    away.store.away = True
    await away.ledger.record(2, pause=100.0)
    await away.ledger.record(1)
    assert not away.ledger.is_settled
    away.store.away = False
    await asyncio.sleep(5)
    assert away.ledger.is_settled
    snapshot = await away.store.memory.snapshot()
    assert snapshot.windows[0].used == 4
    assert 90 < snapshot.paused_for <= 95
    await away.close()


async def test_a_request_in_flight_is_not_settled_until_it_is_reported() -> None:
    away = Away()
    await away.begin()
    grant = await away.granted("late")
    away.store.away = False
    await asyncio.sleep(5)
    assert not away.ledger.is_settled, "it counts, and is reported again"
    await away.ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    await asyncio.sleep(40)
    assert away.ledger.is_settled
    await away.close()


async def test_a_client_that_has_left_has_no_share() -> None:
    """All slots but one are the other's then, and no more."""
    away = Away()
    for number in range(3):
        for client in "ab":
            away.ledger.release((await away.granted(f"{client}.{number}", client)).id, client)
    away.store.away = True
    await away.granted("b.wait", "b")
    (window,) = (await away.ledger.snapshot()).windows
    assert window.limit.limit == 8, "four each"
    away.store.away = False
    await asyncio.sleep(5)
    away.ledger.release("", "a", leaves=True)
    await asyncio.sleep(60)
    await away.reserve("b.again", "b")
    away.store.away = True
    await away.granted("b.alone", "b")
    (window,) = (await away.ledger.snapshot()).windows
    assert window.limit.limit == 9
    await away.close()


async def test_another_plan_has_no_share_until_the_store_has_told_of_one() -> None:
    """Slots of the old plan are none of the new one's."""
    away = Away()
    await away.begin()
    assert isinstance(await away.reserve("a.1"), Grant)
    away.ledger.change_plan(Plan("other", limits=RateLimit(40, per=60)))
    with pytest.raises(QuotaStoreError):
        await away.reserve("a.2")
    away.store.away = False
    await asyncio.sleep(5)
    answer = await away.granted("a.3")
    assert answer.state.share > 9
    snapshot = await away.ledger.snapshot()
    assert (snapshot.plan, snapshot.windows[0].limit.limit) == ("other", 40)
    await away.close()


async def test_who_waits_asks_again_when_the_store_may_be_back() -> None:
    """However long the wait for a slot of the share would be, a few seconds at most."""
    away = Away()
    grant = await away.granted("first")
    away.store.away = True
    await away.ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    early = await away.reserve("early")
    assert isinstance(early, NoSlot)
    assert 0 < early.delay <= 3
    assert early.limit == Plan.PAID.rate
    await away.granted("a.0")
    for number in range(1, 9):
        await away.granted(f"a.{number}")
    answer = await away.reserve("late")
    assert isinstance(answer, NoSlot)
    assert answer.delay <= 3
    assert len(answer.state.returning) == 9
    await away.close()


@pytest.mark.parametrize("plan", [Plan.PAID, Plan.DEMO], ids=lambda plan: plan.name)
async def test_checks_wait_for_the_store_for_as_long_as_it_takes(plan: Plan) -> None:
    """The caller of a check has said for how long: with a share, and when that is over."""
    away, granted = Away(plan), 0
    await away.ledger.commit(await away.granted("first"), ANSWERED, IDLE_WORKLOAD)
    away.store.away = True
    for number in range(3_600):  # three times as long as the share is kept
        answer = await away.ledger.reserve(claim(f"a.{number}", "a", Priority.CHECK))
        if isinstance(answer, Grant):
            assert plan is Plan.PAID, "a day's quota is not shared"
            assert number < 1_200, "others have the share now"
            await away.ledger.commit(answer, ANSWERED, IDLE_WORKLOAD)
            granted += 1
        await asyncio.sleep(3)
    assert (granted > 100) is (plan is Plan.PAID)
    away.store.away = False
    await asyncio.sleep(70)  # what was reported counts from then on
    last = await away.ledger.reserve(claim("a.last", "a", Priority.CHECK))
    assert isinstance(last, Grant)
    await away.close()


@pytest.mark.parametrize("plan", [Plan.PAID, Plan.DEMO], ids=lambda plan: plan.name)
async def test_who_has_never_reached_the_store_sends_nothing(plan: Plan) -> None:
    """And is told at once, whatever it asks for."""
    away = Away(plan)
    away.store.away = True
    began = Clock().now()
    for priority in Priority:
        with pytest.raises(QuotaStoreError):
            await away.ledger.reserve(claim("a.1", "a", priority))
    assert Clock().now() < began + 1
    await away.close()


async def test_a_pause_that_is_recorded_holds_for_all_clients_of_the_store() -> None:
    """A read without a slot may be refused as well: who sends next is another process."""
    away = Away()
    await away.ledger.record(1, pause=30.0)
    other = FailoverLedger(away.store, Plan.PAID, Clock(), TIMES)
    assert (await other.snapshot()).paused_for == pytest.approx(30.0, abs=1.0)
    await other.aclose()
    await away.close()
