"""One user's machine: what it sends, and the journal on its disk, through many programs."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llamagen_async import (
    BatchItem,
    BatchState,
    ComicGeneration,
    ComicJob,
    ComicQueue,
    LlamaGenClient,
    Plan,
    RateLimit,
)
from tests.support.scripted import Network, left_over, minute

__all__ = ["ROOMY", "Machine", "Pictures", "fetching", "known", "named", "states"]

ROOMY = Plan("roomy", limits=RateLimit(1_000, per=60))
_numbers = itertools.count()


class Machine(Network):
    """A network whose clients are all the same user's, and the journal on that user's disk."""

    def __init__(
        self,
        folder: Path,
        seconds: float = 60.0,
        plan: Plan = ROOMY,
        *,
        service: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        server = minute(seconds, plans={"the-key": plan}, **(service or {}))
        super().__init__(server, key="the-key", **settings)
        self.plan = plan
        # What this process remembers of spent requests is of another virtual day.
        self.url = f"https://resumed-{next(_numbers)}.invalid"
        self.journal = folder / "run.db"

    def open(self) -> LlamaGenClient:
        return self.client(self.plan, base_url=self.url)

    async def batch(
        self, stories: Any, *, leave_after: int | None = None, **settings: Any
    ) -> list[BatchItem]:
        """Run a batch as a program of its own, up to its end or a `break`."""
        items: list[BatchItem] = []
        async with self.open() as client:
            async with client.comics.batch(stories, journal=self.journal, **settings) as batch:
                async for item in batch:
                    items.append(item)
                    if len(items) == leave_after:
                        break
            assert not left_over()
        return items

    def rows(self, columns: str = "state, generation_id") -> list[Any]:
        """Return columns of the rows on disk."""
        with contextlib.closing(sqlite3.connect(self.journal)) as connection:
            return connection.execute(f"SELECT {columns} FROM job ORDER BY id").fetchall()


def states(items: list[BatchItem]) -> dict[BatchState, int]:
    return dict(Counter(item.state for item in items))


def named(number: int) -> list[str]:
    return [f"s{n}" for n in range(number)]


class Pictures:
    """Fetches pictures that are made up, and counts how often it is asked."""

    def __init__(self, *errors: Exception) -> None:
        self.fetched: list[str] = []
        self._errors = list(errors)

    async def download(self, comic: ComicGeneration, folder: Any, **_given: Any) -> list[Path]:
        if self._errors:
            raise self._errors.pop(0)
        self.fetched.append(comic.id)
        files = [Path(folder, f"{comic.id}-{n}.png") for n in range(2)]
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text("picture")
        return files


def fetching(pictures: Pictures) -> Callable[..., Any]:
    """Return what takes the place of `Comics.download`."""

    async def download(
        _self: Any, comic: ComicGeneration, folder: Any, **_given: Any
    ) -> list[Path]:
        return await pictures.download(comic, folder)

    return download


async def known(queue: ComicQueue, job: ComicJob) -> ComicJob:
    """Return a job of a queue as it stands now."""
    found = await queue.get(job.key)
    assert found is not None
    return found
