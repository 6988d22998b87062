"""The events of a queue's jobs, and the subscriptions to them. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.models import AnyGeneration, BatchState

__all__ = ["ComicEvent", "ComicJob", "Subscription", "Subscriptions"]

_FINAL: Final = frozenset({BatchState.SUCCEEDED, BatchState.FAILED, BatchState.UNCERTAIN})


@attrs.frozen
class ComicJob:
    """One job of a queue; valid after a restart, too."""

    key: str
    """The job's name: the one it was submitted with, or one that was made up."""


@attrs.frozen
class ComicEvent:
    """The state of a job at one time."""

    job: ComicJob
    """The job."""
    state: BatchState
    """How far the job has come."""
    generation: AnyGeneration | None
    """The server's last answer about the comic."""
    error: Exception | None
    """The reason why the job did not succeed, or, in a state that is not final, why it does not go
    on now."""
    files: tuple[Path, ...]
    """The comic's pictures, if they were asked for."""
    at: datetime
    """The time of the event, in UTC."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the job, unless somebody asks for it."""
        return self.state in _FINAL or (self.state is BatchState.RUNNING and self.error is not None)


Subscription = asyncio.Queue[tuple[int, ComicEvent] | None]
"""Events that one reader has not taken yet, each with its serial number; `None` is the end."""


class Subscriptions:
    """The readers of each job's events."""

    def __init__(self) -> None:
        self._by_key: dict[str, list[Subscription]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    @contextmanager
    def open(self, key: str) -> Generator[Subscription, None, None]:
        """Read the events of one job."""
        subscription: Subscription = asyncio.Queue()
        self._by_key.setdefault(key, []).append(subscription)
        try:
            yield subscription
        finally:
            subscriptions = self._by_key[key]
            subscriptions.remove(subscription)
            if not subscriptions:
                del self._by_key[key]

    def tell(self, event: ComicEvent, serial: int) -> None:
        """Tell all who read the job of `event`."""
        for subscription in self._by_key.get(event.job.key, ()):
            subscription.put_nowait((serial, event))

    def close(self) -> None:
        """Tell all who read anything that there will be no more."""
        for subscriptions in self._by_key.values():
            for subscription in subscriptions:
                subscription.put_nowait(None)
