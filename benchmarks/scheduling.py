"""How close to a scheduler that knows every duration: batches, arrivals, the demo plan's day.

Everything runs in virtual time, without latency, against the sandbox's service: this package with
its real dispatcher, poller and limiter, and two simple clients. A simple client sends creates and
checks first come, first served, and checks each comic every 5 s: one client with a perfect window
limiter, one with `aiolimiter.AsyncLimiter(10, 60)`.

"Told the distribution" is this package's client if it need not learn how long comics take: it knows
the distribution of durations, though no single duration. Its distance from the best possible is
what not knowing single durations costs; our distance from it is what learning costs. "Knows all"
are two schedules with every duration known; the best possible is the better one of the two.

A ratio is the mean over the seeds divided by the mean of the best possible over the same seeds.
Ratios of several distributions of durations are combined by their geometric mean.

Run it from the repository's root: `python benchmarks/scheduling.py`. It prints tables and writes
`benchmarks/results/scheduling.json`; `--quick` takes a few seeds only. Its time is virtual: how
fast the machine is changes nothing.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import functools
import itertools
import os
import statistics
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Any, Final
from unittest import mock

import attrs
from _report import is_quick, print_table, write_json
from aiolimiter import AsyncLimiter

from llamagen_async import LlamaGenClient, Plan, RateLimitError
from llamagen_async.clock import Clock
from llamagen_async.forecasting.forecast import AGES, DurationForecast
from llamagen_async.forecasting.profiles import Forecasts
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import ANSWERED, Claim, NoSlot, Priority, Workload
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.sandbox import (
    PAID_KEY,
    Durations,
    SandboxService,
    Schedule,
    best_possible,
    known_schedule,
)
from llamagen_async.scheduling import RequestReport
from llamagen_async.simulation import SimulatedTransport, run, simulated_client
from llamagen_async.transport import APIRequest

DISTRIBUTIONS: Final = {
    "constant 60": Durations.constant(60),
    "lognormal 60/0.4": Durations.lognormal(60, 0.4),
    "lognormal 60/0.8": Durations.lognormal(60, 0.8),
    "lognormal 180/0.4": Durations.lognormal(180, 0.4),
    "uniform 20-40": Durations.uniform(20, 40),
    "mixture 30/240": Durations.mixture(30, 240, 0.7),
}
SIZES: Final = (1, 4, 12, 30, 100)
RATES: Final = (1.0, 2.5, 4.0)
ARRIVING: Final = 120
WANTED: Final = 10
DEMO_BEST: Final = 7
CHECK_EVERY: Final = 5.0
CLIENTS: Final = (
    "llamagen_async",
    "window, in order",
    "AsyncLimiter, in order",
    "told the distribution",
)
TOLD: Final = CLIENTS[3]
DRAWN: Final = 40_000
"""Draws from which the chances of a distribution are computed."""
MARKS: Final = {
    "1": (1.08, 1.08),
    "4": (1.10, 1.25),
    "12": (1.10, 1.25),
    "30": (1.10, 1.25),
    "100": (1.10, 1.25),
    "together": (1.05, 1.15),
}
MARKS_ARRIVING: Final = {1.0: (1.10, 0.5), 2.5: (1.20, 2.0), 4.0: (1.35, 3.0)}

Send = Callable[[APIRequest], Awaitable[Any]]


@attrs.define
class Comic:
    """The times of one comic's events, in seconds from the start."""

    sent: float
    ready: float
    noticed: float | None = None
    checks: list[float] = attrs.field(factory=list[float])


@attrs.frozen
class Case:
    """One run."""

    client: str
    distribution: str
    count: int
    seed: int
    rate: float | None = None
    """Comics that arrive a minute; `None` if all are asked for at once."""
    demo: bool = False
    """Whether this is the demo plan's day."""


