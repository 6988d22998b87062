"""A clock on which all processes of a machine agree, and which outlives them and the machine.

A stored count needs a time that means the same to the next process, tomorrow, after a reboot. The
wall clock does, but anybody may set it; the monotonic clock can't be set, but it starts from zero
with each boot. So an *anchor* is stored with the count: the ledger's time, and the readings of both
clocks then. The next reader adds what has passed since.

- Same boot: what passed on the monotonic clock.
- Another boot: what passed on the wall clock, for that is all that is left.
- Unknown (a system that has no boot id): the smaller of both. A monotonic clock that shows less
  than it did means a boot in between.

Time that passes too slowly only delays requests; time that passes too fast breaks the limit. So
the doubt always goes to "less", and never below zero: the ledger's time does not go back. What
can't be detected is a wall clock that is set forward while the machine is off.

`advance` does no I/O; `read_machine_clock` does nothing else. Seconds are real ones.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["Anchor", "advance", "boottime", "read_machine_clock"]

_TOLERANCE: Final = 3_600.0
"""Seconds by which an anchor may be ahead: it is no more than moments, if all is well."""
_LATEST: Final = 1e10
"""Real seconds that a file may have been in use: three hundred years."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""The file in which Linux tells one boot from another, see `random(4)`."""


class Anchor(NamedTuple):
    """A moment on the ledger's clock, and what the machine's clocks showed then."""

    now: float
    """The ledger's time in real seconds; the first anchor of all is at 0."""
    wall: float
    """Unix time in seconds; may be set at any time."""
    monotonic: float
    """Seconds since an origin that is the same for all processes until the next boot."""
    boot_id: str | None
    """The id of the present boot; `None` if the system does not say."""

    @classmethod
    def load(cls, clock: Sequence[Any]) -> Anchor:
        """Return an anchor that was stored as JSON; raise an error if it can't be one."""
        now, wall, monotonic, boot_id = clock
        if not (0 <= now <= _LATEST and math.isfinite(wall) and math.isfinite(monotonic)):
            raise ValueError("a clock that can't be")
        return cls(now, wall, monotonic, boot_id)


def advance(anchor: Anchor | None, reading: Anchor) -> Anchor:
    """Return the present moment, given the last one that was stored (`None`: there is none).

    Raises:
        ValueError: Time would have to stand still for hours. Within one boot no clock shows less
            than it did, so another program has written the anchor.
    """
    if anchor is None:
        return reading
    wall = reading.wall - anchor.wall
    monotonic = reading.monotonic - anchor.monotonic
    if anchor.boot_id is not None and anchor.boot_id == reading.boot_id:
        if monotonic < -_TOLERANCE:
            raise ValueError("a clock that is ahead of this machine's")
        # A reading that is older than the anchor must not replace it: what lies between the
        # two would be counted a second time.
        return anchor if monotonic < 0 else reading._replace(now=anchor.now + monotonic)
    rebooted = None not in (anchor.boot_id, reading.boot_id) or monotonic < 0
    elapsed = wall if rebooted else min(wall, monotonic)
    return reading._replace(now=anchor.now + max(0.0, elapsed))


def read_machine_clock() -> Anchor:
    """Return what the clocks of this machine show, as the first anchor of all."""
    return Anchor(0.0, time.time(), boottime(), _boot_id())


def boottime() -> float:
    """Return monotonic seconds; on Linux they count while the machine is suspended, too."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@functools.cache
def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None
