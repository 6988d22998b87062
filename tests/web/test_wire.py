"""The routes on the wire, as bytes: old and odd requests, readers that are slow, and the end.

Each border is asked over a socket; uvicorn is also run as a command, and ended by a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from tests.support.cli import environment, needs_posix
from tests.support.web import BORDERS, backend_thread, events_in

pytestmark = pytest.mark.once

HOST = "Host: localhost\r\n"
LONG = "x" * 9_000
BODY = '{"prompt": "a"}'
AS_JSON = "Content-Type: application/json\r\n"


class Wire:
    """Bytes to a backend, and bytes back."""

    def __init__(self, url: str) -> None:
        self.host, self.port = urlsplit(url).hostname, urlsplit(url).port

    async def send(self, raw: str, *, until: bytes = b"") -> bytes:
        """Send bytes; return what comes until the connection is closed, or until some bytes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(raw.encode("latin-1"))
            said = b""
            while chunk := await reader.read(65_536):
                said += chunk
                if until and until in said:
                    break
            return said
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, line: str, headers: str = "", body: str = "") -> tuple[int, bytes, bytes]:
        """Return the status, the head and the body of the answer to one request."""
        said = await self.send(f"{line} HTTP/1.1\r\n{HOST}{headers}Connection: close\r\n\r\n{body}")
        head, _, content = said.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.lower(), content