@attrs.define
class Result:
    """The result of one case, in seconds."""

    last: float = 0.0
    mean: float = 0.0
    best_last: float = 0.0
    best_mean: float = 0.0
    requests: int = 0
    refused: int = 0
    create_wait: float = 0.0
    """Mean seconds that a create waited from the call to the moment it was sent."""
    latest: float = 0.0
    """The longest time from the end of a generation to the check that found it."""
    known: dict[str, Schedule] = attrs.field(factory=dict[str, Schedule], repr=False)
    """The schedules with every duration known, by what goes first."""
    finished: int = 0
    accepted: int = 0
    timeline: list[Comic] = attrs.field(factory=list[Comic], repr=False)


class Recorder:
    """A transport to the service that records when each comic was created and checked."""

    def __init__(self, service: SandboxService) -> None:
        self.service = service
        self.comics: dict[str, Comic] = {}
        self._inner = SimulatedTransport(service, PAID_KEY)

    async def send(self, request: APIRequest) -> Any:
        """Send one request."""
        now = asyncio.get_running_loop().time()
        response = await self._inner.send(request)
        body: Any = response.body
        if request.kind is RequestKind.CREATE:
            duration = self.service.duration_of(len(self.comics))
            self.comics[body["id"]] = Comic(sent=now, ready=now + duration)
        elif request.kind is RequestKind.STATUS:
            comic = self.comics[body["id"]]
            comic.checks.append(now)
            if body["status"] == "SUCCEEDED" and comic.noticed is None:
                comic.noticed = now
        return response

    async def aclose(self) -> None:
        """Do nothing: nothing is held."""


async def ours(recorder: Recorder, arrivals: Sequence[float] | None, count: int) -> Result:
    """Run `llamagen_async`."""
    result = Result()
    waits: list[float] = []

    def record(report: RequestReport) -> None:
        result.requests += 1
        result.refused += report.outcome == "refused"
        if report.kind is RequestKind.CREATE:
            waits.append(report.waited)

    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def one(client: LlamaGenClient, at: float, number: int) -> None:
        await asyncio.sleep(at)
        await client.comics.create_and_wait(f"story {number}", timeout=100_000.0)
        times.append(loop.time() - at)

    async with simulated_client(
        recorder.service, plan=Plan.PAID, on_request=record, transport=recorder
    ) as client:
        if arrivals is None:
            stories = [f"story {number}" for number in range(count)]
            times.extend([loop.time() async for _ in client.comics.batch(stories)])
        else:
            await asyncio.gather(*(one(client, at, n) for n, at in enumerate(arrivals)))
    result.last, result.mean = loop.time(), statistics.mean(times)
    result.create_wait = statistics.mean(waits)
    return result


async def in_order(
    recorder: Recorder, arrivals: Sequence[float] | None, count: int, acquire: Callable[[], Any]
) -> Result:
    """Run a simple client: first come, first served."""
    result = Result()
    waits: list[float] = []
    loop = asyncio.get_running_loop()

    async def send(request: APIRequest) -> Any:
        while True:
            async with acquire():
                sent_at = loop.time()
                result.requests += 1
                try:
                    return (await recorder.send(request)).body, sent_at
                except RateLimitError as error:
                    result.refused += 1
                    pause = error.retry_after or 1.0
            await asyncio.sleep(pause)

    async def one(at: float, number: int) -> float:
        await asyncio.sleep(at)
        body = {"prompt": f"story {number}"}
        create = APIRequest(RequestKind.CREATE, "POST", "/comics/generations", json=body)
        comic, sent_at = await send(create)
        waits.append(sent_at - at)
        path = f"/comics/generations/{comic['id']}"
        while comic["status"] != "SUCCEEDED":
            await asyncio.sleep(CHECK_EVERY)
            comic, _ = await send(APIRequest(RequestKind.STATUS, "GET", path))
        return loop.time() - at

    asked = arrivals or [0.0] * count
    times = await asyncio.gather(*(one(at, n) for n, at in enumerate(asked)))
    result.last, result.mean = loop.time(), statistics.mean(times)
    result.create_wait = statistics.mean(waits)
    return result


