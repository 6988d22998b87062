"""What readers of a queue are told, and who reads. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.models import BatchState, ComicGeneration

__all__ = ["ComicEvent", "ComicJob", "Feed", "Feeds"]

_FINAL: Final = frozenset({BatchState.SUCCEEDED, BatchState.FAILED, BatchState.UNCERTAIN})


@attrs.frozen
class ComicJob:
    """One job of a queue: as good after a restart as before."""

    key: str
    """Its name: the one it was submitted with, or one that was made up."""


@attrs.frozen
class ComicEvent:
    """What is known of a job at one time."""

    job: ComicJob
    """Which one."""
    state: BatchState
    """Where it stands."""
    generation: ComicGeneration | None
    """What the server last said of it."""
    error: Exception | None
    """Why it did not succeed; in a state that is not final, why it does not go on now."""
    files: tuple[Path, ...]
    """Its pictures, if they were asked for."""
    at: datetime
    """When that was, in UTC."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it, unless somebody asks for it."""
        return self.state in _FINAL or (self.state is BatchState.RUNNING and self.error is not None)


Feed = asyncio.Queue[tuple[int, ComicEvent] | None]
"""What one reader has not seen yet, each with its serial number; `None` is the end."""


class Feeds:
    """Who reads the events of which job."""

    def __init__(self) -> None:
        self._feeds: dict[str, list[Feed]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._feeds

    @contextmanager
    def open(self, key: str) -> Generator[Feed, None, None]:
        """Read the events of one job."""
        feed: Feed = asyncio.Queue()
        self._feeds.setdefault(key, []).append(feed)
        try:
            yield feed
        finally:
            feeds = self._feeds[key]
            feeds.remove(feed)
            if not feeds:
                del self._feeds[key]

    def tell(self, event: ComicEvent, serial: int) -> None:
        """Tell all who read the job of `event`."""
        for feed in self._feeds.get(event.job.key, ()):
            feed.put_nowait((serial, event))

    def close(self) -> None:
        """Tell all who read anything that there will be no more."""
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.put_nowait(None)
