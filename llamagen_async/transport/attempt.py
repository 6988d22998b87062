"""One attempt to send a request with aiohttp, and what is observed of it.

Whether a request may have arrived decides whether it may be sent again, and with it money. It is
not guessed from the exception in which the attempt ended, but observed: aiohttp says when the head
of a request is about to be written to a connection. Nothing of it has left before that.

An attempt is also the innermost middleware of its request, so that it has the last word on what is
sent, whatever a user's session, its middlewares and `~/.netrc` have added.
"""

from __future__ import annotations

import math
import re
import secrets
from contextvars import ContextVar
from time import time as wall_time
from types import SimpleNamespace
from typing import Final

import aiohttp
import attrs
from aiohttp.connector import Connection
from multidict import CIMultiDict

from llamagen_async.transport.address import is_loopback
from llamagen_async.transport.content import LARGEST, is_json, unpacked
from llamagen_async.transport.framing import Framing, keep_whole, left_in

__all__ = ["COMING", "OBSERVER", "UNFIT", "Attempt", "RefusedError"]

UNFIT: Final = r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]"
"""Characters that no header can have; aiohttp refuses them only after it has told of the head."""


class RefusedError(aiohttp.ClientError):
    """A request was held back by this package. The text is for users and holds no secret."""


@attrs.define(eq=False)
class Attempt:
    """The one attempt to send a request: an aiohttp client middleware, made for each request."""

    authorization: str = attrs.field(repr=False)
    """The header that carries the API key."""
    within: float = math.inf
    """Real seconds after which it must not leave any more: its slot may be no longer its own."""
    pools: bool = False
    """Whether the connector keeps connections and uses them again."""
    has_others: bool = False
    """Whether a user's middlewares may read the answer, too."""
    was_refused: bool = False
    """Whether it was held back before anything could leave."""
    response: aiohttp.ClientResponse | None = attrs.field(default=None, repr=False)
    """The answer, as soon as its head has come."""
    given: aiohttp.ClientResponse | None = attrs.field(default=None, repr=False)
    """The answer as a user's middlewares hand it on."""
    received: list[bytes] = attrs.field(factory=list[bytes], repr=False)
    """The pieces of the answer's body that have come."""
    has_ended: bool = False
    """Whether the answer has come, as far as anything of it is used."""
    error: Exception | None = attrs.field(default=None, repr=False)
    """The exception in which sending it, or receiving its answer, has ended."""
    is_observed: bool = False
    """Whether aiohttp tells what happens to the request."""
    has_left: bool = False
    """Whether the head of the request was about to be written to a connection."""
    _framing: Framing | None = None
    """The framing of the answer, as its connection has seen it."""
    _is_begun: bool = False
    _made_at: float = attrs.field(factory=wall_time)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send the request as the last middleware before the connection.

        aiohttp sends an idempotent request again when the connection drops, and so may a user's
        middleware. The first request may have arrived, and both would count against the limit: the
        second one is refused.

        Raises:
            RefusedError: It was sent before, or the key would be readable on the way.
        """
        if self._is_begun:
            raise RefusedError("the connection was dropped before the answer")
        proxy = request.proxy
        if proxy is not None and not request.is_ssl() and not is_loopback(proxy.host or ""):
            self.was_refused = True
            raise RefusedError(
                "a proxy elsewhere would read the API key: ask a loopback host directly"
            )
        self._is_begun = True
        request.headers["Authorization"] = self.authorization
        if self.pools:
            # Connections are kept by what they were made with, so this one matches no other. Only
            # a proxy that makes a tunnel is told the header.
            request.headers["Connection"] = "close"
            request.proxy_headers = CIMultiDict(request.proxy_headers or {})
            request.proxy_headers["X-Request-Id"] = secrets.token_hex(8)
        send = request.send

        async def careful(conn: Connection) -> aiohttp.ClientResponse:
            self._framing = keep_whole(conn)
            return await send(conn)

        # Whatever session it is of: nothing else sees a request together with its connection.
        request.send = careful  # type: ignore[method-assign]
        try:
            response = await handler(request)
            await self.take(response)
        except Exception as error:
            self.error = error
            raise
        finally:
            vars(request).pop("send", None)  # else both would be there until Python looks for rings
        return response

    async def take(self, response: aiohttp.ClientResponse) -> None:
        """Read an answer before anybody else does, as far as anything of it is used."""
        self.response, size = response, 0
        self.received.clear()
        try:
            while size <= LARGEST and (chunk := await response.content.readany()):
                size += len(chunk)
                self.received.append(chunk)
        except BaseException:
            self.received.append(left_in(response.content))
            response.close()
            raise
        self.has_ended = True
        if size > LARGEST:
            response.close()
        elif self.has_others:
            # A user's middlewares can read it again; aiohttp has no public name for that.
            content, _ = unpacked(b"".join(self.received), response.headers.get("Content-Encoding"))
            response._body = content  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    @property
    def content(self) -> bytes:
        """The body of the answer, as it was sent.

        If it is JSON only with what came behind its announced end, that belongs to it: some servers
        count characters where they announce bytes.
        """
        content = b"".join(self.received)
        if self._framing is None or not self._framing.rest or self.response is None:
            return content
        coding, whole = self.response.headers.get("Content-Encoding"), content + self._framing.rest
        is_cut = is_json(unpacked(whole, coding)[0]) and not is_json(unpacked(content, coding)[0])
        return whole if is_cut else content

    @property
    def was_slept_through(self) -> bool:
        """Whether the machine or this process was stopped: its loop would else have ended it."""
        return abs(wall_time() - self._made_at) > self.within

    @property
    def may_have_arrived(self) -> bool:
        """Whether something of the request may have left this machine."""
        return self._is_begun and (self.has_left or not self.is_observed)


COMING: Final[ContextVar[Attempt | None]] = ContextVar("llamagen_async_attempt", default=None)
"""The attempt whose request is made next in this context."""


class _Observed(SimpleNamespace):
    """The trace of one request, for the attempt that made it."""

    def __init__(self, trace_request_ctx: object = None) -> None:  # noqa: ARG002  # aiohttp's name
        super().__init__()
        self.attempt = attempt = COMING.get()
        if attempt is not None:
            # What a user's middlewares request meanwhile is not this attempt's.
            COMING.set(None)
            attempt.is_observed = True


async def _on_reused(
    _session: aiohttp.ClientSession, trace: SimpleNamespace, _params: object
) -> None:
    """Refuse a connection that was used before: what comes on it may be meant for others."""
    if trace.attempt is not None:
        raise RefusedError("the connection was not a fresh one")


async def _on_leaving(
    _session: aiohttp.ClientSession,
    trace: SimpleNamespace,
    params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    """Take note that the head is about to be written, unless it can't be."""
    attempt: Attempt | None = trace.attempt
    if attempt is None:
        return
    if attempt.was_slept_through:
        raise RefusedError("the machine slept, or the program stood still, meanwhile")
    for name, value in params.headers.items():
        if re.search(UNFIT, f"{name}{value}"):
            attempt.was_refused = True
            raise RefusedError(f"the header {name!r:.80} has characters that can't be sent")
    attempt.has_left = True


def _observer() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig(trace_config_ctx_factory=_Observed)
    config.on_connection_reuseconn.append(_on_reused)
    config.on_request_headers_sent.append(_on_leaving)
    config.freeze()
    return config


OBSERVER: Final = _observer()
"""Tells attempts what becomes of them. It does nothing for a session's other requests."""
