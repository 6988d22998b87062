"""Streams of events in virtual time: positions, resumption, comments, and the server's end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, JournalError, Plan, RateLimit
from llamagen_async.web.service import ComicService
from llamagen_async.web.streams import job_stream
from tests.support.machine import Machine
from tests.support.scripted import left_over, now
from tests.support.web import asgi_client, events_in

pytestmark = pytest.mark.virtual_time

ONE = Plan("one", limits=RateLimit(1, per=60), metered={"create"})


@asynccontextmanager
async def opened(machine: Machine, folder: Path, **settings: Any) -> AsyncIterator[ComicService]:
    """A program with the routes' service, up to its end."""
    settings = {"out": folder / "out", "webhook_secret": None, "max_queued": 100, **settings}
    async with machine.open() as client:
        service = ComicService(client, journal=machine.journal, **settings)
        await service.open()
        try:
            yield service
        finally:
            await service.aclose()
        assert not left_over()


def stream(service: ComicService, key: str, after: str | None = None) -> Any:
    return job_stream(service.queue, key, root="/api", after=after, closing=service.draining)


@pytest.fixture(autouse=True)
def _pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fetches pictures in virtual time."""

    async def download(_self: Any, comic: Any, folder: Any, **_given: Any) -> list[Path]:
        return [Path(folder, f"{comic.id}.png")]

    monkeypatch.setattr("llamagen_async.comics.Comics.download", download)


async def test_a_stream_tells_position_and_time_and_ends_with_the_truth(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine, tmp_path) as service:
        for n in range(4):
            await service.queue.submit(f"s{n}", key=f"{n}")
        told = [event async for event in stream(service, "3")]
        comics = [json.loads(event.data) for event in told]
        queued = [one for one in comics if one["state"] == "queued"]
        assert [one["position"] for one in queued] == [4, 3, 2, 1] or queued[0]["position"] == 3
        assert all(one["expected_at"] for one in queued)
        assert [event.event for event in told][-2:] == ["running", "done"]
        assert len({event.id for event in told}) == len(told)
        assert comics[-1]["state"] == "succeeded"
        assert comics[-1]["pictures"] == ["/api/comics/3/pictures/0"]


async def test_a_reader_that_leaves_ends_its_stream_and_no_job(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine, tmp_path) as service:
        await service.queue.submit("a", key="k")
        async with aclosing(stream(service, "k")) as events:
            first = await anext(events)
        waiting = asyncio.create_task(anext(stream(service, "k", first.id)))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await service.queue.result("k")).succeeded
        rest = [event async for event in stream(service, "k", first.id)]
        assert rest[-1].event == "done"
    assert machine.stories == {"a": 1}


@pytest.mark.parametrize("how", ["drain", "close"])
async def test_a_server_that_closes_tells_its_readers_to_come_back(
    tmp_path: Path, how: str
) -> None:
    """Readers go on with the next server; nothing is told twice or left out."""
    machine = Machine(tmp_path, plan=ONE)

    seen: list[Any] = []
    async with opened(machine, tmp_path) as service:
        await service.queue.submit("first", key="first")
        await service.queue.submit("a", key="k")

        async def read() -> None:
            seen.extend([event async for event in stream(service, "k")])

        reading = asyncio.create_task(read())
        await asyncio.sleep(5)
        before = now()
        if how == "drain":
            service.draining.set()
        else:
            await service.aclose()
        await reading
        assert now() - before < 0.1  # not only with the next event
        assert seen[-1].retry == 1_000
        assert seen[-1].data is seen[-1].id is None
        last = seen[-2].id
    async with opened(machine, tmp_path) as service:
        rest = [event async for event in stream(service, "k", last)]
        assert rest[0].id != last
        assert [event.event for event in rest][-2:] == ["running", "done"]
    assert machine.stories == {"first": 1, "a": 1}


async def test_a_comment_keeps_the_connection_alive(tmp_path: Path) -> None:
    from llamagen_async.web import create_app

    machine = Machine(tmp_path, 60.0)
    async with machine.open() as client:
        app = create_app(client, journal=machine.journal, out=tmp_path / "out")
        async with app.lifespan(), asgi_client(app) as http:
            await http.post("comics", json={"prompt": "a"}, headers={"Idempotency-Key": "k"})
            events = events_in((await http.get("comics/k/events")).text)
        comments = [event for event in events if ":" in event]
        assert 3 <= len(comments) <= 5
        assert all(event.keys() == {":"} for event in comments)
        assert events[-1]["event"] == "done"


async def test_a_cancelled_order_ends_its_stream_and_costs_nothing(tmp_path: Path) -> None:
    from llamagen_async.web import create_app

    machine = Machine(tmp_path, plan=ONE)
    async with machine.open() as client:
        app = create_app(client, journal=machine.journal, out=tmp_path / "out")
        async with app.lifespan(), asgi_client(app) as http:
            await app.queue.submit("first")
            await asyncio.sleep(1)
            await http.post("comics", json={"prompt": "a"}, headers={"Idempotency-Key": "k"})
            following = asyncio.create_task(http.get("comics/k/events"))
            await asyncio.sleep(5)
            cancelled = await http.delete("comics/k")
            assert cancelled.status_code == 200
            assert cancelled.json()["state"] == BatchState.CANCELLED
            last = events_in((await following).text)[-1]
            assert last["event"] == "done"
            assert json.loads(last["data"])["state"] == "cancelled"
            assert (await http.delete("comics/k")).status_code == 200
            await asyncio.sleep(600)
    assert machine.stories == {"first": 1}


async def test_many_follow_one_job(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with opened(machine, tmp_path) as service:
        await service.queue.submit("a", key="k")

        async def last() -> str | None:
            name = None
            async for event in stream(service, "k"):
                name = event.event
            return name

        assert await asyncio.gather(*(last() for _ in range(200))) == ["done"] * 200


class Lost:
    """A queue whose job is lost while it is read."""

    async def events(self, key: str, *, after: str | None = None) -> AsyncGenerator[Any, None]:
        """Yield nothing before the error."""
        del after
        for _ in ():
            yield
        raise JournalError(f"{key!r} is gone")


async def test_a_reader_of_a_job_that_is_lost_is_told_to_ask_again() -> None:
    """The answer to its next request says why, and the stream ends in order."""
    queue: Any = Lost()
    reading = job_stream(queue, "k", root="", after=None, closing=asyncio.Event())
    assert [event.retry for event in [one async for one in reading]] == [1_000]