@pytest.fixture(scope="module", params=BORDERS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    with backend_thread(request.param, tmp_path_factory.mktemp(request.param)) as url:
        answer = httpx.post(f"{url}/comics", json={"prompt": "a"}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 202
        assert "event: done" in httpx.get(f"{url}/comics/k/events").text
        yield url


PATHS = ("/", "/comics", "/comics/k", "/comics/k/events", "/comics/k/pictures/0", "/openapi.json")


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_a_body(url: str, path: str) -> None:
    wire = Wire(url)
    status, head, body = await wire.ask(f"HEAD {path}")
    assert (status, body) == (200, b"")
    _, full, _ = await wire.ask(f"GET {path}")
    for name in (b"content-type", b"cache-control", b"content-length"):
        given = re.search(name + rb": ([^\r]*)", full)
        if given is not None and path != "/limits":
            assert given[0] in head


@pytest.mark.parametrize("path", ["/", "/comics", "/comics/k", "/comics/k/events", "/limits"])
async def test_other_methods_are_told_what_is_allowed(url: str, path: str) -> None:
    for method in ("OPTIONS", "PUT", "TRACE", "BREW"):
        status, head, body = await Wire(url).ask(f"{method} {path}")
        if status == 400:
            continue  # the server itself knows no such method
        assert status == 405
        assert b"allow: " in head
        assert b"GET" in body


async def test_http_1_0_gets_whole_answers_and_streams(url: str) -> None:
    """Old clients and some proxies speak it: no answer is in chunks, and streams end."""
    wire = Wire(url)
    said = await wire.send("GET /comics/k HTTP/1.0\r\nHost: localhost\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert json.loads(body)["key"] == "k"
    said = await wire.send("GET /comics/k/events HTTP/1.0\r\nHost: localhost\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert events_in(body.decode())[-1]["event"] == "done"


ODD = [
    ("POST /comics", f"{AS_JSON}Content-Length: 99999999999999999999\r\n", ""),
    ("POST /comics", f"{AS_JSON}Content-Length: 2000000\r\n", ""),
    ("POST /comics", f"{AS_JSON}Content-Length: -1\r\n", BODY),
    ("POST /comics", f"{AS_JSON}Content-Length: 1_5\r\n", BODY),
    ("POST /comics", f"{AS_JSON}Content-Length: 0\r\n", ""),
    ("POST /comics", f"{AS_JSON}", ""),
    ("POST /comics", f"Content-Type: \xff\xfe\r\nContent-Length: {len(BODY)}\r\n", BODY),
    ("POST /comics", f"Content-Type: {LONG}\r\nContent-Length: {len(BODY)}\r\n", BODY),
    (
        "POST /comics",
        f"{AS_JSON}Idempotency-Key: {'k' * 600}\r\nContent-Length: {len(BODY)}\r\n",
        BODY,
    ),
    (
        "POST /comics",
        f"{AS_JSON}Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: {len(BODY)}\r\n",
        BODY,
    ),
    ("POST /comics", f"{AS_JSON}Transfer-Encoding: chunked\r\n", "zz\r\n"),
    ("POST /comics", f"{AS_JSON}Content-Encoding: gzip\r\nContent-Length: 4\r\n", "none"),
    ("POST /webhooks", f"{AS_JSON}Content-Encoding: deflate\r\nContent-Length: 4\r\n", "none"),
    ("GET /comics/%00", "", ""),
    ("GET /comics/%ff%fe", "", ""),
    ("GET /comics/..%2f..%2fetc%2fpasswd", "", ""),
    ("GET /comics/k/pictures/..%2f..%2f0", "", ""),
    ("GET /comics/k/pictures/-1", "", ""),
    ("GET /comics/k/pictures/99999999999999999999", "", ""),
    (f"GET /comics/{'%F0%9F%90%88' * 200}", "", ""),
    ("GET /comics//events", "", ""),
    ("GET /comics?limit=1e9", "", ""),
    ("GET /comics?limit=0", "", ""),
    ("GET /comics?limit=%D9%A3", "", ""),
    ("GET /comics?after=%00", "", ""),
    (f"GET /comics?after={'a' * 600}", "", ""),
    ("GET /comics?state=nothing", "", ""),
]
FINE = [
    ("GET /comics/k", "Accept: image/webp, \xff\r\nAccept-Encoding: \xfe\r\n"),
    ("GET /comics/k/events", "Last-Event-ID: \xff\r\n"),
    ("GET /comics/k/events", f"Last-Event-ID: {'9' * 900}\r\n"),
    ("GET /comics/k/pictures/0", "Range: bytes=0-9\r\n"),
    ("GET /comics/k/pictures/0", "Range: bytes=zz\r\n"),
    ("GET /comics?limit=1&limit=2&x=%00&&=", ""),
]


@pytest.mark.parametrize(("line", "headers", "body"), ODD, ids=range(len(ODD)))
async def test_what_is_odd_is_refused(url: str, line: str, headers: str, body: str) -> None:
    """With a status that says that the client is to blame; the server lives on."""
    status, _, _ = await Wire(url).ask(line, headers, body)
    assert 400 <= status < 500
    assert (await Wire(url).ask("GET /healthz"))[0] == 200


@pytest.mark.parametrize(("line", "headers"), FINE, ids=range(len(FINE)))
async def test_what_does_not_matter_is_passed_over(url: str, line: str, headers: str) -> None:
    status, _, _ = await Wire(url).ask(line, headers)
    assert status < 500
    assert status != 404


@asynccontextmanager
async def uvicorn(
    server: SandboxServer, folder: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`uvicorn llamagen_async.web:app` in a process of its own, and its address."""
    env = environment(
        LLAMAGEN_API_KEY=PAID_KEY,
        LLAMAGEN_API_URL=server.url,
        LLAMAGEN_PLAN="paid",
        LLAMAGEN_SPEED=f"{server.speed:g}",
        LLAMAGEN_QUOTA="memory",
        LLAMAGEN_OUT=str(folder / "out"),
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "llamagen_async.web:app", "--port", "0"),
        env=env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        said = b""
        while b"running on" not in said:
            line = await process.stderr.readline()
            assert line, said.decode()
            said += line
        found = re.search(rb"running on (http://\S+)", said)
        assert found is not None
        yield process, found[1].decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@needs_posix
async def test_uvicorn_ends_politely_in_the_middle_of_streams_and_of_a_create(
    tmp_path: Path,
) -> None:
    """Readers are told to come back, and the comic that was on its way is nobody's loss."""
    service = SandboxService(durations=Durations.constant(300))
    async with SandboxServer(service, speed=300, latency=(300, 300)) as server:
        async with uvicorn(server, tmp_path) as (process, url):
            key = {"Idempotency-Key": "k"}
            ordered = await asyncio.to_thread(
                httpx.post, f"{url}/comics", json={"prompt": "a"}, headers=key
            )
            assert ordered.status_code == 202
            wire, line = Wire(url), f"GET /comics/k/events HTTP/1.1\r\n{HOST}\r\n"
            await wire.send(line, until=b'"sending"')
            streams = [asyncio.create_task(wire.send(line)) for _ in range(5)]
            await wire.send(line, until=b'"sending"')
            process.terminate()
            for said in await asyncio.gather(*streams):
                assert b"retry: 1000" in said
            assert process.stderr is not None
            rest = await process.stderr.read()
            assert await process.wait() in (0, -15)
            assert b"Traceback" not in rest, rest.decode()
        async with uvicorn(server, tmp_path) as (_, url):
            said = await Wire(url).send(f"GET /comics/k/events HTTP/1.0\r\n{HOST}\r\n")
            last = events_in(said.partition(b"\r\n\r\n")[2].decode())[-1]
            assert json.loads(last["data"])["state"] == "succeeded"
        assert len(service.stats(server.now())["generations"]) == 1
