"""Failures below HTTP: aiohttp's exceptions in, this package's out.

One thing that costs money is decided here: whether a request may have arrived. It did not if no
connection was made; in every other case it counts as sent. Nothing here does I/O or retries.
"""

from __future__ import annotations

from typing import Final

import aiohttp

from llamagen_async.errors import APIConnectionError, APITimeoutError

__all__ = ["SecondAttemptError", "connection_error"]

_NOT_CONNECTED: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,  # the proxy refused to make the connection
)


class SecondAttemptError(aiohttp.ClientError):
    """aiohttp was about to send a request for the second time."""


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
