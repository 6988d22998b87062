"""Runs the command line in processes of its own, as people do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

import llamagen_async
from llamagen_async.sandbox import DEMO_KEY, PAID_KEY, SandboxServer, SandboxService

SPEED = "300"
FAST = ("--speed", SPEED)
"""Options of a command that talks to a sandbox of that speed."""
needs_posix = pytest.mark.skipif(os.name == "nt", reason="sends SIGINT to one process")
COMMAND = (sys.executable, "-m", "llamagen_async")
_ROOT = Path(llamagen_async.__file__).parents[1]


class Call(Protocol):
    """Runs a command in this process, which is quicker than in one of its own."""

    def __call__(
        self, *argv: str, env: dict[str, str] | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Return its status and what it printed; `env` is added to the environment."""
        ...


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with `variables`; it has no settings of the user."""
    return {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "error", **variables}


def run(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is never a terminal."""
    done = subprocess.run(
        [*COMMAND, *args],
        cwd=cwd,
        env=environment(**(env or {})),
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@contextmanager
def started(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, **streams: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test; it is gone afterwards."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        [*COMMAND, *args],
        cwd=cwd,
        env=environment(**(env or {})),
        encoding="utf-8",
        **{**pipes, **streams},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def sandbox(cwd: Path, *args: str) -> Iterator[dict[str, Any]]:
    """Run `llamagen-async sandbox --json` beside the test, and yield what it says first."""
    with started("sandbox", "--json", "--seed", "0", *args, cwd=cwd, stderr=None) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


@contextmanager
def sandbox_thread(
    service: SandboxService | None = None,
    *,
    speed: str = SPEED,
    latency: tuple[float, float] = (0.0, 0.0),
) -> Iterator[dict[str, Any]]:
    """Run a sandbox in a thread: for tests to which it is no matter, and quicker to start."""
    server = SandboxServer(service or SandboxService(), speed=float(speed), latency=latency)
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with server:
            ready.set()
            await stop.wait()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=work, name="sandbox")
    thread.start()
    try:
        assert ready.wait(10)
        yield {"url": server.url, "keys": {PAID_KEY: "paid", DEMO_KEY: "demo"}}
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def seen(server: Mapping[str, Any], key: str = PAID_KEY) -> dict[str, Any]:
    """Return what a sandbox has counted of a key."""
    url = server["url"].removesuffix("/v1") + "/_sandbox/stats"
    with urllib.request.urlopen(url, timeout=10) as answer:
        counted: dict[str, Any] = json.load(answer)["keys"][key]
    return counted


def connection(server: Mapping[str, Any], key: str = PAID_KEY, **more: str) -> dict[str, str]:
    """Return the variables that lead to a sandbox."""
    return {
        "LLAMAGEN_API_KEY": key,
        "LLAMAGEN_API_URL": server["url"],
        "LLAMAGEN_PLAN": server["keys"][key],
        **more,
    }


def lines_until(process: subprocess.Popen[str], word: str) -> Sequence[str]:
    """Read stdout until a line has `word` in it."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"{word!r} did not come: {lines}")
