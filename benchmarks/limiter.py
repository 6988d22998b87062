"""The limiter's cost, and how many requests it lets through, beside its peers in the same run.

    python benchmarks/limiter.py [--quick]

Three questions, each answered for this package and for its peers on this machine, now:

1. What does a slot cost in memory that nobody has to wait for, taken and given back?
2. How many requests reach the server in the worst minute, if the limiter is kept busy for an hour?
   A leaky bucket admits nearly twice its limit, and a count of grants does not know how late a
   request arrives.
3. What does a slot cost in a store (SQLite, Redis): one after another, with twenty tasks at once,
   and with a thousand requests in the window? This package reserves a slot and commits it when the
   answer has come; the peers write once, because answers do not matter to them.

The marks are under 1 ms on SQLite, and one round trip to Redis for each question. They are
reported and not tuned for. Contenders take turns, round by round; medians are printed. Prints
tables, writes `benchmarks/results/limiter.json`, asserts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib.util
import itertools
import random
import statistics
import tempfile
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from _redis import NOT_FOUND, find_redis_server, running_redis
from _report import is_quick, print_table, write_json
from aiolimiter import AsyncLimiter
from pyrate_limiter import (
    AbstractBucket,
    Duration,
    InMemoryBucket,
    Rate,
    RateItem,
    RedisBucket,
    SingleBucketFactory,
    SQLiteBucket,
)
from pyrate_limiter import Limiter as PyrateLimiter
from redis.asyncio import Redis

from llamagen_async import Plan, RateLimit
from llamagen_async.clock import Clock
from llamagen_async.plans import DAY, HOUR, MINUTE
from llamagen_async.ratelimit import (
    ANSWERED,
    Claim,
    Identity,
    Limiter,
    NoSlot,
    Priority,
    Slot,
    Workload,
    close_limiter,
    open_limiter,
)
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.simulation import VirtualTimeLoop

OURS: Final = "llamagen_async"
PACKAGES: Final = ("llamagen-async", "aiolimiter", "pyrate-limiter", "filelock", "redis")
IN_MEMORY: Final = LedgerTimes(lease=900.0)
MARK: Final = 1.0
"""Milliseconds that a slot in SQLite may take."""
PLENTY: Final = 10**9
LATENCY: Final = 2.0
"""The most seconds that a request takes on its way there, and its answer on its way back."""
WORKERS: Final = 40
"""Tasks that want to send in the busy hour: always more than there are slots."""
AT_ONCE: Final = 20
"""Tasks that ask a store for slots at once."""
LONGEST: Final = 0.2
"""Seconds after which a measurement of a slow store ends."""
CROWD: Final = 1_000
"""Requests that are in the window already when a full window is measured."""
ROOMY: Final = (400, 0.005)
"""A window in which nobody has to wait, and few are remembered: slots, and seconds."""
CROWDED: Final = (100_000, 5.0)
"""A window in which all of `CROWD` are remembered."""

Once = Callable[[], Awaitable[object]]
"""A function that takes a slot and gives it back."""
Taken = Callable[[], AbstractAsyncContextManager[object]]
"""A function whose context holds a slot for as long as a request is in flight."""
Opened = Callable[[], AbstractAsyncContextManager[Once]]
"""A function that opens an account of a store that nobody has used yet."""

numbers: Final = itertools.count()


async def slot_of(limiter: Limiter) -> Slot:
    """Return a slot, as soon as there is one for who has asked for it now."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    name, client = f"slot {next(numbers)}", task.get_name() if task else ""
    since, waited = loop.time(), 0.0
    while True:
        claim = Claim(name, client, Priority.INTERACTIVE, waited, Workload())
        answer = await limiter.reserve(claim)
        if not isinstance(answer, NoSlot):
            return answer
        await asyncio.sleep(answer.delay)
        waited = loop.time() - since


# 1. In memory.


