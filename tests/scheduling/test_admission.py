"""Admission control: a request that would have to wait longer than it may is refused at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from llamagen_async import (
    BatchState,
    ComicGeneration,
    InvalidRequestError,
    LlamaGenError,
    Plan,
    QuotaExhaustedError,
    QuotaStoreError,
    RateLimit,
    WaitTimeoutError,
)
from llamagen_async.plans import DAY, MINUTE
from llamagen_async.ratelimit import Claim, LimitsSnapshot, NoSlot
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.sandbox import DEMO_KEY, PAID_KEY, Durations, SandboxService
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.submission import Submission
from llamagen_async.simulation import simulated_client
from tests.support.scheduling import (
    ONE,
    TWO,
    accepted_id,
    collect,
    fill,
    network_of,
    refusal,
)
from tests.support.scripted import Network, minute, now

pytestmark = pytest.mark.virtual_time


def demo() -> Network:
    return Network(minute(), key=DEMO_KEY)


@pytest.mark.parametrize("billed", [True, False])
@pytest.mark.parametrize("back_at", [0.0, 70.0])
async def test_nobody_waits_for_tomorrow_because_others_were_faster(
    billed: bool, back_at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have used up the day meanwhile; perhaps the store can't say so, just then."""
    reserve, snapshot = MemoryLedger.reserve, MemoryLedger.snapshot
    is_used_up = False

    async def late(ledger: MemoryLedger, claim: Claim) -> Grant | NoSlot:
        nonlocal is_used_up
        if not is_used_up:
            await ledger.record(15)
        is_used_up = True
        return await reserve(ledger, claim)

    async def away(ledger: MemoryLedger, *, position: int = 0) -> LimitsSnapshot:
        if is_used_up and now() < back_at:
            raise QuotaStoreError("away")
        return await snapshot(ledger, position=position)

    monkeypatch.setattr(MemoryLedger, "reserve", late)
    monkeypatch.setattr(MemoryLedger, "snapshot", away)
    network = demo()
    async with network.client("demo") as client:
        with pytest.raises(QuotaExhaustedError) as caught:
            await (client.comics.create("a") if billed else client.comics.usage())
        assert caught.value.limit == RateLimit(15, per=DAY)
    assert now() <= back_at + 60
    assert network.sent == []


async def test_a_comic_is_refused_if_the_day_has_no_slot_for_its_check() -> None:
    """Eight comics need 16 requests of a day's 15; the eighth is refused with the time to wait."""
    network = demo()
    async with network.client("demo") as client:
        results = await asyncio.gather(
            *(client.comics.create_and_wait(f"s{n}") for n in range(8)),
            return_exceptions=True,
        )
        assert all(isinstance(result, ComicGeneration) for result in results[:7])
        error = results[7]
        assert isinstance(error, QuotaExhaustedError)
        assert error.limit == RateLimit(15, per=DAY)
        assert error.wait == pytest.approx(DAY)
        ahead = (error.resets_at - datetime.now(UTC)).total_seconds()
        assert DAY - 60 < ahead <= DAY
    assert len(network.creates) == 7
    assert network.refused == 0


async def test_a_read_needs_one_slot_of_the_day() -> None:
    """With one slot of the day left a read is sent and a create is not; then no read is sent."""
    network = demo()
    async with network.client("demo") as client:
        comic = await client.comics.create("a")
        for _ in range(13):
            await client.comics.get(comic.id)
        with pytest.raises(QuotaExhaustedError):
            await client.comics.create("b")
        await client.comics.get(comic.id)
        with pytest.raises(QuotaExhaustedError) as caught:
            await client.comics.get(comic.id)
        # The first of the 15 slots comes back a day after its answer, at 0.
        assert caught.value.wait == pytest.approx(DAY - now())
    assert len(network.sent) == 15
    assert network.refused == 0


async def test_with_wait_for_quota_creates_go_on_the_next_day() -> None:
    """With `wait_for_quota` the eighth comic is started when the day's slots come back."""
    network = demo()
    async with network.client("demo") as client:
        stories = [f"s{n}" for n in range(9)]
        items = await collect(client, stories, wait_for_quota=True)
        assert [item.state for item in items] == [BatchState.SUCCEEDED] * 9
        assert DAY < now() < 2 * DAY
        comic = await client.comics.create("interactive", wait_for_quota=True)
        assert comic.id
    assert network.refused == 0
    assert network.stories.total() == 10


