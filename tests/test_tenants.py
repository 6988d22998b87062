"""Many tenants in one process: each key has its own limits, and none feels another."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llamagen_async import (
    AuthenticationError,
    ClientClosedError,
    ComicGeneration,
    GenerationFailedError,
    InvalidRequestError,
    LlamaGenClient,
    Plan,
    RateLimit,
    RateLimitError,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async import tenants as tenants_module
from llamagen_async.client import _GRACE as GRACE
from llamagen_async.ratelimit import registry
from llamagen_async.sandbox.accounts import label_of
from llamagen_async.transport import APIRequest
from llamagen_async.webhooks import WebhookEvent
from tests.support.scripted import Network, now
from tests.support.tenants import Instant, TenantNetwork, tenant_key

pytestmark = pytest.mark.virtual_time

FOUR = Plan("four", limits=RateLimit(4, per=60))


async def drawn(client: LlamaGenClient, tenant: int | str, story: str = "x") -> ComicGeneration:
    """Have a comic made with a client that nobody keeps."""
    return await client.with_key(tenant_key(tenant)).comics.create_and_wait(story)


def few_warm(monkeypatch: pytest.MonkeyPatch, number: int = 0) -> None:
    """Have that many idle keys kept open, instead of the usual number."""
    monkeypatch.setattr(tenants_module, "_WARM", number)


# --- limits ---------------------------------------------------------------------------------------


async def test_each_key_has_limits_of_its_own_and_one_key_has_one() -> None:
    """Eight creates of two clients of one key take two windows; another key is not held up."""
    network = TenantNetwork.of("a", "b", plan=FOUR)
    async with network.client(plan=FOUR) as client:
        one, other = client.with_key(tenant_key("a")), client.with_key(tenant_key("a"))
        creates = [which.comics.create("x") for which in (one, other) for _ in range(4)]
        await asyncio.gather(*creates, client.with_key(tenant_key("b")).comics.create("x"))
    assert network.times("b") == [0.0]
    assert sorted(network.times("a")) == pytest.approx([0.0] * 4 + [60.0] * 4, abs=0.1)
    keys = network.service.stats(0.0)["keys"]
    assert keys[label_of(tenant_key("a"))]["refused"] == 0


async def test_a_key_that_was_dropped_is_still_bound_by_what_it_has_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The count is packed while nobody uses it, and goes on from there."""
    few_warm(monkeypatch)
    network = TenantNetwork.of("a", "b", plan=FOUR, seconds=3)
    async with network.client(plan=FOUR) as client:
        await drawn(client, "a")
        await drawn(client, "b")
        core = client.with_key(tenant_key("a"))._core
        assert core.opened is None, "it was not dropped"
        assert (await client.with_key(tenant_key("a")).limits()).windows[0].used == 2
        await asyncio.gather(*(drawn(client, "a") for _ in range(3)))
    assert [at >= 55 for at in network.times("a")] == [False] * 3 + [True]


async def test_counts_in_which_nothing_counts_any_more_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counts that do are kept; each key that is opened has two of them looked at."""
    few_warm(monkeypatch)
    counts = registry._counts_of(asyncio.get_running_loop())
    async with Instant().client() as client:
        for number in range(10):
            await client.with_key(tenant_key(number)).comics.create("x")
        old = set(counts)
        await asyncio.sleep(120)
        for number in range(10, 20):
            await client.with_key(tenant_key(number)).comics.create("x")
        known = set(counts)
        assert len(old) == 11, "with the parent's"
        assert len(old & known) <= 2, "the parent's, and the one that was used last"
        assert len(known) >= 10


async def test_a_tenants_plan_may_be_another_and_may_change_while_it_is_idle() -> None:
    """A customer who has upgraded is served at the new pace; one who is being served is not."""
    network = TenantNetwork.of("a")
    async with network.client(plan="demo") as client:
        key = tenant_key("a")
        assert client.with_key(key).plan.name == "demo"
        assert client.with_key(key, plan="paid").plan.name == "paid"
        paid = client.with_key(key, plan=Plan.PAID)
        waiting = asyncio.create_task(paid.comics.create_and_wait("x"))
        await asyncio.sleep(1)
        with pytest.raises(InvalidRequestError, match="plan: got 'four', allowed is 'paid'"):
            client.with_key(key, plan=FOUR)
        await waiting
        four = client.with_key(key, plan=FOUR)
        limits = await four.limits()
        assert (limits.plan, limits.windows[0].limit.limit) == ("four", 4)
        assert limits.windows[0].used >= 1, "what was spent is carried over"
        assert client.plan.name == "demo"


async def test_the_plan_of_a_key_is_asked_for_once_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients are made of it, and however often it is dropped meanwhile."""
    few_warm(monkeypatch)
    network = TenantNetwork.of("a", "b", seconds=3)
    async with network.client(plan="auto") as client:
        for _ in range(3):
            await drawn(client, "a")
            await drawn(client, "b")
        assert client.with_key(tenant_key("a")).plan.name == "paid"
        assert [network.kinds(one)["usage"] for one in "ab"] == [1, 1]
        tomorrow = time.time() + 86_401
        monkeypatch.setattr("time.time", lambda: tomorrow)
        await drawn(client, "a")
        assert network.kinds("a")["usage"] == 2