async def in_memory(*, quick: bool) -> dict[str, list[float]]:
    """Return the nanoseconds of an operation, round by round."""
    times: dict[str, list[float]] = {}
    for _ in range(7 if quick else 61):
        # No more is remembered than for the limits of an API like this one.
        plan = Plan("wide", limits=RateLimit(PLENTY, per=ROOMY[1]))
        ours = Limiter(plan, MemoryLedger(plan, time.monotonic, IN_MEMORY), Clock())
        leaky = AsyncLimiter(PLENTY, MINUTE)
        log = pyrate(InMemoryBucket([Rate(PLENTY, Duration.MINUTE)]))
        with quiet():
            for name, measured in {
                OURS: own_slots(ours, 5_000),
                "aiolimiter": leaky_slots(leaky, 5_000),
                "pyrate-limiter": log_slots(log, 5_000),
            }.items():
                times.setdefault(name, []).append(await measured / 5_000)
    return times


async def own_slots(limiter: Limiter, number: int) -> int:
    begun = time.perf_counter_ns()
    for _ in range(number):
        slot = await slot_of(limiter)
        await slot.commit(ANSWERED, Workload())
    return time.perf_counter_ns() - begun


async def leaky_slots(limiter: AsyncLimiter, number: int) -> int:
    begun = time.perf_counter_ns()
    for _ in range(number):
        async with limiter:
            pass
    return time.perf_counter_ns() - begun


async def log_slots(limiter: PyrateLimiter, number: int) -> int:
    begun = time.perf_counter_ns()
    for _ in range(number):
        await limiter.try_acquire_async("key")
    return time.perf_counter_ns() - begun


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector out of what is measured, as `timeit` does."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def pyrate(bucket: AbstractBucket) -> PyrateLimiter:
    """Return a limiter without the thread that deletes old items, which would disturb others."""
    return PyrateLimiter(SingleBucketFactory(bucket, schedule_leak=False))


# 2. The worst minute of an hour, in virtual time.


class TickingLoop(VirtualTimeLoop):
    """A loop whose virtual time passes whenever it is read, as real time does.

    Otherwise aiolimiter's bucket may wake up too early by a rounding error, again and again.
    """

    def time(self) -> float:
        """Return the virtual time, which is later than at the last call."""
        self.advance(1e-9)
        return super().time()


class LoopTimeBucket(InMemoryBucket):
    """pyrate-limiter's bucket by the event loop's clock."""

    def now(self) -> int:
        """Return the loop's time in milliseconds, the bucket's unit."""
        return int(asyncio.get_running_loop().time() * 1000)


def own_limiter() -> Taken:
    plan = Plan("ten", limits=RateLimit(10, per=MINUTE))
    loop = asyncio.get_running_loop()
    limiter = Limiter(plan, MemoryLedger(plan, loop.time, IN_MEMORY), Clock())

    @asynccontextmanager
    async def taken() -> AsyncIterator[None]:
        slot = await slot_of(limiter)
        try:
            yield
        finally:
            await slot.commit(ANSWERED, Workload())

    return taken


def leaky_bucket(limit: int, per: float) -> Taken:
    limiter = AsyncLimiter(limit, per)
    return lambda: limiter


def log_of_grants() -> Taken:
    limiter = pyrate(LoopTimeBucket([Rate(10, Duration.MINUTE)]))

    @asynccontextmanager
    async def taken() -> AsyncIterator[None]:
        await limiter.try_acquire_async("key")
        yield

    return taken


BUSY: Final[Mapping[str, Callable[[], Taken]]] = {
    f"{OURS}, 10 per 60 s": own_limiter,
    "aiolimiter, AsyncLimiter(10, 60)": lambda: leaky_bucket(10, 60),
    "aiolimiter, AsyncLimiter(1, 6)": lambda: leaky_bucket(1, 6),
    "pyrate-limiter, Rate(10, MINUTE)": log_of_grants,
}


async def busy_hour(make: Callable[[], Taken], seed: int, latency: float) -> tuple[int, int]:
    """Keep a limiter busy; return the most arrivals in a half-open minute and the hour's grants."""
    loop, taken, draws = asyncio.get_running_loop(), make(), random.Random(seed)
    granted: list[float] = []
    arrived: list[float] = []

    async def work() -> None:
        while True:
            async with taken():
                there, back = draws.uniform(0, latency), draws.uniform(0, latency)
                granted.append(loop.time())
                await asyncio.sleep(there)
                arrived.append(loop.time())
                await asyncio.sleep(back)

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    await asyncio.sleep(HOUR + 1)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return most_in_a_minute(arrived), sum(at < HOUR for at in granted)


def most_in_a_minute(arrived: list[float]) -> int:
    times = sorted(arrived)
    return max(bisect_left(times, at + MINUTE) - first for first, at in enumerate(times))


