"""The sandbox on a real socket, reachable from this machine only.

It translates HTTP from and to `SandboxService.handle`, runs the API's clock (faster than real time
if asked to), adds latency, and serves the pictures. It decides nothing about requests itself.
"""

from __future__ import annotations

import asyncio
import socket
import time
from random import Random
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from llamagen_async.errors import InvalidRequestError
from llamagen_async.sandbox.generations import ASSETS
from llamagen_async.sandbox.pictures.cache import Gallery
from llamagen_async.sandbox.service import SandboxService
from llamagen_async.sandbox.wire import Call, Refusal, Reply, http_date

__all__ = ["HOST", "MAX_BODY", "SandboxServer"]

HOST: Final = "127.0.0.1"
"""The only address it listens on: the sandbox is no service for others."""

MAX_BODY: Final = 20 * 1024 * 1024
"""Bytes of the largest request body; a larger one answers 413."""

_SHUTDOWN: Final = 1.0
"""Seconds that a handler may take to notice that the server closes."""


class SandboxServer:
    """Serves a sandbox over HTTP for as long as it is entered.

    Example:
        ```python
        async with SandboxServer(SandboxService(), speed=60.0) as server:
            client = LlamaGenClient("sandbox-paid", base_url=server.url, speed=server.speed)
        ```

    Args:
        service: What answers, and for this server alone: time must not go back for it. Its
            `public_url` and `epoch` are set on entering.
        port: The port to listen on; 0 takes a free one.
        speed: How many times faster than real time the API's clock runs.
        latency: The least and the most seconds of the API's clock that a round trip takes. Half
            of it passes before the request is counted, half after.

    Raises:
        InvalidRequestError: `speed` or `latency` is not allowed.
    """

    def __init__(
        self,
        service: SandboxService,
        *,
        port: int = 0,
        speed: float = 1.0,
        latency: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        if not speed > 0:
            raise InvalidRequestError("speed", speed, "a number greater than 0")
        if not 0 <= latency[0] <= latency[1]:
            raise InvalidRequestError("latency", latency, "the least and the most seconds")
        self.service: Final = service
        self.speed: Final = speed
        self._port = port
        self._latency: Final = latency
        self._latency_stream: Final = Random(f"{service.seed}/latency")
        self._gallery: Final = Gallery(lambda name: service.finished(name, self.now()))
        self._started = 0.0
        self._ran = 0.0
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL for clients, with `/v1`."""
        return f"http://{HOST}:{self._port}/v1"

    def now(self) -> float:
        """Return the seconds that the API's clock has run: while the server was entered."""
        running = asyncio.get_running_loop().time() - self._started if self._runner else 0.0
        return self._ran + running * self.speed

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get(f"{ASSETS}/{{name:.+}}", self._serve_picture)
        app.router.add_route("*", "/{path:.*}", self._serve_call)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN)
        await runner.setup()
        try:
            listening = socket.create_server((HOST, self._port))
            self._port = listening.getsockname()[1]
            await web.SockSite(runner, listening).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._closing.clear()
        self._started = asyncio.get_running_loop().time()
        self.service.epoch = time.time() - self._ran
        self.service.public_url = f"http://{HOST}:{self._port}"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            # What was counted stays counted: if it is entered again, its clock goes on.
            self._ran, self._runner = self.now(), None

    async def _serve_call(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            refusal = Refusal(413, "too_large", f"The body is larger than {MAX_BODY} bytes")
            return _response(refusal.reply(self.service.dialect))
        trip = self._latency_stream.uniform(*self._latency)
        await self._pass(trip / 2)
        call = Call(request.method, request.path, request.headers, request.query, body)
        reply = self.service.handle(call, self.now())
        await self._pass(reply.delay + trip / 2)
        if (reply.drop or self._closing.is_set()) and request.transport is not None:
            request.transport.close()
        response = _response(reply)
        # The API's clock may run fast: only its own date makes sense of a date in Retry-After.
        response.headers["Date"] = http_date(self.service.epoch + self.now())
        return response

    async def _serve_picture(self, request: web.Request) -> web.StreamResponse:
        picture = self._gallery.find(request.path)
        if picture is None:
            refusal = Refusal(404, "not_found", "There is no such picture, or not yet")
            return _response(refusal.reply(self.service.dialect))
        content = self._gallery.drawn(picture)
        if content is None:
            try:
                content = await asyncio.to_thread(picture.draw)
            except ImportError:
                message = "Pictures need Pillow: pip install 'llamagen-async[sandbox]'"
                return _response(Refusal(501, "no_pillow", message).reply(self.service.dialect))
            self._gallery.keep(picture, content)
        return _ranged(request, content, picture.content_type)

    async def _pass(self, seconds: float) -> None:
        """Let seconds of the API's clock pass; less if the server closes."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds / self.speed):
                    await self._closing.wait()
            except TimeoutError:
                pass


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)


def _ranged(request: web.Request, content: bytes, content_type: str) -> web.Response:
    """Return the whole content, or the part of it that `Range` asks for."""
    total = len(content)
    headers = {"Content-Type": content_type, "Accept-Ranges": "bytes"}
    if not request.headers.get("Range", "").startswith("bytes="):
        return web.Response(body=content, headers=headers)
    try:
        asked = request.http_range
    except ValueError:
        headers["Content-Range"] = f"bytes */{total}"
        return web.Response(status=416, headers=headers)
    start, stop, _ = asked.indices(total)
    if start >= stop:
        headers["Content-Range"] = f"bytes */{total}"
        return web.Response(status=416, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
    return web.Response(status=206, body=content[start:stop], headers=headers)
