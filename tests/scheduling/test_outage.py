"""An outage: creates stop, a probe goes out at times, and all goes on when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest

from llamagen_async import (
    APIConnectionError,
    APIError,
    InvalidResponseError,
    Plan,
    RateLimit,
    RequestKind,
    ServerError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.plans import HOUR
from llamagen_async.scheduling.circuit import TRIP
from tests.support.machine import ROOMY
from tests.support.scheduling import CREATES_ONLY, ONE, collect, network_of, refusal, service_of
from tests.support.scripted import Network, Sent, left_over, minute, now

pytestmark = pytest.mark.virtual_time

AWAY = ServerError(503, None, "away")
UNREACHED = APIConnectionError("no connection", request_sent=False)
LOST = APIConnectionError("broke off")
PAGE = InvalidResponseError(200, None, "not JSON", "<html>")
MOVED = InvalidResponseError(302, None, "a redirect")


def away(
    begin: float, end: float, error: Any, kind: str = ""
) -> Callable[[Sent], Exception | None]:
    """Return what makes a network fail for a time, for one kind of request or for all."""
    return lambda sent: (
        attrs.evolve(error) if begin <= sent.at < end and kind in ("", sent.kind) else None
    )


def roomy(seconds: float = 60.0, **settings: Any) -> Network:
    return network_of(ROOMY, seconds, **settings)


@pytest.mark.parametrize("error", [AWAY, UNREACHED, LOST, PAGE, MOVED], ids=str)
async def test_a_wait_outlasts_any_outage_that_its_time_allows(error: Exception) -> None:
    network = roomy(before=away(10, 1_000, error))
    async with network.client(ROOMY, max_retries=0) as client:
        comic = await client.comics.create_and_wait("a")
        assert comic.succeeded
    assert 1_000 <= now() < 1_032
    assert not left_over()


@pytest.mark.once
@pytest.mark.parametrize(("latency", "most"), [(0.0, 1), (0.5, TRIP)])
@pytest.mark.parametrize("error", [AWAY, LOST, PAGE], ids=str)
async def test_an_hour_of_outage_loses_no_more_creates_than_are_on_their_way(
    error: Exception, latency: float, most: int
) -> None:
    """A read follows on the first one, and the other creates wait for its answer."""
    network = Network(minute(), latency=latency, after=away(0, HOUR, error))
    waiting: list[asyncio.Task[object]] = []
    async with network.client() as client:
        for n in range(40):
            creating = client.comics.create_and_wait(f"s{n}", timeout=2 * HOUR)
            waiting.append(asyncio.create_task(creating))
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    lost = [one for one in outcomes if isinstance(one, SubmissionUncertainError)]
    assert len(lost) == most
    assert len([one for one in outcomes if not isinstance(one, BaseException)]) == 40 - most


async def test_the_first_creates_wait_for_an_answer_before_many_follow() -> None:
    """A server that breaks down gets no more creates than it takes to notice it."""
    network = roomy(latency=5.0)
    slow = Network(minute(), latency=5.0)
    async with slow.client() as client:
        await asyncio.gather(*(client.comics.create(f"s{n}") for n in range(10)))
    times = [sent.at for sent in slow.creates]
    assert times == [0, 0, 0, 5, 5, 5, 10, 10, 10, 15]
    async with network.client(ROOMY) as client:
        began = now()
        await asyncio.gather(*(client.comics.create(f"s{n}") for n in range(100)))
        assert now() == began + 5.0  # a plan that allows many is not slowed down


async def test_one_probe_at_a_time_goes_out_further_and_further_apart() -> None:
    """With comics running the probes are status checks, and creates wait."""
    network = roomy(600.0, before=away(10, 500, UNREACHED))
    async with network.client(ROOMY) as client:
        running = [await client.comics.create(f"s{n}") for n in range(5)]
        waiting = [asyncio.create_task(client.comics.wait_for_completion(r.id)) for r in running]
        await asyncio.sleep(20)
        waiting.append(asyncio.create_task(client.comics.create_and_wait("new")))
        await asyncio.gather(*waiting)
        outage = [sent for sent in network.sent if 12 <= sent.at < 500]
        gaps = [round(later.at - earlier.at, 6) for earlier, later in pairwise(outage)]
        assert {sent.kind for sent in outage[TRIP:]} == {"status"}
        assert gaps[TRIP:] == sorted(gaps[TRIP:])
        assert max(gaps) <= 31
        assert client.outage is None
    assert network.creates[-1].at < 531


async def test_without_a_comic_to_check_a_create_that_reached_nobody_is_the_probe() -> None:
    """A create that arrived nowhere is sent again without harm."""
    network = Network(minute(), before=away(0, 600, UNREACHED))
    async with network.client() as client:
        await asyncio.gather(
            *(client.comics.create_and_wait(f"s{n}", timeout=HOUR) for n in range(10))
        )
    assert set(network.stories.values()) == {1}
    early = [sent.kind for sent in network.sent if sent.at < 600]
    assert set(early) == {"create"}
    assert len(early) < 35


async def test_where_a_create_would_be_lost_a_read_is_the_probe() -> None:
    network = Network(minute(), before=away(0, 600, AWAY))
    async with network.client() as client:
        items = await collect(client, [f"s{n}" for n in range(20)])
    early = [sent.kind for sent in network.sent if sent.at < 600]
    assert early.count(RequestKind.CREATE) == 1
    assert early.count(RequestKind.USAGE) > 15
    assert [item.state for item in items].count("uncertain") == 1


@pytest.mark.parametrize(
    ("error", "lost", "late"),
    [
        (AWAY, 9, 120.0),
        (LOST, 8, 600.0),
        (attrs.evolve(AWAY, headers={"retry-after": "605"}), TRIP, 30.0),
    ],
    ids=["told", "lost", "told until when"],
)
async def test_a_server_that_takes_no_creates_is_told_of_while_reads_go_on(
    error: Any, lost: int, late: float
) -> None:
    network = Network(minute(), before=away(0, 600, error, "create"))
    async with network.client() as client:
        creating = [
            asyncio.create_task(client.comics.create_and_wait(f"s{n}", timeout=2 * HOUR))
            for n in range(20)
        ]
        await asyncio.sleep(60)
        assert client.outage is not None
        assert "has not accepted a comic since" in str(client.outage)
        assert (await client.comics.usage()).is_paid_plan
        outcomes = await asyncio.gather(*creating, return_exceptions=True)
    assert sum(isinstance(one, SubmissionUncertainError) for one in outcomes) == lost
    assert sum(not isinstance(one, Exception) for one in outcomes) == 20 - lost
    assert network.creates[lost].at <= 600 + late


async def test_an_outage_and_its_end_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """However many requests fail in between, and never where one has failed alone."""
    caplog.set_level("WARNING", "llamagen_async")
    network = roomy(before=away(10, 1_000, AWAY))
    async with network.client(ROOMY, max_retries=0) as client:
        await client.comics.create_and_wait("a")
    logged = [record.getMessage() for record in caplog.records]
    first, last = (text for text in logged if text.startswith("the server"))
    assert first.startswith("the server has not answered since ")
    assert first.endswith("; waiting for it")
    assert last.endswith("; it is back")
    caplog.clear()
    network = roomy(before=lambda sent: attrs.evolve(AWAY) if sent.n == 1 else None)
    async with network.client(ROOMY) as client:
        await client.comics.create_and_wait("a")
    assert not caplog.records


async def test_all_clients_of_a_key_find_it_out_together() -> None:
    """An outage that one client has found keeps another one from losing a create."""
    network = Network(minute(), before=away(0, 300, AWAY))
    url = "https://one-key.invalid"
    async with network.client(base_url=url) as one, network.client(base_url=url) as other:
        with pytest.raises(SubmissionUncertainError):
            await one.comics.create("s")
        comic = await other.comics.create_and_wait("a", timeout=HOUR)
        assert comic.succeeded
        assert one.outage is None
    assert len(network.creates) == 2


async def test_all_goes_on_at_once_when_one_probe_was_answered() -> None:
    """The creates of other clients go out, and what failed is checked, without another delay."""
    network = roomy(before=away(10, 300, UNREACHED))
    url = "https://one-more-key.invalid"
    async with (
        network.client(ROOMY, base_url=url) as one,
        network.client(ROOMY, base_url=url) as other,
    ):
        comics = [await one.comics.create(f"s{n}") for n in range(5)]
        waiting = [asyncio.create_task(one.comics.wait_for_completion(c.id)) for c in comics]
        await asyncio.sleep(100)
        waiting += [
            asyncio.create_task(other.comics.create_and_wait(f"t{n}", timeout=HOUR))
            for n in range(5)
        ]
        await asyncio.gather(*waiting)
    answered = min(sent.at for sent in network.sent if sent.at >= 300)
    assert answered < 331
    assert {sent.at for sent in network.creates[5:] if sent.at >= 300} == {answered}
    ids = {comic.id for comic in comics}
    checked = [sent for sent in network.checks if sent.target in ids and sent.at >= 300]
    assert {sent.at for sent in checked} == {answered}


@pytest.mark.parametrize("sick", [1, 2, 5])
async def test_comics_that_can_not_be_shown_do_not_stop_others(
    sick: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Another read finds out that the server is there, once; then these failures say nothing."""
    gone: list[str] = []
    network = roomy(before=lambda sent: attrs.evolve(AWAY) if sent.target in gone else None)
    async with network.client(ROOMY) as client:
        gone += [(await client.comics.create(f"sick {n}")).id for n in range(sick)]
        waiting = [
            asyncio.create_task(client.comics.wait_for_completion(id_, timeout=2 * HOUR))
            for id_ in gone
        ]
        for n in range(20):
            await asyncio.sleep(120)
            began = now()
            await client.comics.create(f"new {n}")
            assert now() == began
        assert client.outage is None
        assert sum("has not answered" in record.message for record in caplog.records) <= 2
        assert sum("fail" in record.message for record in caplog.records) <= 5
        asked = len(network.of(RequestKind.USAGE))
        assert asked <= 3
        gone.clear()
        assert all(comic.succeeded for comic in await asyncio.gather(*waiting))
    assert not left_over()


