"""Time as the server's clock runs: the one place that knows `speed`.

Every duration inside this package is in seconds of the server's clock. Against the real API
that is real time; against a sandbox that runs 60 times faster, 60 of them pass in one real
second. Waits are measured on the event loop's clock, which is monotonic and which tests move.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

import attrs

from llamagen_async.validation import InvalidRequestError, number, seconds

__all__ = ["DEFAULT_TIMEOUT", "Clock"]

DEFAULT_TIMEOUT: Final = 1800.0
"""Seconds that each generation is waited for, unless the caller says otherwise."""


def _speed(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    try:
        seconds(attribute.name, value)
    except InvalidRequestError:
        raise InvalidRequestError(attribute.name, value, "a number greater than 0") from None


@attrs.frozen
class Clock:
    """A clock that runs `speed` times as fast as the running event loop's."""

    speed: float = attrs.field(default=1.0, converter=number, validator=_speed)
    """Seconds of the server's clock in one second of the event loop's clock."""

    def now(self) -> float:
        """Return the time in seconds of the server's clock; only differences mean anything."""
        return asyncio.get_running_loop().time() * self.speed

    def real(self, seconds: float) -> float:
        """Return the seconds of the event loop that `seconds` of the server take."""
        return seconds / self.speed

    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed on the server's clock, never earlier."""
        until = self.now() + seconds
        # A loop may run a timer early by as much as its clock's resolution.
        while (left := until - self.now()) > 0:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(self.real(left))

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return once `event` is set or `seconds` (which may be infinite) have passed."""
        if event.is_set():
            return
        if math.isinf(seconds):
            await event.wait()
            return
        try:
            async with asyncio.timeout(seconds / self.speed):
                await event.wait()
        except TimeoutError:
            pass
