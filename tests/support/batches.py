"""Batches over a network in memory: stories to give them, and ways to take their items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llamagen_async import (
    Batch,
    BatchItem,
    LlamaGenClient,
)
from tests.support.machine import ROOMY
from tests.support.scripted import Network, minute

__all__ = ["FORMS", "Source", "collect", "read_into", "roomy"]

FORMS = pytest.mark.parametrize("form", ["plain", "awaited"])


def roomy(seconds: float = 60.0, **settings: Any) -> Network:
    """Return a network whose limit is never in the way."""
    return Network(minute(seconds, plans={"the-key": ROOMY}), key="the-key", **settings)


async def collect(client: LlamaGenClient, stories: Any, **settings: Any) -> list[BatchItem]:
    return [item async for item in client.comics.batch(stories, **settings)]


async def read_into(items: list[BatchItem], batch: Batch) -> None:
    """Append the items of a batch to a list, which keeps them if the batch raises an error."""
    async for item in batch:
        items.append(item)  # noqa: PERF401


class Source:
    """Stories that record how far they were read and whether they were closed."""

    def __init__(self, number: int, *, error: Exception | None = None) -> None:
        self.read = 0
        self.closed = False
        self._number = number
        self._error = error

    def plain(self) -> Iterator[str]:
        try:
            while self.read < self._number:
                self.read += 1
                yield f"s{self.read - 1}"
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True

    async def awaited(self) -> AsyncIterator[str]:
        try:
            while self.read < self._number:
                self.read += 1
                await asyncio.sleep(0.01)
                yield f"s{self.read - 1}"
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True

    def stories(self, form: str) -> Any:
        return self.plain() if form == "plain" else self.awaited()
