"""The URL of the Redis to which a broker of taskiq-redis is connected."""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import quote, urlencode

from taskiq import AsyncBroker

from llamagen_async.errors import InvalidRequestError

__all__ = ["url_of"]

_CHECKS: Final = "ssl_cert_reqs"
"""The option that says whether the server's certificate is checked; `None` is no check."""


def url_of(broker: AsyncBroker) -> str:
    """Return the URL.

    Raises:
        InvalidRequestError: The broker is of another kind, or its URL says more than is known here.
    """
    pool: Any = getattr(broker, "connection_pool", None)
    given: dict[str, Any] = dict(getattr(pool, "connection_kwargs", {}))
    if not given.get("host") or type(broker).__name__ not in (
        "RedisStreamBroker",
        "ListQueueBroker",
        "PubSubBroker",
    ):
        raise _untold()
    user, password = given.get("username") or "", given.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    scheme = "rediss" if "SSL" in getattr(pool, "connection_class", type).__name__ else "redis"
    host = f"[{given['host']}]" if ":" in given["host"] else given["host"]  # an address of IPv6
    port, database = given.get("port") or 6379, given.get("db") or 0
    options = urlencode(
        {
            name: _option(name, value)
            for name, value in given.items()
            if name == _CHECKS or (name.startswith("ssl_") and value is not None)
        },
        quote_via=quote,
        safe="/",
    )
    return f"{scheme}://{login}{host}:{port}/{database}{'?' if options else ''}{options}"


def _option(name: str, value: object) -> str:
    """Return how a URL says an option of TLS: without it the jobs' connection would be refused."""
    if name == _CHECKS and (value is None or isinstance(value, ssl.VerifyMode)):
        return ssl.VerifyMode(value or 0).name.removeprefix("CERT_").lower()
    if not isinstance(value, str | int):
        raise _untold()
    return str(value)


def _untold() -> InvalidRequestError:
    allowed = "the URL of a Redis that keeps the jobs, as this broker does not tell one"
    return InvalidRequestError("redis", None, allowed)
