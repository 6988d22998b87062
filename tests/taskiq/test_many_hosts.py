"""Real workers, a real Redis, a real server: processes are killed, and Redis restarts.

The whole of it: `LLAMAGEN_HOST_STORIES=200 pytest tests/taskiq/test_many_hosts.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from llamagen_async import BatchState
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxService
from llamagen_async.taskiq import TaskiqQueue
from tests.support.cli import environment, needs_posix, sandbox_thread, seen
from tests.support.customers import Customers, most_late
from tests.support.redis_server import RedisServer, connected
from tests.support.taskiq_app import broker_of
from tests.support.workers_server import paid_for, sandbox_process, serving

pytestmark = [pytest.mark.once, needs_posix, pytest.mark.timeout(1_200)]

STORIES: Final = int(os.environ.get("LLAMAGEN_HOST_STORIES", "20"))
CLIENTS: Final = 50 if STORIES >= 200 else 10
WEB_WORKERS: Final = 3 if STORIES >= 200 else 2
SPEED: Final = 500.0
WORKERS: Final = 3
TASKS: Final = max(STORIES, 40)
"""Stories that are ordered without HTTP."""
PACE: Final = 5.0
"""The speed at which stories wait for their turn for longer than their tasks are on their way, and
at which the workers' lease of three seconds is as long for the plan as the usual one is."""
SECONDS: Final = 30.0
"""Seconds of the server's clock that a comic takes."""
DOCS: Final = Path(__file__).parents[2] / "docs"


def settings(url: str, redis: RedisServer, speed: float = SPEED) -> dict[str, str]:
    return environment(
        LLAMAGEN_API_KEY=PAID_KEY,
        LLAMAGEN_API_URL=url,
        LLAMAGEN_PLAN="paid",
        LLAMAGEN_SPEED=f"{speed:g}",
        REDIS_URL=redis.url,
        PYTHONWARNINGS="",  # taskiq's own
    )


