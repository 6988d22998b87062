"""The script that changes jobs in Redis, asked again and again while Redis is away."""

from __future__ import annotations

import asyncio
import importlib.resources
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from llamagen_async.errors import JournalError
from llamagen_async.observing import logger_of
from llamagen_async.redis_server import RedisCalls, RedisConnection
from llamagen_async.stored_values import StoreError

__all__ = ["LONG", "SHORT", "JobScript"]

_logger = logger_of(__name__)

_TIMEOUT: Final = 5.0
"""Real seconds that one call to Redis may take."""
SHORT: Final = 10.0
"""Real seconds for which a call is repeated while Redis is away: nothing was sent yet, and whoever
asked hears of it."""
LONG: Final = 600.0
"""Real seconds for which it is repeated to write what came of a request that was sent."""
_SLOWEST: Final = 2.0
"""Real seconds between two attempts, at most."""


class JobScript:
    """The script under one prefix of a Redis; for one event loop.

    Args:
        url: The server's URL.
        prefix: The beginning of the names of all keys.
        common: The arguments of every verb.

    Raises:
        InvalidRequestError: The URL is not valid, or redis-py is not installed.
    """

    def __init__(self, url: str, prefix: str, common: Mapping[str, Any]) -> None:
        script = importlib.resources.files("llamagen_async.taskiq").joinpath("jobs.lua")
        self._connection = RedisConnection(url, script.read_bytes())
        self._calls = RedisCalls(self._connection, _TIMEOUT)
        self._prefix = prefix.encode()
        self._common = common

    @property
    def address(self) -> str:
        """The server's address, without a password."""
        return self._connection.address

    async def close(self) -> None:
        """Let the calls end, and close the connections."""
        await self._calls.aclose()

    async def call(
        self, verb: str, asked: Mapping[str, Any], *, wait: float = SHORT, news: str = ""
    ) -> Any:
        """Evaluate a verb of the script, again and again while Redis is away.

        Args:
            verb: The verb.
            asked: Its arguments.
            wait: Real seconds for which it is tried.
            news: What would be lost if it can't be written.

        Raises:
            JournalError: Redis was away for that long.
        """
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + wait, 0.05
        text = json.dumps({**self._common, **asked}, ensure_ascii=False).encode(errors="replace")
        ask = partial(self._connection.evaluate, self._prefix, verb.encode(), text)
        while True:
            try:
                word, *rest = await self._calls.answer(ask)
            except StoreError as error:
                if news and wait > SHORT:
                    _logger.warning("not in Redis yet: %s: %s", news, error)
                if loop.time() + pause > until:
                    raise JournalError(str(error)) from error
                await asyncio.sleep(pause)
                pause = min(_SLOWEST, 2 * pause)
            else:
                kicks = rest[1] if verb != "turns" else ()
                if kicks:
                    rest[1] = [tuple(one.decode() for one in kick) for kick in kicks]
                return word.decode(), *rest

    async def execute(self, *command: str) -> Any:
        """Return Redis's answer to a command.

        Raises:
            StoreError: There is none.
        """
        return await self._calls.answer(partial(self._connection.execute, *command))
