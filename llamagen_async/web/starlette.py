"""The routes as a Starlette application, to mount under any ASGI application or to serve alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, cast
from urllib.parse import quote, unquote

import anyio
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from llamagen_async.batch.protocol import JobQueue
from llamagen_async.client import LlamaGenClient
from llamagen_async.web.access import Authorize
from llamagen_async.web.messages import (
    StreamEvent,
    WebReply,
    WebRequest,
    below,
    hook_reply,
    mistake_reply,
)
from llamagen_async.web.routes import answer
from llamagen_async.web.service import MAX_QUEUED, ComicService
from llamagen_async.web.streams import COMMENT, FAREWELL, PING
from llamagen_async.webhooks.signatures import Secrets

__all__ = ["ComicsApp", "create_app"]

_PLAIN: Final = "/!$&'()*+,;=:@"
"""Characters of a path that need not be encoded (RFC 3986)."""


class ComicsApp(Starlette):
    """The routes as an ASGI application; `create_app` makes one.

    It is a Starlette application, so it takes middlewares. Where it is mounted, the application
    around it should have its lifespan: `FastAPI(lifespan=comics.lifespan)`. Otherwise the first
    request starts it, and creates on their way are not waited for when the server ends.

    Args:
        service: The client and the queue.
        authorize: The hook that says who may call the routes.
    """

    def __init__(self, service: ComicService, authorize: Authorize | None) -> None:
        self.service: Final = service
        super().__init__(
            lifespan=self.lifespan,
            exception_handlers={HTTPException: _http_error, Exception: _server_error},
        )
        # No route of Starlette's matches all paths: a key may have a line break in it.
        self.router.default = _Endpoint(service, authorize, self.router.not_found)

    @property
    def client(self) -> LlamaGenClient:
        """The client, once the application is started."""
        return self.service.client

    @property
    def queue(self) -> JobQueue:
        """The queue of jobs, once the application is started: order from it in routes of yours."""
        return self.service.queue

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncGenerator[dict[str, Any], None]:
        """Start, and close in order; for the lifespan of the application around this one.

        Its state has `llamagen_client`, so that `get_client` works in routes of yours.
        """
        await self.service.open()
        try:
            yield {"llamagen_client": self.service.client}
        finally:
            await self.service.aclose()


def create_app(
    client: LlamaGenClient | None = None,
    *,
    journal: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    authorize: Authorize | None = None,
    webhook_secret: Secrets | None = None,
    max_queued: int = MAX_QUEUED,
    queue: JobQueue | None = None,
) -> ComicsApp:
    """Return an ASGI application with all routes. Nothing is opened before it is started.

    Args:
        client: A client of yours, which is not closed; `None` makes one from the environment.
        journal: The file of the jobs, which all workers of a host share; `$LLAMAGEN_JOURNAL`, or
            `journal.db` in `out`, if not given.
        out: The folder of the pictures; `$LLAMAGEN_OUT`, or `comics`, if not given.
        authorize: A function, which may be async, that is given each Starlette `Request` and
            returns whether it is allowed, or raises Starlette's `HTTPException`. Without one only
            programs on this machine are answered. Events of the vendor, `/healthz` and `/readyz`
            are not asked about.
        webhook_secret: The secret with which the vendor signs its events, or several while you
            change it; `$LLAMAGEN_WEBHOOK_SECRET` if not given. Without one all events are refused.
        max_queued: How many jobs may be queued; more are answered with 503 and `Retry-After`.
        queue: A queue of yours instead of one on a journal, such as `llamagen_async.taskiq`'s: then
            this process only takes orders, and tells of them. It is started and closed with the
            application.

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
    return ComicsApp(service, authorize)


class _Endpoint:
    """The ASGI application of all paths and methods."""

    def __init__(
        self, service: ComicService, authorize: Authorize | None, not_found: ASGIApp
    ) -> None:
        self._service = service
        self._authorize = authorize
        self._not_found = not_found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._not_found(scope, receive, send)  # a web socket
            return
        request = Request(scope, receive)
        root, path = _split(scope)
        try:
            reply = await answer(
                self._service,
                WebRequest(
                    request.method,
                    path,
                    root,
                    request.query_params if scope["query_string"] else {},
                    _headers(scope),
                    request.client.host if request.client else None,
                    request.stream(),
                    request,
                ),
                self._authorize,
            )
        except ClientDisconnect:
            return  # nobody is there to be answered
        if reply.events is not None:
            response = _stream(reply.events, self._service.draining)
        else:
            response = _response(reply, request.method)
        await response(scope, receive, send)


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by their names in lower case."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _split(scope: Scope) -> tuple[str, tuple[str, ...]]:
    """Return where the routes are mounted, and the parts of the path below it."""
    root = str(scope.get("root_path", "")).rstrip("/")
    path = str(scope["path"])
    raw = scope.get("raw_path")
    encoded = raw.partition(b"?")[0].decode("latin-1") if raw else ""
    if root and unquote(encoded).startswith(f"{root}/"):
        path = unquote(encoded)  # some frameworks take the mount off the decoded path alone
    if unquote(encoded) != path:
        encoded = quote(path)  # some servers and frameworks tell the decoded path alone
    is_whole = path == root or path.startswith(f"{root}/")
    # Links and `Location` begin with it, and no header may have what is not ASCII.
    return quote(root, safe=_PLAIN), below(root if is_whole else "", encoded)


def _response(reply: WebReply, method: str) -> Response:
    headers = dict(reply.headers)
    if reply.file is not None:
        return FileResponse(reply.file, headers=headers, media_type=reply.media_type)
    if method == "HEAD":
        headers["Content-Length"] = str(len(reply.body))
        return Response(b"", reply.status, headers, reply.media_type)
    return Response(reply.body, reply.status, headers, reply.media_type)


def _stream(events: AsyncGenerator[StreamEvent, None], draining: asyncio.Event) -> Response:
    async def content() -> AsyncGenerator[ServerSentEvent, None]:
        async with aclosing(events):
            async for one in events:
                yield ServerSentEvent(one.data, event=one.event, id=one.id, retry=one.retry)

    return EventSourceResponse(
        content(),
        headers={"Cache-Control": "no-store, no-transform"},
        ping=PING,
        ping_message_factory=lambda: ServerSentEvent(comment=COMMENT),
        shutdown_event=cast("anyio.Event", draining),  # it is set, and nothing else
        shutdown_grace_period=FAREWELL,
    )


async def _http_error(_request: Request, error: Exception) -> Response:
    """Answer what the authorize hook has raised."""
    assert isinstance(error, HTTPException)
    return _response(hook_reply(error.status_code, str(error.detail), error.headers), "GET")


async def _server_error(_request: Request, _error: Exception) -> Response:
    return _response(mistake_reply(), "GET")
