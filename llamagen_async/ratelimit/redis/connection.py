"""One connection to a Redis server, and one script that is evaluated over it.

It knows redis-py, URLs and what may go wrong; it does not know what the script does. Neither the
URL nor the password is in any text that it makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import re
from collections.abc import AsyncGenerator
from typing import Any, Final, Protocol, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from llamagen_async.errors import InvalidRequestError
from llamagen_async.ratelimit.ledger import StoreError

__all__ = ["DroppedError", "RedisLink", "RefusedError"]

_ALLOWED: Final = (
    "redis://[[user]:password@]host[:port][/db], rediss://... or unix:///path[?db=0], "
    "special characters of user and password percent-encoded"
)
_MOVED: Final = re.compile(r"^(?:MOVED )?\d+ (?P<host>\S*):(?P<port>\d+)$")
"""A node of a cluster that has not the key; newer versions of redis-py cut the first word."""
_MOST_MOVES: Final = 3
"""How often in a row a cluster may name another node."""
_FAREWELL: Final = 1.0
"""Real seconds that closing a connection may take on which nothing is under way."""


class DroppedError(StoreError):
    """The connection was closed, or could not be made."""


class RefusedError(StoreError):
    """Redis answered with an error: the script has changed nothing."""


class _Connection(Protocol):
    """What is used of `redis.asyncio.Connection`, which has no types of its own."""

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...  # noqa: FBT001, FBT002
    async def send_packed_command(self, command: bytes) -> None: ...
    async def read_response(self, disable_decoding: bool = False) -> Any: ...  # noqa: FBT001, FBT002


class RedisLink:
    """Evaluates a script, over one connection that is made when it is needed.

    Timeouts are up to the caller. Not for two tasks at once.

    Args:
        url: Of the server, as redis-py takes it; `prefix` is taken out of its query.
        script: What to evaluate.

    Raises:
        InvalidRequestError: The URL is not one, or redis-py is not installed.
    """

    def __init__(self, url: str, script: bytes) -> None:
        bare, self.prefix, self.where = _parsed(url)
        try:
            self._redis = importlib.import_module("redis.asyncio")
            self._errors = importlib.import_module("redis.exceptions")
            no_retries = importlib.import_module("redis.asyncio.retry").Retry(
                importlib.import_module("redis.backoff").NoBackoff(), 0
            )
        except ModuleNotFoundError:
            raise InvalidRequestError(
                "quota", _shown(url), "a Redis URL only with `pip install 'llamagen-async[redis]'`"
            ) from None
        self._failures: tuple[type[Exception], ...] = (self._errors.RedisError, OSError)
        self._script = script
        self._sha = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
        self._connection: _Connection | None = None
        try:
            # Without timeouts and retries of its own, which would add up beyond the caller's.
            self._pool: Any = self._redis.ConnectionPool.from_url(
                bare,
                protocol=2,
                retry=no_retries,
                socket_timeout=None,
                socket_connect_timeout=None,
            )
            self._made()
        except (TypeError, ValueError, self._errors.RedisError):
            # Its message may repeat parts of the URL.
            raise InvalidRequestError("quota", _shown(url), _ALLOWED) from None

    async def open(self) -> bool:
        """Make a connection if there is none.

        Returns:
            Whether it was made now.

        Raises:
            DroppedError: None could be made.
            RefusedError: The server does not let this user in.
        """
        if self._connection is not None:
            return False
        connection = self._made()
        try:
            await connection.connect()
            self._connection = connection
        except self._failures as error:
            raise self._explained(error) from None
        finally:
            if self._connection is None:
                await self._disconnect(connection)
        return True

    async def evaluate(self, key: bytes, *arguments: bytes) -> bytes:
        """Evaluate the script, on the node of a cluster that has `key`.

        Raises:
            DroppedError: The connection broke; the script may have been evaluated or not.
            RefusedError: The server or the script answered with an error.
        """
        for _ in range(_MOST_MOVES):
            try:
                return await self._evaluated(key, arguments)
            except self._errors.ResponseError as error:
                node = _MOVED.search(str(error))
                if node is None:
                    raise self._explained(error) from None
                await self._drop()
                known = self._pool.connection_kwargs
                known.update(host=node["host"] or known["host"], port=int(node["port"]))
                self.where = f"{known['host']}:{known['port']}"
                await self.open()
            except self._failures as error:
                raise self._explained(error) from None
        raise RefusedError(f"Redis at {self.where} does not know which node has the key")

    async def execute(self, *command: bytes) -> Any:
        """Do a single command over a connection of its own, on the node that has its key.

        For what is done once in a while, at any time and in any event loop: it neither waits for
        the script nor holds it up.

        Raises:
            DroppedError: The connection broke; the command may have been done or not.
            RefusedError: The server answered with an error.
        """
        node: dict[str, Any] = {}
        for _ in range(_MOST_MOVES):
            connection = cast(
                _Connection,
                self._pool.connection_class(**{**self._pool.connection_kwargs, **node}),
            )
            try:
                await connection.connect()
                await connection.send_packed_command(_packed(*command))
                return await connection.read_response(disable_decoding=True)
            except self._errors.ResponseError as error:
                moved = _MOVED.search(str(error))
                if moved is None:
                    raise self._explained(error) from None
                node["port"] = int(moved["port"])
                if moved["host"]:
                    node["host"] = moved["host"]
            except self._failures as error:
                raise self._explained(error) from None
            finally:
                await self._disconnect(connection)
        raise RefusedError(f"Redis at {self.where} does not know which node has the key")

    @contextlib.asynccontextmanager
    async def subscriber(self) -> AsyncGenerator[Any, None]:
        """Open redis-py's `PubSub`, which makes a connection of its own, any node's, when used."""
        known = self._pool
        pool = self._redis.ConnectionPool(known.connection_class, **known.connection_kwargs)
        subscriber = self._redis.Redis(connection_pool=pool).pubsub()
        try:
            yield subscriber
        finally:
            with contextlib.suppress(TimeoutError, *self._failures):
                async with asyncio.timeout(_FAREWELL):
                    if subscriber.connection is not None:
                        await self._disconnect(subscriber.connection)
                    await subscriber.aclose()
                    await pool.disconnect()

    def explained(self, error: Exception) -> Exception:
        """Return what to raise for an error of redis-py's, if it is one."""
        return self._explained(error) if isinstance(error, self._failures) else error

    async def close(self, timeout: float) -> None:
        """Close the connection in good order, which takes `timeout` seconds at most."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(TimeoutError, OSError, self._errors.RedisError):
                async with asyncio.timeout(timeout):
                    await connection.disconnect()

    def forget(self) -> None:
        """Let go of a connection whose event loop is gone."""
        self._connection = None

    async def _evaluated(self, key: bytes, arguments: tuple[bytes, ...]) -> bytes:
        connection, answered = self._connection, False
        assert connection is not None
        try:
            await connection.send_packed_command(
                _packed(b"EVALSHA", self._sha, b"1", key, *arguments)
            )
            try:
                reply = await connection.read_response(disable_decoding=True)
            except self._errors.NoScriptError:
                # The server was restarted or its scripts were flushed: this stores it again.
                await connection.send_packed_command(
                    _packed(b"EVAL", self._script, b"1", key, *arguments)
                )
                reply = await connection.read_response(disable_decoding=True)
            answered = True
        except self._errors.ResponseError:
            answered = True
            raise
        finally:
            if not answered:
                # What is still to come on it would be taken for the next answer.
                await self._drop()
        return cast(bytes, reply)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._disconnect(connection)

    def _made(self) -> _Connection:
        return cast(_Connection, self._pool.make_connection())

    async def _disconnect(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError, self._errors.RedisError):
            await connection.disconnect(nowait=True)

    def _explained(self, error: Exception) -> Exception:
        """Return what to raise for an error of Redis or of the network."""
        errors, where = self._errors, self.where
        if isinstance(error, errors.AuthenticationError):
            return RefusedError(f"Redis at {where} does not accept the user or the password")
        if isinstance(error, errors.NoPermissionError):
            return RefusedError(f"Redis at {where} does not let this user do it: {error}")
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


def _packed(*words: bytes) -> bytes:
    """Return a command as Redis reads it. redis-py's own way takes a third of a call's time."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(w), w) for w in words])


def _parsed(url: str) -> tuple[str, str, str]:
    """Return the URL without the prefix, the prefix, and where that is, to be shown."""
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
    kept = urlencode([(name, value) for name, value in query if name != "prefix"])
    return urlunsplit(parts._replace(query=kept)), dict(query).get("prefix", ""), where


def _shown(url: str) -> str:
    """Return as much of a URL as can't hold a password."""
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://..." if separator and scheme.isalnum() else "..."
