"""Records of stories, and journals with stories in them, for tests of the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from llamagen_async.batch.journal.codec import AccountId, Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.results.records import PanelFile, Record
from llamagen_async.models import BatchState, ComicGeneration

__all__ = ["DONE", "FAILED", "UNSENT", "add_row", "opened_journal"]

DONE: Final = Record(
    0,
    BatchState.SUCCEEDED,
    label="s.jsonl:1",
    id="cmc_1",
    prompt="A cat & a dog",
    request={"prompt": "A cat & a dog", "size": "1024x768", "style": "ink", "language": "en"},
    files=("cmc_1-p01-01.png", "cmc_1-p02-01.png", "cmc_1-output.png"),
    pages=(
        (PanelFile("cmc_1-p01-01.png", "A cat"),),
        (PanelFile("cmc_1-p02-01.png", "A dog"), PanelFile("", "lost")),
    ),
    seconds=63.0,
)
FAILED: Final = Record(1, BatchState.FAILED, id="cmc_2", prompt="B", error="the filter stopped it")
UNSENT: Final = Record(2, BatchState.QUEUED, prompt="C", request={"prompt": "C"})


@asynccontextmanager
async def opened_journal(path: Path) -> AsyncIterator[Journal]:
    """Open a journal of a key and a server that do not exist."""
    journal = Journal(path, AccountId("http://127.0.0.1:9", "nobody"))
    await journal.open()
    try:
        yield journal
    finally:
        await journal.aclose()


async def add_row(
    journal: Journal,
    story: Story,
    position: int,
    state: BatchState = BatchState.QUEUED,
    *,
    id: str | None = None,
    error: Exception | None = None,
    files: tuple[str, ...] | None = None,
) -> Row:
    """Take a story into a journal and bring it to a state, as a batch would."""
    row, _ = await journal.add(story, position=position)
    if id is not None:
        comic = ComicGeneration.parse({"id": id, "status": "PENDING", "prompt": "drawn"})
        running = BatchState.RUNNING
        row = await journal.change(row, running, origins=tuple(BatchState), generation=comic)
    if row.state is not state:
        row = await journal.change(row, state, origins=tuple(BatchState), error=error)
    if files is not None:
        row = await journal.change(row, state, origins=tuple(BatchState), files=files)
    return row