async def test_a_server_that_goes_away_is_noticed_beside_a_sick_comic() -> None:
    gone: list[str] = []
    hour = away(1_000, 1_000 + HOUR, AWAY)
    network = roomy(
        before=lambda sent: attrs.evolve(AWAY) if sent.target in gone else hour(sent),
    )
    async with network.client(ROOMY) as client:
        gone.append((await client.comics.create("sick")).id)
        waiting = asyncio.create_task(client.comics.wait_for_completion(gone[0], timeout=2 * HOUR))
        await asyncio.sleep(1_000)
        creating = [
            asyncio.create_task(client.comics.create_and_wait(f"s{n}", timeout=2 * HOUR))
            for n in range(30)
        ]
        outcomes = await asyncio.gather(*creating, return_exceptions=True)
        assert sum(isinstance(one, SubmissionUncertainError) for one in outcomes) == 1
        waiting.cancel()


async def test_a_usage_that_can_not_be_had_does_not_stop_creates() -> None:
    """Where nothing else can be read, creates find out, no more of them than in an outage."""
    lost: list[str] = []
    network = roomy(
        before=lambda sent: attrs.evolve(AWAY) if sent.kind == "usage" or lost else None
    )
    async with network.client(ROOMY, max_retries=0) as client:
        for _ in range(5):
            with pytest.raises(ServerError):
                await client.comics.usage()
        began = now()
        await client.comics.create("a")
        assert now() <= began + 1.0
        lost.append("all")
        with pytest.raises(SubmissionUncertainError):
            await client.comics.create("b")
        lost.clear()
        await client.comics.create("c")
        assert now() <= began + 2.0


