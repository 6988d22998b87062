"""Failures below HTTP: foreign exceptions in, this package's out.

Whether a request may have arrived is not decided here but told. An exception's own text is used
only where it can't hold the request's headers, and its traceback never.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from http import HTTPStatus
from typing import Final

import aiohttp

from llamagen_async.errors import APIConnectionError, APITimeoutError
from llamagen_async.foreign import clean_text
from llamagen_async.transport.attempt import Attempt, RefusedError

__all__ = ["attempt_error", "connection_error", "failure_words"]

_SHOWN: Final = 200
"""Characters that are shown of a foreign exception's text."""
_DEEPEST: Final = 5
"""Exceptions that may stand for one another, at most: a chain may be a ring."""
_OTHER_HOST: Final = (62, 64)
"""OpenSSL's codes for a certificate that is another host's or another address's."""
_NO_SUCH_NAME: Final = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""The resolver's numbers for a name that does not exist, or has no address."""
_ARES_NOT_FOUND: Final = 4
"""The number of c-ares for that, with which aiohttp resolves if aiodns is installed."""
_MISTAKES: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Exceptions that come again however often a request is sent: of an argument or a setting."""
_WORDS: Final[dict[type[BaseException], str]] = {
    aiohttp.ServerFingerprintMismatch: "its certificate is not the expected one",
    aiohttp.ServerDisconnectedError: "the connection was dropped before the answer",
    aiohttp.ClientPayloadError: "the answer is incomplete",
    aiohttp.ClientResponseError: "the answer is not valid HTTP",
}
_PASSING: Final = (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)
"""Failures of TLS that are those of the connection below it."""


def attempt_error(
    attempt: Attempt, error: Exception, where: str, key: str, *, was_reached: bool = True
) -> APIConnectionError:
    """Make the error for an attempt that brought no answer.

    A name that does not exist, of a host that was never reached, is most likely mistyped: waiting
    for it makes no sense. That nobody listens there, or that the name can't be looked up now, may
    be over soon: a server and what uses it may start together.

    Args:
        attempt: The attempt.
        error: The exception in which it ended.
        where: The host, for the message.
        key: What the message may not hold.
        was_reached: Whether the host has ever been reached, or is known to exist.
    """
    # What the connection failed of says more than what a user's middleware made of it.
    inner = attempt.error or error
    if attempt.may_have_arrived:
        return connection_error(inner, where, secret=key)
    if isinstance(inner, TimeoutError):
        return APITimeoutError(
            f"no connection to {where} in the time allowed; nothing was sent", request_sent=False
        )
    is_foreign = not isinstance(inner, aiohttp.ClientError | OSError)
    is_lasting = (
        _is_tls_refused(inner)
        or attempt.was_refused
        or (not was_reached and _is_unknown_name(inner))
        or _status(inner) == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        or isinstance(inner, (aiohttp.ServerFingerprintMismatch, *_MISTAKES))
        # A user's hook or middleware; what a connector raises may be an outage, whatever it is.
        or (is_foreign and attempt.error is None)
    )
    what = "no request could be made to" if is_foreign else "no connection to"
    advice = _advice(inner)
    if not was_reached and (_is_unknown_name(inner) or _errno(inner) == errno.ECONNREFUSED):
        advice = f". Check base_url: {where} has never been reached yet"
    return APIConnectionError(
        f"{what} {where} ({_reason(inner, key, where)}); nothing was sent{advice}",
        request_sent=False,
        retriable=not is_lasting,
    )


def connection_error(error: BaseException, where: str, *, secret: str = "") -> APIConnectionError:
    """Make the error for an exchange that broke off after the request may have left.

    Args:
        error: What was raised.
        where: The host, for the message.
        secret: What the message may not hold.
    """
    if isinstance(error, TimeoutError):
        return APITimeoutError(f"no complete answer from {where} in the time allowed")
    return APIConnectionError(
        f"the exchange with {where} broke off ({_reason(error, secret, where)}){_advice(error)}",
        retriable=not _is_tls_refused(error),
    )


def failure_words(error: BaseException) -> tuple[str, str]:
    """Return why a connection failed, and what can be done about that, if anything."""
    return _reason(error, "", ""), _advice(error).removeprefix(". ")


def _reason(error: BaseException, secret: str, where: str) -> str:
    """Say why: in ssl's words for TLS, in the system's for the system, else in words of our own."""
    tls = _tls_error(error)
    if tls is not None:
        words = getattr(tls, "verify_message", "") or (tls.reason or "").lower().replace("_", " ")
        kind = "certificate" if isinstance(tls, ssl.SSLCertVerificationError) else "TLS"
        return f"its {kind} is not accepted: {clean_text(words or str(tls), _SHOWN)}"
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused with status {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"no connection to the proxy: {_of_system(error) or 'it is not there'}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        whose = "its" if not where or where.startswith(error.host.rstrip(".")) else "the proxy's"
        is_known = "is not known" if _is_unknown_name(error) else "can't be looked up now"
        return f"{whose} name {is_known}"
    inner: object = getattr(error, "os_error", None)
    if isinstance(inner, ConnectionError) and not inner.args:  # what asyncio makes of it
        return "the connection was dropped while TLS began"
    known = next((words for kind, words in _WORDS.items() if isinstance(error, kind)), None)
    return known or _own_words(error, secret)


def _own_words(error: BaseException, secret: str) -> str:
    """Return what an exception says of itself, or else its name."""
    of_system = _of_system(error)
    name, text = type(error).__name__, str(of_system or error)
    # The text of aiohttp's own may hold the request.
    is_foreign = of_system or not isinstance(error, aiohttp.ClientError)
    if not (is_foreign and text) or (secret and secret in text):
        return name
    return clean_text(text if of_system else f"{name}: {text}", _SHOWN)


def _of_system(error: BaseException) -> str:
    """Return the system's words for a failure, without what else an exception says; maybe empty."""
    number = _errno(error)
    return os.strerror(number) if number > 0 else str(getattr(error, "strerror", None) or "")


