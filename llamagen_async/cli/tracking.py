"""When each comic of a batch started and ended, as seen from outside. Sends nothing.

A batch tells which comics run now; looked at often enough, that gives how long each one took.
Times are seconds of the server's clock.
"""

from __future__ import annotations

import statistics
from typing import Final

import attrs

from llamagen_async.batch import BatchProgress
from llamagen_async.cli.estimate import TYPICAL

__all__ = ["Tracker"]

_ENOUGH: Final = 3
"""Comics that must have ended before their durations say what is typical."""


@attrs.define
class Tracker:
    """Remembers what was seen of the comics of one batch."""

    ids: dict[int, str] = attrs.field(factory=dict[int, str])
    """The generation id of each comic that was ever seen running."""
    _started: dict[int, float] = attrs.field(factory=dict[int, float])
    _ended: dict[int, float] = attrs.field(factory=dict[int, float])

    def look(self, progress: BatchProgress, now: float) -> None:
        """Take in where the batch stands now."""
        running = dict(progress.running)
        for index, id_ in running.items():
            self.ids.setdefault(index, id_)
            self._started.setdefault(index, now)
        for index in self._started:
            if index not in running:
                self._ended.setdefault(index, now)

    def took(self, index: int) -> float | None:
        """Return how long a comic took; `None` if it was not seen to end."""
        ended = self._ended.get(index)
        return None if ended is None else ended - self._started[index]

    def age(self, index: int, now: float) -> float:
        """Return how long a comic has been running."""
        return now - self._started.get(index, now)

    @property
    def typical(self) -> float:
        """How long a comic takes."""
        seen = [ended - self._started[index] for index, ended in self._ended.items()]
        return statistics.median(seen) if len(seen) >= _ENOUGH else TYPICAL
