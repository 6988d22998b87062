"""Real processes on one SQLite file: the limit holds, each gets its share, some are killed.

Run as a program, this file is one of those processes.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import pytest

from llamagen_async.clock import Clock
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit import ANSWERED, NoSlot, Workload
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.window_log import LedgerTimes
from tests.support.claims import claim
from tests.support.sqlite_ledgers import take

ROOT = Path(__file__).parents[3]
SPEED = 2_000.0
PLAN = Plan("four", limits=RateLimit(4, per=60))
TIMES = LedgerTimes(lease=2_000.0, grace=2_000.0)
"""A real second each: far longer than a request takes, also on a machine that is busy."""
PROCESSES = 6
GIVE_UP_AFTER = 60.0
"""Real seconds after which the test gives up; it takes two or three."""


# --- one process ---------------------------------------------------------------------------


async def _work(path: str, log: str, number: int) -> None:
    """Send `number` requests and record when each was sent and when it was answered.

    The times are the system's monotonic ones, not the ledger's, which are under test.
    """
    ledger = SQLiteLedger(path, name="shared", plan=PLAN, speed=SPEED, times=TIMES)
    clock = Clock(SPEED)
    with Path(log).open("a", buffering=1) as record:  # noqa: ASYNC230
        for n in range(number):
            asked_at = clock.now()
            answer = await ledger.reserve(claim(f"{log} {n}", log))
            while isinstance(answer, NoSlot):
                await clock.sleep(answer.delay)
                waited = clock.now() - asked_at
                answer = await ledger.reserve(claim(f"{log} {n}", log, waited=waited))
            record.write(f"sent {time.monotonic()}\n")
            await clock.sleep(random.uniform(0, 6))
            record.write(f"answered {time.monotonic()}\n")
            await ledger.commit(answer, ANSWERED, Workload())
    await ledger.aclose()


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(_work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    sys.exit()


# --- the tests -----------------------------------------------------------------------------


@attrs.frozen
class Request:
    """One request, which arrived at some time between `sent` and `answered`."""

    sent: float
    answered: float


@attrs.define
class Worker:
    """A process, and the requests that it recorded."""

    path: Path
    log: Path
    number: int
    process: subprocess.Popen[str]
    killed_at: float | None = None

    @classmethod
    def start(cls, path: Path, log: Path, number: int) -> Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(path), str(log), str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return cls(path, log, number, process)

    def begin(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.finish()
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.finish()
        self.killed_at = time.monotonic()

    def finish(self) -> str:
        return self.process.communicate(timeout=GIVE_UP_AFTER)[1]

    def requests(self) -> list[Request]:
        times = [line.split() for line in self.log.read_text().splitlines()]
        sent = [float(at) for what, at in times if what == "sent"]
        answered = [float(at) for what, at in times if what == "answered"]
        if self.killed_at is not None and len(answered) < len(sent):
            answered.append(self.killed_at)
        return [Request(*pair) for pair in zip(sent, answered, strict=True)]


def _begin(path: Path, names: Iterable[str], number: int) -> list[Worker]:
    workers = [Worker.start(path, path.with_name(f"{name}.log"), number) for name in names]
    for worker in workers:
        worker.begin()
    return workers


def _most_in_a_window(requests: Sequence[Request], per: float) -> int:
    """Return the largest number that may have arrived within less than `per` seconds.

    The earliest of them at the latest possible time, the others at the earliest.
    """
    return max(
        sum(
            other.answered >= first.answered and other.sent < first.answered + per
            for other in requests
        )
        for first in requests
    )


def test_the_check_of_this_file_finds_one_request_too_many() -> None:
    fine = [Request(0.0, 1.0)] * 4 + [Request(61.0, 62.0)] * 4
    assert _most_in_a_window(fine, 60) == 4
    assert _most_in_a_window([*fine, Request(60.9, 99.0)], 60) == 5


@pytest.mark.once
def test_six_processes_keep_one_limit_and_share_it(tmp_path: Path) -> None:
    each = 20
    workers = _begin(tmp_path / "quota.db", map(str, range(PROCESSES)), each)
    for worker in workers:
        assert (worker.finish(), worker.process.returncode) == ("", 0)
    requests = [one for worker in workers for one in worker.requests()]
    assert len(requests) == PROCESSES * each
    assert _most_in_a_window(requests, 60 / SPEED) == 4
    # First come, first served: while all of them ask, no one gets much more than the others.
    both_ends = [(worker.requests()[0].sent, worker.requests()[-1].sent) for worker in workers]
    begin, end = max(first for first, _ in both_ends), min(last for _, last in both_ends)
    shares = [sum(begin <= one.sent <= end for one in worker.requests()) for worker in workers]
    assert max(shares) <= 2 * min(shares) + 2, shares


@pytest.mark.once
@pytest.mark.parametrize("seed", [1, 2])
def test_slots_of_killed_processes_come_back(tmp_path: Path, seed: int) -> None:
    each, random_, path = 30, random.Random(seed), tmp_path / "quota.db"
    workers = _begin(path, map(str, range(PROCESSES)), each)
    killed = workers[:2]
    for worker in killed:
        # It is killed at any moment at which it has sent something and is not done yet.
        wanted = random_.randrange(1, each - 4)
        while not worker.log.exists() or worker.log.read_text().count("sent") < wanted:
            assert worker.process.poll() is None, worker.finish()
            time.sleep(random_.uniform(0.001, 0.005))
        worker.kill()
    again = _begin(path, ["again 0", "again 1"], each)
    for worker in [*workers[2:], *again]:
        assert (worker.finish(), worker.process.returncode) == ("", 0)
        assert len(worker.requests()) == each
    requests = [one for worker in [*workers, *again] for one in worker.requests()]
    assert _most_in_a_window(requests, 60 / SPEED) <= 4
    asyncio.run(_all_come_back(path))


async def _all_come_back(path: Path) -> None:
    """Wait until the leases of the killed processes are over, and no longer."""
    ledger = SQLiteLedger(path, name="shared", plan=PLAN, speed=SPEED, times=TIMES)
    async with asyncio.timeout(GIVE_UP_AFTER):
        while (snapshot := await ledger.snapshot()).windows[0].free < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert snapshot.in_flight == 0
    await take(ledger, 4)
    await ledger.aclose()
