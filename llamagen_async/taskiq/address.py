"""The URL of the Redis to which a broker of taskiq-redis is connected."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from taskiq import AsyncBroker

from llamagen_async.errors import InvalidRequestError

__all__ = ["url_of"]


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
        allowed = "the URL of a Redis that keeps the jobs, as this broker does not tell one"
        raise InvalidRequestError("redis", None, allowed)
    user, password = given.get("username") or "", given.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    scheme = "rediss" if "SSL" in getattr(pool, "connection_class", type).__name__ else "redis"
    port, database = given.get("port") or 6379, given.get("db") or 0
    certificates = given.get("ssl_ca_certs")
    query = f"?ssl_ca_certs={quote(certificates)}" if certificates else ""
    return f"{scheme}://{login}{given['host']}:{port}/{database}{query}"
