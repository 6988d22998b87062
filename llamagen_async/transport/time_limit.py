"""A time limit that is no end of what came while the event loop was blocked.

A program may block its loop for longer than a request may take: at a breakpoint, or in a long
computation. The answer has come meanwhile, and waits in the same turn of the loop in which the time
is up: it may be that of a create, and is read before the limit is enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

__all__ = ["time_limit"]

_LATE: Final = 1.0
"""Seconds by which a loop is late, at least, if it was blocked (chosen)."""
_MOMENT: Final = 5.0
"""Seconds for which an answer is read then (chosen)."""


@contextlib.asynccontextmanager
async def time_limit(seconds: float) -> AsyncGenerator[None, None]:
    """End what is done while the result is entered after some seconds of the loop's clock.

    Raises:
        TimeoutError: Time was up.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    async with asyncio.timeout(None) as limit:

        def expire() -> None:
            now = loop.time()
            limit.reschedule(now + _MOMENT if now > until + _LATE else now)

        timer = loop.call_at(until, expire)
        try:
            yield
        finally:
            timer.cancel()
