"""The same batch through the vendor's Python client, by hand, and through this package.

    python benchmarks/peers.py [--quick]

Twelve comics at once on the paid plan, against a sandbox server that counts by a sliding window:
one server for each client and seed, real sockets, a clock that is faster than real time. The
vendor's client is the one that is published, unmodified, in twelve threads, with its own defaults:
only its times are divided by the speed, a check every 5 s and 0.5 s before it tries again. By hand
is what a careful user writes: aiohttp, `AsyncLimiter(10, 60)` before each request, `backoff` at a
429, a check every 5 s. A first run of each client, to have all modules loaded, is not counted.

Times are seconds of the server's clock. A comic is lost if it was accepted, and so is paid for,
and the client ended without it. Prints a table and writes `benchmarks/results/peers.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import aiohttp
import attrs
import backoff
import llamagen
from _report import is_quick, print_table, write_json
from aiolimiter import AsyncLimiter

from llamagen_async import LlamaGenClient
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService

COMICS: Final = 12
SPEED: Final = 10.0
"""Seconds of the server's clock in a real second: a delay of 10 ms counts as 0.1 s."""
DURATIONS: Final = Durations.lognormal()
INTERVAL: Final = 5.0
"""Seconds between two checks of the others: the vendor's default."""
RETRY_DELAY: Final = 0.5
"""Seconds before the vendor's client sends a request again: its default."""
STORIES: Final = [f"A cat finds hat number {number}" for number in range(COMICS)]

Client = Callable[[SandboxServer, "Tally"], Awaitable[None]]


@attrs.define
class Tally:
    """The times at which a client had its finished comics."""

    began: float = 0.0
    ended: list[float] = attrs.field(factory=list[float])

    def finished(self) -> None:
        """Note the time at which one more comic is there."""
        self.ended.append((asyncio.get_running_loop().time() - self.began) * SPEED)


async def vendor(server: SandboxServer, tally: Tally) -> None:
    """Generate each story in a thread of its own."""
    delay = int(RETRY_DELAY * 1000 / SPEED)
    client = llamagen.LlamaGenClient(api_key=PAID_KEY, base_url=server.url, retry_delay_ms=delay)
    interval = int(INTERVAL * 1000 / SPEED)

    async def one(story: str) -> None:
        call = asyncio.get_running_loop().run_in_executor(threads, generate, story)
        with contextlib.suppress(Exception):  # whatever ends it, its comic is lost
            await call
            tally.finished()

    def generate(story: str) -> Any:
        return client.comic.create_and_wait({"prompt": story}, interval_ms=interval)

    with ThreadPoolExecutor(COMICS) as threads:
        await asyncio.gather(*map(one, STORIES))


class RefusedError(Exception):
    """A 429."""


async def manual(server: SandboxServer, tally: Tally) -> None:
    """Wait for the bucket before each request, back off at a 429, check every 5 s."""
    limiter = AsyncLimiter(10, 60 / SPEED)
    headers = {"Authorization": f"Bearer {PAID_KEY}"}

    @backoff.on_exception(backoff.expo, RefusedError, factor=1 / SPEED, max_value=60 / SPEED)
    async def send(method: str, path: str, **body: Any) -> Any:
        async with limiter, session.request(method, f"{server.url}{path}", **body) as response:
            if response.status == 429:
                raise RefusedError
            response.raise_for_status()
            return await response.json()

    async def one(story: str) -> None:
        comic = await send("POST", "/comics/generations", json={"prompt": story})
        while comic["status"] not in ("SUCCEEDED", "FAILED"):
            await asyncio.sleep(INTERVAL / SPEED)
            comic = await send("GET", f"/comics/generations/{comic['id']}")
        tally.finished()

    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*map(one, STORIES))


async def ours(server: SandboxServer, tally: Tally) -> None:
    """Run a batch."""
    client = LlamaGenClient(PAID_KEY, plan="paid", base_url=server.url, speed=SPEED, quota="memory")
    async with client:
        async for item in client.comics.batch(STORIES):
            if item.state == "succeeded":
                tally.finished()


async def measure(client: Client, seed: int) -> dict[str, float | None]:
    service = SandboxService(seed=seed, durations=DURATIONS)
    async with SandboxServer(service, speed=SPEED) as server:
        tally = Tally(asyncio.get_running_loop().time())
        await client(server, tally)
        stats = service.stats(server.now())["keys"][PAID_KEY]
    finished = len(tally.ended)
    return {
        "finished": finished,
        "requests": stats["total"],
        "refused": stats["refused"],
        "last": max(tally.ended, default=None),
        "mean": statistics.mean(tally.ended) if tally.ended else None,
        "lost": stats["creates_accepted"] - finished,
    }


async def main() -> None:
    quick = is_quick(__doc__)
    seeds = range(1 if quick else 5)
    clients: dict[str, Client] = {
        f"vendor's Python client {llamagen.__version__}": vendor,
        "by hand: aiohttp, AsyncLimiter, backoff": manual,
        "llamagen_async": ours,
    }
    results: dict[str, list[dict[str, float | None]]] = {}
    for name, client in clients.items():
        await measure(client, -1)
        results[name] = [await measure(client, seed) for seed in seeds]
    middle = {name: median(runs) for name, runs in results.items()}
    columns = [
        "comics finished",
        "requests",
        "refused",
        "last comic",
        "mean comic",
        "paid and lost",
    ]
    print_table(
        f"{COMICS} comics at once, 10 requests a minute (medians of {len(seeds)} runs)",
        ["", *columns],
        ([name, *row.values()] for name, row in middle.items()),
        "Times are seconds of the server's clock.",
    )
    packages = ("llamagen-async", "llamagen-python", "aiohttp", "aiolimiter", "backoff")
    report = {"comics": COMICS, "speed": SPEED, "medians": middle, "runs": results}
    write_json("peers", packages, report, quick=quick)


def median(runs: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the median of each number; a time is that of the runs that finished a comic."""
    middle: dict[str, float | None] = {}
    for name in runs[0]:
        values = [value for run in runs if (value := run[name]) is not None]
        one = statistics.median(values) if values else None
        middle[name] = one if one is None or name in ("last", "mean") else round(one)
    return middle


if __name__ == "__main__":
    asyncio.run(main())
