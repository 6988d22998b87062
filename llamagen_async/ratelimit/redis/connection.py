"""The way to a Redis server: redis-py's own client, and one script that is evaluated over it.

This file knows redis-py, URLs and errors; it does not know what the script does. Neither the URL
nor the password is in any text that it makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from llamagen_async.errors import InvalidRequestError
from llamagen_async.ratelimit.protocol import StoreError

__all__ = ["DroppedError", "MovedError", "RedisConnection", "RefusedError"]

_T = TypeVar("_T")
_ALLOWED: Final = (
    "redis://[[user]:password@]host[:port][/db], rediss://... or unix:///path[?db=0], "
    "special characters of user and password percent-encoded"
)
_OURS: Final = frozenset({"prefix", "decode_responses"})
"""Options of a URL that redis-py does not get: answers have to come as bytes."""

_CLOSE_TIMEOUT: Final = 1.0
"""Real seconds that closing a connection may take."""


class DroppedError(StoreError):
    """The connection was closed, or could not be made."""


class RefusedError(StoreError):
    """Redis answered with an error: the script has changed nothing."""


class MovedError(RefusedError):
    """Another server has the key; the next call goes there."""


class RedisConnection:
    """A script and the client of redis-py that evaluates it, in one event loop.

    The client keeps a connection between two calls, looks whether it still is one before the next
    call, and loads the script when the server does not know it. It repeats nothing by itself,
    because the script must know that it is evaluated again. Timeouts are up to the caller.

    Args:
        url: The server's URL, as redis-py takes it; `prefix` is taken out of its query.
        script: The script to evaluate.

    Raises:
        InvalidRequestError: The URL is not valid, or redis-py is not installed.
    """

    def __init__(self, url: str, script: bytes) -> None:
        self._url, self.prefix, self.address = _parsed(url)
        self._script = script
        self._is_cluster = False
        """Whether a node has answered that another one of its cluster has the key."""
        self._is_stale = False
        """Whether the next call needs another client, with connections of its own."""
        try:
            self._redis = importlib.import_module("redis.asyncio")
            self._errors = importlib.import_module("redis.exceptions")
            self._no_retries = importlib.import_module("redis.asyncio.retry").Retry(
                importlib.import_module("redis.backoff").NoBackoff(), 0
            )
        except ModuleNotFoundError:
            raise InvalidRequestError(
                "quota", _shown(url), "a Redis URL only with `pip install 'llamagen-async[redis]'`"
            ) from None
        try:
            self.renew()
            self._client.connection_pool.make_connection()
        except (TypeError, ValueError, self._errors.RedisError):
            # Its message may repeat parts of the URL.
            raise InvalidRequestError("quota", _shown(url), _ALLOWED) from None

    def renew(self) -> None:
        """Begin without a connection: that of before belongs to an event loop that is gone."""
        self._client, self._is_stale = self._made(), False
        self._evaluate = self._client.register_script(self._script)

    async def open(self) -> None:
        """Make a connection if there is none that still works.

        Raises:
            DroppedError: None could be made.
            RefusedError: The server does not let this user in.
        """
        if self._is_stale:
            await self.close()
            self.renew()
        if self._is_cluster:
            await self._translated(self._client.initialize())
        else:
            pool = self._client.connection_pool
            await pool.release(await self._translated(pool.get_connection()))

    async def evaluate(self, key: bytes, *arguments: bytes) -> bytes:
        """Evaluate the script, on the node of a cluster that has `key`.

        Raises:
            DroppedError: The connection broke; the script may have been evaluated or not.
            RefusedError: The server or the script answered with an error.
        """
        return await self._translated(self._evaluate(keys=[key], args=arguments))

    async def execute(self, *command: str | bytes) -> Any:
        """Run a single command over a connection of its own, in any event loop.

        Raises:
            DroppedError: The connection broke; the command may have been done or not.
            RefusedError: The server answered with an error.
        """
        client = self._made()
        try:
            return await self._translated(client.execute_command(*command))
        finally:
            await _close(client)

    @contextlib.asynccontextmanager
    async def subscriber(self) -> AsyncGenerator[Any, None]:
        """Open redis-py's `PubSub`, which makes a connection of its own, any node's, when used."""
        client = self._made(is_cluster=False)
        subscriber = client.pubsub()
        try:
            yield subscriber
        finally:
            await _close(subscriber)
            await _close(client)

    async def _translated(self, answer: Awaitable[_T]) -> _T:
        try:
            return await answer
        except Exception as error:  # noqa: BLE001  # redis-py's errors have no common class
            if isinstance(error, self._errors.MovedError):
                self._is_cluster = self._is_stale = True
            # After a failover the address may lead elsewhere.
            self._is_stale |= _is_read_only(error)
            raise self.translate_error(error) from None
        except BaseException:
            # A late reply would be taken for the next answer.
            self._is_stale = True
            raise

    def translate_error(self, error: Exception) -> StoreError:
        """Return the exception to raise for an error of redis-py's."""
        errors, where = self._errors, self.address
        if isinstance(error, errors.AuthenticationError):
            return RefusedError(f"Redis at {where} does not accept the user or the password")
        if isinstance(error, errors.NoPermissionError):
            return RefusedError(f"Redis at {where} does not let this user do it: {error}")
        if isinstance(error, errors.MovedError) or _is_read_only(error):
            return MovedError(f"Redis at {where} is not the server that has the key: {error}")
        if isinstance(error, errors.ResponseError):
            if str(error).startswith("WRONGTYPE"):
                return RefusedError(f"the key in Redis at {where} holds a value of another type")
            if str(error).startswith("CORRUPT"):
                return RefusedError(
                    f"what Redis at {where} holds is damaged or of another version of this "
                    "package: delete the key"
                )
            return RefusedError(f"Redis at {where} answered: {error}")
        return DroppedError(f"no connection to Redis at {where}: {error}")

    async def close(self) -> None:
        """Close the connections in good order, if that is done in a moment."""
        await _close(self._client)

    def _made(self, *, is_cluster: bool | None = None) -> Any:
        is_cluster = self._is_cluster if is_cluster is None else is_cluster
        client = self._redis.RedisCluster if is_cluster else self._redis.Redis
        # Without timeouts and retries of its own, which would add up beyond the caller's.
        return client.from_url(
            self._url,
            protocol=2,
            retry=self._no_retries,
            socket_timeout=None,
            socket_connect_timeout=None,
        )