async def test_queued_stories_are_given_back_when_checks_have_used_up_the_day() -> None:
    """A story that was affordable when it was queued, and no longer is, is given back unsent."""
    network = Network(minute(400.0), key=DEMO_KEY)  # so slow that each needs several checks
    async with network.client("demo") as client:
        items = await collect(client, [f"s{n}" for n in range(7)])
    unsent = [item for item in items if item.state is BatchState.QUEUED]
    assert all(isinstance(item.error, QuotaExhaustedError) for item in unsent)
    assert len(network.creates) + len(unsent) == 7
    assert len(network.sent) <= 15
    assert network.refused == 0


async def test_queued_stories_are_given_back_when_reads_have_used_up_the_day() -> None:
    """Reads of the caller's take slots that the batch needs; its last stories stay unsent."""
    network = Network(minute(150), key=DEMO_KEY)
    async with network.client("demo") as client:
        reading = asyncio.create_task(collect(client, [f"s{n}" for n in range(7)]))
        await asyncio.sleep(1)
        ids = [accepted_id(network, f"s{n}") for n in range(4)]
        await asyncio.gather(*(client.comics.get(id_) for id_ in ids))
        items = await reading
        unsent = [item for item in items if item.state is BatchState.QUEUED]
        assert len(unsent) >= 1
        for item in unsent:
            assert isinstance(item.error, QuotaExhaustedError)
            # Not before the slots of the day come back; those that are left collect what runs.
            assert item.error.limit == RateLimit(15, per=DAY)
            assert DAY - 1_200 < item.error.wait <= DAY
        assert len(items) == 7
    assert network.refused == 0
    assert len(network.sent) <= 15


async def test_as_long_as_the_day_has_room_nobody_who_waits_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 100,000 waiting, each decision would take as long as sorting them."""
    looked = Counter[str]()
    whole = RequestQueue.__iter__

    def iterate(queue: RequestQueue) -> Iterator[Submission[Any]]:
        looked["at all"] += 1
        return whole(queue)

    monkeypatch.setattr(RequestQueue, "__iter__", iterate)
    network = demo()
    async with network.client("demo") as client:
        creates = [asyncio.create_task(client.comics.create(f"s{n}")) for n in range(6)]
        await asyncio.gather(*creates[:4])
        # The last two wait for a minute, which is found out once for each.
        before = looked["at all"]
        await asyncio.gather(*creates[4:])
    assert before <= 2
    assert looked["at all"] <= 6


async def test_comics_that_nobody_waits_for_do_not_stop_a_client_that_only_creates() -> None:
    """A program that collects elsewhere (webhooks, another process) creates day after day.

    A comic that this client never waits for may keep a slot for its check for some time, but
    not for ever.
    """
    network = demo()
    async with network.client("demo") as client:
        for n in range(30):
            await client.comics.create(f"s{n}")
            await asyncio.sleep(4 * 3_600)
    assert network.accepted == 30
    assert network.refused == 0


async def test_a_comic_that_was_done_when_it_was_accepted_keeps_no_slot() -> None:
    """A comic that needs no check leaves the whole day to creates."""
    network = Network(
        minute(), key=DEMO_KEY, body=lambda _sent, body: {**body, "status": "SUCCEEDED"}
    )
    async with network.client("demo") as client:
        for n in range(14):
            await client.comics.create_and_wait(f"s{n}")
    assert network.accepted == 14


async def test_a_comic_that_was_read_to_its_end_keeps_no_slot() -> None:
    """A program that collects with `get` may start seven comics a day, one after the other."""
    network = demo()
    async with network.client("demo") as client:
        for n in range(7):
            comic = await client.comics.create(f"s{n}")
            await asyncio.sleep(61)
            assert (await client.comics.get(comic.id)).succeeded
    assert network.accepted == 7


async def test_a_create_whose_slot_comes_too_late_is_refused_at_once() -> None:
    """A create that may wait ten seconds for a slot that comes in sixty is not sent."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        await fill(client, 1)
        await asyncio.sleep(1)
        with pytest.raises(QuotaExhaustedError) as caught:
            await client.comics.create("impatient", max_wait=10)
        assert now() == 1
        assert caught.value.limit == RateLimit(1, per=MINUTE)
        assert caught.value.wait == pytest.approx(59)
        await client.comics.create("patient", max_wait=59.5)
        assert now() == pytest.approx(60)
    assert network.order == ["create filler 0", "create patient"]


