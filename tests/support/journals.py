"""Journals for tests: opened, filled with stories, and read past the package."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from llamagen_async import (
    BatchState,
    ComicGeneration,
)
from llamagen_async.batch.journal.codec import AccountId, Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story

__all__ = ["ORIGIN", "added", "changed", "comic", "opened", "raw"]

ORIGIN = AccountId.of("the-key", "https://api.example/v1")


@contextlib.asynccontextmanager
async def opened(path: Path | None, origin: AccountId = ORIGIN) -> Any:
    journal = Journal(path, origin)
    try:
        await journal.open()
        yield journal
    finally:
        await journal.aclose()


def comic(id_: str = "c1", status: str = "PENDING") -> ComicGeneration:
    return ComicGeneration.parse({"id": id_, "status": status, "new": {"field": 1}})


async def added(journal: Journal, prompt: str = "a cat", key: str | None = None) -> Row:
    row, _ = await journal.add(Story.parse(prompt, key))
    return row


async def changed(journal: Journal, row: Row, *states: BatchState, **news: Any) -> Row:
    for state in states:
        row = await journal.change(row, state, origins=tuple(BatchState), **news)
    return row


def raw(path: Path, sql: str) -> list[Any]:
    """Ask the file itself, through a connection of our own."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(sql).fetchall()
        connection.commit()
        return rows
