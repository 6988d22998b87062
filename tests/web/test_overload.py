"""More orders than can be served: refused at once, honestly, and nothing that was taken is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from llamagen_async import AuthenticationError, JournalError, Plan, RateLimit
from llamagen_async.batch.journal.database import Database
from llamagen_async.web import create_app
from tests.support.machine import Machine, Pictures, fetching
from tests.support.web import asgi_client

pytestmark = pytest.mark.virtual_time

ONE = Plan("one", limits=RateLimit(1, per=60), metered={"create"})


@asynccontextmanager
async def opened(
    machine: Machine, folder: Path, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A backend, and a client of it."""
    async with machine.open() as client:
        app = create_app(client, journal=machine.journal, out=folder / "out", **settings)
        async with app.lifespan(), asgi_client(app) as http:
            yield http


@pytest.fixture(autouse=True)
def _pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamagen_async.comics.Comics.download", fetching(Pictures()))


async def order(http: httpx.AsyncClient, key: str) -> httpx.Response:
    body = {"prompt": f"story {key}"}
    return await http.post("comics", json=body, headers={"Idempotency-Key": key})


async def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    """An order that comes then is taken; an order that was taken before is never refused."""
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine, tmp_path, max_queued=2) as http:
        await order(http, "first")
        await asyncio.sleep(1)
        for key in "ab":
            assert (await order(http, key)).status_code == 202
        refused = await order(http, "c")
        assert refused.status_code == 503
        assert refused.json()["code"] == "queue_full"
        assert (await order(http, "a")).status_code == 202
        wait = int(refused.headers["retry-after"])
        assert 50 <= wait <= 61
        assert f"{wait} s" in refused.json()["detail"]
        await asyncio.sleep(wait + 1)
        assert (await order(http, "c")).status_code == 202
        await asyncio.sleep(600)
    assert set(machine.stories.values()) == {1}
    assert len(machine.stories) == 4


async def test_a_burst_does_not_fill_the_queue_beyond_its_end(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine, tmp_path, max_queued=5) as http:
        await order(http, "first")
        await asyncio.sleep(1)
        answers = await asyncio.gather(*(order(http, f"{n}") for n in range(40)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {202, 503}
        assert statuses.count(202) <= 5
        listed = (await http.get("comics", params={"state": "queued"})).json()["comics"]
        assert len(listed) == statuses.count(202)


async def test_a_disk_that_is_full_refuses_an_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine, tmp_path) as http:
        assert (await order(http, "a")).status_code == 202

        def full(_self: Database, _operations: Any, *, write: bool) -> list[Any]:
            raise JournalError("database or disk is full; make room on the disk")

        with monkeypatch.context() as patch:
            patch.setattr(Database, "_transact", full)
            for answer in (await order(http, "b"), await http.get("comics/a")):
                assert answer.status_code == 503
                assert "make room on the disk" in answer.json()["detail"]
                assert answer.headers["retry-after"]
            assert (await http.get("readyz")).status_code == 503
            assert (await http.get("healthz")).status_code == 200
        assert (await order(http, "b")).status_code == 202


async def test_a_key_that_is_not_accepted_makes_the_server_unready(tmp_path: Path) -> None:
    """No request is spent on finding out, and orders that were taken stay."""
    machine = Machine(tmp_path, before=lambda sent: AuthenticationError(401, None, "no"))

    async with opened(machine, tmp_path) as http:
        assert (await http.get("readyz")).status_code == 200
        await order(http, "a")
        await asyncio.sleep(2)
        sent = len(machine.sent)
        for _ in range(10):
            answer = await http.get("readyz")
            assert answer.status_code == 503
            assert answer.json()["code"] == "not_ready"
        assert len(machine.sent) == sent
        assert (await http.get("comics/a")).json()["state"] == "queued"


async def test_a_server_that_closes_loses_nothing(tmp_path: Path) -> None:
    """Orders that were confirmed are made by the next one, once each."""
    machine = Machine(tmp_path, 40.0, plan=ONE, latency=1.5)

    async with opened(machine, tmp_path) as http:
        for key in "abc":
            assert (await order(http, key)).status_code == 202
        await asyncio.sleep(0.7)
    async with opened(machine, tmp_path) as http:
        await asyncio.sleep(400)
        comics = (await http.get("comics")).json()["comics"]
        assert [one["state"] for one in comics] == ["succeeded"] * 3
    assert set(machine.stories.values()) == {1}


async def test_a_second_server_on_one_journal_takes_the_same_orders(tmp_path: Path) -> None:
    """Two workers: the same key is the same order, and either tells of it."""
    machine = Machine(tmp_path)

    async with opened(machine, tmp_path) as first, machine.open() as client:
        other = create_app(client, journal=machine.journal, out=tmp_path / "out")
        async with other.lifespan(), asgi_client(other) as second:
            assert (await order(first, "a")).status_code == 202
            assert (await order(second, "a")).status_code == 202
            await asyncio.sleep(200)
            for http in (first, second):
                assert (await http.get("comics/a")).json()["state"] == "succeeded"
    assert set(machine.stories.values()) == {1}


async def test_a_server_whose_journal_a_batch_has_is_told_so(tmp_path: Path) -> None:
    """At its start if it has a lifespan, else with each request, until the batch ends."""
    machine = Machine(tmp_path)

    async with (
        machine.open() as client,
        client.comics.batch(["b"], journal=machine.journal) as batch,
    ):
        await anext(aiter(batch))
        other = create_app(client, journal=machine.journal, out=tmp_path / "out")
        with pytest.raises(JournalError, match="works with this journal"):
            async with other.lifespan():
                pass
        lazy = create_app(client, journal=machine.journal, out=tmp_path / "out")
        async with asgi_client(lazy) as http:
            answer = await order(http, "a")
            assert answer.status_code == 503
            assert "works with this journal" in answer.json()["detail"]
    async with machine.open() as client:
        lazy = create_app(client, journal=machine.journal, out=tmp_path / "out")
        async with asgi_client(lazy) as http:
            assert (await order(http, "a")).status_code == 202
        await lazy.service.aclose()


async def test_a_finished_comic_is_told_without_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking again and again costs nothing."""
    machine = Machine(tmp_path)

    async with opened(machine, tmp_path) as http:
        await order(http, "a")
        await asyncio.sleep(200)
        first = (await http.get("comics/a")).content

        def none(_self: Database, _operations: Any, *, write: bool) -> list[Any]:
            pytest.fail("the journal was asked")

        with monkeypatch.context() as patch:
            patch.setattr(Database, "_transact", none)
            assert (await http.get("comics/a")).content == first
