"""Real servers with several workers on one journal: a kill and a rolling restart.

What the key has spent is in a SQLite file beside the journal, or in a real Redis.

The whole of it: `LLAMAGEN_STORIES=200 LLAMAGEN_CLIENTS=50 pytest tests/web/test_many_workers.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.support.cli import needs_posix
from tests.support.web import events_in
from tests.support.workers_server import Backends, backends, sandbox_process

pytestmark = [pytest.mark.once, pytest.mark.timeout(900)]

STORIES: Final = int(os.environ.get("LLAMAGEN_STORIES", "20"))
CLIENTS: Final = int(os.environ.get("LLAMAGEN_CLIENTS", "10"))
WORKERS: Final = {"sqlite": 4, "redis": 4 if "LLAMAGEN_STORIES" in os.environ else 2}
"""Worker processes by the store; few where nobody asks for the whole of it, as each costs two
seconds of processor time to start."""
SPEED: Final = 60.0
SECONDS: Final = 30.0
"""Seconds of the server's clock that a comic takes."""
RETRIED: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)


class Customers:
    """Clients of the backend: each orders its stories, and follows some of them."""

    def __init__(self, server: Backends) -> None:
        self.accepted: dict[str, str] = {}
        """The story of each key that was accepted."""
        self.ends: dict[str, dict[str, Any]] = {}
        """The last event of each job that was followed to its end."""
        self.told: asyncio.Queue[str] = asyncio.Queue()
        """The keys of jobs that were followed to their ends, as these came."""
        self._server = server
        self._chance = random.Random(1)

    async def run(self) -> None:
        """Order everything, and follow what is to be followed."""
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(self._client(range(client, STORIES, CLIENTS)))

    async def follow_rest(self) -> None:
        """Follow to its end whatever nobody has followed so far."""
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            for key in self.accepted.keys() - self.ends.keys():
                group.create_task(self._follow(http, key))

    async def _client(self, stories: range) -> None:
        connector = aiohttp.TCPConnector(force_close=True)  # each request to any worker
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            for n in stories:
                twice = 2 if n % 10 == 0 else 1
                answers = await asyncio.gather(*(self._order(http, n) for _ in range(twice)))
                assert len({answer["key"] for answer in answers}) == 1
                if n % 2 == 0:
                    group.create_task(self._follow(http, f"key-{n}"))
                elif n % 10 in (1, 3)[: 1 + (n < STORIES // 2)]:
                    group.create_task(self._leave(http, f"key-{n}"))

    async def _order(self, http: aiohttp.ClientSession, n: int) -> dict[str, Any]:
        body = {"prompt": f"story {n}", "fix_panel_num": 1}
        headers = {"Idempotency-Key": f"key-{n}"}
        while True:
            try:
                url = f"{self._server.url}/comics"
                async with http.post(url, json=body, headers=headers) as answer:
                    facts: dict[str, Any] = await answer.json()
                    if answer.status == 202:
                        self.accepted[facts["key"]] = f"story {n}"
                        return facts
                    assert answer.status == 503, facts
            except RETRIED:
                pass
            await asyncio.sleep(0.1 + self._chance.random() / 5)

    async def _leave(self, http: aiohttp.ClientSession, key: str) -> None:
        """Follow a job, and go away after the first event."""
        try:
            async with http.get(f"{self._server.url}/comics/{key}/events") as answer:
                await answer.content.readany()
        except RETRIED:
            pass

    async def _follow(self, http: aiohttp.ClientSession, key: str) -> None:
        """Follow a job to its end, as browsers do: a stream that ends early is taken up again."""
        ids: list[str] = []
        while True:
            headers = {"Last-Event-ID": ids[-1]} if ids else {}
            text = ""
            try:
                url = f"{self._server.url}/comics/{key}/events"
                async with http.get(url, headers=headers) as answer:
                    if answer.status == 204:
                        assert key in self.ends, (key, ids)
                        return
                    async for part in answer.content.iter_any():
                        text += part.decode()
            except RETRIED:
                pass
            whole = text.replace("\r\n", "\n").rpartition("\n\n")[0]
            for event in events_in(whole):
                if "id" not in event:
                    continue
                assert event["id"] not in ids, (key, ids, event)
                if ids and "." not in event["id"]:
                    assert int(event["id"]) > int(ids[-1].partition(".")[0]), (key, ids, event)
                ids.append(event["id"])
                if event["event"] == "done":
                    assert key not in self.ends
                    self.ends[key] = json.loads(event["data"])
                    self.told.put_nowait(key)
                    return
            await asyncio.sleep(0.1)


def generations(api: str) -> tuple[list[str], int]:
    """Return the stories that the server was paid for, in their order, and how many it refused."""
    with urllib.request.urlopen(api.removesuffix("/v1") + "/_sandbox/stats") as answer:
        stats = json.load(answer)
    refused = sum(one["refused"] for one in stats["keys"].values())
    return [one["prompt"] for one in stats["generations"]], refused


async def some_end(customers: Customers, number: int, running: asyncio.Task[None]) -> None:
    """Wait until so many more of the jobs that are followed have ended."""
    for _ in range(number):
        told = asyncio.ensure_future(customers.told.get())
        await asyncio.wait([told, running], return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            told.cancel()
            await running  # which raises what was wrong


@needs_posix
@pytest.mark.parametrize("store", WORKERS)
async def test_orders_meet_any_worker_and_each_ends_once(
    request: pytest.FixtureRequest, tmp_path: Path, store: str
) -> None:
    quota = request.getfixturevalue("own_redis_server").url if store == "redis" else None
    with (
        sandbox_process(SPEED, SECONDS) as api,
        backends(tmp_path, api, SPEED, WORKERS[store], quota=quota) as server,
    ):
        customers = Customers(server)
        running = asyncio.create_task(customers.run())
        try:
            await some_end(customers, STORIES // 10, running)
            server.kill_one()
            await some_end(customers, STORIES // 10, running)
            server.restart_all()
            await running
            await customers.follow_rest()
        finally:
            running.cancel()
        rows = server.rows("key, state, generation_id, attempts")
        paid, refused = generations(api)
    number = Counter(paid)
    assert set(number.values()) == {1}, number
    assert refused == 0
    assert {key for key, *_ in rows} == customers.accepted.keys()
    assert len(rows) == STORIES
    # What the killed worker was about to be answered is uncertain; nothing else is.
    ends = Counter(state for _, state, _, _ in rows)
    assert ends.keys() <= {"succeeded", "uncertain"}
    for key, state, id_, _ in rows:
        if state == "succeeded":
            assert number[customers.accepted[key]] == 1
            assert id_
    states = {key: state for key, state, _, _ in rows}
    for key, end in customers.ends.items():
        assert end["state"] == states[key]
    assert customers.ends.keys() == customers.accepted.keys()
    # Each story and those that came after it and were paid for before it.
    place = {customers.accepted[key]: n for n, (key, *_) in enumerate(rows)}
    order = [place[story] for story in paid]
    late = [sum(other > one for other in order[:n]) for n, one in enumerate(order)]
    assert max(late) < WORKERS[store]
    ended = f"{sorted(ends.items())}, {len(customers.ends)} streams, {len(paid)} paid"
    print(f"{store}: {STORIES} stories, {CLIENTS} clients: {ended}, at most {max(late)} late")
