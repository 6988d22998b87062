"""The token bucket of one window: an `aiolimiter` that takes back what was not used.

A window of which no more than `limit` requests leave in any `per` seconds never empties a bucket of
`limit` tokens that gains one every `per / limit` seconds. So a bucket delays nothing that a ledger
grants, unless the ledger is wrong.
"""

from __future__ import annotations

import asyncio
from collections import deque
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
        self._returned: deque[float] = deque()
        """The loop's times at which tokens were given back that are not worthless yet."""

    @property
    def has_token(self) -> bool:
        """Whether a token can be taken without waiting."""
        # After this time the bucket has gained the token by itself.
        oldest = asyncio.get_running_loop().time() - self._interval
        while self._returned and self._returned[0] <= oldest:
            self._returned.popleft()
        return bool(self._returned) or self._bucket.has_capacity()

    async def take(self) -> None:
        """Take a token, as soon as there is one."""
        if self.has_token and self._returned:
            self._returned.popleft()
        else:
            await self._bucket.acquire()

    def give_back(self) -> None:
        """Give back a token of which no use was made."""
        self._returned.append(asyncio.get_running_loop().time())
