"""Real processes, a real store, and a server in a process of its own.

Eight processes share a key on the paid plan and send 400 requests, creates and status checks. The
server counts by a sliding window, and its count is what is asserted: nothing refused, never more
than the limit in any window. Nothing that is asserted depends on how long something takes.

At `SPEED` a window is 0.12 real seconds, and 400 requests are 40 of them. A slot whose process was
killed counts until its lease is over: `TIMEOUT` and 5 s, in real seconds, whatever the speed. That
holds up the others only if most of the ten slots were lost so.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from llamagen_async import LlamaGenClient, Plan, RateLimit
from llamagen_async.ratelimit import Identity, OnStoreFailure, Priority
from llamagen_async.ratelimit.protocol import Ledger
from llamagen_async.ratelimit.stores import open_store, store_times
from llamagen_async.sandbox import PAID_KEY, Call, Durations, Reply, SandboxService
from tests.support.cli import environment, sandbox, sandbox_thread
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.once

WORKERS: Final = 8
COMICS: Final = 25
"""For each worker; a comic is two requests."""
REQUESTS: Final = WORKERS * COMICS * 2
AT_ONCE: Final = 4
"""Comics that each worker is busy with at a time."""
LIMIT: Final = Plan.PAID.rate.limit
SPEED: Final = 500.0
LATENCY: Final = "0-2"
"""Seconds of the server's clock that a round trip takes, beside what it takes by itself."""
TIMEOUT: Final = 3.0
"""Real seconds for one request: many times what one takes on a machine that is busy."""
GIVE_UP_AFTER: Final = 60.0
"""Real seconds after which a test gives up waiting."""


WORKER = str(Path(__file__).parents[1] / "support" / "ratelimit_worker.py")


@attrs.frozen
class AnsweredRequest:
    """One request that was answered, as a worker recorded it."""

    what: str
    """`create` or `check`."""
    comic: str
    """The comic's id."""
    at: float
    """Time of the answer, on the machine's monotonic clock in real seconds."""
    process: int
    """Id of the process that sent it."""
    sent: int
    """Requests that the process had sent by then."""
    round_trips: int
    """Round trips to the store that the process had made by then."""


