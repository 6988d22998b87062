"""Whole batches and whole days against each kind of server, and the virtual time they run in."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import pairwise
from typing import Any, Literal

import attrs
import pytest

from llamagen_async import (
    APITimeoutError,
    BatchItem,
    BatchState,
    ClientStats,
    LimitsSnapshot,
    Plan,
    QuotaExhaustedError,
    RateLimit,
    RateLimitError,
    RequestKind,
)
from llamagen_async.plans import DAY, PlanName
from llamagen_async.sandbox import (
    DEMO_KEY,
    FAULTS,
    PAID_KEY,
    Algorithm,
    Durations,
    Fault,
    FaultName,
    SandboxService,
    best_possible,
)
from llamagen_async.simulation import SimulatedTransport, VirtualTimeLoop, run, simulated_client
from llamagen_async.transport import APIRequest
from tests.support.scripted import left_over

pytestmark = [pytest.mark.no_cover, pytest.mark.virtual_time]

SEEDS = range(20)
COUNTED: tuple[Algorithm, ...] = ("sliding", "fixed", "bucket")


@attrs.frozen
class Day:
    """The results of a batch, of the client and of the service."""

    items: list[BatchItem]
    took: float
    stats: ClientStats
    limits: LimitsSnapshot
    seen: dict[str, Any]

    @property
    def states(self) -> dict[BatchState, int]:
        return dict(Counter(item.state for item in self.items))

    @property
    def key(self) -> dict[str, Any]:
        """The service's counts of the key that was used."""
        accounts: list[dict[str, Any]] = list(self.seen["keys"].values())
        return max(accounts, key=lambda account: int(account["total"]))

    @property
    def refused(self) -> int:
        return int(self.key["refused"])

    @property
    def accepted(self) -> Counter[str]:
        return Counter(one["prompt"] for one in self.seen["generations"])


async def batch(
    service: SandboxService,
    number: int,
    *,
    plan: Plan | PlanName = "paid",
    latency: tuple[float, float] = (0.0, 2.0),
    seed: int = 0,
    api_key: str | None = None,
    **settings: Any,
) -> Day:
    """Run a batch in virtual time and return what the client and the service saw."""
    random.seed(seed)  # backoff draws its jitter from there

    loop = asyncio.get_running_loop()
    async with simulated_client(
        service, plan=plan, latency=latency, seed=seed, api_key=api_key
    ) as client:
        stories = [f"s{n}" for n in range(number)]
        items = [item async for item in client.comics.batch(stories, **settings)]
        took = loop.time()
        await asyncio.sleep(60)  # a check may be on its way for a comic that was given up
        assert not left_over()
        limits = await client.limits()
        return Day(items, took, client.stats(), limits, service.stats(loop.time()))


# --- batches on the paid plan ---------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("algorithm", COUNTED)
async def test_a_batch_of_twelve_is_never_refused(algorithm: Algorithm, seed: int) -> None:
    """Every comic is done without a 429, however the server counts, at 0 to 2 s of latency."""
    service = SandboxService(algorithm=algorithm, seed=seed, window_offset=seed * 7.3)
    day = await batch(service, 12, seed=seed)
    assert day.states == {BatchState.SUCCEEDED: 12}
    assert day.refused == day.stats.refused == 0
    assert set(day.accepted.values()) == {1}
    assert day.took < 600


@pytest.mark.once
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_server_that_wants_strict_spacing_refuses_one_burst_at_most(seed: int) -> None:
    """The client does not know of the spacing; it learns it from one burst, and finishes."""
    day = await batch(SandboxService(algorithm="spaced", seed=seed), 12, seed=seed)
    assert day.states == {BatchState.SUCCEEDED: 12}
    assert day.refused <= 9
    assert set(day.accepted.values()) == {1}