@pytest.mark.parametrize("sick_usage", ["alone", "since an outage", "for good"])
async def test_creates_go_on_beside_a_sick_comic_whatever_became_of_the_usage(
    sick_usage: str,
) -> None:
    """The usage, which is what else can be read, has failed before: that stops no create."""
    gone: list[str] = []
    network = roomy(
        before=lambda sent: (
            attrs.evolve(AWAY) if {"all", sent.kind, sent.target} & {*gone} else None
        )
    )
    async with network.client(ROOMY, max_retries=0) as client:
        sick, well = (await client.comics.create("sick")).id, client.comics.create_and_wait("well")
        gone.append("all" if sick_usage == "since an outage" else "usage")
        for _ in range(TRIP):
            with pytest.raises(ServerError):
                await client.comics.usage()
            await asyncio.sleep(1)
        if sick_usage != "for good":
            gone.clear()
        assert (await well).succeeded
        gone.append(sick)
        waiting = asyncio.create_task(client.comics.wait_for_completion(sick, timeout=2 * HOUR))
        await asyncio.sleep(120)
        for n in range(20):
            began = now()
            await client.comics.create_and_wait(f"new {n}", timeout=200.0)
            assert now() <= began + 120.0
        assert client.outage is None
        waiting.cancel()


@pytest.mark.parametrize("timeout", [3.0, 20.0])
async def test_a_create_ends_at_its_time_before_an_outage_is_known(timeout: float) -> None:
    """One read after the other takes long to fail, and nobody knows yet what that means."""
    network = roomy(latency=25.0, after=lambda _: attrs.evolve(LOST))
    async with network.client(ROOMY, max_retries=0) as client:
        with pytest.raises(SubmissionUncertainError):
            await client.comics.create("lost")
        began = now()
        with pytest.raises(APIConnectionError, match="has not answered since") as caught:
            await client.comics.create_and_wait("story", timeout=timeout)
        assert not caught.value.request_sent
        assert now() == pytest.approx(began + timeout, abs=0.01)


@pytest.mark.parametrize("status", [408, 421, 423, 425, 499])
async def test_a_check_is_made_again_where_a_proxy_asks_for_that(status: int) -> None:
    network = roomy(before=away(10, 200, APIError(status, None, "again"), "status"))
    async with network.client(ROOMY, max_retries=1) as client:
        assert (await client.comics.create_and_wait("a")).succeeded
    assert now() < 270