def run_case(case: Case) -> Result:
    """Run one case in virtual time."""
    if case.demo:
        return run_demo(case)
    rng = Random(f"{case.distribution}/{case.count}/{case.rate}/{case.seed}")
    service = SandboxService(seed=rng.getrandbits(32), durations=DISTRIBUTIONS[case.distribution])
    recorder = Recorder(service)
    arrivals = None
    if case.rate is not None:
        gaps = (rng.expovariate(case.rate / 60) for _ in range(case.count))
        arrivals = list(_summed(gaps))

    async def main() -> Result:
        if case.client == CLIENTS[0]:
            return await ours(recorder, arrivals, case.count)
        if case.client == TOLD:
            with told(case.distribution):
                return await ours(recorder, arrivals, case.count)
        if case.client == CLIENTS[1]:
            clock = Clock()
            ledger = MemoryLedger(Plan.PAID, clock.now, LedgerTimes(lease=60.0))
            numbers = itertools.count()
            return await in_order(
                recorder, arrivals, case.count, lambda: _slot(ledger, clock, next(numbers))
            )
        bucket = AsyncLimiter(Plan.PAID.rate.limit, Plan.PAID.rate.per)
        return await in_order(recorder, arrivals, case.count, lambda: bucket)

    result = run(main())
    durations = [service.duration_of(number) for number in range(case.count)]
    bound = best_possible(durations, Plan.PAID.rate, arrivals=arrivals)
    result.best_last, result.best_mean = bound.last, bound.mean
    result.known = {
        f"{first} first": known_schedule(
            durations, Plan.PAID.rate, arrivals=arrivals, checks_first=first == "checks"
        )
        for first in ("checks", "creates")
    }
    comics = list(recorder.comics.values())
    result.latest = max((one.noticed or result.last) - one.ready for one in comics)
    result.finished = result.accepted = len(comics)
    result.timeline = comics if case.seed == 0 else []
    return result


def run_demo(case: Case) -> Result:
    """Run the demo plan's day."""
    service = SandboxService(seed=case.seed, durations=DISTRIBUTIONS[case.distribution])
    result = Result()

    async def main() -> None:
        async with simulated_client(service, plan=Plan.DEMO) as client:
            async for item in client.comics.batch([f"story {n}" for n in range(case.count)]):
                result.finished += item.state == "succeeded"
                result.accepted += item.generation is not None
            result.requests = client.stats().total
            result.refused = client.stats().refused

    run(main())
    return result


@contextlib.contextmanager
def told(distribution: str) -> Iterator[None]:
    """Let every forecast be the distribution itself, and learn nothing."""
    chances = _chances(distribution)

    def update(self: Any) -> None:
        self.cumulative = chances
        self.version += 1

    def count(self: Any, *_: float) -> None:
        self.observed += 1

    def init(self: Any) -> None:
        begin(self)
        self.observed = 100  # more than a forecast needs to be trusted
        self.update()

    def init_all(self: Any) -> None:
        begin_all(self)
        self.observed = 100

    begin, begin_all = DurationForecast.__init__, Forecasts.__init__
    with (
        mock.patch.object(DurationForecast, "__init__", init),
        mock.patch.object(Forecasts, "__init__", init_all),
        mock.patch.object(DurationForecast, "update", update),
        mock.patch.object(DurationForecast, "observe", count),
        mock.patch.object(DurationForecast, "not_done", return_value=None),
    ):
        yield


@functools.cache
def _chances(distribution: str) -> list[float]:
    """Return the chance to be done at each age of a forecast; no chance is 0 or 1."""
    rng = Random(1)
    draws = sorted(DISTRIBUTIONS[distribution].draw(rng) for _ in range(DRAWN))
    rare = 1e-5
    return [
        (1 - rare) * bisect.bisect_right(draws, age) / DRAWN + rare * place / len(AGES)
        for place, age in enumerate(AGES)
    ]


@contextlib.asynccontextmanager
async def _slot(ledger: MemoryLedger, clock: Clock, number: int) -> Any:
    """Hold a slot: each request is a client of its own, so the first that came is served first."""
    claim = Claim(f"{number}", f"{number}", Priority.READ, 0.0, Workload())
    while isinstance(answer := await ledger.reserve(claim), NoSlot):
        await clock.sleep(answer.delay)
    try:
        yield
    finally:
        await ledger.commit(answer, ANSWERED, Workload())
        ledger.release(claim.id, claim.client, leaves=True)


