"""Several processes behind one key, compared with one process that does the same work.

Everything runs in virtual time against the sandbox's service: 1, 2, 4 and 8 clients, each with a
dispatcher, a limiter and a ledger of its own as in a process of its own, over one store that counts
for all of them. As with real stores, a client is told nothing that it did not ask for.

Three kinds of work, for each of six distributions of durations: comics that are asked for one by
one, at 1, 2.5 and 4 a minute, each of a process drawn at random; and a batch of 100, split evenly.
The ratios are to the figures of one process in the same run, with the same durations and arrivals.

Run it from the repository's root: `python benchmarks/fleet.py`. It prints a table and writes
`benchmarks/results/fleet.json`; `--quick` takes a few seeds only.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
from collections.abc import Awaitable, Sequence
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Any, Final, TypeVar
from unittest import mock

import attrs
from _report import is_quick, print_table, write_json
from scheduling import DISTRIBUTIONS

from llamagen_async import LlamaGenClient, Plan
from llamagen_async.clock import Clock
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import (
    Claim,
    KeyState,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    Workload,
    registry,
)
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.stores import store_times
from llamagen_async.sandbox import PAID_KEY, SandboxService
from llamagen_async.scheduling import RequestReport
from llamagen_async.simulation import SimulatedTransport, run

PROCESSES: Final = (1, 2, 4, 8)
RATES: Final = (1.0, 2.5, 4.0)
ARRIVING: Final = 120
BATCH: Final = 100
MOST_WAIT: Final = (1.5, 0.5)
"""The longest that a create may wait: times as long as with one process, or seconds more."""
MOST_MEAN: Final = 1.03
"""How many times as long the mean comic may take."""
MOST_LAST: Final = 1.05
"""How many times as late the last comic of a batch may be."""
MOST_ROUND_TRIPS: Final = 3.0
"""Round trips to the store that a request may take on average."""

_T = TypeVar("_T")


@attrs.frozen
class Case:
    """One run."""

    processes: int
    distribution: str
    rate: float | None
    """Comics that arrive a minute; `None` if they are a batch."""
    seed: int


@attrs.define
class Result:
    """The result of one case, in seconds."""

    last: float = 0.0
    mean: float = 0.0
    create_wait: float = 0.0
    """Mean seconds that a create waited from the call to the moment it was sent."""
    requests: int = 0
    refused: int = 0
    round_trips: int = 0


class Store:
    """The way of one process to the store; counts how often it is gone."""

    def __init__(self, memory: MemoryLedger, result: Result) -> None:
        self._memory = memory
        self._result = result

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Ask for a slot."""
        return await self._asked(self._memory.reserve(claim))

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Spend a slot."""
        return await self._asked(self._memory.commit(grant, outcome, workload))

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up a slot or a position."""
        self._result.round_trips += not leaves
        self._memory.release(claim, client, leaves=leaves)

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests without slots."""
        await self._asked(self._memory.record(number, pause=pause))

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known."""
        return await self._asked(self._memory.snapshot(position=position))

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan."""
        self._memory.change_plan(plan)

    async def load_blob(self) -> str | None:
        """Return nothing: nobody has learned before."""
        return None

    async def save_blob(self, text: str) -> None:
        """Forget it."""
        del text

    async def aclose(self) -> None:
        """Do nothing."""

    async def _asked(self, answer: Awaitable[_T]) -> _T:
        self._result.round_trips += 1
        return await answer


def run_case(case: Case) -> Result:
    """Run one case in virtual time."""
    result = Result()
    count = BATCH if case.rate is None else ARRIVING
    rng = Random(f"{case.distribution}/{case.rate}/{case.seed}")
    service = SandboxService(seed=rng.getrandbits(32), durations=DISTRIBUTIONS[case.distribution])
    arrivals: list[float] = []
    if case.rate is not None:
        gaps = (rng.expovariate(case.rate / 60) for _ in range(count))
        arrivals = list(itertools.accumulate(gaps))
    waits: list[float] = []
    times: list[float] = []

    def record(report: RequestReport) -> None:
        result.requests += 1
        result.refused += report.outcome == "refused"
        if report.kind is RequestKind.CREATE:
            waits.append(report.waited)

    async def one(client: LlamaGenClient, at: float) -> None:
        await asyncio.sleep(at)
        await client.comics.create_and_wait("a story", timeout=100_000.0)
        times.append(asyncio.get_running_loop().time() - at)

    async def split(client: LlamaGenClient, number: int) -> None:
        stories, loop = [f"story {n}" for n in range(number)], asyncio.get_running_loop()
        times.extend([loop.time() async for _ in client.comics.batch(stories)])

    async def main() -> None:
        memory = MemoryLedger(Plan.PAID, Clock().now, store_times(1.0, 30.0))
        with mock.patch.object(
            registry, "open_store", side_effect=lambda *_: Store(memory, result)
        ):
            clients = [
                LlamaGenClient(
                    PAID_KEY,
                    plan=Plan.PAID,
                    base_url="https://fleet.invalid",
                    quota=f"redis://process-{number}",
                    transport=SimulatedTransport(service, PAID_KEY),
                    on_request=record,
                )
                for number in range(case.processes)
            ]
            if case.rate is None:
                shares = [len(range(n, count, case.processes)) for n in range(case.processes)]
                await asyncio.gather(*map(split, clients, shares))
            else:
                await asyncio.gather(*(one(rng.choice(clients), at) for at in arrivals))
            result.last = asyncio.get_running_loop().time()
            for client in clients:
                await client.aclose()

    run(main())
    result.mean, result.create_wait = statistics.mean(times), statistics.mean(waits)
    return result


def main() -> None:
    """Run everything, print the table, write the file."""
    quick = is_quick(__doc__)
    seeds = 1 if quick else 8
    cases = [
        Case(processes, name, rate, seed)
        for rate in (*RATES, None)
        for processes in PROCESSES
        for name in DISTRIBUTIONS
        for seed in range(seeds)
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(cases, pool.map(run_case, cases, chunksize=1), strict=True))
    rows: list[list[object]] = []
    found: dict[str, Any] = {}
    for rate in (*RATES, None):
        alone = _of(results, 1, rate)
        for processes in PROCESSES:
            these = _of(results, processes, rate)
            name = "a batch of 100" if rate is None else f"{rate:g} a minute"
            row = _row(these, alone, is_batch=rate is None)
            rows.append([f"{name}, {processes} processes", *row.values()])
            found[f"{name}, {processes}"] = row
    print_table(
        "One key, several processes: seconds, and ratios to one process",
        ["", "create waits", "mean", "ratio", "last", "ratio", "round trips", "refused", "holds"],
        rows,
    )
    write_json("fleet", ("llamagen-async",), {"seeds": seeds, **found}, quick=quick)


def _of(results: dict[Case, Result], processes: int, rate: float | None) -> list[Result]:
    return [
        result
        for case, result in results.items()
        if (case.processes, case.rate) == (processes, rate)
    ]


def _row(these: Sequence[Result], alone: Sequence[Result], *, is_batch: bool) -> dict[str, Any]:
    wait, wait_alone = (statistics.mean(one.create_wait for one in some) for some in (these, alone))
    mean, last = (
        statistics.geometric_mean(
            getattr(one, name) / getattr(other, name)
            for one, other in zip(these, alone, strict=True)
        )
        for name in ("mean", "last")
    )
    trips = sum(one.round_trips for one in these) / sum(one.requests for one in these)
    refused = sum(one.refused for one in these)
    factor, more = MOST_WAIT
    holds = trips <= MOST_ROUND_TRIPS and not refused and mean <= MOST_MEAN
    if is_batch:
        holds = holds and last <= MOST_LAST
    else:
        holds = holds and wait <= max(factor * wait_alone, wait_alone + more)
    return {
        "create_wait": wait,
        "mean": statistics.mean(one.mean for one in these),
        "mean_ratio": mean,
        "last": statistics.mean(one.last for one in these),
        "last_ratio": last,
        "round_trips": trips,
        "refused": refused,
        "holds": "yes" if holds else "no",
    }


if __name__ == "__main__":
    main()
