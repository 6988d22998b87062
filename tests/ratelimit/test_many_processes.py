"""All of it at once: real processes, a real store, and a server in a process of its own.

Eight processes share a key on the paid plan and send 400 requests, creates and status checks. The
server counts by a sliding window, and its count is what is asserted: nothing refused, never more
than the limit in any window. Nothing that is asserted depends on how long something takes.

At `SPEED` a window is 0.12 real seconds, and 400 requests are 40 of them. A slot whose process was
killed counts until its lease is over: `TIMEOUT` and 5 s, in real seconds, whatever the speed. That
holds up the others only if most of the ten slots were lost so.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from llamagen_async import Plan
from llamagen_async.ratelimit import OnStoreFailure
from llamagen_async.sandbox import PAID_KEY
from tests.support.cli import environment, sandbox
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
PATIENCE: Final = 60.0
"""Real seconds after which a test gives up waiting."""


WORKER = str(Path(__file__).parents[1] / "support" / "ratelimit_worker.py")


@attrs.frozen
class Note:
    """One request that was answered, as a worker noted it."""

    what: str
    """`create` or `check`."""
    comic: str
    """The id."""
    at: float
    """When the answer came, on the machine's monotonic clock in real seconds."""
    process: int
    """Which process sent it."""
    sent: int
    """How many requests that process had sent by then."""
    round_trips: int
    """How many round trips to the store it had made by then."""


