"""A queue belongs to the event loop in which it was used first, and says so in any other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import ClientClosedError, ComicQueue
from llamagen_async.batch.protocol import JobQueue
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import simulated_client
from llamagen_async.taskiq import register
from tests.support.redis_server import RedisServer
from tests.support.taskiq_app import broker_of, fresh_prefix

Make = Callable[[], Any]


@pytest.fixture(params=["memory", "sqlite", "taskiq"])
def make(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> Make:
    """Makes queues of one engine that have the same jobs."""
    prefix = fresh_prefix()

    def queue() -> JobQueue:
        client = simulated_client(SandboxService())
        if request.param == "taskiq":
            return register(broker_of(redis_server.url, prefix), client, prefix=prefix)
        return ComicQueue(client, None if request.param == "memory" else tmp_path / "jobs.db")

    return queue


def in_a_loop_of_its_own(call: Callable[[], Any]) -> Any:
    """Await a call as a program does that is not async."""

    async def main() -> Any:
        return await call()

    return asyncio.run(main())


@pytest.mark.parametrize("make", ["memory", "sqlite"], indirect=True)
def test_a_queue_whose_loop_has_ended_says_so(make: Make) -> None:
    """Each call would wait for what ended with the loop; closing lets go of what is left."""
    queue = make()
    in_a_loop_of_its_own(lambda: queue.submit("a", key="a"))
    for call in (
        lambda: queue.submit("b", key="b"),
        lambda: queue.get("a"),
        lambda: queue.result("a"),
        queue.list,
    ):
        with pytest.raises(ClientClosedError, match="another event loop"):
            in_a_loop_of_its_own(call)
    for _ in range(2):
        in_a_loop_of_its_own(queue.aclose)
    with pytest.raises(ClientClosedError, match="closed"):
        in_a_loop_of_its_own(lambda: queue.get("a"))
    for thread in threading.enumerate():
        if "journal" in thread.name:
            thread.join()  # it ends by itself


async def test_a_queue_is_not_disturbed_from_another_loop(make: Make) -> None:
    """A thread with a loop of its own gets an error, and the queue goes on in its own."""
    queue = make()
    await queue.submit("a", key="a")
    for call in (lambda: queue.submit("b", key="b"), lambda: queue.get("a"), queue.aclose):
        with pytest.raises(ClientClosedError, match="another event loop"):
            await asyncio.to_thread(in_a_loop_of_its_own, call)
    assert [job.key for job in await queue.list()] == ["a"]
    await queue.aclose()


@pytest.mark.parametrize("make", ["taskiq"], indirect=True)
def test_a_queue_that_was_closed_may_begin_again_in_another_loop(make: Make) -> None:
    """As where a framework's tests start one application often."""
    queue = make()

    async def ordered(key: str) -> list[str]:
        async with queue:
            await queue.submit("a", key=key)
            return [job.key for job in await queue.list()]

    for expected in (["a"], ["b", "a"]):
        assert asyncio.run(ordered(expected[0])) == expected
        with pytest.raises(ClientClosedError, match="closed"):
            in_a_loop_of_its_own(lambda: queue.get("a"))


FORKED = """
import asyncio, os, sys, warnings
from llamagen_async import ComicQueue
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import simulated_client

warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads
queue = ComicQueue(simulated_client(SandboxService()), sys.argv[1])
asyncio.run(queue.submit("a", key="a"))
process = os.fork()
if not process:
    asyncio.run(queue.aclose())
    os._exit(0)
status = os.waitpid(process, 0)[1]
asyncio.run(queue.aclose())
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_was_forked_leaves_the_queue_to_its_parent(tmp_path: Path) -> None:
    """Closing it there waits for no thread that only the parent has."""
    command = [sys.executable, "-c", FORKED, str(tmp_path / "jobs.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