def _errno(error: BaseException) -> int:
    """Return the system's number of a failure; 0 if it has none."""
    if isinstance(error, socket.gaierror | aiohttp.ClientConnectorDNSError):
        return 0  # not of the same kind
    number: object = getattr(error, "errno", None)
    return number if isinstance(number, int) else 0


def _is_unknown_name(error: BaseException) -> bool:
    """Whether name servers say that there is no such host, which is no failure of theirs."""
    if not isinstance(error, aiohttp.ClientConnectorDNSError):
        return False
    inner = error.os_error
    if isinstance(inner, socket.gaierror):
        return inner.errno in _NO_SUCH_NAME
    return getattr(inner.__cause__, "args", ())[:1] == (_ARES_NOT_FOUND,)


def _status(error: BaseException) -> int | None:
    return error.status if isinstance(error, aiohttp.ClientHttpProxyError) else None


def _is_tls_refused(error: BaseException) -> bool:
    """Whether TLS failed in a way in which it will fail again."""
    tls = _tls_error(error)
    return tls is not None and not isinstance(tls, _PASSING)


def _advice(error: BaseException) -> str:
    """Say what can be done about a failure of TLS."""
    tls = _tls_error(error)
    if tls is None or isinstance(tls, _PASSING):
        return ""
    if not isinstance(tls, ssl.SSLCertVerificationError):
        return ". Check that base_url, or the proxy on the way, is one that speaks TLS"
    if tls.verify_code in _OTHER_HOST:
        return ". Check base_url: somebody else answers there"
    return (
        ". If your network has a certificate authority of its own, name its file in SSL_CERT_FILE, "
        "or pass session= with a connector that trusts it"
    )


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return ssl's own exception, if that is what `error` stands for."""
    for _ in range(_DEEPEST):
        if error is None or (
            # aiohttp's are of ssl's kind, too, but do not say why.
            isinstance(error, ssl.SSLError) and not isinstance(error, aiohttp.ClientError)
        ):
            return error
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        error = inner or error.__cause__
    return None