def in_virtual_time(hour: Coroutine[Any, Any, tuple[int, int]]) -> tuple[int, int]:
    with asyncio.Runner(loop_factory=TickingLoop) as runner:
        return runner.run(hour)


def busy_hours(*, quick: bool) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    for name, make in BUSY.items():
        hours = [
            in_virtual_time(busy_hour(make, seed, LATENCY)) for seed in range(3 if quick else 20)
        ]
        worst = [most for most, _ in hours]
        results[name] = {
            "most in a minute of each hour": worst,
            "hours over 10": sum(most > 10 for most in worst),
            "grants of each hour": [grants for _, grants in hours],
            "grants without latency": in_virtual_time(busy_hour(make, 0, 0.0))[1],
        }
    return results


# 3. Stores.


def wide(limit: int, per: float, *more: RateLimit) -> Plan:
    return Plan("wide", limits=(RateLimit(limit, per=per), *more))


@asynccontextmanager
async def own_store(quota: str, plan: Plan, crowd: int) -> AsyncIterator[Once]:
    """Open what a client with `quota=` uses."""
    identity = Identity.of(f"key {next(numbers)}", "https://benchmark.invalid", 1.0, quota)
    limiter = open_limiter(identity, plan, timeout=1)

    async def once() -> None:
        slot = await slot_of(limiter)
        await slot.commit(ANSWERED, Workload())

    try:
        await once()  # a Redis server that was just started may have forgotten something
        if crowd:
            await limiter.ledger.record(crowd)
        yield once
    finally:
        await close_limiter(identity, limiter)


async def put(bucket: AbstractBucket, weight: int = 1) -> None:
    now = time.time_ns() // 1_000_000  # what both stores' buckets count in
    there = bucket.put(RateItem(f"item{next(numbers)}", now, weight=weight))
    if not isinstance(there, bool):
        await there


@asynccontextmanager
async def pyrate_store(
    bucket: Callable[[str, list[Rate]], Awaitable[AbstractBucket]],
    limit: tuple[int, float],
    crowd: int,
) -> AsyncIterator[Once]:
    opened = await bucket(f"account{next(numbers)}", [Rate(limit[0], int(limit[1] * 1000))])
    if crowd:
        await put(opened, crowd)
    with pyrate(opened) as limiter:
        yield functools.partial(limiter.try_acquire_async, "key")


def sqlite_contenders(folder: Path, limit: tuple[int, float], crowd: int) -> dict[str, Opened]:
    def bucket(file: str, *, lock: bool) -> Opened:
        async def opened(table: str, rates: list[Rate]) -> AbstractBucket:
            path = str(folder / file)
            return SQLiteBucket.init_from_file(rates, table, path, use_file_lock=lock)

        return lambda: pyrate_store(opened, limit, crowd)

    quota = f"sqlite:///{folder / 'ours.db'}"
    daily = wide(*limit, RateLimit(1_000_000, per=DAY))
    contenders = {
        OURS: lambda: own_store(quota, wide(*limit), crowd),
        f"{OURS}, with a quota per day": lambda: own_store(quota, daily, crowd),
        "pyrate-limiter, default": bucket("default.db", lock=False),
    }
    if importlib.util.find_spec("filelock"):
        contenders["pyrate-limiter, use_file_lock"] = bucket("locked.db", lock=True)
    return contenders


def redis_contenders(url: str, limit: tuple[int, float], crowd: int) -> dict[str, Opened]:
    @asynccontextmanager
    async def theirs() -> AsyncIterator[Once]:
        async with Redis.from_url(url) as client:

            async def bucket(key: str, rates: list[Rate]) -> AbstractBucket:
                opened: AbstractBucket = await RedisBucket.init(rates, client, key)
                return opened

            async with pyrate_store(bucket, limit, crowd) as once:
                yield once

    return {OURS: lambda: own_store(url, wide(*limit), crowd), "pyrate-limiter": theirs}


async def milliseconds_each(opened: Opened, number: int, at_once: int) -> float:
    """Return what a slot takes, of `number` or of as many as a slow disk allows in the time."""
    left = number

    async def some(once: Once, until: float) -> None:
        nonlocal left
        while left > 0 and time.perf_counter() < until:
            left -= 1
            await once()

    async with opened() as once:
        await once()
        with quiet():
            begun = time.perf_counter()
            await asyncio.gather(*(some(once, begun + LONGEST) for _ in range(at_once)))
            return (time.perf_counter() - begun) / (number - left) * 1e3