# --- what happens to one tenant -------------------------------------------------------------------


async def _refuse(key: str, request: APIRequest) -> None:
    raise RateLimitError(429, None, "slow down", retry_after=300.0)


async def _fail(key: str, request: APIRequest) -> None:
    raise ServerError(503, None, "away")


async def _reject(key: str, request: APIRequest) -> None:
    raise AuthenticationError(401, None, "wrong key")


async def _hang(key: str, request: APIRequest) -> None:
    await asyncio.sleep(10_000)


@pytest.mark.parametrize("answer", [_refuse, _fail, _reject, _hang])
async def test_what_happens_to_one_tenant_happens_to_no_other(
    answer: Callable[[str, APIRequest], Awaitable[None]],
) -> None:
    """A 429 with a pause, an outage, a wrong key, and answers that do not come."""

    async def meet(key: str, request: APIRequest) -> None:
        if key == tenant_key("bad"):
            await answer(key, request)

    network = TenantNetwork.of("bad", "good", seconds=3)
    network.meet = meet
    async with network.client() as client:
        bad, good = (client.with_key(tenant_key(name)) for name in ("bad", "good"))
        refused = [asyncio.create_task(bad.comics.create("x")) for _ in range(20)]
        await asyncio.sleep(20)
        began = now()
        assert (await good.comics.create_and_wait("x")).succeeded
        assert network.times("good")[0] == began
        assert good.outage is None
        assert (await good.limits()).paused_for == 0
        assert client.outage is None
        for task in refused:
            task.cancel()
        await asyncio.gather(*refused, return_exceptions=True)


async def test_a_flood_of_one_tenant_is_no_others() -> None:
    """A thousand stories of one stand in its own queue; the comic of another is on time."""
    network = TenantNetwork.of("flood", "calm", seconds=60)
    async with network.client() as client:
        flood = client.with_key(tenant_key("flood"))
        waiting = [asyncio.create_task(flood.comics.create(f"{n}")) for n in range(1000)]
        await asyncio.sleep(30)
        began = now()
        await drawn(client, "calm")
        assert now() - began < 75
        assert network.times("calm")[0] == began
        assert len(network.times("flood")) < 40
        await flood.aclose()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert ClientClosedError in {type(end) for end in ends}


# --- life -----------------------------------------------------------------------------------------


async def test_closing_a_tenant_closes_nothing_that_is_shared() -> None:
    """The parent and other tenants go on, and the same key may be used again."""
    network = TenantNetwork.of("a", "b", seconds=3)
    async with network.client() as client:
        one = client.with_key(tenant_key("a"))
        waiting = asyncio.create_task(one.comics.create_and_wait("x"))
        await asyncio.sleep(1)
        await one.aclose()
        await one.aclose()
        with pytest.raises(ClientClosedError):
            await waiting
        with pytest.raises(ClientClosedError, match="make a new one"):
            await one.comics.create("x")
        assert network.closed == []
        assert (await drawn(client, "a")).succeeded
        assert (await drawn(client, "b")).succeeded
        assert (await client.comics.create_and_wait("x")).succeeded
    assert network.closed == [network.key]


async def test_leaving_async_with_ends_no_other_request_of_the_same_key() -> None:
    """Two requests of one customer: the first one to be done does not end the second."""
    network = TenantNetwork.of("a")

    async def serve(delay: float) -> ComicGeneration:
        await asyncio.sleep(delay)
        async with client.with_key(tenant_key("a")) as tenant:
            return await tenant.comics.create_and_wait("x")

    async with network.client() as client:
        assert all(one.succeeded for one in await asyncio.gather(serve(0), serve(30)))


