"""Every queue of jobs does the same, whatever keeps the jobs: one suite over all engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import (
    APIConnectionError,
    BatchState,
    ClientClosedError,
    ComicGeneration,
    ComicJob,
    ComicQueue,
    ComicRequest,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    LlamaGenError,
    Plan,
    RateLimit,
    SubmissionUncertainError,
)
from llamagen_async.batch.protocol import JobQueue
from llamagen_async.sandbox import Fault, SandboxServer
from tests.support.redis_server import RedisServer
from tests.support.taskiq_app import FAST, fresh_prefix, orders, roomy_sandbox, worker
from tests.support.web import sandbox_client

ONE = Plan("one", limits=RateLimit(1, per=3_000), metered="create")
"""A plan under which the second job waits for longer than a test."""
RUNNING = BatchState.RUNNING
ENGINES = ("memory", "sqlite", "taskiq")


@attrs.frozen
class Shop:
    """A queue, and the server that is paid."""

    queue: Any
    server: SandboxServer

    @property
    def accepted(self) -> int:
        return len(self.server.service.stats(self.server.now())["generations"])


Opened = Callable[..., AbstractAsyncContextManager[Shop]]


@pytest.fixture(params=ENGINES)
def opened(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> Opened:
    """Opens the queue of one engine; a second time on the same jobs."""
    prefix, engine = fresh_prefix(), request.param

    @asynccontextmanager
    async def taskiq(
        server: SandboxServer, plan: Plan, settings: dict[str, Any]
    ) -> AsyncIterator[JobQueue]:
        url = redis_server.url
        async with (
            worker(url, server, prefix, plan=plan, **settings),
            orders(url, server, prefix, plan=plan, **settings) as queue,
        ):
            yield queue

    @asynccontextmanager
    async def local(
        server: SandboxServer, plan: Plan, settings: dict[str, Any]
    ) -> AsyncIterator[JobQueue]:
        journal = tmp_path / "jobs.db" if engine == "sqlite" else None
        async with (
            sandbox_client(server, plan=plan) as client,
            ComicQueue(client, journal, **settings) as queue,
        ):
            yield queue

    @asynccontextmanager
    async def open_(
        *,
        plan: Plan = FAST,
        out: Path | None = None,
        server: SandboxServer | None = None,
        **more: Any,
    ) -> AsyncIterator[Shop]:
        settings = {} if out is None else {"out": out}
        kind = taskiq if engine == "taskiq" else local
        if server is not None:
            async with kind(server, plan, settings) as queue:
                yield Shop(queue, server)
            return
        async with roomy_sandbox(plan=plan, **more) as own, kind(own, plan, settings) as queue:
            yield Shop(queue, own)

    open_.lasts = engine != "memory"  # type: ignore[attr-defined]  # told to the tests that ask
    return open_


async def seen(queue: JobQueue, job: ComicJob | str, **after: Any) -> list[ComicJob]:
    return [event async for event in queue.events(job, **after)]


async def until(queue: JobQueue, key: str, state: BatchState) -> None:
    async for event in queue.events(key):
        if event.state is state:
            return


async def test_a_job_becomes_a_comic(opened: Opened, tmp_path: Path) -> None:
    """Submitted, followed by several, fetched; its events are told once each and in order."""
    async with opened(out=tmp_path / "out") as shop:
        job = await shop.queue.submit("a cat", key="order-1")
        assert job.key == "order-1"
        follow = [asyncio.create_task(seen(shop.queue, job)) for _ in range(3)]
        comic = await shop.queue.result(job)
        assert isinstance(comic, ComicGeneration)
        for events in await asyncio.gather(*follow):
            assert events[-1].state is BatchState.SUCCEEDED
            marks = [(event.mark.serial, event.mark.position) for event in events]
            assert marks == sorted(set(marks))
        found = await shop.queue.get("order-1")
        assert found.generation == comic
        assert len(found.files) == len(comic.asset_urls)
        assert all(file.is_file() for file in found.files)
        assert shop.accepted == 1


async def test_the_same_key_is_the_same_job(opened: Opened) -> None:
    async with opened() as shop:
        many = [shop.queue.submit("a cat", key="k") for _ in range(10)]
        jobs = await asyncio.gather(*many)
        assert {job.key for job in jobs} == {"k"}
        comics = await asyncio.gather(*map(shop.queue.result, jobs))
        again = await shop.queue.submit(ComicRequest("a cat"), key="k")
        assert again.state is BatchState.SUCCEEDED
        assert {comic.id for comic in comics} == {again.generation.id}
        assert shop.accepted == 1
        with pytest.raises(InvalidRequestError) as caught:
            await shop.queue.submit("a dog", key="k")
        assert caught.value.field == "key"
        others = [await shop.queue.submit("a cat") for _ in range(2)]
        assert len({job.key for job in others}) == 2


async def test_a_reader_comes_back_with_what_it_has_seen(opened: Opened) -> None:
    """Nothing is told twice, and nothing that came after is left out."""
    async with opened() as shop:
        job = await shop.queue.submit("a cat", key="k")
        events = await seen(shop.queue, job)
        told = [str(event.mark) for event in events]
        for number, mark in enumerate(told):
            later = [str(event.mark) for event in await seen(shop.queue, "k", after=mark)]
            states = [event.state for event in events[number + 1 :]]
            assert not set(later) & set(told[: number + 1])
            assert (told[-1] in later) is bool(states)
            assert later == sorted(later, key=lambda mark: int(mark.partition(".")[0]))
        assert await seen(shop.queue, "k", after=told[-1]) == []


async def test_a_reader_whose_wait_is_cut_goes_on(opened: Opened) -> None:
    """A wait for an event that was cancelled, as by a timeout, does not end the events."""
    async with opened() as shop:
        await shop.queue.submit("a cat", key="k")
        events = shop.queue.events("k")
        told: list[ComicJob] = []
        while not told or not told[-1].is_final:
            cut = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            if cut.cancel():
                await asyncio.gather(cut, return_exceptions=True)
            told.append(cut.result() if not cut.cancelled() else await anext(events))
        assert await anext(events, None) is None
        assert told[-1].state is BatchState.SUCCEEDED
        marks = [(event.mark.serial, event.mark.position) for event in told]
        assert marks == sorted(set(marks))


async def test_jobs_are_listed_and_have_positions(opened: Opened) -> None:
    async with opened(plan=ONE) as shop:
        await shop.queue.submit("s0", key="k0")
        await until(shop.queue, "k0", BatchState.RUNNING)
        for number in range(1, 4):
            await shop.queue.submit(f"s{number}", key=f"k{number}")
        await shop.queue.submit("s4", key="k4", urgent=True)
        listed = await shop.queue.list()
        assert [job.key for job in listed] == ["k4", "k3", "k2", "k1", "k0"]
        assert [job.position for job in listed[:4]] == [1, 4, 3, 2]
        assert [job.key for job in await shop.queue.list(limit=2, after="k3")] == ["k2", "k1"]
        queued = await shop.queue.list(BatchState.QUEUED)
        assert [job.key for job in queued] == ["k4", "k3", "k2", "k1"]
        assert await shop.queue.waiting() == 4
        assert (await shop.queue.get("k2")).position == 3
        with pytest.raises(InvalidRequestError, match="after"):
            await shop.queue.list(after="nobody")


async def test_a_queued_job_is_cancelled_unpaid(opened: Opened) -> None:
    async with opened(plan=ONE) as shop:
        await shop.queue.submit("a", key="a")
        await until(shop.queue, "a", BatchState.RUNNING)
        await shop.queue.submit("b", key="b")
        following = asyncio.create_task(seen(shop.queue, "b"))
        await asyncio.sleep(0)
        cancelled = await shop.queue.cancel("b")
        assert cancelled.state is BatchState.CANCELLED
        assert (await following)[-1].state is BatchState.CANCELLED
        with pytest.raises(LlamaGenError, match="cancelled"):
            await shop.queue.result("b")
        assert (await shop.queue.cancel("a")).state is not BatchState.CANCELLED
        assert (await shop.queue.submit("b", key="b")).state is BatchState.CANCELLED
        assert shop.accepted == 1


async def test_bad_jobs_are_refused_at_once(opened: Opened) -> None:
    async with opened() as shop:
        bad: list[tuple[Any, str | None, str]] = [
            ("", None, "prompt"),
            ({"prompt": "a", "size": "1x1"}, None, "size"),
            ("a", "", "key"),
            ({"type": "continue", "prompt": "a", "of": "nobody"}, None, "of"),
        ]
        for request, key, field in bad:
            with pytest.raises(InvalidRequestError) as caught:
                await shop.queue.submit(request, key=key)
            assert caught.value.field == field
        assert list(await shop.queue.list()) == []
        assert await shop.queue.get("nobody") is None
        for ask in (shop.queue.result, shop.queue.cancel):
            with pytest.raises(InvalidRequestError):
                await ask("nobody")


async def held(queue: Any, reason: type[LlamaGenError] | None) -> None:
    """Wait until it is known why nothing is sent, or that it is."""
    while type(queue.held_by) is not (reason or type(None)):
        await asyncio.sleep(0.01)
        await queue.waiting()


async def test_why_nothing_is_sent_is_known(opened: Opened) -> None:
    """To everybody who asks, whoever it is that can't send; and that it is over."""
    async with opened(faults=[Fault("no-credits", times=3)]) as shop:
        await shop.queue.submit("a cat", key="k")
        await held(shop.queue, InsufficientCreditsError)
        assert (await shop.queue.get("k")).expected_at is None
        assert (await shop.queue.result("k")).succeeded
        await held(shop.queue, None)
        assert shop.accepted == 1


