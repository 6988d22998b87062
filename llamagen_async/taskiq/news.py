"""News of the jobs, as Redis tells them: one connection for all who read events in this process.

What is told may be lost while there is no connection. So whoever reads compares marks, and each
job that is read is looked up again once there is a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from llamagen_async.batch.journal.codec import Row
from llamagen_async.errors import JournalError
from llamagen_async.observing import logger_of
from llamagen_async.redis_server import plain_url
from llamagen_async.taskiq.rows import row_of

__all__ = ["JobNews"]

_logger = logger_of(__name__)

_QUIET: Final = 15.0
"""Real seconds after which the jobs that are read are looked up all the same: Redis drops news for
readers that are slow, and a connection may be dead without telling."""
_PAUSE: Final = 0.2
"""Real seconds before the first attempt to connect again; each further one is twice as long."""
_LONGEST: Final = 5.0
"""Real seconds before an attempt to connect again, at most."""


class JobNews:
    """The rows of jobs as they change.

    Args:
        url: The server's URL.
        prefix: The beginning of the names of all keys of the jobs.
        told: Given each row that has changed.
        missed: Called when changes may have been missed.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        told: Callable[[Row], None],
        missed: Callable[[], Awaitable[None]],
    ) -> None:
        self._url = plain_url(url)
        self._channel = f"{prefix}:told"
        self._told = told
        self._missed = missed
        self._reader: asyncio.Task[None] | None = None
        self._is_there = asyncio.Event()

    async def listen(self) -> None:
        """Begin to listen; on return nothing that is told from now on is missed.

        Redis may be away: then it is when there is a connection, and `missed` is called.
        """
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST):
                await self._is_there.wait()

    async def aclose(self) -> None:
        """Listen no more."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        pause = _PAUSE
        # redis-py's types say little; its errors have no common class.
        redis: Any = importlib.import_module("redis.asyncio")
        while True:
            client = redis.Redis.from_url(self._url)
            try:
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    await self._take(pubsub)
            except Exception as error:  # noqa: BLE001  # whatever it is, it may be better soon
                _logger.warning("no news of jobs from Redis: %s", type(error).__name__)
            finally:
                pause = _PAUSE if self._is_there.is_set() else pause
                self._is_there.clear()
                with contextlib.suppress(Exception):
                    await client.aclose()
            await asyncio.sleep(pause)
            pause = min(_LONGEST, 2 * pause)

    async def _take(self, pubsub: Any) -> None:
        loop = asyncio.get_running_loop()
        looked_at, is_answered = loop.time(), True
        while True:
            message = await pubsub.get_message(timeout=_QUIET)
            if message is None:
                if not is_answered:
                    raise TimeoutError("no answer")
                await pubsub.ping()
            is_answered = message is not None
            is_first = message is not None and message["type"] == "subscribe"
            if is_first:
                self._is_there.set()
            if is_first or loop.time() - looked_at >= _QUIET:
                looked_at = loop.time()
                await self._missed()
            if message is not None and message["type"] == "message":
                self._tell(message["data"])

    def _tell(self, data: bytes) -> None:
        try:
            row = row_of(json.loads(data))
        except (ValueError, JournalError) as error:
            _logger.warning("news of a job that can't be read: %s", error)
            return
        self._told(row)
