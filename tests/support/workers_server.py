"""A backend with several worker processes, and the sandbox process that it orders comics from."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from llamagen_async.sandbox import PAID_KEY
from tests.support.cli import environment

__all__ = ["Backends", "backends", "paid_for", "sandbox_process", "serving"]

_HERE = Path(__file__).parent
_TIMEOUT = 60.0
"""Real seconds to wait for a process to answer."""
_ENDING = 300.0
"""Real seconds to wait for the end of a server, which first ends the restart that it is at."""


@attrs.define
class Backends:
    """A server with worker processes, which can be killed and restarted."""

    folder: Path
    url: str
    supervisor: subprocess.Popen[bytes]

    @property
    def workers(self) -> list[int]:
        """The ids of the worker processes."""
        parent = self.supervisor.pid
        listed = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]

    def kill_one(self) -> int:
        """End a worker with SIGKILL; the supervisor starts another one."""
        victim = self.workers[0]
        os.kill(victim, signal.SIGKILL)
        return victim

    def restart_all(self) -> None:
        """Have the supervisor restart the workers, one after the other."""
        self.supervisor.send_signal(signal.SIGHUP)

    def rows(self, columns: str) -> list[Any]:
        """Return columns of the jobs, in the order in which they came."""
        with contextlib.closing(sqlite3.connect(self.folder / "orders.db", timeout=30)) as file:
            return file.execute(f"SELECT {columns} FROM job ORDER BY id").fetchall()

    @property
    def log(self) -> str:
        """The log of all of them."""
        return (self.folder / "log.txt").read_text("utf-8", "replace")


@contextmanager
def sandbox_process(speed: float, seconds: float) -> Iterator[str]:
    """The URL of a sandbox in a process of its own, whose comics take so many seconds of its
    clock.
    """
    orders = {"speed": speed, "latency": [0.0, 0.0], "faults": [], "seconds": seconds}
    with subprocess.Popen(
        [sys.executable, str(_HERE / "crash_server.py"), json.dumps(orders)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def paid_for(api: str) -> tuple[list[tuple[str, float]], int]:
    """Return what the server was paid for and how many requests it refused.

    Returns:
        The stories in the order of their creates, each with the time by the server's clock; and the
        number of refusals.
    """
    with urllib.request.urlopen(api.removesuffix("/v1") + "/_sandbox/stats") as answer:
        stats = json.load(answer)
    refused = sum(one["refused"] for one in stats["keys"].values())
    return [(one["prompt"], one["accepted_at"]) for one in stats["generations"]], refused


@contextmanager
def backends(
    folder: Path, api: str, speed: float, workers: int, *, quota: str | None = None
) -> Iterator[Backends]:
    """`uvicorn llamagen_async.web:app --workers N`, from its start to its end.

    What was spent is kept in the store of the URL `quota`, or in a SQLite file.
    """
    env = environment(
        LLAMAGEN_API_KEY=PAID_KEY,
        LLAMAGEN_API_URL=api,
        LLAMAGEN_PLAN="paid",
        LLAMAGEN_SPEED=f"{speed:g}",
        LLAMAGEN_QUOTA=quota or f"sqlite:///{folder / 'quota.db'}",
        LLAMAGEN_JOURNAL=str(folder / "orders.db"),
        LLAMAGEN_OUT=str(folder / "out"),
        PYTHONWARNINGS="default",
    )
    with serving("llamagen_async.web:app", folder, env, workers) as server:
        yield server


@contextmanager
def serving(app: str, folder: Path, env: dict[str, str], workers: int) -> Iterator[Backends]:
    """`uvicorn APP --workers N`, from its start to its end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--workers", str(workers), "--port", str(port), "--no-access-log")
    ends = ("--timeout-graceful-shutdown", "10", "--timeout-worker-healthcheck", "60")
    with (folder / "log.txt").open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", app, *options, *ends],
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            server = Backends(folder, f"http://127.0.0.1:{port}", supervisor)
            _wait_until_ready(server)
            yield server
            supervisor.terminate()
            supervisor.wait(_ENDING)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(supervisor.pid, signal.SIGKILL)
            supervisor.wait()


def _wait_until_ready(server: Backends) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/readyz"):
            return
        assert time.monotonic() < deadline, server.log
        assert server.supervisor.poll() is None, server.log
        time.sleep(0.1)
