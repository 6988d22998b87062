"""When each comic of a batch started and ended, as seen from outside. Sends nothing.

A batch tells which comics run now; looked at often enough, that gives how long each one took.
Times are seconds of the server's clock. Only what is in flight is remembered.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import Final

import attrs

from llamagen_async.batch import BatchProgress
from llamagen_async.cli.run.estimate import TYPICAL

__all__ = ["Tracker"]

_ENOUGH: Final = 3
"""Comics that must have ended before their durations say what is typical."""
_RECENT: Final = 500
"""Comics whose durations say what is typical, at most."""


def _recent() -> deque[float]:
    return deque(maxlen=_RECENT)


@attrs.define
class Tracker:
    """Remembers what was seen of the comics of one batch."""

    earlier: frozenset[str] = frozenset()
    """The generation ids of comics that ran before anybody looked."""
    ids: dict[int, str] = attrs.field(factory=dict[int, str])
    """The generation id of each comic that was seen running and not told of yet."""
    _started: dict[int, float] = attrs.field(factory=dict[int, float])
    _took: dict[int, float] = attrs.field(factory=dict[int, float])
    _typical: deque[float] = attrs.field(factory=_recent)

    def look(self, progress: BatchProgress, now: float) -> None:
        """Take in where the batch stands now."""
        running = dict(progress.running)
        for index, id_ in running.items():
            self.ids.setdefault(index, id_)
            self._started.setdefault(index, now)
        for index in self._started.keys() - running.keys():
            took = now - self._started.pop(index)
            if self.ids[index] not in self.earlier:
                self._took[index] = took
                self._typical.append(took)

    def told(self, index: int) -> float | None:
        """Forget a comic and return how long it took; `None` if it was not seen from its start."""
        self.ids.pop(index, None)
        self._started.pop(index, None)
        return self._took.pop(index, None)

    def age(self, index: int, now: float) -> float:
        """Return how long a comic has been running, as far as was seen."""
        return now - self._started.get(index, now)

    @property
    def typical(self) -> float:
        """How long a comic takes."""
        return statistics.median(self._typical) if len(self._typical) >= _ENOUGH else TYPICAL