async def _close(closable: Any) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await closable.aclose()


def _is_read_only(error: Exception) -> bool:
    """Return whether a server has refused to write; Redis 6 says so at the end of its answer."""
    return type(error).__name__ == "ReadOnlyError" or "READONLY" in str(error)


def _parsed(url: str) -> tuple[str, str, str]:
    """Return the URL without the prefix, the prefix, and the address to be shown."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise InvalidRequestError("quota", _shown(url), _ALLOWED) from None
    # Characters that should have been encoded end up anywhere, and with them the password.
    stray = parts.fragment or "@" in parts.path or "@" in parts.query
    if parts.scheme == "unix":
        valid, where = bool(parts.path), parts.path
    else:
        database = parts.path.strip("/")
        valid = parts.scheme in {"redis", "rediss"} and bool(host)
        valid = valid and (not database or database.isdecimal())
        where = f"{host}:{port or 6379}"
    if stray or not valid:
        raise InvalidRequestError("quota", _shown(url), _ALLOWED)
    kept = urlencode([(name, value) for name, value in query if name not in _OURS])
    return urlunsplit(parts._replace(query=kept)), dict(query).get("prefix", ""), where


def _shown(url: str) -> str:
    """Return the part of a URL that can't hold a password."""
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://..." if separator and scheme.isalnum() else "..."
