"""Web backends for tests: the routes behind each border, and a sandbox behind the routes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import Mount

from llamagen_async import LlamaGenClient
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from llamagen_async.web import create_app
from llamagen_async.web.aiohttp import create_app as create_aiohttp_app

__all__ = [
    "BORDERS",
    "SECRET",
    "Backend",
    "asgi_client",
    "backend",
    "backend_thread",
    "events_in",
    "fast_sandbox",
    "running",
    "sandbox_client",
    "served",
]

BORDERS = ("starlette", "aiohttp")
SECRET = "whsec-of-the-tests"
SPEED = 300.0
UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that talk to this machine, unencrypted: each would read all certificates else."""
LOCAL = "http://localhost"


@attrs.frozen
class Backend:
    """A web backend, and the server whose comics it orders."""

    http: httpx.AsyncClient
    service: SandboxService
    server: SandboxServer

    async def order(self, key: str | None = None, prompt: str = "a cat", **more: Any) -> Any:
        """Order a comic."""
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"prompt": prompt, **more}
        return await self.http.post("comics", json=body, headers=headers)

    async def get(self, link: str) -> httpx.Response:
        """Follow a link, which is a path from the server's root on."""
        return await self.http.get(self.http.base_url.join(link))

    async def done(self, key: str) -> dict[str, Any]:
        """Follow a comic to its end, and return it."""
        answer = await self.http.get(f"comics/{key}/events")
        comic: dict[str, Any] = json.loads(events_in(answer.text)[-1]["data"])
        return comic

    @property
    def started(self) -> int:
        """How many comics the server was paid for."""
        return len(self.service.stats(self.server.now())["generations"])


@asynccontextmanager
async def fast_sandbox(
    seconds: float = 20.0, *, speed: float = SPEED, **options: Any
) -> AsyncIterator[SandboxServer]:
    """A sandbox whose comics are done in a moment."""
    service = SandboxService(durations=Durations.constant(seconds), **options)
    async with SandboxServer(service, speed=speed) as server:
        yield server


def sandbox_client(server: SandboxServer, **settings: Any) -> LlamaGenClient:
    """Return a client of a sandbox."""
    settings = {"plan": "paid", "quota": "memory", **settings}
    return LlamaGenClient(PAID_KEY, base_url=server.url, speed=server.speed, **settings)


@asynccontextmanager
async def asgi_client(app: Any, root: str = "", **scope: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an ASGI application in this process."""
    transport = httpx.ASGITransport(app, **scope)
    async with httpx.AsyncClient(
        transport=transport, base_url=f"{LOCAL}{root}/", verify=UNUSED
    ) as http:
        yield http


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an ASGI application that is started and ended as servers do."""
    state: dict[str, Any] = {}
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    life = asyncio.create_task(app(scope, received.get, sent.put))

    async def told(name: str) -> None:
        await received.put({"type": f"lifespan.{name}"})
        answer = await sent.get()
        if answer["type"] == f"lifespan.{name}.failed":
            await life  # which raises what has failed

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    await told("startup")
    try:
        async with asgi_client(with_state) as http:
            yield http
    finally:
        await told("shutdown")
        await life


@asynccontextmanager
async def served(app: Any, *, unsent: int | None = None) -> AsyncIterator[str]:
    """The URL of an ASGI application on a socket of this machine, served by uvicorn.

    The system takes `unsent` bytes for each connection whose reader is slow, if a number is given.
    """
    ready = asyncio.Event()

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are the tests'

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # see `serve`
        if unsent is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, unsent)
        config = uvicorn.Config(app, lifespan="on", log_config=None, timeout_graceful_shutdown=5)
        server = Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        await ready.wait()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def backend(
    border: str, folder: Path, *, seconds: float = 20.0, root: str = "", **settings: Any
) -> AsyncIterator[Backend]:
    """A backend with all routes, mounted at `root`, from its start to its end."""
    async with fast_sandbox(seconds) as server, sandbox_client(server) as client:
        given = {"journal": folder / "orders.db", "out": folder / "out", **settings}
        opened = _BORDERS[border](client, root, given)
        async with opened as http:
            yield Backend(http, server.service, server)


@contextlib.contextmanager
def backend_thread(border: str, folder: Path, root: str = "", **settings: Any) -> Iterator[str]:
    """The URL of a backend on a socket, in a thread beside a test that is not async."""
    ready, stop = threading.Event(), asyncio.Event()
    urls: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with fast_sandbox(speed=10_000.0) as server, sandbox_client(server) as client:
            given = {"journal": folder / "orders.db", "out": folder / "out", **settings}
            async with _SERVED[border](client, root, given) as url:
                urls.append(url)
                ready.set()
                await stop.wait()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=work, name="backend")
    thread.start()
    try:
        assert ready.wait(10)
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


@asynccontextmanager
async def _starlette(
    client: LlamaGenClient, root: str, settings: dict[str, Any]
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(client, **settings)
    outer = Starlette(routes=[Mount(root, app)]) if root else app
    async with app.lifespan(), asgi_client(outer, root) as http:
        yield http


@asynccontextmanager
async def _aiohttp(
    client: LlamaGenClient, root: str, settings: dict[str, Any]
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        _aiohttp_served(client, root, settings) as url,
        httpx.AsyncClient(base_url=f"{url}/", timeout=30, verify=UNUSED) as http,
    ):
        yield http


@asynccontextmanager
async def _starlette_served(
    client: LlamaGenClient, root: str, settings: dict[str, Any]
) -> AsyncIterator[str]:
    app = create_app(client, **settings)
    outer = Starlette(routes=[Mount(root, app)], lifespan=app.lifespan) if root else app
    async with served(outer) as url:
        yield f"{url}{root}"


@asynccontextmanager
async def _aiohttp_served(
    client: LlamaGenClient, root: str, settings: dict[str, Any]
) -> AsyncIterator[str]:
    app = create_aiohttp_app(client, **settings)
    if root:
        outer = web.Application()
        outer.add_subapp(root, app)
        app = outer
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{root}"
    finally:
        await runner.cleanup()


_BORDERS: dict[str, Callable[..., Any]] = {"starlette": _starlette, "aiohttp": _aiohttp}
_SERVED: dict[str, Callable[..., Any]] = {
    "starlette": _starlette_served,
    "aiohttp": _aiohttp_served,
}


def events_in(text: str) -> list[dict[str, str]]:
    """Return the events of a stream; comments are under the name of a colon."""
    events: list[dict[str, str]] = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line]
        if lines:
            events.append({name or ":": value for name, _, value in lines})
    return events