@attrs.define
class Worker:
    """One of the eight workers, through all its processes."""

    path: Path
    """The file in which the worker records its requests."""
    client: dict[str, Any]
    """The arguments of the worker's client."""
    waits_for: Sequence[str] = ()
    """Comics to wait for, instead of creating any."""
    dies: tuple[int, float] | None = None
    """The answer after which the first process kills itself, and seconds from then."""
    process: subprocess.Popen[str] = attrs.field(init=False)

    def start(self) -> None:
        """Start the process; it continues from its record, if there is one."""
        orders = {
            "record": str(self.path),
            "comics": 0 if self.waits_for else COMICS,
            "at_once": AT_ONCE,
            "client": self.client,
            "waits_for": self.waits_for,
            "dies": self.dies,
        }
        self.dies = None
        self.process = subprocess.Popen(
            [sys.executable, WORKER, json.dumps(orders)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def get_ready(self) -> None:
        """Wait until the process is ready to send."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.finish()

    def begin(self) -> None:
        """Let the process send."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def restart(self, *, kill: bool = False) -> None:
        """Start the process again when SIGKILL has ended it, without waiting for the new one."""
        if kill:
            assert self.process.poll() is None, self.finish()
            self.process.kill()
        error = self.finish()
        assert self.process.returncode == -signal.SIGKILL, error
        self.start()
        self.begin()

    def finish(self) -> str:
        """Wait until the process ends; return what it wrote to stderr."""
        return self.process.communicate(timeout=GIVE_UP_AFTER)[1]

    def served(self) -> int:
        """Return the number of answers it has recorded."""
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def requests(self) -> list[AnsweredRequest]:
        """Return the requests that all its processes have recorded."""
        return [
            AnsweredRequest(**json.loads(line))
            for line in self.path.read_text("utf-8").splitlines()
        ]


@attrs.frozen
class RunResult:
    """The end of a run, as the workers and as the server saw it."""

    requests: list[list[AnsweredRequest]]
    """The answered requests of each worker."""
    counted: dict[str, Any]
    """The server's statistics of the key."""
    stderr: str
    """Output of the workers' last processes on stderr."""

    def check(self, *, killed: int = 0) -> None:
        """Assert that all requests were served and none was refused."""
        (window,) = self.counted["windows"]
        assert (self.counted["refused"], window["limit"], window["per"]) == (0, LIMIT, 60)
        assert window["most"] <= LIMIT
        for requests in self.requests:
            assert Counter(one.what for one in requests) == {"create": COMICS, "check": COMICS}
            created = {one.comic for one in requests if one.what == "create"}
            assert created == {one.comic for one in requests if one.what == "check"}
        # Requests of a killed process that were in flight may have been served unrecorded.
        assert REQUESTS <= self.counted["total"] <= REQUESTS + AT_ONCE * killed
        statuses = Counter[str]()
        for by_status in self.counted["requests"].values():
            statuses.update(by_status)
        assert statuses == {"200": self.counted["total"]}

    def round_trips_each(self) -> float:
        """Return the round trips to the store per request sent."""
        last = {one.process: one for requests in self.requests for one in requests}.values()
        return sum(one.round_trips for one in last) / sum(one.sent for one in last)

    def shares(self) -> list[int]:
        """Return the number of requests of each worker while all of them were busy."""
        begin = max(requests[0].at for requests in self.requests)
        end = min(requests[-1].at for requests in self.requests)
        return sorted(sum(begin <= one.at <= end for one in requests) for requests in self.requests)

    def __str__(self) -> str:
        every = [one.at for requests in self.requests for one in requests]
        return (
            f"{self.counted['total']} requests in {max(every) - min(every):.1f} s, "
            f"{self.counted['refused']} refused, at most {self.counted['windows'][0]['most']} in a "
            f"window, {self.round_trips_each():.2f} round trips to the store each, shares "
            f"{self.shares()}\n{self.stderr}"
        )


@attrs.frozen
class Run:
    """Eight workers that send, and the server they send to."""

    workers: list[Worker]
    base_url: str

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds, which it must before the workers are done."""
        until = time.monotonic() + GIVE_UP_AFTER
        while not condition():
            assert time.monotonic() < until
            assert any(worker.process.poll() is None for worker in self.workers)
            time.sleep(0.005)

    def served(self) -> int:
        """Return the number of answers that were recorded."""
        return sum(worker.served() for worker in self.workers)

    def finish(self) -> RunResult:
        """Wait until all workers are done and return the result."""
        stderr = "".join(worker.finish() for worker in self.workers)
        assert [worker.process.returncode for worker in self.workers] == [0] * WORKERS, stderr
        stats = self.base_url.removesuffix("/v1") + "/_sandbox/stats"
        with urllib.request.urlopen(stats, timeout=10) as answer:
            counted = json.load(answer)["keys"][PAID_KEY]
        result = RunResult([worker.requests() for worker in self.workers], counted, stderr)
        print(result)
        return result


@contextmanager
def at_work(
    folder: Path,
    quota: str,
    on_store_failure: OnStoreFailure = "raise",
    dies: Mapping[int, tuple[int, float]] | None = None,
) -> Iterator[Run]:
    """Run a server and eight workers that begin together; no process is left afterwards.

    With `"raise"` they wait for a store that is away, with `"local"` they go on without it. Those
    in `dies` kill themselves, as `Worker.dies` says.
    """
    dies = dies or {}
    with sandbox(folder, "--speed", str(SPEED), "--latency", LATENCY) as server:
        client = {
            "api_key": PAID_KEY,
            "plan": "paid",
            "base_url": server["url"],
            "quota": quota,
            "on_store_failure": on_store_failure,
            "speed": SPEED,
            "timeout": TIMEOUT,
        }
        with _begun(
            [
                Worker(folder / f"requests {n}.jsonl", client, dies=dies.get(n))
                for n in range(WORKERS)
            ]
        ) as workers:
            yield Run(workers, server["url"])


@contextmanager
def _begun(workers: list[Worker]) -> Iterator[list[Worker]]:
    """Let workers begin together; no process is left afterwards."""
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.get_ready()
        for worker in workers:
            worker.begin()
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.communicate()


@pytest.fixture(params=["sqlite", "redis"])
def quota(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of the store in which the workers count."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'quota.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


def test_eight_processes_are_never_refused_and_share_fairly(quota: str, tmp_path: Path) -> None:
    with at_work(tmp_path, quota) as run:
        result = run.finish()
    result.check()
    # To ask, to ask again at the time that was told, and to report; now and then once more.
    assert round(result.round_trips_each()) <= 3
    # First come, first served: only a process that the machine starves gets less than others.
    shares = result.shares()
    assert shares[-1] <= 2 * shares[0] + 2


def test_the_limit_holds_when_workers_are_killed_and_started_again(tmp_path: Path) -> None:
    """Requests in flight count, and requests that were recorded are not sent again."""
    chance = random.Random(1)
    victims = chance.sample(range(WORKERS), 3)
    dies = {n: (chance.randrange(5, 25), chance.uniform(0.0, 0.02)) for n in victims}
    with at_work(tmp_path, f"sqlite:///{tmp_path / 'quota.db'}", dies=dies) as run:
        for victim in sorted(victims, key=lambda n: dies[n]):
            run.workers[victim].restart()
        result = run.finish()
    result.check(killed=3)


@pytest.mark.parametrize("on_store_failure", ["raise", "local"])
def test_the_limit_holds_when_redis_is_restarted_and_forgets(
    tmp_path: Path, on_store_failure: OnStoreFailure
) -> None:
    """Three workers are killed as well: before, while and after it is away."""
    chance = random.Random(2)
    first, second, third = chance.sample(range(WORKERS), 3)
    dies = {first: (chance.randrange(5, 15), chance.uniform(0.0, 0.02))}
    server = RedisServer(tmp_path)
    try:
        with at_work(tmp_path, server.url, on_store_failure, dies) as run:
            run.workers[first].restart()
            until = 100 + chance.randrange(50)
            run.wait_until(lambda: run.served() >= until)
            server.kill()
            run.workers[second].restart(kill=True)
            server.start()
            run.workers[third].restart(kill=True)
            result = run.finish()
    finally:
        server.stop()
    result.check(killed=3)


# --- a create among checks ------------------------------------------------------------------------

NARROW: Final = RateLimit(1, per=1.0)
"""One slot a second, at real speed: the next request is sent when the last one was answered."""
RUNNING: Final = 104
"""Comics that run for ever, 13 for each worker."""


class OrderedService(SandboxService):
    """A server that remembers the kind of each request in the order in which they arrive."""

    def __init__(self) -> None:
        plan = Plan("narrow", limits=NARROW)
        super().__init__(plans={PAID_KEY: plan}, durations=Durations.constant(1e9))
        self.arrived: list[str] = []

    def handle(self, call: Call, now: float) -> Reply:
        self.arrived.append({"POST": "create", "GET": "check"}[call.method])
        return super().handle(call, now)

    def create_before(self) -> list[str]:
        """Accept comics long before the test begins; return their ids."""
        headers = {"Authorization": f"Bearer {PAID_KEY}"}
        body = json.dumps({"prompt": "a cat"}).encode()
        call = Call("POST", "/v1/comics/generations", headers, body=body)
        ids = [json.loads(self.handle(call, n - 1_000.0).body)["id"] for n in range(RUNNING)]
        self.arrived.clear()
        return ids


def test_a_create_among_a_hundred_checks_of_eight_processes_is_the_next_request(
    quota: str, tmp_path: Path
) -> None:
    """From the moment at which the ledger shows that it waits and that nothing is in flight."""
    service = OrderedService()
    ids = service.create_before()
    with sandbox_thread(service, speed="1") as server:
        client = {
            "api_key": PAID_KEY,
            "plan": [NARROW.limit, NARROW.per],
            "base_url": server["url"],
            "quota": quota,
            "timeout": TIMEOUT,
        }
        workers = [
            Worker(tmp_path / f"requests {n}.jsonl", client, ids[n::WORKERS])
            for n in range(WORKERS)
        ]
        with _begun(workers):
            asyncio.run(_create_among_checks(service, client))


async def _create_among_checks(service: OrderedService, arguments: dict[str, Any]) -> None:
    plan = Plan("narrow", limits=NARROW)
    name = Identity.of(PAID_KEY, arguments["base_url"], 1.0, arguments["quota"]).name
    ledger = open_store(arguments["quota"], name, plan, 1.0, store_times(1.0, TIMEOUT))
    async with (
        asyncio.timeout(GIVE_UP_AFTER),
        LlamaGenClient(**arguments | {"plan": plan}) as client,
    ):
        while (await ledger.snapshot()).clients < WORKERS:  # noqa: ASYNC110  # in other processes
            await asyncio.sleep(0.01)
        seen = 0
        while seen < 3:
            checked = len(service.arrived)
            while len(service.arrived) < checked + 2:  # noqa: ASYNC110  # an overdue one may go first
                await asyncio.sleep(0.01)
            creating = asyncio.create_task(client.comics.create("somebody waits"))
            number = await _arrived_when_it_waits(service, ledger, creating)
            await creating
            if number is not None:
                assert service.arrived[number] == "create"
                seen += 1
    await ledger.aclose()


async def _arrived_when_it_waits(
    service: OrderedService, ledger: Ledger, creating: asyncio.Task[Any]
) -> int | None:
    """Return how many requests had arrived at a time at which only the next slot is not given.

    `None` if the create had its slot before that was seen.
    """
    while not creating.done():
        before = len(service.arrived)
        seen = await ledger.snapshot()
        waits = seen.waiting.get(Priority.INTERACTIVE, 0) == 1
        # None was sent while it was looked, and all that were sent have been answered.
        if waits and seen.in_flight == 0 and len(service.arrived) == before:
            return before
        await asyncio.sleep(0.005)
    return None