async def test_who_is_refused_is_in_nobodys_way() -> None:
    """Creates that may not wait so long delay no one, asked for together or one after the other."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        await fill(client, 1)
        await asyncio.sleep(1)
        impatient = [client.comics.create(f"i{n}", max_wait=10) for n in range(3)]
        creates = [*impatient, client.comics.create("patient", max_wait=59.5)]
        *refused, patient = await asyncio.gather(*creates, return_exceptions=True)
        assert isinstance(patient, ComicGeneration)
        assert all(isinstance(one, QuotaExhaustedError) for one in refused)
        for _ in range(3):
            with pytest.raises(QuotaExhaustedError):
                await client.comics.create("impatient", max_wait=10)
        await client.comics.create("patient", max_wait=60.5)
    assert network.accepted == 3


async def test_the_position_in_the_queue_counts_for_the_wait() -> None:
    """With one slot a minute only the first of three creates can be sent within 90 seconds."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        await fill(client, 1)
        results = await asyncio.gather(
            *(client.comics.create(f"s{n}", max_wait=90) for n in range(3)),
            return_exceptions=True,
        )
        refused = [isinstance(result, QuotaExhaustedError) for result in results]
        assert refused == [False, True, True]


async def test_a_create_that_may_not_wait_for_the_end_of_a_pause_is_refused() -> None:
    """A create that may not wait as long as the server has asked for is refused at once."""
    network = Network(minute(), before=lambda sent: None if sent.n else refusal(500.0))
    async with network.client() as client:
        first = asyncio.create_task(client.comics.create("first"))
        await asyncio.sleep(1)
        with pytest.raises(QuotaExhaustedError) as caught:
            await client.comics.create("second", max_wait=100)
        assert now() == 1
        assert caught.value.wait == pytest.approx(499)
        await first


async def test_a_wait_ends_early_when_the_day_has_no_check_left() -> None:
    """With the day used up no check is sent before tomorrow: a wait of minutes raises soon."""
    network = demo()
    async with network.client("demo") as client:
        comic = await client.comics.create("a")
        for _ in range(14):
            await client.comics.get(comic.id)
        before = now()
        with pytest.raises(QuotaExhaustedError):
            await client.comics.wait_for_completion(comic.id)
        assert now() - before < 120
        patient = await client.comics.wait_for_completion(comic.id, timeout=2 * DAY)
        assert patient.succeeded
    assert network.refused == 0


async def test_the_error_for_a_comic_that_can_not_be_collected_holds_its_id() -> None:
    """The comic was accepted, so the error must not say that nothing was sent."""
    network = Network(minute(3_000.0), key=DEMO_KEY)
    async with network.client("demo") as client:
        creating = asyncio.create_task(client.comics.create_and_wait("a", timeout=3_600))
        await asyncio.sleep(1)
        id_ = accepted_id(network, "a")
        for _ in range(14):
            await client.comics.get(id_)
        with pytest.raises(LlamaGenError) as caught:
            await creating
        assert id_ in f"{caught.value} {vars(caught.value)}"
        assert "nothing was sent" not in str(caught.value)


def two_a_minute(seconds: float = 50.0) -> SandboxService:
    """Return a service with two requests a minute whose comics take `seconds`."""
    return minute(seconds, plans={PAID_KEY: TWO})


async def test_the_error_of_a_create_that_may_not_wait_says_why() -> None:
    """The error names the window and the wait, and says that nothing was sent."""
    sandbox = two_a_minute()
    async with simulated_client(sandbox, plan=TWO) as client:
        await asyncio.gather(client.comics.create("a"), client.comics.create("b"))
        with pytest.raises(QuotaExhaustedError) as caught:
            await client.comics.create("c", max_wait=30)
        assert now() == 0
        assert caught.value.limit == TWO.limits[0]
        assert caught.value.wait == pytest.approx(60)
        assert "nothing was sent" in str(caught.value)
        await client.comics.create("d", max_wait=61)
        assert now() == 60
    assert len(sandbox.stats(0)["generations"]) == 3