@pytest.mark.parametrize("is_open", [True, False])
async def test_closing_the_parent_ends_all_tenants(is_open: bool) -> None:
    """Waiting callers are told, others learn of it when they are used, and no task stays."""
    network = TenantNetwork.of("a", "b")
    client = network.client()
    if is_open:
        await client.limits()
    idle = client.with_key(tenant_key("b"))
    waiting = asyncio.create_task(drawn(client, "a"))
    await asyncio.sleep(5)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await waiting
    for closed in (idle.comics.create("x"), idle.limits(), client.comics.create("x")):
        with pytest.raises(ClientClosedError):
            await closed
    for maker in (client, idle):
        with pytest.raises(ClientClosedError, match="make a new one"):
            maker.with_key(tenant_key("c"))
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_all_keys_together_are_closed_within_one_grace() -> None:
    """Creates that are answered in time are told, and those of a server that hangs are waited for
    once, however many keys there are; the client's own key is one of them.
    """
    network = TenantNetwork.of(*range(100))

    async def meet(key: str, request: APIRequest) -> None:
        is_quick = key == tenant_key(0)
        await asyncio.sleep(0.9 * GRACE + 1 if is_quick else 10_000)

    network.meet = meet
    client = network.client()
    keys = [client, *(client.with_key(tenant_key(one)) for one in range(100))]
    creating = [asyncio.create_task(key.comics.create("x")) for key in keys]
    await asyncio.sleep(1)
    assert len(network.sent) == len(keys)
    began = now()
    await client.aclose()
    assert now() - began == pytest.approx(GRACE)
    answers = await asyncio.gather(*creating, return_exceptions=True)
    assert isinstance(answers.pop(1), ComicGeneration)
    assert {type(one) for one in answers} == {SubmissionUncertainError}
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", None, 7, "schlüssel"])
async def test_a_bad_key_is_refused_at_once_and_not_shown(key: Any) -> None:
    async with Instant().client() as client:
        with pytest.raises(InvalidRequestError, match="api_key") as caught:
            client.with_key(key)
        assert "words" not in str(caught.value)
        with pytest.raises(InvalidRequestError, match="plan"):
            client.with_key("sk-fine", plan="golden")  # type: ignore[arg-type]  # no plan


async def test_white_space_and_quotes_around_a_key_make_no_other_key() -> None:
    async with Instant().client() as client:
        assert client.with_key(' "sk-x"\n')._core is client.with_key("sk-x")._core


async def test_a_transport_that_knows_one_key_only_is_refused() -> None:
    """Else the parent's key would be sent for a tenant."""
    async with LlamaGenClient("sk-parent", transport=Network(), plan="paid") as client:
        tenant = client.with_key("sk-other")
        with pytest.raises(InvalidRequestError, match=r"transport: got 'Network'.*with_key"):
            await tenant.comics.create("x")


async def test_a_tenants_tenant_is_the_parents() -> None:
    network = TenantNetwork.of("a", "b", seconds=3)
    async with network.client() as client:
        nested = client.with_key(tenant_key("b")).with_key(tenant_key("a"))
        assert nested._core is client.with_key(tenant_key("a"))._core


async def test_an_event_reaches_who_waits_with_another_client_of_the_key() -> None:
    """A webhook is handled by another request than the one that waits."""
    network = TenantNetwork.of("a", seconds=200)
    async with network.client(webhooks=True) as client:
        comic = await client.with_key(tenant_key("a")).comics.create("x")
        waiting = asyncio.create_task(
            client.with_key(tenant_key("a")).comics.wait_for_completion(comic.id)
        )
        await asyncio.sleep(1)
        end = {"id": comic.id, "status": "FAILED"}
        event = WebhookEvent("e", "comic.generation.failed", None, end, {})
        assert client.with_key(tenant_key("a")).deliver(event)
        with pytest.raises(GenerationFailedError, match=comic.id):
            await waiting
        assert network.kinds("a") == {"create": 1}


# --- idle keys ------------------------------------------------------------------------------------


async def test_idle_keys_are_dropped_and_leave_nothing_running() -> None:
    """No task, thread or limiter of a key that is asked for nothing, but for the last few."""
    threads = threading.active_count()
    async with Instant().client() as client:
        for number in range(100):
            await client.with_key(tenant_key(number)).comics.create("x")
        await asyncio.sleep(0.1)
        gc.collect()
        assert len(asyncio.all_tasks()) == 1
        assert threading.active_count() == threads
        assert len(client._tenants._cores) == tenants_module._WARM
        assert asyncio.get_running_loop()._scheduled == []  # type: ignore[attr-defined]  # timers


