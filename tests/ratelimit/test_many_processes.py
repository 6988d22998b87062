"""All of it at once: real processes, a real store, and a server in a process of its own.

Eight processes share a key on the paid plan and send 400 requests, creates and status checks. The
server counts by a sliding window, and its count is what is asserted: nothing refused, never more
than the limit in any window. Nothing that is asserted depends on how long something takes.

At `SPEED` a window is 0.15 real seconds, and 400 requests are 40 of them. A slot whose process was
killed counts until its lease is over: `TIMEOUT` and 5 s, in real seconds, whatever the speed. So
a test with killed processes takes longer, but only if they had most of the ten slots.
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
from cli.support import environment, sandbox
from support.redis_server import RedisServer

from llamagen_async import Plan
from llamagen_async.sandbox import PAID_KEY

WORKERS: Final = 8
COMICS: Final = 25
"""For each worker; a comic is two requests."""
REQUESTS: Final = WORKERS * COMICS * 2
LIMIT: Final = Plan.PAID.rate.limit
SPEED: Final = 400.0
LATENCY: Final = "0-4"
"""Seconds of the server's clock that a round trip takes beside what it takes by itself."""
TIMEOUT: Final = 3.0
"""Real seconds for one request: many times what one takes on a machine that is busy."""
PATIENCE: Final = 60.0
"""Real seconds after which a test gives up waiting for a worker."""


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

    notes_path: Path
    client: dict[str, Any]
    process: subprocess.Popen[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        orders = {
            "notes": str(self.notes_path),
            "comics": COMICS,
            "at_once": 4,
            "client": self.client,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(orders)],
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

    def notes(self) -> list[Note]:
        if not self.notes_path.exists():
            return []
        lines = self.notes_path.read_text("utf-8").splitlines(keepends=True)
        return [Note(**json.loads(line)) for line in lines if line.endswith("\n")]


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

    def kill_three(self, chance: random.Random) -> None:
        """Kill three of the workers, each at some time while it is busy, and start them again."""
        victims = chance.sample(self.workers, 3)
        for victim, noted in zip(victims, sorted(chance.sample(range(2, 40), 3)), strict=True):
            self.wait_until(lambda v=victim, n=noted: len(v.notes()) >= n)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.02))
            victim.kill()
            victim.start()
            victim.get_ready()
            victim.begin()

    def finish(self) -> Seen:
        """Wait until all workers are done and return what is known then."""
        complaints = [worker.finish() for worker in self.workers]
        assert [worker.process.returncode for worker in self.workers] == [0] * WORKERS, complaints
        with urllib.request.urlopen(
            self.base_url.removesuffix("/v1") + "/_sandbox/stats", timeout=10
        ) as answer:
            counted = json.load(answer)["keys"][PAID_KEY]
        return Seen([worker.notes() for worker in self.workers], complaints, counted)


@attrs.frozen
class Seen:
    """How it went, as the workers and as the server saw it."""

    notes: list[list[Note]]
    """Those of each worker."""
    complaints: list[str]
    """What each worker wrote to stderr in its last life."""
    counted: dict[str, Any]
    """What the server says of the key."""

    def assert_all_served_and_none_refused(self, *, killed: int = 0) -> None:
        (window,) = self.counted["windows"]
        assert (self.counted["refused"], window["limit"]) == (0, LIMIT)
        assert window["most"] <= LIMIT
        for notes in self.notes:
            assert Counter(note.what for note in notes) == {"create": COMICS, "check": COMICS}
            created = {note.comic for note in notes if note.what == "create"}
            assert created == {note.comic for note in notes if note.what == "check"}
        # What somebody had on its way who was killed may have been served, and nobody knows.
        at_most = REQUESTS + 4 * killed
        assert REQUESTS <= self.counted["total"] <= at_most
        requests = self.counted["requests"]
        assert {status for kind in requests.values() for status in kind} == {"200"}

    def round_trips_each(self) -> float:
        """Return the round trips to the store per request sent."""
        last = {note.process: note for notes in self.notes for note in notes}.values()
        return sum(note.round_trips for note in last) / sum(note.sent for note in last)

    def shares(self) -> list[int]:
        """Return how much each worker had been served when the first one was done."""
        first_done = min(notes[-1].at for notes in self.notes)
        return [sum(note.at <= first_done for note in notes) for notes in self.notes]

    def report(self, what: str) -> None:
        (window,) = self.counted["windows"]
        every = [note.at for notes in self.notes for note in notes]
        print(
            f"{what}: {self.counted['total']} requests in {max(every) - min(every):.1f} s, "
            f"{self.counted['refused']} refused, at most {window['most']} in a window, "
            f"{self.round_trips_each():.2f} round trips each, "
            f"served when the first was done: {sorted(self.shares())}"
        )


@contextmanager
def at_work(folder: Path, quota: str, on_store_failure: str = "raise") -> Iterator[Stage]:
    """Run a server and eight workers, who begin together; none is left afterwards.

    By default the workers wait for a store that does not answer.
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
                worker.process.communicate()


@pytest.fixture(params=["sqlite", "redis"])
def quota(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the workers remember what they have sent."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'quota.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server that a test may restart; it forgets everything then."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def test_eight_processes_are_never_refused(quota: str, tmp_path: Path) -> None:
    """And each gets its share: while all are busy, none is much behind another."""
    with at_work(tmp_path, quota) as stage:
        seen = stage.finish()
    seen.report(quota)
    seen.assert_all_served_and_none_refused()
    assert seen.complaints == [""] * WORKERS
    assert seen.round_trips_each() <= 3
    # First come, first served.
    assert max(seen.shares()) <= 2 * min(seen.shares())


def test_those_who_are_killed_and_started_again_break_nothing(quota: str, tmp_path: Path) -> None:
    """What they had on their way counts; what they have noted is not sent again."""
    with at_work(tmp_path, quota) as stage:
        stage.kill_three(random.Random(quota))
        seen = stage.finish()
    seen.report(quota)
    seen.assert_all_served_and_none_refused(killed=3)
    assert seen.complaints == [""] * WORKERS
    assert seen.round_trips_each() <= 3


@pytest.mark.parametrize("on_store_failure", ["raise", "local"])
@pytest.mark.parametrize("kill", [False, True])
def test_a_redis_that_forgets_everything_breaks_nothing(
    own_server: RedisServer, tmp_path: Path, on_store_failure: str, kill: bool
) -> None:
    """It is killed in the middle and comes back empty."""
    chance = random.Random(on_store_failure)
    with at_work(tmp_path, own_server.url, on_store_failure) as stage:
        stage.wait_until(lambda: sum(len(worker.notes()) for worker in stage.workers) >= 100)
        own_server.restart()
        if kill:
            stage.kill_three(chance)
        seen = stage.finish()
    seen.report(on_store_failure)
    print(seen.complaints)
    seen.assert_all_served_and_none_refused(killed=3 if kill else 0)