Contenders = Callable[[tuple[int, float], int], dict[str, Opened]]
"""A function that returns how each contender over one store is opened."""


async def compared(contenders: Contenders, *, quick: bool) -> dict[str, dict[str, list[float]]]:
    """Return the milliseconds of a slot by situation, contender and round."""
    situations = {
        "one after another": (contenders(ROOMY, 0), 1),
        f"{AT_ONCE} at once": (contenders(ROOMY, 0), AT_ONCE),
        f"{CROWD:,} in the window": (contenders(CROWDED, CROWD), 1),
    }
    number, times = (60 if quick else 300), dict[str, dict[str, list[float]]]()
    for _ in range(3 if quick else 11):
        for situation, (those, at_once) in situations.items():
            for name, opened in those.items():
                each = await milliseconds_each(opened, number, at_once)
                times.setdefault(situation, {}).setdefault(name, []).append(each)
    return times


# The report.


def show_memory(times: dict[str, list[float]]) -> dict[str, Any]:
    summary = {
        name: {
            "ns": round(statistics.median(seen)),
            "rounds": [round(one) for one in seen],
        }
        for name, seen in times.items()
    }
    print_table(
        "1. A slot in memory, uncontended, taken and given back",
        ["", "ns"],
        [(name, row["ns"]) for name, row in summary.items()],
    )
    return summary


def show_hours(results: dict[str, dict[str, Any]]) -> None:
    hours = len(next(iter(results.values()))["grants of each hour"])
    print_table(
        f"2. Kept busy for an hour, limit 10 per 60 s, 0-{LATENCY:g} s each way; {hours} seeds",
        ["", "worst minute", "usual worst", "hours over 10", "grants/h", "at no latency"],
        [
            (
                name,
                max(row["most in a minute of each hour"]),
                f"{statistics.median(row['most in a minute of each hour']):g}",
                f"{row['hours over 10']} of {hours}",
                f"{statistics.median(row['grants of each hour']):g}",
                row["grants without latency"],
            )
            for name, row in results.items()
        ],
        "Arrivals at the server in any half-open 60 s. All of it in virtual time.",
    )


def show_stores(
    stores: dict[str, dict[str, dict[str, list[float]]]], missing: list[str]
) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for store, situations in stores.items():
        rows: list[list[object]] = []
        for situation, times in situations.items():
            for name, seen in times.items():
                numbers = {"ms": statistics.median(seen), "rounds": [round(one, 3) for one in seen]}
                summary.setdefault(store, {}).setdefault(situation, {})[name] = numbers
                rows.append([f"{situation}: {name}", numbers["ms"]])
        print_table(f"3. Milliseconds of a slot: {store}", ["", "ms"], rows)
    for remark in (
        f"The marks: under {MARK:g} ms on SQLite; one round trip to Redis for each question.",
        "A quota of a day is on the disk before a request leaves: that is the disk's time, twice.",
        *(f"Not measured: {what}" for what in missing),
    ):
        print(f"  {remark}")
    return summary


def main() -> None:
    quick = is_quick(__doc__)
    missing = []
    if not importlib.util.find_spec("filelock"):
        missing.append("pyrate-limiter's SQLite for several processes: no filelock: install it")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        url, binary = None, find_redis_server()
        if binary is None:
            missing.append(f"Redis: {NOT_FOUND}")
        else:
            url = stack.enter_context(running_redis(binary))
        memory = show_memory(asyncio.run(in_memory(quick=quick)))
        hours = busy_hours(quick=quick)
        show_hours(hours)
        contenders = functools.partial(sqlite_contenders, folder)
        stores = {"SQLite": asyncio.run(compared(contenders, quick=quick))}
        if url is not None:
            contenders = functools.partial(redis_contenders, url)
            stores["Redis"] = asyncio.run(compared(contenders, quick=quick))
        summary = show_stores(stores, missing)
    results = {"in memory": memory, "busy hours": hours, "stores": summary, "missing": missing}
    write_json("limiter", PACKAGES, results, quick=quick)


if __name__ == "__main__":
    main()
