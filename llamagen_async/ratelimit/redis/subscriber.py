"""A subscriber to the pauses that Redis publishes, over a connection of its own.

Nothing depends on it: while there is no subscription, for whatever reason, the ledger asks the
store. So nothing here raises, waits for anybody, or is tried again too often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from llamagen_async.ratelimit.redis.connection import RedisConnection

__all__ = ["PauseSubscriber"]

_logger = logging.getLogger(__name__)
_QUIET: Final = 10.0
"""Real seconds of silence after which the server gets a ping; as many later it is given up."""
_FIRST_DELAY: Final = 1.0
"""Real seconds after which a lost connection is made again, at the earliest."""
_MAX_DELAY: Final = 300.0
"""Real seconds up to which `_FIRST_DELAY` is doubled, as when this user must not subscribe."""


class PauseSubscriber:
    """A subscription to one channel, from the first `start` until `aclose`.

    Args:
        connection: The way to the server.
        channel: The channel.
        on_message: Called with each message.
    """

    def __init__(
        self, connection: RedisConnection, channel: bytes, on_message: Callable[[bytes], None]
    ) -> None:
        self.session: object | None = None
        """Identity of the present subscription; `None` while there is none."""
        self._connection = connection
        self._channel = channel
        self._on_message = on_message
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._delay = _FIRST_DELAY
        self._not_before = 0.0
        """Time on the event loop's clock at which the next attempt is allowed."""
        self._has_logged = self._closed = False

    def start(self) -> None:
        """Subscribe if that is not done already, without waiting for anything."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # A task of another loop has ended with that loop.
            self._loop, self._task, self.session = loop, None, None
            self._not_before = loop.time()
        if self._task is None and not self._closed and loop.time() >= self._not_before:
            self._task = loop.create_task(self._subscribe(loop))

    async def aclose(self) -> None:
        """Stop, and close the connection."""
        self._closed = True
        if self._task is not None and self._loop is asyncio.get_running_loop():
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _subscribe(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            async with self._connection.subscriber() as subscriber:
                await self._receive(subscriber)
        except Exception as error:  # noqa: BLE001  # nothing depends on it: it has no errors
            if not self._has_logged:
                self._has_logged = True
                _logger.debug(
                    "can't hear of pauses, hence asks: %r", self._connection.translate_error(error)
                )
        finally:
            if self._loop is loop:
                self._task = self.session = None
                self._not_before = loop.time() + self._delay
                self._delay = min(2 * self._delay, _MAX_DELAY)

    async def _receive(self, subscriber: Any) -> None:
        async with asyncio.timeout(_QUIET):
            await subscriber.subscribe(self._channel)
        is_asked = False
        while True:
            message = await subscriber.get_message(timeout=_QUIET)
            if message is None:
                if is_asked or self.session is None:
                    raise TimeoutError("no answer")
                is_asked = True
                async with asyncio.timeout(_QUIET):
                    await subscriber.ping()
                continue
            is_asked = False
            if message["type"] == "subscribe":
                # This comes again if redis-py has made another connection meanwhile.
                self.session = object()
                self._delay = _FIRST_DELAY
            elif message["type"] == "message":
                with contextlib.suppress(TypeError, ValueError):
                    self._on_message(message["data"])
