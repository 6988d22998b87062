"""The event loop to which a queue belongs: what runs in it can be used in no other one."""

from __future__ import annotations

import asyncio

from llamagen_async.errors import ClientClosedError

__all__ = ["HomeLoop"]


class HomeLoop:
    """The event loop in which a queue was used first."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> None:
        """Make sure that the running loop is that one.

        Raises:
            ClientClosedError: It is another one.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise ClientClosedError(
                "the queue belongs to another event loop: make one queue in each loop (queues "
                "share their jobs), or give that loop the call (asyncio.run_coroutine_threadsafe)"
            )

    def is_gone(self) -> bool:
        """Return whether it was closed, and with it has ended what ran in it.

        Raises:
            ClientClosedError: It is another one than the running one, and not closed.
        """
        if self._loop is not None and self._loop.is_closed():
            return True
        if self._loop is not None:
            self.enter()
        return False

    def leave(self) -> None:
        """Let the next loop that is entered be that one."""
        self._loop = None