async def test_that_the_server_is_away_is_known(opened: Opened) -> None:
    """Nobody can know until then when a comic will be done."""
    async with roomy_sandbox() as server:
        pass  # nobody listens at its port any more
    async with opened(server=server) as shop:
        await shop.queue.submit("a cat", key="k")
        await held(shop.queue, APIConnectionError)
        async with server:
            assert (await shop.queue.result("k")).succeeded
            await held(shop.queue, None)


def drawn(event: ComicJob) -> int:
    return sum(panel.asset_url is not None for panel in event.panels)


async def test_panels_are_told_as_they_are_drawn(opened: Opened) -> None:
    """In any process, by whoever has the comic; a reader that comes back has nothing twice."""
    checked = Plan("checked", limits=RateLimit(60, per=60))
    settings = {"seconds": 300.0, "faults": [Fault("early-pictures")]}
    async with opened(plan=checked, **settings) as shop:
        job = await shop.queue.submit({"prompt": "a cat", "fix_panel_num": 4}, key="k")
        events = [event for event in await seen(shop.queue, job) if event.state is RUNNING]
        numbers = [drawn(event) for event in events]
        assert numbers == sorted(set(numbers))
        assert 0 < numbers[-1] <= 4
        comic = await shop.queue.get("k")
        assert drawn(comic) == 4
        assert len({str(event.mark) for event in events}) == len(events)
        for event in events:
            later = await seen(shop.queue, "k", after=str(event.mark))
            assert [one.state for one in later] == [BatchState.SUCCEEDED]


