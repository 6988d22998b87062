"""The routes as an aiohttp.web application, and the client alone for routes of your own.

```python
from aiohttp import web
from llamagen_async.web.aiohttp import create_app

app = web.Application()
app.add_subapp("/comics-api", create_app(journal="orders.db", out="comics/"))
```
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, cast

from aiohttp import web

from llamagen_async.batch.protocol import JobQueue
from llamagen_async.client import LlamaGenClient
from llamagen_async.observing import logger_of
from llamagen_async.web.access import Authorize
from llamagen_async.web.messages import (
    HTTPProblem,
    StreamEvent,
    WebRequest,
    below,
    hook_reply,
    mistake_reply,
    problem_reply,
)
from llamagen_async.web.routes import answer
from llamagen_async.web.service import MAX_QUEUED, ComicService
from llamagen_async.web.streams import COMMENT, FAREWELL, PING
from llamagen_async.webhooks import MAX_BODY
from llamagen_async.webhooks.signatures import Secrets

__all__ = ["CLIENT", "QUEUE", "client_context", "create_app"]

CLIENT: Final = web.AppKey("llamagen_client", LlamaGenClient)
"""The client of an application: `request.app[CLIENT]`."""
QUEUE: Final = web.AppKey[JobQueue]("llamagen_queue")
"""The queue of an application that `create_app` made, for routes of your own."""

_logger = logger_of(__name__)

_ALL: Final = "/{path}"
"""The end of the route of all paths, as aiohttp names it."""
_KEPT: Final = ("WWW-Authenticate", "Retry-After", "Location")
"""Headers of an error of the authorize hook that are sent."""
_STREAM: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
_CHUNK: Final = 65_536
"""Bytes of a body that are read at a time."""


async def client_context(app: web.Application) -> AsyncIterator[None]:
    """Open a client with the application and close it in order.

    Use it as `app.cleanup_ctx.append(client_context)`. The settings come from the environment,
    unless a client was put into `app[CLIENT]` before.
    """
    async with app.get(CLIENT) or LlamaGenClient() as client:
        if CLIENT not in app:
            app[CLIENT] = client
        yield


def create_app(
    client: LlamaGenClient | None = None,
    *,
    journal: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    authorize: Authorize | None = None,
    webhook_secret: Secrets | None = None,
    max_queued: int = MAX_QUEUED,
    queue: JobQueue | None = None,
) -> web.Application:
    """Return an application with all routes, to run or to add with `add_subapp`.

    It is started and closed with the application around it. The arguments are those of
    `llamagen_async.web.create_app`; `authorize` is given aiohttp's request, and may raise
    aiohttp's `HTTPException`.

    Raises:
        InvalidRequestError: An argument is not allowed.
    """
    service = ComicService(
        client,
        journal=journal,
        out=out,
        webhook_secret=webhook_secret,
        max_queued=max_queued,
        queue=queue,
    )

    async def context(app: web.Application) -> AsyncIterator[None]:
        await service.open()
        app[CLIENT], app[QUEUE] = service.client, service.queue
        try:
            yield
        finally:
            await service.aclose()

    streams: set[asyncio.Transport | None] = set()

    def cut_off() -> None:
        """Let go of readers that take nothing: the server would wait for them for minutes."""
        for connection in streams:
            if connection is not None:
                connection.abort()

    async def drain(_app: web.Application) -> None:
        service.draining.set()
        asyncio.get_running_loop().call_later(FAREWELL, cut_off)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _answer(service, request, authorize, streams)

    # The routes bound their bodies themselves; this bounds what the authorize hook reads.
    app = web.Application(client_max_size=MAX_BODY)
    app.cleanup_ctx.append(context)
    app.on_shutdown.append(drain)
    app.router.add_route("*", r"/{path:[\s\S]*}", handle)  # a key may have a line break in it
    return app


async def _answer(
    service: ComicService,
    request: web.Request,
    authorize: Authorize | None,
    streams: set[asyncio.Transport | None],
) -> web.StreamResponse:
    resource = request.match_info.route.resource
    assert resource is not None
    root = resource.canonical.removesuffix(_ALL)
    try:
        reply = await answer(
            service,
            WebRequest(
                request.method,
                below(root, request.rel_url.raw_path),
                root,
                request.query,
                _headers(request),
                _peer(request),
                _chunks(request),
                request,
            ),
            authorize,
        )
    except web.HTTPException as error:  # of the authorize hook
        kept = {name: error.headers[name] for name in _KEPT if name in error.headers}
        reply = hook_reply(error.status, error.reason, kept)
    except web.RequestPayloadError:
        detail = "the body broke off, or is not in its content encoding"
        reply = problem_reply(HTTPProblem(400, "bad_body", detail))
    except OSError:
        raise  # nobody is there to be answered
    except Exception:
        _logger.exception("%s %s", request.method, request.rel_url.raw_path)
        reply = mistake_reply()
    if reply.events is not None:
        connection = request.transport  # `None` if the reader has left
        streams.add(connection)
        try:
            return await _stream(request, reply.events)
        finally:
            streams.discard(connection)
    headers = dict(reply.headers)
    if reply.media_type is not None:
        headers["Content-Type"] = reply.media_type
    if reply.file is not None:
        return web.FileResponse(reply.file, headers=headers)
    return web.Response(body=reply.body, status=reply.status, headers=headers)


async def _stream(
    request: web.Request, events: AsyncGenerator[StreamEvent, None]
) -> web.StreamResponse:
    """Send events as they come, and a comment when there are none for a while."""
    response = web.StreamResponse(headers=_STREAM)
    step: asyncio.Future[StreamEvent | None] | None = None
    try:
        await response.prepare(request)
        while request.method != "HEAD":
            step = step or asyncio.ensure_future(anext(events, None))
            done, _ = await asyncio.wait([step], timeout=PING)
            if not done:
                await response.write(f": {COMMENT}\n\n".encode())
                continue
            event, step = step.result(), None
            if event is None:
                break
            await response.write(_framed(event))
        await response.write_eof()
    except ConnectionError:
        pass  # the reader has left, and the job goes on
    finally:
        if step is not None:
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
        await events.aclose()
    return response


def _framed(event: StreamEvent) -> bytes:
    """Return an event as it is sent; no field has more than one line."""
    fields = ("id", event.id), ("event", event.event), ("data", event.data), ("retry", event.retry)
    lines = [f"{name}: {value}\n" for name, value in fields if value is not None]
    return "".join([*lines, "\n"]).encode("utf-8", "replace")


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes, or what the authorize hook has read of it."""
    is_empty = True
    async for chunk in request.content.iter_chunked(_CHUNK):
        is_empty = False
        yield chunk
    if is_empty:
        yield await request.read()  # aiohttp keeps what was read


def _headers(request: web.Request) -> dict[str, str]:
    """Return the headers by their names in lower case; one that came twice has both values."""
    headers: dict[str, str] = {}
    for given, value in request.headers.items():
        name = given.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _peer(request: web.Request) -> str | None:
    peer: object = request.transport.get_extra_info("peername") if request.transport else None
    # An address of the internet is a tuple; a Unix socket's is text, and nobody's.
    return str(cast("tuple[object, ...]", peer)[0]) if isinstance(peer, tuple) else None
