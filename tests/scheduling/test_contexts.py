"""Context variables: each request is sent in the context of whoever asked for it."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import ComicQueue, RequestReport, ServerError
from llamagen_async.ratelimit import Claim, Limiter, NoSlot, Slot
from tests.support.machine import ROOMY, Machine
from tests.support.scheduling import network_of, refusal
from tests.support.scripted import Network, Sent, minute

pytestmark = pytest.mark.virtual_time

user: ContextVar[str] = ContextVar("user", default="nobody")


class Watched(Network):
    """A network that remembers in whose context each request was sent."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.users: dict[str, str] = {}

    async def send(self, request: Any) -> Any:
        name = request.json["prompt"] if request.json else request.path.rpartition("/")[2]
        self.users.setdefault(f"{request.kind.value} {name}", user.get())
        return await super().send(request)


async def test_each_create_is_sent_in_its_callers_context() -> None:
    """Repeated ones, `on_request` and what is logged meanwhile have it, too."""
    reported: set[str] = set()
    logged: set[str] = set()

    def report(_report: RequestReport) -> None:
        reported.add(user.get())

    class Handler(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            logged.add(user.get())

    def hook(sent: Sent) -> Exception | None:
        logging.getLogger("test").warning("sent")
        return refusal(1.0) if sent.n < 2 else None

    handler = Handler()
    logging.getLogger("test").addHandler(handler)
    network = Watched(minute(), before=hook)

    async def backend(name: str) -> None:
        user.set(name)
        await client.comics.create(name)

    async with network.client(on_request=report) as client:
        await asyncio.gather(*map(backend, ["ann", "bob", "cy"]))
    logging.getLogger("test").removeHandler(handler)
    assert network.users == {f"create {name}": name for name in ("ann", "bob", "cy")}
    assert reported == logged == {"ann", "bob", "cy"}


async def test_a_check_is_made_in_the_context_of_the_first_who_still_waits() -> None:
    network = Watched(minute(600.0))
    async with network.client() as client:
        comic = await client.comics.create("a")
        check = f"status {comic.id}"

        async def wait(name: str, timeout: float) -> None:
            user.set(name)
            await client.comics.wait_for_completion(comic.id, timeout=timeout)

        waiting = [
            asyncio.create_task(wait(name, seconds))
            for name, seconds in [("ann", 300.0), ("bob", 1_000.0)]
        ]
        await asyncio.sleep(290)
        assert network.users.pop(check) == "ann"
        await asyncio.sleep(20)
        network.users.clear()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert network.users[check] == "bob"


async def test_simultaneous_reads_are_sent_in_the_first_readers_context() -> None:
    network = Watched(minute(), latency=1.0)

    async def read(name: str) -> None:
        user.set(name)
        await client.comics.get(comic.id)

    async with network.client() as client:
        comic = await client.comics.create("a")
        await asyncio.gather(read("ann"), read("bob"))
    assert network.users[f"status {comic.id}"] == "ann"


async def test_what_nobody_asked_for_is_sent_in_an_empty_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A probe is nobody's, whoever is the first to use the client."""
    network = Watched(
        network_of(ROOMY).service,
        key="the-key",
        before=lambda sent: ServerError(503, None, "away") if sent.at < 60 else None,
    )
    user.set("ann")
    dispatching: set[str] = set()
    reserve = Limiter.reserve

    async def watched(self: Limiter, claim: Claim) -> Slot | NoSlot:
        dispatching.add(user.get())
        return await reserve(self, claim)

    monkeypatch.setattr(Limiter, "reserve", watched)
    async with network.client(ROOMY) as client:
        creating = [client.comics.create_and_wait(f"s{n}", timeout=600) for n in range(5)]
        await asyncio.gather(*creating, return_exceptions=True)
    assert network.users["usage usage"] == "nobody"
    assert dispatching == {"nobody"}
    assert network.users["create s0"] == "ann"


async def test_a_job_of_a_queue_is_sent_in_the_context_of_its_submission(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    users: dict[str, str] = {}

    def remember(sent: str) -> None:
        users[sent] = user.get()

    machine._before = lambda sent: remember(str(sent))

    async def backend(name: str) -> None:
        user.set(name)
        await queue.result(await queue.submit(name))

    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        await asyncio.gather(*map(backend, ["ann", "bob"]))
    assert users["create ann"] == "ann"
    assert users["create bob"] == "bob"
