"""Time as the server's clock runs: one place that knows `speed`.

Every duration inside this package is in seconds of the server's clock. Against the real API
that is real time; against a sandbox that runs 60 times faster, 60 of them pass in one real
second. Waits are measured on the event loop's clock, which is monotonic and which tests move.
"""

from __future__ import annotations

import asyncio
import math

import attrs

from llamagen_async.validation import positive_number

__all__ = ["Clock"]


def _positive(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    positive_number(attribute.name, value)


@attrs.frozen
class Clock:
    """The running event loop's clock, `speed` times faster."""

    speed: float = attrs.field(default=1.0, validator=_positive)
    """Seconds of the server's clock in one second of the event loop's."""

    def now(self) -> float:
        """Return the seconds on the server's scale; the origin means nothing."""
        return asyncio.get_running_loop().time() * self.speed

    def real(self, seconds: float) -> float:
        """Return how many seconds of the event loop `seconds` of the server are."""
        return seconds / self.speed

    async def sleep(self, seconds: float) -> None:
        """Return when that many seconds have passed, never a moment before."""
        until = self.now() + seconds
        # A loop may run a timer early by as much as its clock's resolution.
        while (left := until - self.now()) > 0:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(self.real(left))

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when `event` is set or `seconds` (which may be infinite) have passed."""
        if event.is_set():
            return
        if math.isinf(seconds):
            await event.wait()
            return
        try:
            async with asyncio.timeout(self.real(seconds)):
                await event.wait()
        except TimeoutError:
            pass