@pytest.mark.parametrize("timeout", [20.0, 200.0])
async def test_a_create_holds_out_as_long_as_it_was_given(timeout: float) -> None:
    network = Network(minute(), before=away(0, HOUR, UNREACHED))
    async with network.client() as client:
        for create in (
            client.comics.create("a", max_wait=timeout),
            client.comics.create_and_wait("b", timeout=timeout),
            client.comics.create_and_wait("c", timeout=timeout, wait_for_quota=True),
        ):
            began = now()
            with pytest.raises(APIConnectionError) as caught:
                await create
            assert not caught.value.request_sent
            assert now() == pytest.approx(began + timeout, abs=0.01)


async def test_a_create_whose_time_is_over_is_not_tried_again() -> None:
    """The first try begins in time and provably fails later; a slot is free for a second one."""
    fails: list[str] = []
    network = network_of(
        ONE, latency=29.0, after=lambda _: attrs.evolve(UNREACHED) if fails else None
    )
    async with network.client(ONE) as client:
        await client.comics.create("filler")
        fails.append("from now on")
        began, free_in = now(), (await client.limits()).next_free_in
        assert free_in > 0
        with pytest.raises(APIConnectionError, match="no connection"):
            await client.comics.create_and_wait("story", timeout=free_in + 2)
        assert now() == pytest.approx(began + free_in + 29)
    assert len(network.creates) == 2


async def test_a_create_without_a_time_waits_no_longer_than_its_retries_would() -> None:
    """Callers who gave no time are told within 15 s, the bound of four retries."""
    network = Network(minute(), before=away(0, HOUR, AWAY))
    async with network.client() as client:
        with pytest.raises(SubmissionUncertainError):
            await client.comics.create("s")
        await asyncio.sleep(5)
        began = now()
        errors = await asyncio.gather(
            *(client.comics.create(f"t{n}") for n in range(20)), return_exceptions=True
        )
        assert {type(error) for error in errors} == {APIConnectionError}
        assert all("the server has not answered since" in str(error) for error in errors)
        assert now() == pytest.approx(began + 1 + 15)  # a second, until it was noticed
    assert len(network.creates) == 1


async def test_a_wait_ends_at_its_time_in_an_outage() -> None:
    network = roomy(before=away(10, HOUR, AWAY, "status"))
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        with pytest.raises(WaitTimeoutError) as caught:
            await client.comics.wait_for_completion(comic.id, timeout=333)
        assert caught.value.id == comic.id
        assert now() == pytest.approx(333)


@pytest.mark.parametrize("error", [AWAY, UNREACHED], ids=str)
async def test_an_outage_leaves_slots_of_the_day(error: Exception) -> None:
    """Probes that count against a day's slots are few."""
    plan = Plan("day", limits=(RateLimit(4, per=60), RateLimit(40, per=86_400)))
    network = Network(service_of(plan), key="the-key", before=away(5, HOUR, error))
    async with network.client(plan) as client:
        comic = await client.comics.create("a")
        with pytest.raises(WaitTimeoutError):
            await client.comics.wait_for_completion(comic.id, timeout=HOUR - 10)
        free = (await client.limits()).windows[1].free
        assert free >= 25


async def test_where_checks_are_not_metered_the_probes_need_no_slot() -> None:
    network = Network(service_of(CREATES_ONLY), key="the-key", before=away(5, 400, AWAY))
    async with network.client(CREATES_ONLY) as client:
        items = await collect(client, [f"s{n}" for n in range(8)])
    assert [item.state for item in items].count("succeeded") >= 8 - TRIP
    assert network.refused == 0
    assert now() < 800


async def test_batches_hold_out_a_server_that_only_refuses() -> None:
    """No number of refusals gives a story back; a caller without a time is told after nine."""
    network = Network(minute(), before=away(0, 900, refusal(20.0)))
    async with network.client() as client:
        items = await collect(client, ["a", "b"])
    assert {item.state for item in items} == {"succeeded"}


@pytest.mark.parametrize("error", [AWAY, UNREACHED], ids=str)
async def test_the_plan_is_asked_for_until_the_server_answers(error: Exception) -> None:
    """With `"auto"` an outage at the beginning ends neither a batch nor a wait."""
    network = Network(minute(), before=away(1, 200, error))
    async with network.client() as client:
        comic = await client.comics.create("x")
    await asyncio.sleep(2)
    async with network.client("auto") as client:
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        with pytest.raises(WaitTimeoutError):
            await client.comics.wait_for_completion(comic.id, timeout=50)
        with pytest.raises(type(error)):
            await client.comics.create("impatient")
        items = await collect(client, [f"s{n}" for n in range(20)])
        assert {item.state for item in items} == {"succeeded"}
        assert (await waiting).succeeded
        assert client.plan == Plan.PAID
    assert not left_over()
