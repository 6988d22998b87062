"""Only living clients count: forgotten ones, closed loops and forks bind nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Collection
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llamagen_async import ClientClosedError, InvalidRequestError, LlamaGenClient
from llamagen_async.forecasting.saved import ForecastStore
from llamagen_async.plans import PlanName
from llamagen_async.ratelimit import registry
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from llamagen_async.simulation import run
from tests.support.scripted import Network
from tests.support.sqlite_ledgers import ledger_threads

SPEED = 600
KEY = "the-key"
EAGER: Any = getattr(asyncio, "eager_task_factory", None)


@pytest.fixture(params=["memory", "sqlite"])
def quota(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path / 'quota.db'}"


def client_of(
    quota: str, plan: PlanName = "demo", url: str = "https://life.invalid"
) -> LlamaGenClient:
    """Return a client without a network."""
    return LlamaGenClient(KEY, plan=plan, base_url=url, quota=quota, transport=Network())


async def plan_of(client: LlamaGenClient) -> str:
    """Open a client, use and close it; return the plan that it kept."""
    async with client:
        return (await client.limits()).plan


async def use(client: LlamaGenClient) -> LlamaGenClient:
    """Send a create and ask for the limits; do not close the client."""
    await client.comics.create("x")
    await client.limits()
    return client


def open_files(name: str) -> list[str]:
    """Return the open files of this process whose path contains a name."""
    links: list[str] = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return [link for link in links if name in link]


def forget(living: Collection[threading.Thread] = ()) -> None:
    """Collect what nobody has a reference to, and let threads end but those in use."""
    for _ in range(3):
        gc.collect()
    for thread in threading.enumerate():
        if thread.name in ledger_threads() and thread not in living:
            thread.join(10)


@pytest.mark.once
def test_a_forgotten_client_whose_loop_is_gone_binds_no_plan(quota: str) -> None:
    """A notebook runs a cell again with another plan."""
    asyncio.run(use(client_of(quota)))
    forget()
    assert asyncio.run(plan_of(client_of(quota, "paid"))) == "paid"


def test_a_client_whose_loop_is_closed_binds_no_plan(quota: str) -> None:
    """Nor if somebody still has it."""
    url = "https://kept.invalid"
    kept = asyncio.run(use(client_of(quota, url=url)))
    assert asyncio.run(plan_of(client_of(quota, "paid", url))) == "paid"
    assert kept.plan.name == "demo"
    asyncio.run(kept.aclose())


@pytest.mark.once
async def test_a_forgotten_client_binds_nothing_while_its_loop_runs(
    quota: str, tmp_path: Path
) -> None:
    """Neither plan nor limiter nor thread nor file."""
    forget()  # of the tests before
    before = len(registry._limiters)
    client = await use(client_of(quota, url="https://forgotten.invalid"))
    gone = weakref.ref(client._core.open().limiter)
    assert len(ledger_threads()) == (quota != "memory")
    del client
    await asyncio.sleep(0)
    forget()
    assert gone() is None
    assert len(registry._limiters) == before
    assert ledger_threads() == []
    if sys.platform == "linux":
        assert open_files(str(tmp_path)) == []
    assert await plan_of(client_of(quota, "paid", "https://forgotten.invalid")) == "paid"


@pytest.mark.once
async def test_the_count_outlives_forgotten_clients(quota: str) -> None:
    """A client that is made afterwards knows what they have spent."""
    url, used = "https://spent.invalid", list[int]()
    for _ in range(3):
        client = await use(client_of(quota, url=url))
        used.append((await client.limits()).windows[0].used)
        del client
        await asyncio.sleep(0)
        forget()
    assert used == [1, 2, 3]


@pytest.mark.once
async def test_a_living_client_binds_its_plan(quota: str) -> None:
    """Also if another client of the same key was closed or forgotten meanwhile."""
    url = "https://bound.invalid"
    living = await use(client_of(quota, url=url))
    threads = threading.enumerate()
    assert await plan_of(client_of(quota, url=url)) == "demo"
    await use(client_of(quota, url=url))
    forget(threads)
    with pytest.raises(InvalidRequestError, match="as for the open client"):
        await plan_of(client_of(quota, "paid", url))
    assert (await living.limits()).windows[0].used == 2
    await living.aclose()
    assert await plan_of(client_of(quota, "paid", url)) == "paid"


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 200, 1000])
async def test_closing_that_was_cut_short_is_finished_by_closing_again(
    quota: str, steps: int, tmp_path: Path
) -> None:
    """Wherever it was cut: everything is released, once; closing again and again is fine."""
    url = f"https://cut-{steps}.invalid"
    network = Network(latency=0.05)
    client = LlamaGenClient(KEY, plan="demo", base_url=url, quota=quota, transport=network)
    await client.limits()
    create = asyncio.create_task(client.comics.create("x"))
    while not network.sent:  # noqa: ASYNC110  # nothing tells when a request leaves
        await asyncio.sleep(0)
    closing = asyncio.create_task(client.aclose())
    for _ in range(steps):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    for _ in range(3):
        await asyncio.gather(*(client.aclose() for _ in range(3)))
    await asyncio.wait([create])
    assert network.closed == 1
    assert ledger_threads() == []
    assert await plan_of(client_of(quota, "paid", url)) == "paid"


async def test_a_transport_that_is_closed_is_not_closed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing is cut short behind it, where what was learned is written."""
    network = Network()
    client = LlamaGenClient(KEY, plan="paid", quota="memory", transport=network)
    await client.limits()
    close, written = ForecastStore.aclose, asyncio.Event()

    async def slow(store: ForecastStore) -> None:
        await written.wait()
        await close(store)

    monkeypatch.setattr(ForecastStore, "aclose", slow)
    closing = asyncio.create_task(client.aclose())
    while not network.closed:  # noqa: ASYNC110  # nothing tells when a transport is closed
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    written.set()
    await client.aclose()
    assert network.closed == 1