async def test_a_longer_queue_makes_the_wait_longer() -> None:
    """With two slots a minute the third in the queue would wait for the second minute."""
    async with simulated_client(two_a_minute(), plan=TWO) as client:
        await asyncio.gather(client.comics.create("a"), client.comics.create("b"))
        queued = [asyncio.create_task(client.comics.create(f"{n}")) for n in range(2)]
        await asyncio.sleep(1)
        with pytest.raises(QuotaExhaustedError) as caught:
            await client.comics.create("fifth", max_wait=100)
        assert now() == 1
        assert caught.value.wait == pytest.approx(119)
        await asyncio.gather(*queued)


async def test_a_wait_that_no_check_can_end_in_time_ends_at_once() -> None:
    """A wait raises early if no slot for a check comes in time; a longer one gets the comic."""
    async with simulated_client(two_a_minute(), plan=TWO) as client:
        first, _ = await asyncio.gather(client.comics.create("a"), client.comics.create("b"))
        await asyncio.sleep(40)
        with pytest.raises(QuotaExhaustedError):
            await client.comics.wait_for_completion(first.id, timeout=15)
        assert now() < 45
        comic = await client.comics.wait_for_completion(first.id)
        assert comic.succeeded


async def test_a_wait_that_a_check_could_end_lasts_its_whole_timeout() -> None:
    """The error of a timeout is another one than that of a missing slot, and holds the id."""
    async with simulated_client(two_a_minute(500), plan=Plan.PAID) as client:
        comic = await client.comics.create("a")
        with pytest.raises(WaitTimeoutError, match=comic.id):
            await client.comics.wait_for_completion(comic.id, timeout=100)
        assert now() == 100


async def test_polling_bounds_how_often_a_generation_is_checked() -> None:
    """Two checks of one comic are never closer than `polling` seconds."""
    sandbox = SandboxService(durations=Durations.constant(300))
    async with simulated_client(sandbox, polling=40) as client:
        await client.comics.create_and_wait("a")
        checks = client.stats().requests["status"]
    assert checks <= 300 / 40 + 2


async def test_a_create_is_refused_while_the_server_asks_for_hours() -> None:
    """A create is refused at once; with `wait_for_quota` it waits for the hours."""
    sandbox = SandboxService()
    async with simulated_client(sandbox) as client:
        limiter = client._core.open().limiter
        await limiter.ledger.record(0, pause=5 * 3600)
        with pytest.raises(QuotaExhaustedError) as caught:
            await client.comics.create("a")
        assert caught.value.wait == pytest.approx(5 * 3600)
        await client.comics.create("b", wait_for_quota=True)
        assert now() == 5 * 3600


async def test_all_are_refused_when_hours_are_asked_for_right_after_they_were_looked_at() -> None:
    """Thousands are not looked over again at once, except for a pause: it is the last for hours."""
    async with simulated_client(SandboxService(), latency=(1.0, 1.0)) as client:
        limiter = client._core.open().limiter
        asking = [asyncio.create_task(client.comics.usage()) for _ in range(3_000)]
        await asyncio.sleep(0.1)
        await limiter.ledger.record(0, pause=7_200.0)
        limiter.give_up("a slot that was not used", "another client")
        results = await asyncio.gather(*asking, return_exceptions=True)
        refused = [result for result in results if isinstance(result, QuotaExhaustedError)]
        assert len(refused) == 3_000 - 10
        assert now() == 1.0


@pytest.mark.parametrize("max_wait", [0, -1, float("nan"), "soon", True])
async def test_a_max_wait_that_is_no_positive_number_is_refused(max_wait: Any) -> None:
    """A bad `max_wait` is refused before a request is spent."""
    async with simulated_client(two_a_minute()) as client:
        with pytest.raises(InvalidRequestError, match="max_wait"):
            await client.comics.create("a", max_wait=max_wait)