@attrs.define
class Worker:
    """One of the eight, through all its lives."""

    path: Path
    """Its notes."""
    client: dict[str, Any]
    """The arguments of its client."""
    process: subprocess.Popen[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start it; it goes on from its notes, if there are any."""
        orders = {
            "notes": str(self.path),
            "comics": COMICS,
            "at_once": AT_ONCE,
            "client": self.client,
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                WORKER,
                json.dumps(orders),
            ],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def get_ready(self) -> None:
        """Wait until it could send."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.finish()

    def begin(self) -> None:
        """Let it send."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.process.poll() is None, self.finish()
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def finish(self) -> str:
        """Wait until it ends; return what it complained of."""
        return self.process.communicate(timeout=PATIENCE)[1]

    def served(self) -> int:
        """Return how many answers it has noted."""
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def notes(self) -> list[Note]:
        """Return what it has noted in all its lives."""
        return [Note(**json.loads(line)) for line in self.path.read_text("utf-8").splitlines()]


@attrs.frozen
class Outcome:
    """How it went, as the workers and as the server saw it."""

    notes: list[list[Note]]
    """Those of each worker."""
    counted: dict[str, Any]
    """What the server says of the key."""
    complaints: str
    """What the workers wrote to stderr in their last lives."""

    def check(self, *, killed: int = 0) -> None:
        """Assert what has to hold, whatever happened: all served, none refused."""
        (window,) = self.counted["windows"]
        assert (self.counted["refused"], window["limit"], window["per"]) == (0, LIMIT, 60)
        assert window["most"] <= LIMIT
        for notes in self.notes:
            assert Counter(note.what for note in notes) == {"create": COMICS, "check": COMICS}
            created = {note.comic for note in notes if note.what == "create"}
            assert created == {note.comic for note in notes if note.what == "check"}
        # What somebody who was killed had on its way may have been served, and nobody knows.
        assert REQUESTS <= self.counted["total"] <= REQUESTS + AT_ONCE * killed
        statuses = Counter[str]()
        for by_status in self.counted["requests"].values():
            statuses.update(by_status)
        assert statuses == {"200": self.counted["total"]}

    def round_trips_each(self) -> float:
        """Return the round trips to the store per request sent."""
        last = {note.process: note for notes in self.notes for note in notes}.values()
        return sum(note.round_trips for note in last) / sum(note.sent for note in last)

    def shares(self) -> list[int]:
        """Return how much each worker was served while all of them were busy."""
        begin = max(notes[0].at for notes in self.notes)
        end = min(notes[-1].at for notes in self.notes)
        return sorted(sum(begin <= note.at <= end for note in notes) for notes in self.notes)

    def __str__(self) -> str:
        every = [note.at for notes in self.notes for note in notes]
        return (
            f"{self.counted['total']} requests in {max(every) - min(every):.1f} s, "
            f"{self.counted['refused']} refused, at most {self.counted['windows'][0]['most']} in a "
            f"window, {self.round_trips_each():.2f} round trips to the store each, shares "
            f"{self.shares()}\n{self.complaints}"
        )


@attrs.frozen
class Stage:
    """Eight workers who send, and the server they send to."""

    workers: list[Worker]
    base_url: str

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds, which it must before the workers are done."""
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until
            assert any(worker.process.poll() is None for worker in self.workers)
            time.sleep(0.005)

    def served(self) -> int:
        """Return how many answers were noted."""
        return sum(worker.served() for worker in self.workers)

    def kill_one(self, victim: Worker, chance: random.Random, *, served: int) -> None:
        """Kill a worker some time after it was served so often, and start it again."""
        self.wait_until(lambda: victim.served() >= served)
        time.sleep(chance.uniform(0.0, 0.02))
        victim.kill()
        victim.start()
        victim.get_ready()
        victim.begin()

    def finish(self) -> Outcome:
        """Wait until all workers are done and return what is known then."""
        complaints = "".join(worker.finish() for worker in self.workers)
        assert [worker.process.returncode for worker in self.workers] == [0] * WORKERS, complaints
        stats = self.base_url.removesuffix("/v1") + "/_sandbox/stats"
        with urllib.request.urlopen(stats, timeout=10) as answer:
            counted = json.load(answer)["keys"][PAID_KEY]
        outcome = Outcome([worker.notes() for worker in self.workers], counted, complaints)
        print(outcome)
        return outcome


@contextmanager
def at_work(
    folder: Path, quota: str, on_store_failure: OnStoreFailure = "raise"
) -> Iterator[Stage]:
    """Run a server and eight workers, who begin together; none is left afterwards.

    With `"raise"` they wait for a store that is away, with `"local"` they go on without it.
    """
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
        workers: list[Worker] = []
        try:
            workers += (Worker(folder / f"notes {n}.jsonl", client) for n in range(WORKERS))
            for worker in workers:
                worker.get_ready()
            for worker in workers:
                worker.begin()
            yield Stage(workers, server["url"])
        finally:
            for worker in workers:
                worker.process.kill()
            for worker in workers:
                worker.process.communicate()


@pytest.fixture(params=["sqlite", "redis"])
def quota(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the workers remember what they have sent."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'quota.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


def test_eight_processes_are_never_refused_and_share_fairly(quota: str, tmp_path: Path) -> None:
    with at_work(tmp_path, quota) as stage:
        outcome = stage.finish()
    outcome.check()
    assert outcome.round_trips_each() <= 3
    # First come, first served: only a process that the machine starves gets less than the others.
    shares = outcome.shares()
    assert shares[-1] <= 2 * shares[0] + 2


def test_three_that_are_killed_and_started_again_break_nothing(tmp_path: Path) -> None:
    """What they had on its way counts, and what they had noted is not sent again."""
    chance = random.Random(1)
    with at_work(tmp_path, f"sqlite:///{tmp_path / 'quota.db'}") as stage:
        for victim, served in zip(chance.sample(stage.workers, 3), (5, 15, 25), strict=True):
            stage.kill_one(victim, chance, served=served + chance.randrange(10))
        outcome = stage.finish()
    outcome.check(killed=3)


@pytest.mark.parametrize("on_store_failure", ["raise", "local"])
def test_nor_does_a_redis_that_is_restarted_and_forgets(
    tmp_path: Path, on_store_failure: OnStoreFailure
) -> None:
    """Three workers are killed as well: one before, one while, one after it is away."""
    chance = random.Random(2)
    server = RedisServer(tmp_path)
    try:
        with at_work(tmp_path, server.url, on_store_failure) as stage:
            first, second, third = chance.sample(stage.workers, 3)
            stage.kill_one(first, chance, served=5 + chance.randrange(10))
            stage.wait_until(lambda: stage.served() >= 100 + chance.randrange(50))
            server.kill()
            stage.kill_one(second, chance, served=0)
            server.start()
            stage.kill_one(third, chance, served=third.served())
            outcome = stage.finish()
    finally:
        server.stop()
    outcome.check(killed=3)
