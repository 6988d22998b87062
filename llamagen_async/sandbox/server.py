"""The sandbox on a real socket, reachable from this machine only.

The server translates HTTP from and to `SandboxService.handle`, runs the API's clock (faster than
real time if asked to), adds latency, and serves the pictures. Decisions are the service's.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from functools import partial
from random import Random
from typing import Final, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from llamagen_async._version import __version__
from llamagen_async.sandbox.generations import ASSETS, has_expired
from llamagen_async.sandbox.openapi import OPENAPI_PATHS
from llamagen_async.sandbox.pictures.cache import PictureCache
from llamagen_async.sandbox.service import SandboxService
from llamagen_async.sandbox.webhooks import Webhook, WebhookSender
from llamagen_async.sandbox.wire import Call, HTTPError, Reply, http_date
from llamagen_async.validation import InvalidRequestError

__all__ = ["HOST", "MAX_BODY", "SandboxServer"]

HOST: Final = "127.0.0.1"
"""The only address that the server listens on: the sandbox is no service for others."""

MAX_BODY: Final = 20 * 1024 * 1024
"""The largest request body in bytes; a larger one answers 413. Uploads may have 10 MB."""

_SERVER: Final = f"llamagen-async-sandbox/{__version__}"
"""The `Server` header of every answer of the API, so that nobody takes it for the vendor's."""

_WEBHOOK_TIMEOUT: Final = 10.0
"""Real seconds in which the endpoint for events has to answer."""

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
        service: The service that answers, for this server alone: its time must not go back. Its
            public URL and the unix time of its clock's origin are set on entering.
        port: The port to listen on; 0 takes a free one.
        speed: The speed of the API's clock, as a multiple of real time.
        latency: The least and the most seconds of the API's clock that a round trip takes. Half
            of a round trip passes before the request is counted, half after.
        webhook: The endpoint that gets an event of each change of a generation, if there is one.

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
        webhook: Webhook | None = None,
    ) -> None:
        if not 0 < speed < math.inf:
            raise InvalidRequestError("speed", speed, "a number greater than 0")
        if not 0 <= latency[0] <= latency[1] < math.inf:
            raise InvalidRequestError("latency", latency, "the least and the most seconds")
        self.service: Final = service
        self.speed: Final = speed
        self._port = port
        self._latency: Final = latency
        self._latency_stream: Final = Random(f"{service.seed}/latency")
        self._pictures: Final = PictureCache(lambda id_: service.pictured(id_, self.now()))
        self._started = 0.0
        self._ran = 0.0
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._webhook: Final = webhook
        self._webhooks: tuple[WebhookSender, ClientSession] | None = None

    @property
    def url(self) -> str:
        """The base URL for clients, with `/v1`."""
        return f"http://{HOST}:{self._port}/v1"

    @property
    def openapi_url(self) -> str:
        """The address of the OpenAPI document."""
        return f"http://{HOST}:{self._port}{OPENAPI_PATHS[0]}"

    def now(self) -> float:
        """Return the time of the API's clock in seconds; it runs while the server is entered."""
        running = asyncio.get_running_loop().time() - self._started if self._runner else 0.0
        return self._ran + running * self.speed

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get(f"{ASSETS}/{{name:.+}}", self._serve_picture)
        # A path may have a line end in it, and is answered by the API all the same.
        app.router.add_route("*", r"/{path:[\s\S]*}", self._serve_call)
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
        self.service.set_origin(f"http://{HOST}:{self._port}", epoch=time.time() - self._ran)
        if self._webhook is not None:
            session = ClientSession(timeout=ClientTimeout(total=_WEBHOOK_TIMEOUT))
            self._webhooks = (
                WebhookSender(
                    self.service,
                    self._webhook,
                    partial(_post, session, self._webhook.url),
                    now=self.now,
                    speed=self.speed,
                ),
                session,
            )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._closing.set()
        if self._webhooks is not None:
            sender, session = self._webhooks
            self._webhooks = None
            await sender.aclose()
            await session.close()
        if self._runner is not None:
            await self._runner.cleanup()
            # The counts stay: if the server is entered again, its clock goes on from here.
            self._ran, self._runner = self.now(), None

    async def _serve_call(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            error = HTTPError(413, "too_large", f"The body is larger than {MAX_BODY} bytes")
            return _response(error.reply(self.service.dialect))
        except (web.RequestPayloadError, ConnectionError):
            error = HTTPError(400, "invalid_body", "The body is not what its headers say")
            return _response(error.reply(self.service.dialect))
        trip = self._latency_stream.uniform(*self._latency)
        await self._sleep(trip / 2)
        call = Call(request.method, request.path, request.headers, request.query, body)
        reply = self.service.handle(call, self.now())
        await self._sleep(reply.delay + trip / 2)
        if (reply.drop or self._closing.is_set()) and request.transport is not None:
            request.transport.close()
        response = _response(reply)
        # The API's clock may run fast: only its own date makes sense of a date in Retry-After.
        response.headers["Date"] = http_date(self.service.epoch + self.now())
        return response

    async def _serve_picture(self, request: web.Request) -> web.StreamResponse:
        picture = self._pictures.find(request.path)
        if has_expired(request.query, self.service.epoch + self.now()):
            error = HTTPError(403, "link_expired", "This link has expired: ask for a new one")
            return _response(error.reply(self.service.dialect))
        if picture is None:
            error = HTTPError(404, "not_found", "There is no such picture, or not yet")
            return _response(error.reply(self.service.dialect))
        content = self._pictures.drawn(picture)
        if content is None:
            try:
                content = await asyncio.to_thread(picture.draw)
            except ImportError:
                message = "Pictures need Pillow: pip install 'llamagen-async[sandbox]'"
                return _response(HTTPError(501, "no_pillow", message).reply(self.service.dialect))
            self._pictures.keep(picture, content)
        return _ranged(request, content, picture.content_type)

    async def _sleep(self, seconds: float) -> None:
        """Wait for seconds of the API's clock; fewer if the server closes."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds / self.speed):
                    await self._closing.wait()
            except TimeoutError:
                pass


async def _post(session: ClientSession, url: str, body: bytes, headers: dict[str, str]) -> int:
    """Send an event; return the HTTP status, or 0 if no answer came."""
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return response.status
    except (ClientError, TimeoutError):
        return 0


def _response(reply: Reply) -> web.Response:
    headers = {"Server": _SERVER, **reply.headers}
    return web.Response(status=reply.status, headers=headers, body=reply.body)


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
