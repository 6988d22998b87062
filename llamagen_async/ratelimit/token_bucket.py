"""The token bucket of one window: an `aiolimiter` that takes back what was not used.

A window of which no more than `limit` requests leave in any `per` seconds never empties a bucket of
`limit` tokens that gains one every `per / limit` seconds. So a bucket delays nothing that a ledger
grants, unless the ledger is wrong.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from aiolimiter import AsyncLimiter

from llamagen_async.clock import Clock
from llamagen_async.plans import RateLimit

__all__ = ["TokenBucket"]

_ROUNDING: Final = 1e-6
"""Part of a token by which a bucket is larger, so that rounding errors delay nothing."""


class TokenBucket:
    """The tokens of one window, in one event loop.

    Args:
        limit: The window.
        clock: The server's clock.
        burst: Tokens that may be taken back to back; `None` is as many as fit into the window.
    """

    def __init__(self, limit: RateLimit, clock: Clock, *, burst: int | None = None) -> None:
        size = limit.limit if burst is None else min(burst, limit.limit)
        tokens = size + _ROUNDING
        self._interval = clock.real(limit.interval)
        self._bucket = AsyncLimiter(tokens, tokens * self._interval)
        self._full_at = -math.inf
        """The loop's time at which the bucket is full if nothing else is taken."""
        self._returned = 0.0
        """Tokens that were given back, and that the bucket has not gained by itself since."""

    @property
    def has_token(self) -> bool:
        """Whether a token can be taken without waiting."""
        return self._bucket.has_capacity(1.0 - self._usable())

    async def take(self) -> None:
        """Take a token, as soon as there is one."""
        returned = self._usable()
        self._returned -= returned
        try:
            await self._bucket.acquire(1.0 - returned)
        except BaseException:
            self._returned += returned
            raise
        now = asyncio.get_running_loop().time()
        self._full_at = max(self._full_at, now) + (1.0 - returned) * self._interval

    def give_back(self) -> None:
        """Give back a token of which no use was made."""
        self._returned += 1.0

    def _usable(self) -> float:
        """Return the part of the next token that was given back before."""
        lacking = (self._full_at - asyncio.get_running_loop().time()) / self._interval
        self._returned = min(self._returned, max(0.0, lacking))
        return min(1.0, self._returned)
