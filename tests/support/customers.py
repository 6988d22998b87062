"""Clients of a web backend over HTTP: they order stories, follow some, and some of them go away."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, Final, Self

import aiohttp

from tests.support.web import events_in

__all__ = ["Customers", "most_late"]

INTERVAL: Final = 6.0
"""Seconds of the server's clock from slot to slot on the paid plan."""
RETRIED: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)


class Customers:
    """Clients of a backend with several workers: each orders its stories, and follows some of them.

    Args:
        url: The backend's URL.
        stories: How many stories are ordered, every tenth of them twice with the same key.
        clients: How many clients order them.
    """

    def __init__(self, url: str, *, stories: int, clients: int) -> None:
        self.accepted: dict[str, str] = {}
        """The story of each key that was accepted."""
        self.ends: dict[str, dict[str, Any]] = {}
        """The last event of each job that was followed to its end."""
        self.left = 0
        """How many went away before the end of their stories."""
        self._told: asyncio.Queue[str] = asyncio.Queue()
        """The keys of jobs that were followed to their ends, as these came."""
        self._url = url
        self._stories = stories
        self._clients = clients
        self._chance = random.Random(1)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def some_end(self, number: int) -> None:
        """Wait until so many more of the jobs that are followed have ended."""
        assert self._running is not None
        for _ in range(number):
            told = asyncio.ensure_future(self._told.get())
            await asyncio.wait([told, self._running], return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                told.cancel()
                await self._running  # which raises what was wrong

    async def some_are_sent(self) -> list[str]:
        """Wait until the first slots are used; return the keys of the jobs that wait for more."""
        while True:
            jobs = await self.jobs()
            waiting = [job["key"] for job in jobs if job["state"] == "queued"]
            if len(waiting) < len(jobs) == self._stories:
                return waiting
            await asyncio.sleep(0.1)

    async def all_end(self) -> None:
        """Wait for the end of all; whatever nobody has followed so far is followed to its end."""
        assert self._running is not None
        await self._running
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            for key in self.accepted.keys() - self.ends.keys():
                group.create_task(self._follow(http, key))

    async def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs as the backend tells of them, in the order in which they came."""
        found: list[dict[str, Any]] = []
        async with aiohttp.ClientSession() as http:
            while True:
                query = f"?after={found[-1]['key']}" if found else ""
                async with http.get(f"{self._url}/comics{query}") as answer:
                    page = (await answer.json())["comics"]
                if not page:
                    return found[::-1]
                found += page

    async def _run(self) -> None:
        """Order everything, and follow what is to be followed."""
        async with asyncio.TaskGroup() as group:
            for client in range(self._clients):
                group.create_task(self._client(range(client, self._stories, self._clients)))

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
                elif n % 10 in (1, 3)[: 1 + (n < self._stories // 2)]:
                    group.create_task(self._leave(http, f"key-{n}"))

    async def _order(self, http: aiohttp.ClientSession, n: int) -> dict[str, Any]:
        body = {"prompt": f"story {n}", "fix_panel_num": 1}
        headers = {"Idempotency-Key": f"key-{n}"}
        while True:
            try:
                url = f"{self._url}/comics"
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
        self.left += 1
        try:
            async with http.get(f"{self._url}/comics/{key}/events") as answer:
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
                url = f"{self._url}/comics/{key}/events"
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
                    self._told.put_nowait(key)
                    return
            await asyncio.sleep(0.1)


def most_late(came: list[str], paid: list[tuple[str, float]]) -> int:
    """Return how many stories at most came after another one and were paid for before it.

    Slots that are free at once are used at once, by several processes: a create is not late behind
    one that came to the server less than an interval of slots before it.

    Args:
        came: The stories, in the order in which they came.
        paid: Some of them, in the order in which they were paid for, and when.
    """
    place = {story: n for n, story in enumerate(came)}
    order = [(place[story], at) for story, at in paid]
    late = [
        sum(other > one and at - before > INTERVAL for other, before in order[:n])
        for n, (one, at) in enumerate(order)
    ]
    return max(late, default=0)  # a worker that was killed may have held all of them