async def test_changes_wait_for_their_comic(opened: Opened) -> None:
    """One after the other, in their order, whoever works at them."""
    async with opened() as shop:
        await shop.queue.submit("a cat", key="c")
        for number in range(3):
            change = {"type": "continue", "of": "c", "prompt": f"more {number}"}
            await shop.queue.submit(change, key=f"m{number}")
        await shop.queue.submit(
            {"type": "update_panel", "of": "c", "page": 0, "panel": 0, "prompt": "a hat"}, key="u"
        )
        jobs = [await shop.queue.get(key) for key in ("c", "m0", "m1", "m2", "u")]
        comics = await asyncio.gather(*[shop.queue.result(job) for job in jobs])
        assert len({comic.id for comic in comics}) == 1
        ended = [(await shop.queue.get(job.key)).at for job in jobs]
        assert ended == sorted(ended)


async def test_changes_of_a_comic_that_failed_are_not_sent(opened: Opened) -> None:
    async with opened(failure_rate=1.0) as shop:
        await shop.queue.submit("a cat", key="c")
        await shop.queue.submit({"type": "continue", "of": "c", "prompt": "more"}, key="m")
        await shop.queue.submit({"type": "continue", "of": "m", "prompt": "more"}, key="n")
        with pytest.raises(GenerationFailedError):
            await shop.queue.result("c")
        for key in ("m", "n"):
            with pytest.raises(InvalidRequestError, match="of: got"):
                await shop.queue.result(key)
        assert shop.accepted == 1


@pytest.mark.parametrize("fault", ["drop", "not-json"])
async def test_a_lost_answer_is_uncertain_and_never_sent_again(opened: Opened, fault: Any) -> None:
    async with opened(faults=[Fault(fault, on=("create",))]) as shop:
        await shop.queue.submit("a cat", key="k")
        with pytest.raises(SubmissionUncertainError):
            await shop.queue.result("k")
        again = await shop.queue.submit("a cat", key="k")
        assert again.state is BatchState.UNCERTAIN
        assert shop.accepted == 1
        await shop.queue.resend("k")
        with pytest.raises(SubmissionUncertainError):
            await shop.queue.result("k")
        assert shop.accepted == 2


async def test_who_follows_is_told_that_the_queue_closes(opened: Opened) -> None:
    async with opened(plan=ONE) as shop:
        await shop.queue.submit("a", key="a")
        await until(shop.queue, "a", BatchState.RUNNING)
        await shop.queue.submit("b", key="b")
        following = asyncio.create_task(seen(shop.queue, "b"))
        async for _ in shop.queue.events("b"):
            break
        await shop.queue.aclose()
        with pytest.raises(ClientClosedError):
            await following


async def test_jobs_are_gone_on_with_after_a_restart(opened: Opened) -> None:
    """Each job that runs is collected, what is queued is sent, and nothing is paid twice."""
    if not opened.lasts:  # type: ignore[attr-defined]  # a queue in memory forgets
        return
    two = Plan("two", limits=RateLimit(2, per=600), metered="create")
    async with roomy_sandbox(plan=two, seconds=300.0) as server:
        async with opened(plan=two, server=server) as shop:
            for number in range(4):
                await shop.queue.submit(f"s{number}", key=f"k{number}")
            await until(shop.queue, "k1", BatchState.RUNNING)
        async with opened(plan=two, server=server) as shop:
            for number in range(4):
                assert (await shop.queue.result(f"k{number}")).succeeded
            assert shop.accepted == 4
