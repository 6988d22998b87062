"""Hears what is published on a channel of Redis, over a connection of its own.

A help, and nothing that anything depends on: whoever uses it asks the store while it hears nothing,
whatever the reason. So nothing here raises, waits for anybody, or is tried again too often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from llamagen_async.ratelimit.redis.connection import RedisLink

__all__ = ["Listener"]

_logger = logging.getLogger(__name__)
_QUIET: Final = 10.0
"""Real seconds of silence after which the server is asked to say something, and given up."""
_FIRST_REST: Final = 1.0
"""Real seconds after which a connection that was lost is made again, at the earliest."""
_LONGEST_REST: Final = 300.0
"""The same if it was lost again and again, or this user must not listen."""


class Listener:
    """Subscribes to one channel once it is asked to, until it is closed.

    Args:
        link: Knows how to reach the server.
        channel: The channel.
        heard: Called with what is published.
    """

    def __init__(self, link: RedisLink, channel: bytes, heard: Callable[[bytes], None]) -> None:
        self.since: object | None = None
        """Tells one subscription from another; `None` as long as nothing is heard."""
        self._link = link
        self._channel = channel
        self._heard = heard
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._rest = _FIRST_REST
        self._not_before = 0.0
        """When, on the event loop's clock, it may be tried again."""
        self._has_said = self._closed = False

    def start(self) -> None:
        """Begin to listen if that is not done already, without waiting for anything."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # A task of another loop has ended with it.
            self._loop, self._task, self.since = loop, None, None
            self._not_before = loop.time()
        if self._task is None and not self._closed and loop.time() >= self._not_before:
            self._task = loop.create_task(self._listen(loop))

    async def aclose(self) -> None:
        """Stop, and close the connection."""
        self._closed = True
        if self._task is not None and self._loop is asyncio.get_running_loop():
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            async with self._link.subscriber() as subscriber:
                await self._hear_all(subscriber)
        except Exception as error:  # noqa: BLE001  # nobody depends on it: it has no errors
            if not self._has_said:
                self._has_said = True
                _logger.debug("can't hear of pauses, hence asks: %r", self._link.explained(error))
        finally:
            if self._loop is loop:
                self._task = self.since = None
                self._not_before = loop.time() + self._rest
                self._rest = min(2 * self._rest, _LONGEST_REST)

    async def _hear_all(self, subscriber: Any) -> None:
        async with asyncio.timeout(_QUIET):
            await subscriber.subscribe(self._channel)
        is_asked = False
        while True:
            message = await subscriber.get_message(timeout=_QUIET)
            if message is None:
                if is_asked or self.since is None:
                    raise TimeoutError("no answer")
                is_asked = True
                async with asyncio.timeout(_QUIET):
                    await subscriber.ping()
                continue
            is_asked = False
            if message["type"] == "subscribe":
                # Again, too, if redis-py has made another connection meanwhile.
                self.since = object()
                self._rest = _FIRST_REST
            elif message["type"] == "message":
                with contextlib.suppress(TypeError, ValueError):
                    self._heard(message["data"])
