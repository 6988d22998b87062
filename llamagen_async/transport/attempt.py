"""One attempt to send a request with aiohttp, and what is observed of it.

Whether a request may have arrived decides whether it may be sent again, and with it money. It is
not guessed from the exception in which the attempt ended, but observed: aiohttp says when the head
of a request is about to be written to a connection. Nothing of it has left before that.

An attempt is also the innermost middleware of its request, so that it has the last word on what is
sent, whatever a user's session, its middlewares and `~/.netrc` have added.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Final

import aiohttp
import attrs
from multidict import CIMultiDict

from llamagen_async.transport.address import is_loopback

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
    pools: bool = False
    """Whether the connector keeps connections and uses them again."""
    was_refused: bool = False
    """Whether it was held back before anything could leave."""
    response: aiohttp.ClientResponse | None = attrs.field(default=None, repr=False)
    """The answer, as soon as its head has come."""
    received: list[bytes] = attrs.field(factory=list[bytes], repr=False)
    """The pieces of the answer's body that have come."""
    error: Exception | None = attrs.field(default=None, repr=False)
    """The exception in which sending it, or receiving the head of its answer, has ended."""
    is_observed: bool = False
    """Whether aiohttp tells what happens to the request."""
    _is_begun: bool = False
    _has_left: bool = False

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
        try:
            self.response = await handler(request)
        except Exception as error:
            self.error = error
            raise
        return self.response

    @property
    def may_have_arrived(self) -> bool:
        """Whether something of the request may have left this machine."""
        return self._is_begun and (self._has_left or not self.is_observed)

    def leave(self, headers: CIMultiDict[str]) -> None:
        """Take note that the head is about to be written.

        Raises:
            RefusedError: A header can't be sent; nothing has left.
        """
        for name, value in headers.items():
            if re.search(UNFIT, f"{name}{value}"):
                self.was_refused = True
                raise RefusedError(f"the header {name!r:.80} has characters that can't be sent")
        self._has_left = True


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
    if trace.attempt is not None:
        trace.attempt.leave(params.headers)


def _observer() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig(trace_config_ctx_factory=_Observed)
    config.on_connection_reuseconn.append(_on_reused)
    config.on_request_headers_sent.append(_on_leaving)
    config.freeze()
    return config


OBSERVER: Final = _observer()
"""Tells attempts what becomes of them. It does nothing for a session's other requests."""