@contextmanager
def running(*command: str, cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command with all processes that it starts, which end with the test."""
    with Path(env["LOG"]).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def children(pid: int) -> list[int]:
    """Return the worker processes of `taskiq worker`."""
    tasks = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(one) for one in tasks]


async def test_orders_over_http_are_made_once_whatever_dies(tmp_path: Path) -> None:
    """One taskiq worker is killed, Redis restarts with its data, and clients come and go."""
    folder = tmp_path / "redis"
    folder.mkdir()
    redis = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always")
    options = "--workers", str(WORKERS), "--wait-tasks-timeout", "3", "--log-level", "WARNING"
    worker = ("-m", "taskiq", "worker", "tests.support.taskiq_workers:broker", *options)
    try:
        with sandbox_process(PACE, SECONDS) as api:
            env = settings(api, redis, PACE) | {"LOG": str(tmp_path / "workers.log")}
            with (
                running(*worker, cwd=Path(__file__).parents[2], env=env),
                serving("tests.support.taskiq_workers:app", tmp_path, env, WEB_WORKERS) as server,
            ):
                async with Customers(server.url, stories=STORIES, clients=CLIENTS) as customers:
                    waiting, given = await customers.some_are_sent(), await taken(redis)
                    # When all were sent, nothing would be late because a worker dies.
                    killed, lost = Counter(given[key] for key in waiting).most_common(1)[0]
                    os.kill(killed, signal.SIGKILL)
                    await customers.some_end(STORIES // 5)
                    await asyncio.to_thread(redis.restart)
                    await customers.all_end()
                    jobs = await customers.jobs()
                takers = await taken(redis)
            paid, refused = paid_for(api)
    finally:
        redis.kill()
    states = Counter(job["state"] for job in jobs)
    assert {job["key"] for job in jobs} == customers.accepted.keys()
    assert len(jobs) == STORIES
    # Whoever was on its way in the process that was killed is told as uncertain, and only that.
    assert states.keys() <= {"succeeded", "uncertain"}
    assert states["uncertain"] <= WORKERS
    assert refused == 0
    prompts = [story for story, _ in paid]
    assert max(Counter(prompts).values()) == 1
    for job in jobs:
        if job["state"] == "succeeded":
            assert job["prompt"] in prompts
            assert job["id"]
        assert customers.ends[job["key"]]["state"] == job["state"]
    came = [job["prompt"] for job in jobs]
    held = {job["prompt"] for job in jobs if takers[job["key"]] == killed}
    late, others = most_late(came, paid), [one for one in paid if one[0] not in held]
    print(
        f"\n{STORIES} stories, {CLIENTS} clients, {customers.left} left: {dict(states)}, 0 refused,"
    )
    print(
        f"{len(customers.ends)} streams, {len(paid)} paid; at most {late} late, and "
        f"{most_late(came, others)} without the {len(held)} of the worker that was killed, which "
        f"had not sent {lost}"
    )
    assert late <= WORKERS


async def test_nothing_is_paid_twice_whatever_dies(tmp_path: Path) -> None:
    """At high speed, with creates that are on their way for a while when a worker is killed."""
    folder = tmp_path / "redis"
    folder.mkdir()
    redis = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always")
    service = SandboxService(durations=Durations.constant(20.0))
    options = "--workers", "3", "--wait-tasks-timeout", "3", "--log-level", "WARNING"
    try:
        with sandbox_thread(service, speed=f"{SPEED:g}", latency=(0.0, 2.0)) as server:
            env = settings(server["url"], redis) | {"LOG": str(tmp_path / "workers.log")}
            worker = ("-m", "taskiq", "worker", "tests.support.taskiq_workers:broker", *options)
            with running(*worker, cwd=Path(__file__).parents[2], env=env) as workers:
                told = await _order(redis, workers, TASKS)
            stats = seen(server)
        prompts = Counter(one["prompt"] for one in server_generations(service))
    finally:
        redis.kill()
    states = Counter(events[-1] for events in told.values())
    print(f"\n{TASKS} stories: {dict(states)}, refused {stats['refused']}")
    assert len(told) == TASKS
    # Whoever was on its way in the process that was killed is told as uncertain, and only that.
    assert states[BatchState.SUCCEEDED] >= TASKS - 3
    assert set(states) <= {BatchState.SUCCEEDED, BatchState.UNCERTAIN}
    assert max(prompts.values()) == 1
    assert len(prompts) >= states[BatchState.SUCCEEDED]
    assert stats["refused"] == 0


async def _order(
    redis: RedisServer, workers: subprocess.Popen[bytes], number: int
) -> dict[str, list[BatchState]]:
    """Order stories, follow all, kill and restart; return the states that were told of each."""
    # Without an API key: who only orders needs none.
    async with TaskiqQueue(
        broker_of(redis.url, "taskiq", queue_name="taskiq"),
        None,
        redis=redis.url,
        out=None,
        timeout=1_800.0,
        lease=3.0,
        prefix="llamagen",
    ) as queue:
        keys = [f"order-{n}" for n in range(number)]
        told: dict[str, list[BatchState]] = {key: [] for key in keys}
        ended: asyncio.Queue[str] = asyncio.Queue()

        async def follow(key: str) -> None:
            async for event in queue.events(key):
                told[key].append(event.state)
            await ended.put(key)

        async def some(share: int) -> None:
            for _ in range(number // share):
                await ended.get()

        for n, key in enumerate(keys):
            await queue.submit(f"story {n}", key=key)
            if n % 10 == 0:
                await queue.submit(f"story {n}", key=key)
        following = asyncio.gather(*map(follow, keys))
        await some(4)
        os.kill(children(workers.pid)[-1], signal.SIGKILL)
        await some(4)
        await asyncio.to_thread(redis.restart)
        await following
    return told


async def taken(redis: RedisServer) -> dict[str, int]:
    """Return which process was the first to be given the task of each job."""
    async with connected(redis.url) as client:
        found = await client.hgetall("takers")
    return {key.decode(): int(pid) for key, pid in found.items()}


def server_generations(service: SandboxService) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.stats(1e9)["generations"]
    return found


def compose() -> dict[str, Any]:
    text = (DOCS / "recipes" / "compose.yaml").read_text(encoding="utf-8")
    yaml: Any = importlib.import_module("yaml")  # which has no types
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_the_compose_file_is_about_what_there_is() -> None:
    """The modules, extras, settings of Redis and variables exist."""
    services = compose()["services"]
    assert set(services) == {"install", "web", "worker", "redis"}
    recipe = (DOCS / "recipes" / "taskiq_app.py").read_text(encoding="utf-8")
    known = recipe + "LLAMAGEN_API_KEY LLAMAGEN_PLAN PYTHONPATH"
    for name in services["web"]["environment"]:
        assert name in known, name
    assert "llamagen-async[taskiq,web]" in services["install"]["command"]
    named = re.findall(r"pip install '(.+?)'", recipe)
    assert named == ["llamagen-async[taskiq,web]"]
    declared = set(compose()["volumes"])
    used = {one.split(":")[0] for each in services.values() for one in each.get("volumes", ())}
    assert used - {"."} == declared
    for each in services.values():
        for other in each.get("depends_on", {}):
            assert other in services


async def test_the_recipe_runs_as_the_compose_file_says(tmp_path: Path) -> None:
    """The commands, as processes: an order over HTTP is made by a worker, and followed."""
    services = compose()["services"]
    redis = RedisServer(tmp_path, *services["redis"]["command"][1:])
    service = SandboxService(durations=Durations.constant(20.0))
    recipes = DOCS / "recipes"
    try:
        with sandbox_thread(service, speed=f"{SPEED:g}") as server:
            env = settings(server["url"], redis) | {"COMICS_OUT": str(tmp_path / "comics")}
            env["LOG"] = str(tmp_path / "log")
            web = [one for one in services["web"]["command"][1:] if one != "0.0.0.0"]
            web.remove("--host")
            port = free_port()
            with (
                running(*services["worker"]["command"][1:], cwd=recipes, env=env),
                running(*web, "--port", str(port), cwd=recipes, env=env),
                # A day's count and a new Redis: the first slot is free after half a minute.
            ):
                text = await _buy(f"http://127.0.0.1:{port}")
    finally:
        redis.kill()
    assert '"state":"succeeded"' in text.replace(" ", "")
    assert len(server_generations(service)) == 1
    assert "appendonly" not in (tmp_path / "log").read_text(encoding="utf-8")
    assert list((tmp_path / "comics").glob("*.png"))


async def _buy(url: str) -> str:
    async with httpx.AsyncClient(base_url=url, timeout=90) as http:
        while True:
            try:
                await http.get("/healthz")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.1)
        for _ in range(2):
            headers = {"Idempotency-Key": "order-1"}
            answer = await http.post("/comics", json={"prompt": "a cat"}, headers=headers)
            assert answer.status_code == 202, answer.text
        return (await http.get("/comics/order-1/events")).text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
