"""What went wrong below HTTP: aiohttp's exceptions in, this package's out.

It decides one thing that money hangs on: whether a request may have arrived. It did not, if no
connection was made; in every other case it counts as sent. Nothing here does I/O or retries.
"""

from __future__ import annotations

from typing import Final

import aiohttp

from llamagen_async.errors import APIConnectionError, APITimeoutError

__all__ = ["OneAttempt", "connection_error"]

_NOT_CONNECTED: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,  # the proxy refused to make the connection
)


class SecondAttemptError(aiohttp.ClientError):
    """aiohttp was about to send a request for the second time."""


class OneAttempt:
    """An aiohttp client middleware that lets a request out once; make one for each request.

    aiohttp sends an idempotent request again when the kept-alive connection that it chose turns
    out to be dropped. The first one may have arrived, and both would count against the limit.
    A middleware is called for each attempt, and what it raises ends the matter.
    """

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Pass the first attempt on and refuse the second.

        Raises:
            SecondAttemptError: It is the second one.
        """
        if self._used:
            raise SecondAttemptError
        self._used = True
        return await handler(request)


def connection_error(error: BaseException, where: str) -> APIConnectionError:
    """Make the error for an exchange that broke off.

    Args:
        error: What aiohttp raised. Nothing of its text is used: it may hold the request's headers.
        where: The host, for the message.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return APITimeoutError(
            f"no connection to {where} in the time allowed; nothing was sent", request_sent=False
        )
    if isinstance(error, _NOT_CONNECTED):
        return APIConnectionError(
            f"no connection to {where} ({_reason(error)}); nothing was sent", request_sent=False
        )
    if isinstance(error, TimeoutError):
        return APITimeoutError(f"no complete answer from {where} in the time allowed")
    return APIConnectionError(f"the exchange with {where} broke off ({_reason(error)})")


def _reason(error: BaseException) -> str:
    """Say why in words of our own, and in the system's for a system error."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate or TLS is not accepted"
    if isinstance(error, SecondAttemptError | aiohttp.ServerDisconnectedError):
        return "the connection was dropped before the answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer is incomplete"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return "the proxy refused"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not valid HTTP"
    text = error.strerror if isinstance(error, OSError) else None
    return text or type(error).__name__