async def test_what_is_on_its_way_keeps_a_key_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a redraw, an end that was seen before is not taken for the new one."""
    few_warm(monkeypatch)
    network = TenantNetwork.of("a", "b", seconds=20)
    async with network.client() as client:
        one = client.with_key(tenant_key("a"))
        comic = await one.comics.create_and_wait("x")
        await drawn(client, "b")
        assert one._core.opened is None
        changed = await one.comics.update_panel(comic.id, panel=0, prompt="y")
        await drawn(client, "b")
        assert one._core.opened is not None
        redrawn = await one.comics.wait_for_completion(changed.id)
        assert redrawn.asset_urls != comic.asset_urls
        await drawn(client, "b")
        assert one._core.opened is None


async def test_counts_of_requests_outlive_being_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    few_warm(monkeypatch)
    async with Instant().client() as client:
        one, other = (client.with_key(tenant_key(name)) for name in "ab")
        for number in range(1, 4):
            await one.comics.create("x")
            await other.comics.create("x")
            assert one.stats().requests == {"create": number}


async def memory_of(number: int, *, kept: bool) -> float:
    """Return the bytes that an idle key takes after its comic, over `number` of them."""
    kept_clients: list[LlamaGenClient] = []

    async def one(client: LlamaGenClient, tenant: int) -> None:
        mine = client.with_key(tenant_key(tenant))
        if kept:
            kept_clients.append(mine)
        await mine.comics.create("x")

    async with Instant().client() as client:
        # What is made once is made before: the tables of the process, and what loops keep.
        await asyncio.gather(*(one(client, -1 - tenant) for tenant in range(50)))
        # The loop's table of tasks grows with those that run at once, and is never made smaller.
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(2 * number)))
        gc.collect()
        tracemalloc.start()
        try:
            await asyncio.gather(*(one(client, tenant) for tenant in range(number)))
            await asyncio.sleep(0.1)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / number
        finally:
            tracemalloc.stop()


@pytest.mark.no_cover
@pytest.mark.parametrize("kept", [False, True])
async def test_an_idle_key_takes_two_kilobytes_at_most(
    kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its client is kept or not; measured without the few that are kept open."""
    few_warm(monkeypatch)
    # A table that the process makes once may fall into one of the two.
    least = min([await memory_of(150, kept=kept) for _ in range(2)])
    assert least < 2048 + 40_000 / 150, "with 40 KB of tables"


@pytest.mark.once
@pytest.mark.no_cover
@pytest.mark.timeout(900)  # half a minute on an idle machine
async def test_five_thousand_idle_keys_take_two_kilobytes_each_at_most() -> None:
    """With the clients of all, and with the rooms of the few that are kept open."""
    assert await memory_of(5_000, kept=True) <= 2048


# --- many at once ---------------------------------------------------------------------------------


async def all_drawn(number: int, every: float) -> TenantNetwork:
    """Have one comic made for each of many keys, one key more every few seconds."""
    network = TenantNetwork.of(*range(number), plan=FOUR)

    async def one(tenant: int) -> None:
        await asyncio.sleep(tenant * every)
        assert (await drawn(client, tenant)).succeeded

    async with network.client(plan=FOUR) as client:
        await asyncio.gather(*map(one, range(number)))
    keys = network.service.stats(now())["keys"]
    for tenant in range(number):
        seen = keys[label_of(tenant_key(tenant))]
        assert (seen["creates_accepted"], seen["refused"]) == (1, 0), tenant
        assert seen["windows"][0]["most"] <= 4, tenant
    return network


async def test_many_keys_keep_their_limits() -> None:
    network = await all_drawn(40, 5.0)
    assert len(network.sent) / 40 < 4, "what one has learned of the server, all know"


@pytest.mark.once
@pytest.mark.no_cover
@pytest.mark.timeout(1800)  # one minute and a half on an idle machine
async def test_five_thousand_keys_keep_their_limits() -> None:
    await all_drawn(5_000, 0.2)
    assert now() < 5_000 * 0.2 + 120


# --- secrets --------------------------------------------------------------------------------------


async def test_no_key_of_a_tenant_is_in_a_repr_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    network = TenantNetwork.of("secret", plan=FOUR, seconds=600)
    async with network.client(plan=FOUR) as client:
        tenant = client.with_key(tenant_key("secret"))
        await asyncio.gather(*(tenant.comics.create("x") for _ in range(6)))
        held = client._tenants
        texts = [repr(one) for one in (tenant, tenant.comics, tenant.account, held, vars(held))]
        texts += [repr(tenant._core.settings), repr(registry._memory), caplog.text]
    assert caplog.text
    assert tenant_key("secret") not in " ".join(texts)