def _summed(gaps: Iterable[float]) -> Iterable[float]:
    at = 0.0
    for gap in gaps:
        at += gap
        yield at


def run_all(cases: Sequence[Case]) -> dict[Case, Result]:
    """Run all cases on all processors."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(cases, pool.map(run_case, cases, chunksize=4), strict=True))


def ratios(
    results: dict[Case, Result], client: str, count: int, rate: float | None
) -> dict[str, tuple[float, float]]:
    """Return the ratio of the last and the mean comic to the best possible, by distribution."""
    found: dict[str, tuple[float, float]] = {}
    for name in DISTRIBUTIONS:
        of = [
            result
            for case, result in results.items()
            if (case.client, case.distribution, case.count, case.rate, case.demo)
            == (client, name, count, rate, False)
        ]
        if of:
            found[name] = (
                sum(one.last for one in of) / sum(one.best_last for one in of),
                sum(one.mean for one in of) / sum(one.best_mean for one in of),
            )
    return found


def geometric(values: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the geometric mean of the first values, and that of the second values."""
    lasts, means = zip(*values, strict=True)
    return statistics.geometric_mean(lasts), statistics.geometric_mean(means)


def cases_of(seeds: int, clients: Sequence[str] = CLIENTS) -> list[Case]:
    """Return the cases; the client that is slowest to simulate gets fewer seeds."""
    of_client = {client: max(2, seeds // (4 if client == CLIENTS[2] else 1)) for client in clients}
    batches = [
        Case(client, name, count, seed)
        for count in SIZES
        for client in clients
        for name in DISTRIBUTIONS
        for seed in range(of_client[client] * (4 if count == 1 else 1))
    ]
    arriving = [
        Case(client, name, ARRIVING, seed, rate=rate)
        for rate in RATES
        for client in clients
        for name in DISTRIBUTIONS
        for seed in range(of_client[client])
    ]
    demo = [
        Case(clients[0], name, WANTED, seed, demo=True)
        for name in DISTRIBUTIONS
        for seed in range(seeds)
    ]
    return [*batches, *arriving, *demo]


def of(results: dict[Case, Result], client: str, count: int, rate: float | None) -> list[Result]:
    """Return the results of some cases."""
    wanted = (client, count, rate, False)
    return [
        result
        for case, result in results.items()
        if (case.client, case.count, case.rate, case.demo) == wanted
    ]


def by_distribution(
    results: dict[Case, Result], client: str, count: int, rate: float | None
) -> list[list[Result]]:
    """Return the results of some cases, grouped by distribution."""
    return [
        [
            result
            for case, result in results.items()
            if (case.client, case.count, case.rate, case.demo, case.distribution)
            == (client, count, rate, False, name)
        ]
        for name in DISTRIBUTIONS
    ]


def report_batches(results: dict[Case, Result], clients: Sequence[str]) -> dict[str, Any]:
    """Print how long batches took, and return it."""
    found: dict[str, Any] = {}
    rows: list[list[object]] = []
    for client in clients:
        sizes = {count: geometric(ratios(results, client, count, None).values()) for count in SIZES}
        many = geometric([pair for count, pair in sizes.items() if count > 1])
        pairs = {**{str(count): pair for count, pair in sizes.items()}, "together": many}
        for name, (last, mean) in pairs.items():
            runs = [] if name == "together" else of(results, client, int(name), None)
            each = sum(one.requests for one in runs) / max(1, sum(one.finished for one in runs))
            refused = sum(one.refused for one in runs)
            mark = " / ".join(f"{mark:.2f}" for mark in MARKS[name])
            rows.append([f"{name} comics, {client}", last, mean, mark, each or None, refused])
            found[f"{client}, {name}"] = {
                "last": last,
                "mean": mean,
                "requests_each": each or None,
                "refused": refused,
            }
    print_table(
        "Batches: ratio to a scheduler that knows every duration",
        ["", "last", "mean", "mark", "requests each", "refused"],
        rows,
        "'together' is the geometric mean over 4, 12, 30 and 100.",
    )
    by_name = {count: ratios(results, clients[0], count, None) for count in SIZES}
    print_table(
        f"{clients[0]}: last / mean by distribution",
        ["", *map(str, SIZES)],
        [
            [name, *(f"{by_name[c][name][0]:.2f} / {by_name[c][name][1]:.2f}" for c in SIZES)]
            for name in DISTRIBUTIONS
        ],
    )
    found["by distribution"] = {str(count): pairs for count, pairs in by_name.items()}
    return found


def report_arrivals(results: dict[Case, Result], clients: Sequence[str]) -> dict[str, Any]:
    """Print how long comics took that arrived one by one, and return it."""
    found: dict[str, Any] = {}
    rows: list[list[object]] = []
    for rate in RATES:
        for client in clients:
            runs = of(results, client, ARRIVING, rate)
            _, mean = geometric(ratios(results, client, ARRIVING, rate).values())
            wait = statistics.mean(one.create_wait for one in runs)
            late = max(one.latest for one in runs)
            each = sum(one.requests for one in runs) / sum(one.finished for one in runs)
            refused = sum(one.refused for one in runs)
            mark = " / ".join(f"{mark:.2f}" for mark in MARKS_ARRIVING[rate])
            rows.append([f"{rate:g} a minute, {client}", mean, wait, mark, late, each, refused])
            found[f"{client}, {rate:g}"] = {
                "mean": mean,
                "create_wait": wait,
                "latest_noticed": late,
                "requests_each": each,
                "refused": refused,
            }
        runs = of(results, clients[0], ARRIVING, rate)
        for first in runs[0].known:
            known = [one.known[first] for one in runs]
            mean = statistics.geometric_mean(
                sum(one.known[first].mean for one in case) / sum(one.best_mean for one in case)
                for case in by_distribution(results, clients[0], ARRIVING, rate)
            )
            wait = statistics.mean(one.create_wait for one in known)
            late = max(one.latest for one in known)
            rows.append([f"{rate:g} a minute, knows all, {first}", mean, wait, "", late, 2.0, 0])
            found[f"knows all, {first}, {rate:g}"] = {
                "mean": mean,
                "create_wait": wait,
                "latest_noticed": late,
            }
    print_table(
        f"{ARRIVING} comics one by one: ratio of the mean comic, seconds",
        ["", "mean", "create waits", "mark", "noticed late", "requests each", "refused"],
        rows,
    )
    return found


def report_demo(results: dict[Case, Result]) -> dict[str, Any]:
    """Print how many comics the demo plan's day gave, and return it."""
    rows: list[list[object]] = []
    found: dict[str, Any] = {}
    for name in DISTRIBUTIONS:
        runs = [one for case, one in results.items() if case.demo and case.distribution == name]
        finished = statistics.mean(one.finished for one in runs)
        left = max(one.accepted - one.finished for one in runs)
        requests = max(one.requests for one in runs)
        refused = sum(one.refused for one in runs)
        rows.append([name, finished, finished / DEMO_BEST, left, requests, refused])
        found[name] = {"finished": finished, "not_collected": left, "requests": requests}
    print_table(
        f"The demo plan's day, {WANTED} wanted ({DEMO_BEST} are possible)",
        ["", "finished", "ratio", "started, not collected", "most requests", "refused"],
        rows,
    )
    return found


def main() -> None:
    """Run everything, print the tables, write the file."""
    quick = is_quick(__doc__)
    seeds = 3 if quick else 20
    results = run_all(cases_of(seeds))
    timelines = {
        client: results[Case(client, "lognormal 60/0.4", 12, 0)].timeline for client in CLIENTS[:2]
    }
    report = {
        "seeds": seeds,
        "batches": report_batches(results, CLIENTS),
        "arrivals": report_arrivals(results, CLIENTS),
        "demo": report_demo(results),
        "timelines": {
            client: [attrs.asdict(comic) for comic in comics]
            for client, comics in timelines.items()
        },
    }
    write_json("scheduling", ("llamagen-async", "aiolimiter"), report, quick=quick)


if __name__ == "__main__":
    main()
