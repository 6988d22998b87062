"""Questions to a journal: which stories it has, and what became of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.database import Database, Operation
from llamagen_async.batch.journal.rows import Rows
from llamagen_async.batch.journal.schema import FIND, counts_of
from llamagen_async.batch.journal.targets import NEWEST, ORPHANS
from llamagen_async.errors import JournalError
from llamagen_async.models import BatchState

__all__ = ["JournalReader"]

_PAGE: Final = 200
"""Rows that are read at a time, so that a long journal is never in memory."""


class JournalReader:
    """A journal that is asked. Nothing here writes to it.

    Args:
        path: The file; `None` if there is none.
        database: The database in it.
    """

    def __init__(self, path: Path | None, database: Database) -> None:
        self.path: Final = path
        """The file; `None` if there is none."""
        self._database: Final = database
        self._rows: Final = Rows(database.path)

    @property
    def is_lasting(self) -> bool:
        """Whether the journal is kept in a file."""
        return self.path is not None

    async def get(self, key: str) -> Row | None:
        """Return the story of that key."""
        return await self._database.run(partial(self._rows.of_key, key), write=False)

    async def find(self, *, key: str = "", generation_id: str = "") -> Row | None:
        """Return the story of that key or else of that generation; either may be left out."""
        names = {"key": key or None, "generation_id": generation_id or None}
        rows = await self._database.run(partial(self._rows.select, FIND, names), write=False)
        rows += [row for row in self._rows.behind.values() if row.generation_id == generation_id]
        return rows[0] if rows else None

    async def at(self, id_: int) -> Row:
        """Return the story at that place of the journal."""
        rows = await self._database.run(
            partial(self._rows.select, "WHERE id = ?", (id_,)), write=False
        )
        if not rows:
            raise JournalError(f"{self._database.path}: a story is gone from it")
        return rows[0]

    async def newest(self, generation_id: str, *, failed: bool = False) -> Row | None:
        """Return the story that says how a comic was last seen to end.

        Args:
            generation_id: The comic's id.
            failed: Whether an end without success counts, too.
        """
        names = {"generation_id": generation_id, "also": "failed" if failed else None}
        rows = await self._database.run(partial(self._rows.select, NEWEST, names), write=False)
        return rows[0] if rows else None

    async def orphans(self) -> list[Row]:
        """Return the changes that are to be sent, and whose comic there will never be."""
        return await self._database.run(partial(self._rows.select, ORPHANS, ()), write=False)

    async def select(self, where: str, values: Sequence[Any] | Mapping[str, Any]) -> list[Row]:
        """Return the stories that a condition of SQL selects."""
        return await self._database.run(partial(self._rows.select, where, values), write=False)

    async def ask(self, question: Operation[Any]) -> Any:
        """Return the answer to a question, which reads the file and writes nothing."""
        return await self._database.run(question, write=False)

    async def rows(self, *states: BatchState) -> AsyncIterator[Row]:
        """Yield the stories in these states (in any, if none is given), oldest first.

        They are read page by page: a change meanwhile may be seen or not.
        """
        known = states or tuple(BatchState)
        marks = ", ".join("?" * len(known))
        where = f"WHERE state IN ({marks}) AND id > ? ORDER BY id LIMIT ?"
        last = 0
        while True:
            values = (*known, last, _PAGE)
            page = await self._database.run(partial(self._rows.select, where, values), write=False)
            for row in page:
                yield row
            if len(page) < _PAGE:
                return
            last = page[-1].id

    async def counts(self) -> dict[BatchState, int]:
        """Return how many stories are in each state."""
        return await self._database.run(counts_of, write=False)