async def test_a_session_whose_closing_was_cut_short_is_closed_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is left for the garbage collector to complain of."""
    async with SandboxServer(SandboxService(), speed=SPEED) as server:
        client = LlamaGenClient(
            PAID_KEY, plan="paid", base_url=server.url, speed=SPEED, quota="memory"
        )
        await client.comics.create("x")
        session = client._core.open().transport._session  # type: ignore[attr-defined]  # HTTPTransport
        close = session.close

        async def hang() -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(session, "close", hang)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.aclose(), 0.05)
        monkeypatch.setattr(session, "close", close)
        await client.aclose()
        assert session.closed


async def test_a_client_is_not_closed_beside_its_own_event_loop(quota: str) -> None:
    """From another thread it would wake nobody who waits here; afterwards it works as before."""
    client = client_of(quota, "paid", "https://beside.invalid")
    await client.comics.create("x")
    error = await asyncio.to_thread(
        lambda: asyncio.run(asyncio.wait_for(refusal_of(client.aclose()), 10))
    )
    assert "run_coroutine_threadsafe" in str(error)
    await client.comics.create("y")
    await client.aclose()


async def refusal_of(call: Awaitable[object]) -> ClientClosedError:
    """Return the error of a call that is refused."""
    with pytest.raises(ClientClosedError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("is_closed", [True, False])
async def test_a_session_of_another_event_loop_is_told_and_is_no_outage(*, is_closed: bool) -> None:
    """A batch would wait for ever for a server that is there."""
    other = asyncio.new_event_loop()

    async def made_elsewhere() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    session = await asyncio.to_thread(other.run_until_complete, made_elsewhere())
    if is_closed:
        other.close()
    client = LlamaGenClient(
        PAID_KEY, plan="paid", base_url="http://127.0.0.1:1", quota="memory", session=session
    )
    async with client:
        (item,) = [item async for item in client.comics.batch(["x"])]
        assert isinstance(item.error, ClientClosedError)
        assert "another event loop" in str(item.error)
        assert client.outage is None
    await session.close()
    other.close()


FORK = """
import asyncio, os, sys
from llamagen_async import LlamaGenClient, Plan, RateLimit

QUOTA = sys.argv[1]
OTHER = Plan("other", limits=RateLimit(5, per=60))

async def child(inherited):
    async with LlamaGenClient(plan=OTHER, quota=QUOTA) as own:
        await own.comics.create("from the child")
        assert (await own.limits()).plan == "other"
    assert (await inherited.limits()).plan == "paid"
    await inherited.aclose()

async def parent():
    client = LlamaGenClient(plan="paid", quota=QUOTA)
    await client.comics.create("before")
    await client.limits()  # the report of the create is done: no thread is at work
    pid = os.fork()
    if not pid:
        status = 1
        try:
            # What a forked server does: the parent's loop is not run any more.
            asyncio.events._set_running_loop(None)
            asyncio.set_event_loop(None)
            asyncio.run(child(client))
            status = 0
        finally:
            os._exit(status)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    await asyncio.wait_for(client.comics.create("after"), 5)
    after = (await client.limits()).windows[0].used
    await client.aclose()
    print(os.waitstatus_to_exitcode(status), after)

asyncio.run(parent())
"""


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_forked_process_begins_afresh_and_leaves_its_parent_alone(
    quota: str,
) -> None:
    """The child has a plan, a count and connections of its own; the parent's still work."""
    service = SandboxService(durations=Durations.constant(60))
    async with SandboxServer(service, speed=1) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "ignore::DeprecationWarning"),  # 3.12 warns of threads, which the child has not
            "-c",
            FORK,
            quota,
            env={**os.environ, "LLAMAGEN_API_KEY": PAID_KEY, "LLAMAGEN_API_URL": server.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
        counted = service.stats(server.now())["keys"][PAID_KEY]
    # A store knows of the child's create, too; in memory each process has its own count.
    used = 2 if quota == "memory" else 3
    assert (stdout.decode().split(), stderr) == (["0", str(used)], b"")
    assert (counted["creates_accepted"], counted["refused"]) == (3, 0)


@pytest.mark.skipif(EAGER is None, reason="there are no eager tasks before Python 3.12")
def test_a_loop_whose_tasks_begin_at_once_is_a_loop_like_others() -> None:
    """A plan is asked for once, and not by who asks for it; nothing is sent twice."""
    network = Network()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(EAGER)
        async with LlamaGenClient(KEY, plan="auto", transport=network) as client:
            await asyncio.gather(*(client.comics.create(f"s{n}") for n in range(3)))
            assert client.stats().requests == {"usage": 1, "create": 3}

    run(main())
