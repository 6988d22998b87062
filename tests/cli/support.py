"""Runs the command line in processes of its own, as people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llamagen_async

SPEED = "300"
COMMAND = (sys.executable, "-m", "llamagen_async")
_ROOT = Path(llamagen_async.__file__).parents[1]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without settings of the user, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLAMAGEN_")}
    return {**kept, "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "error", **variables}


def run(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is never a terminal."""
    done = subprocess.run(
        [*COMMAND, *args],
        cwd=cwd,
        env=env or environment(),
        input=stdin,
        capture_output=True,
        timeout=30,
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
        env=env or environment(),
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
    with started("sandbox", "--json", *args, cwd=cwd, stderr=None) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


def connection(server: Mapping[str, Any], key: str = "sandbox-paid") -> dict[str, str]:
    """Return an environment that leads to a sandbox."""
    return environment(
        LLAMAGEN_API_KEY=key, LLAMAGEN_API_URL=server["url"], LLAMAGEN_PLAN=server["keys"][key]
    )


def lines_until(process: subprocess.Popen[str], word: str) -> Sequence[str]:
    """Read stdout until a line has `word` in it."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"{word!r} did not come: {lines}")
