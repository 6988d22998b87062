"""The way to a Redis server: redis-py's own client, and one script that is evaluated over it.

This file knows redis-py, URLs and errors; it does not know what the script does. Neither the URL
nor the password is in any text that it makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from llamagen_async.errors import ClientClosedError, InvalidRequestError
from llamagen_async.observing import logger_of
from llamagen_async.stored_values import StoreError

__all__ = ["RedisCalls", "RedisConnection", "plain_url"]

_logger = logger_of(__name__)

_T = TypeVar("_T")
_ALLOWED: Final = (
    "redis://[[user]:password@]host[:port][/db], rediss://... or unix:///path[?db=0], "
    "special characters of user and password percent-encoded"
)
_OURS: Final = frozenset({"prefix", "decode_responses"})
"""Options of a URL that redis-py does not get: answers have to come as bytes."""
_MOST_CALLS: Final = 8
"""Calls that are made at once, each on a connection of its own (chosen: a Redis does one after the
other, and a few keep it busy)."""
_SAID: Final = 300
"""Characters of a server's words that a message repeats, at most."""


class RedisConnection:
    """A script and the client of redis-py that evaluates it, in one event loop, for many keys.

    The client keeps a few connections between calls, and makes a call again whose connection broke,
    although it may have been done. Errors are a `StoreError`; timeouts are up to the caller.

    Args:
        url: The server's URL, as redis-py takes it; `prefix` is taken out of its query.
        script: The script to evaluate.

    Raises:
        InvalidRequestError: The URL is not valid, or redis-py is not installed.
    """

    prefix: str
    """Beginning of the names of all that is kept on the server."""
    address: str
    """The server, as errors may name it."""

    def __init__(self, url: str, script: bytes) -> None:
        self._url, self.prefix, self.address = _parsed(url)
        self._script = script
        self._is_cluster = False
        """Whether a node has answered that another one of its cluster has the key."""
        self._is_stale = False
        """Whether the next call needs another client, with connections of its own."""
        self._users = WeakSet[object]()
        self._calls = Counter[Any]()
        """The calls that each client makes now: one that is not used for new ones ends its own."""
        try:
            self._redis = importlib.import_module("redis.asyncio")
            self._errors = importlib.import_module("redis.exceptions")
            retry = importlib.import_module("redis.asyncio.retry").Retry
            # Once: the connection may have been idle for too long.
            self._once = retry(importlib.import_module("redis.backoff").NoBackoff(), 1)
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

    @classmethod
    def shared(cls, url: str, script: bytes) -> RedisConnection:
        """Return the way to a server, the same one for all who ask in this event loop."""
        of_loop = _shared.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        return of_loop.get(url) or of_loop.setdefault(url, cls(url, script))

    def renew(self) -> None:
        """Begin without a connection."""
        self._places = asyncio.Semaphore(_MOST_CALLS)
        """Held by each call that is made: those of thousands of keys need no more connections."""
        self._moved_at = -math.inf
        """The loop's time at which the server has answered last."""
        self._renew_client()

    def _renew_client(self) -> None:
        client = self._redis.RedisCluster if self._is_cluster else self._redis.Redis
        # Without timeouts of its own, which would add up beyond the caller's.
        self._client = client.from_url(
            self._url,
            protocol=2,
            retry=self._once,
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        self._evaluate = self._client.register_script(self._script)
        self._is_stale = False

    async def evaluate(self, key: bytes, *arguments: bytes) -> Any:
        """Evaluate the script, on the node of a cluster that has `key`."""
        return await self._call(lambda: self._evaluate(keys=[key], args=arguments))

    async def execute(self, *command: str | bytes) -> Any:
        """Run a single command."""
        return await self._call(lambda: self._client.execute_command(*command))

    async def take_turn(
        self, turn: asyncio.Lock, call: Callable[[], Awaitable[_T]], within: float
    ) -> _T:
        """Make a call after those before it; give it up if nothing moves any more.

        Args:
            turn: Held while it is made; calls with the same one are made one after the other.
            call: Makes it.
            within: Real seconds since the server has answered anybody, for the calls before it;
                and for this one.
        """
        loop = asyncio.get_running_loop()
        asked_at, timer = loop.time(), None

        def check() -> None:
            """End the wait if nothing moves any more: a thousand other keys may be before it."""
            nonlocal timer
            until = max(asked_at, self._moved_at) + within
            if until <= loop.time():
                limit.reschedule(until)
            else:
                timer = loop.call_at(until, check)

        try:
            async with asyncio.timeout(None) as limit:
                check()
                async with turn, self._places:
                    async with asyncio.timeout_at(max(asked_at, self._moved_at) + within):
                        answer = await call()
                    self._moved_at = loop.time()
                    return answer
        except StoreError:
            self._moved_at = loop.time()
            raise
        except TimeoutError:
            where = f"{self.address} within {within:g} s"
            raise StoreError(f"no answer from Redis at {where}") from None
        finally:
            if timer is not None:
                timer.cancel()

    def join(self, user: object) -> None:
        """Keep the connections until `user` has left, or was collected."""
        self._users.add(user)

    async def leave(self, user: object) -> None:
        """Close the connections if no other user is left."""
        self._users.discard(user)
        if not self._users:
            await self.close()

    async def close(self) -> None:
        """Close the connections in good order, if that is done in a moment."""
        await _close(self._client)

    async def _call(self, ask: Callable[[], Awaitable[Any]], *, is_again: bool = False) -> Any:
        if self._is_stale:
            before = self._client
            self._renew_client()
            if not self._calls[before]:  # else the last of its calls does that
                await _close(before)
        client = self._client
        self._calls[client] += 1
        try:
            return await ask()
        except Exception as error:  # noqa: BLE001  # redis-py's errors have no common class
            self._is_cluster |= isinstance(error, self._errors.MovedError)
            # Whatever was answered: after a failover the address leads to another server, while
            # the old one keeps its connections.
            self._is_stale = True
            if is_again or not self._is_elsewhere(error):
                raise self._translated(error) from None
        except BaseException:
            # A late reply would be taken for the next answer.
            self._is_stale = True
            raise
        finally:
            self._calls[client] -= 1
            if not self._calls[client]:
                del self._calls[client]
                if client is not self._client:
                    await _close(client)
        return await self._call(ask, is_again=True)

    def _is_elsewhere(self, error: Exception) -> bool:
        """Return whether another server has the key; Redis 6 says so at the end of its answer."""
        errors = self._errors
        elsewhere = (errors.MovedError, errors.ReadOnlyError, errors.MasterDownError)
        return isinstance(error, elsewhere) or "READONLY" in str(error)

    def _translated(self, error: Exception) -> StoreError:
        """Return the exception to raise for an error of redis-py's."""
        errors, where, said = self._errors, self.address, f"{error}"[:_SAID]
        if isinstance(error, errors.AuthenticationError):
            return StoreError(f"Redis at {where} does not accept the user or the password")
        if isinstance(error, errors.NoPermissionError):
            return StoreError(f"Redis at {where} does not let this user do it: {said}")
        if self._is_elsewhere(error):
            return StoreError(f"Redis at {where} is not the server that has the key: {said}")
        if not isinstance(error, errors.ResponseError):
            return StoreError(f"no connection to Redis at {where}: {said}")
        if str(error).startswith("WRONGTYPE"):
            return StoreError(f"the key in Redis at {where} holds a value of another type")
        if str(error).startswith("CORRUPT"):
            advice = "damaged or of another version of this package: delete the key"
            return StoreError(f"what Redis at {where} holds is {advice}")
        return StoreError(f"Redis at {where} answered: {said}")


class RedisCalls:
    """Calls over a connection, one after the other, each in a task of its own.

    A call goes on if who has asked is cancelled, and so takes its own answer off the connection.

    Args:
        connection: The connection, which others may share.
        timeout: Real seconds that a call may take, and those before it: it is given up when the
            server has answered nobody for so long.
    """

    def __init__(self, connection: RedisConnection, timeout: float) -> None:
        self.timeout = timeout
        self._connection = connection
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()
        """Held by the call that is made now."""
        self._tasks: set[asyncio.Task[Any]] = set()
        """The calls that have not ended."""
        self._is_closed = False

    def start(self, call: Callable[[], Awaitable[_T]]) -> asyncio.Task[_T]:
        """Make a call after all that were started before.

        Raises:
            ClientClosedError: There are to be no more calls, or they are made in another event
                loop that is not closed.
        """
        loop, known = asyncio.get_running_loop(), self._loop
        if self._is_closed or not (known is None or known is loop or known.is_closed()):
            raise ClientClosedError(
                f"the calls to Redis at {self._connection.address} are closed, or belong to "
                "another event loop"
            )
        self._connection.join(self)
        if known is not loop:
            if known is not None:
                self._connection.renew()
            self._loop, self._turn, self._tasks = loop, asyncio.Lock(), set()
        task = loop.create_task(self._connection.take_turn(self._turn, call, self.timeout))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def result(self, task: asyncio.Task[_T]) -> _T:
        """Return the answer to a call that was started."""
        await asyncio.wait({task})
        if task.cancelled():  # not by who waits here
            raise StoreError(f"a call to Redis at {self._connection.address} was cut short")
        return task.result()

    async def answer(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call, and return the answer to it."""
        return await self.result(self.start(call))

    async def aclose(self) -> None:
        """Let the calls end, and let go of the connection."""
        self._is_closed = True
        if self._loop is asyncio.get_running_loop():
            while self._tasks:
                await asyncio.wait(self._tasks)
            await self._connection.leave(self)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.debug("a call failed: %s", error)


_shared: Final = WeakKeyDictionary[
    asyncio.AbstractEventLoop, WeakValueDictionary[str, RedisConnection]
]()


async def _close(client: Any) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1.0):
            await client.aclose()


def plain_url(url: str) -> str:
    """Return a URL without the options that only this package knows, for redis-py itself."""
    return _parsed(url)[0]


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