@pytest.mark.parametrize("retry_after", ["seconds", "date", None])
async def test_strict_spacing_is_learned_from_any_form_of_retry_after(retry_after: Any) -> None:
    """With seconds, a date or no `Retry-After`, few requests are refused and the batch finishes."""
    service = SandboxService(algorithm="spaced", retry_after=retry_after)
    day = await batch(service, 12)
    assert day.states == {BatchState.SUCCEEDED: 12}
    assert day.refused <= 12


@pytest.mark.once
@pytest.mark.parametrize("seed", range(100))
async def test_one_comic_alone_finishes(seed: int) -> None:
    """A hundred different comics on the paid plan with default settings: all of them finish."""
    day = await batch(SandboxService(seed=seed), 1, seed=seed)
    assert day.states == {BatchState.SUCCEEDED: 1}
    assert day.refused == 0
    # A check that comes too early costs some ten seconds until the next one.
    ready = day.seen["generations"][0]["ready_at"]
    assert day.took - ready < 60
    assert day.stats.total <= 25


@pytest.mark.once
@pytest.mark.parametrize("latency", [(0.0, 0.0), (0.0, 2.0), (0.0, 20.0)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("algorithm", COUNTED)
async def test_a_steady_load_is_never_refused(
    algorithm: Algorithm, seed: int, latency: tuple[float, float]
) -> None:
    """A hundred comics use every slot of every window, with answers up to 20 s late: no 429.

    This is the test that fails if a slot counts from its grant instead of from its response: an
    arrival that was slow on its way then meets ten that were fast.
    """
    service = SandboxService(algorithm=algorithm, seed=seed, window_offset=seed * 13.7)
    day = await batch(service, 100, seed=seed, latency=latency)
    assert day.states == {BatchState.SUCCEEDED: 100}
    assert day.refused == 0
    assert max(window["most"] for window in day.key["windows"]) <= 10


async def test_slots_do_not_idle() -> None:
    """Without latency a batch takes hardly longer than the bound that knows every duration."""
    service = SandboxService(seed=3)
    bound = best_possible([service.duration_of(n) for n in range(60)], RateLimit(10, per=60))
    day = await batch(service, 60, latency=(0.0, 0.0))
    assert day.took < 1.35 * bound.last
    requests = day.stats.requests_per_finished
    assert requests is not None
    assert requests < 2.7


@pytest.mark.once
@pytest.mark.parametrize("dialect", ["documented", "production"])
@pytest.mark.parametrize("headers", [True, False])
async def test_dialects_and_headers_make_no_difference(dialect: Any, *, headers: bool) -> None:
    """Whichever words and headers the service uses, the batch is done and not refused."""
    service = SandboxService(dialect=dialect, rate_limit_headers=headers, failure_rate=0.2, seed=2)
    day = await batch(service, 12)
    assert day.states.keys() <= {BatchState.SUCCEEDED, BatchState.FAILED}
    assert day.states[BatchState.SUCCEEDED] >= 6
    assert day.refused == 0


# --- a day of the demo plan ---------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("algorithm", COUNTED)
@pytest.mark.parametrize("seed", range(3))
async def test_a_day_of_the_demo_plan(algorithm: Algorithm, seed: int) -> None:
    """Of ten stories seven are finished and three are given back unsent, with the reason."""
    service = SandboxService(algorithm=algorithm, seed=seed)
    day = await batch(service, 10, plan="demo", seed=seed)
    assert day.states == {BatchState.SUCCEEDED: 7, BatchState.QUEUED: 3}
    assert day.refused == 0
    for item in day.items:
        if item.state is BatchState.QUEUED:
            assert isinstance(item.error, QuotaExhaustedError)
            assert item.error.limit == RateLimit(15, per=DAY)
    assert sum(day.accepted.values()) == 7


@pytest.mark.once
@pytest.mark.parametrize("seed", range(12))
async def test_a_day_of_the_demo_plan_is_never_overdrawn(seed: int) -> None:
    """Some comics take eight times as long: no 429, and every story has a state.

    Nobody can know beforehand that a comic needs a second check, so some are still running when
    the day is used up; they are reported as running, with their ids.
    """
    service = SandboxService(seed=seed, durations=Durations.mixture())
    day = await batch(service, 10, plan="demo", seed=seed)
    assert day.refused == 0
    assert sum(day.accepted.values()) <= 7
    assert day.stats.total <= 15
    assert day.states[BatchState.SUCCEEDED] >= 2
    assert day.states.keys() <= {BatchState.SUCCEEDED, BatchState.RUNNING, BatchState.QUEUED}
    running = [item for item in day.items if item.state is BatchState.RUNNING]
    assert all(item.generation and item.error for item in running)


@pytest.mark.once
async def test_a_week_of_the_demo_plan() -> None:
    """With `wait_for_quota` thirty comics take some days, and every one is collected."""
    day = await batch(SandboxService(seed=5), 30, plan="demo", wait_for_quota=True)
    assert day.states == {BatchState.SUCCEEDED: 30}
    assert day.refused == 0
    assert 3 * DAY < day.took < 6 * DAY


# --- faults -------------------------------------------------------------------------------------

KINDS: list[FaultName] = [name for name, kind in FAULTS.items() if not kind.is_of_events]


@pytest.mark.once
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [*KINDS, "all"])
async def test_no_story_is_paid_for_twice_whatever_fails(
    kind: FaultName | Literal["all"], seed: int
) -> None:
    """One request in five goes wrong: no story is accepted twice, and each one ends."""
    faults = [Fault(name, rate=0.2) for name in (KINDS if kind == "all" else [kind])]
    service = SandboxService(faults=faults, seed=seed)
    day = await batch(service, 30, seed=seed)
    assert len(day.items) == 30
    assert max(day.accepted.values()) == 1
    assert day.refused == 0
    for item in day.items:
        accepted = day.accepted[f"s{item.index}"]
        if item.state is BatchState.SUCCEEDED:
            assert accepted == 1
        else:
            assert item.error is not None
        if item.state in (BatchState.QUEUED, BatchState.FAILED):
            assert accepted == 0
    assert day.limits.in_flight == 0
    assert day.took < 7_200


async def test_slow_answers_lead_to_no_refused_request() -> None:
    """Answers later than the timeout leave a create uncertain and its slot spent, not free."""
    service = SandboxService(faults=[Fault("delay", 45.0, rate=0.3)], seed=1)
    day = await batch(service, 30, seed=1)
    assert day.refused == 0
    assert max(day.accepted.values()) == 1
    assert day.states[BatchState.UNCERTAIN] > 0


async def test_two_programs_that_do_not_know_of_each_other_both_finish() -> None:
    """Some requests are refused when two programs share a key without a store; both finish."""
    service = SandboxService(seed=4)

    async def one(seed: int) -> list[BatchItem]:
        async with simulated_client(service, seed=seed, latency=(0.0, 2.0)) as client:
            stories = [f"{seed}/{n}" for n in range(10)]
            return [item async for item in client.comics.batch(stories)]

    both = await asyncio.gather(one(1), one(2))
    assert all(item.state is BatchState.SUCCEEDED for items in both for item in items)
    seen = service.stats(0)
    assert seen["keys"][PAID_KEY]["refused"] > 0
    assert seen["keys"][PAID_KEY]["creates_accepted"] == 20


# --- virtual time -------------------------------------------------------------------------------


async def test_a_day_passes_at_once() -> None:
    """The virtual clock starts at 0 and jumps to the next event."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    assert loop.time() == 0
    await asyncio.sleep(DAY)
    assert loop.time() == pytest.approx(DAY)
    await asyncio.sleep(10 * DAY)  # longer than a selector would wait
    assert loop.time() == pytest.approx(11 * DAY)


async def test_events_come_in_the_order_of_their_times() -> None:
    """The task with the shortest sleep wakes first, at exactly its time."""
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(sleep(seconds) for seconds in (30, 10, 20, 10.5)))
    assert woken == pytest.approx([10, 10.5, 20, 30])


def test_waiting_for_ever_is_an_error() -> None:
    """A coroutine that can never go on raises, so that a test does not hang."""

    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        run(wait_for_ever())


def test_a_simulation_can_be_repeated() -> None:
    """Two runs with the same seeds give equal results."""
    days = [run(batch(SandboxService(seed=6), 12, seed=6)) for _ in range(2)]
    assert days[0].took == days[1].took
    assert days[0].seen == days[1].seen


async def test_each_exchange_takes_a_random_latency() -> None:
    """Each exchange takes its own time within the bounds; one after the timeout is an error."""
    service = SandboxService()

    loop = asyncio.get_running_loop()
    transport = SimulatedTransport(service, PAID_KEY, latency=(1.0, 3.0))
    async with simulated_client(service, latency=(1.0, 3.0)) as client:
        times = [loop.time()]
        for n in range(8):
            await client.comics.create(f"s{n}")
            times.append(loop.time())
        took = [later - earlier for earlier, later in pairwise(times)]
        assert all(1 <= seconds <= 3 for seconds in took)
        assert len(set(took)) == 8
    await transport.aclose()
    async with simulated_client(service, latency=(5.0, 5.0), timeout=4.0) as client:
        with pytest.raises(APITimeoutError):
            await client.comics.get("x")


async def test_each_simulated_client_is_alone() -> None:
    """Two clients do not share a ledger, and use the sandbox's key of their plan."""
    service = SandboxService()

    async with (
        simulated_client(service, plan="demo") as demo,
        simulated_client(service, plan=Plan.PAID) as paid,
        simulated_client(service, plan=Plan.PAID) as other,
    ):
        for n in range(3):
            await demo.comics.create(f"d{n}")
            await paid.comics.create(f"p{n}")
        assert (await demo.limits()).windows[0].used == 3
        assert (await other.limits()).windows[0].used == 0
    keys = service.stats(0)["keys"]
    assert keys[DEMO_KEY]["creates_accepted"] == keys[PAID_KEY]["creates_accepted"] == 3


async def test_a_date_in_retry_after_is_in_virtual_time() -> None:
    """`Retry-After` as a date means the same virtual seconds as a number."""
    service = SandboxService(retry_after="date")

    transport = SimulatedTransport(service, PAID_KEY)
    request = APIRequest(RequestKind.USAGE, "GET", "/comics/usage")
    await asyncio.sleep(1000)
    for _ in range(10):
        await transport.send(request)
    with pytest.raises(RateLimitError) as caught:
        await transport.send(request)
    assert caught.value.retry_after == pytest.approx(60, abs=1)


@pytest.mark.once
@pytest.mark.parametrize("factor", [3.0, 1 / 3])
async def test_a_service_whose_speed_changes_starves_nobody_and_is_not_flooded(
    factor: float,
) -> None:
    """Comics that take three times as long (or a third) from one day to the next all finish."""
    before = SandboxService(seed=1, durations=Durations.lognormal(60, 0.3))
    after = SandboxService(seed=2, durations=Durations.lognormal(60 * factor, 0.3))
    transport = SimulatedTransport(before, PAID_KEY)
    loop = asyncio.get_running_loop()
    async with simulated_client(before, transport=transport) as client:
        async for item in client.comics.batch([f"a {n}" for n in range(40)]):
            assert item.state is BatchState.SUCCEEDED
        known, started = client.stats().total, loop.time()
        transport._service = after
        async for item in client.comics.batch([f"b {n}" for n in range(40)]):
            assert item.state is BatchState.SUCCEEDED
        took, spent = loop.time() - started, client.stats().total - known
        bound = best_possible([after.duration_of(n) for n in range(40)], Plan.PAID.rate)
        assert spent <= 40 * 3.5
        assert took <= 2 * bound.last
