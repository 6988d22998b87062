"""The journal: each story of a batch, how far it has come, and the server's id for it, on disk.

A request's intent is written before it is sent, and the generation's id before anything else is
done with it. So the next run knows of each story whether it was paid for, or that nobody can know.
Nothing here sends anything, and no API key is ever written.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from llamagen_async.batch.journal.codec import COLUMNS, AccountId, Row, Story, dump_error
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.journal.schema import prepare
from llamagen_async.errors import (
    InvalidRequestError,
    JournalError,
    SubmissionUncertainError,
)
from llamagen_async.models import BatchState, ComicGeneration
from llamagen_async.validation import checked_path

__all__ = ["Journal"]

_SELECT: Final = f"SELECT {COLUMNS} FROM job"  # noqa: S608  # constants
_INSERT: Final = """
    INSERT INTO job (key, digest, request, urgent, label, position, state, queued_at)
    VALUES (:key, :digest, :request, :urgent, :label, :position, 'queued', :now)
"""
_MOVE: Final = """
    UPDATE job SET
        label = coalesce(nullif(:label, ''), label), position = coalesce(:position, position)
    WHERE id = :id
"""
_FIND: Final = "WHERE key = :key OR generation_id = :generation_id ORDER BY key = :key DESC LIMIT 1"
_UPDATE: Final = """
    UPDATE job SET
        state = :state,
        attempts = attempts + :attempts,
        generation_id = coalesce(:generation_id, generation_id),
        generation = coalesce(:generation, generation),
        error = :error,
        files = coalesce(:files, files),
        sent_at = coalesce(:sent_at, sent_at),
        accepted_at = coalesce(accepted_at, :accepted_at),
        ended_at = coalesce(:ended_at, ended_at)
    WHERE id = :id
"""
_dump: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode
_ENDED: Final = (BatchState.SUCCEEDED, BatchState.FAILED)
_PAGE: Final = 200
"""Rows that are read at a time, so that a long journal is never in memory."""
_DAMAGED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""Errors of reading a row that is not as it was written."""


class Journal:
    """All stories of one key at one server, and what became of them; for one event loop.

    Args:
        path: The file; `None` keeps nothing beyond the life of this object.
        account: The account whose generations it holds.
    """

    def __init__(self, path: str | os.PathLike[str] | None, account: AccountId) -> None:
        file = None if path is None else checked_path("journal", path)
        self._database = Database(file, partial(prepare, file, account))
        self._serial = 0
        self.is_lasting = file is not None
        """Whether the journal is kept in a file."""

    async def open(self) -> None:
        """Open the journal as its only owner; what was being sent in a crash is uncertain now.

        Raises:
            JournalError: The file can't be opened, somebody else works with it, or it is about
                another server or key.
        """
        await self._database.open()
        await self._database.run(self._recover, write=True)

    async def aclose(self) -> None:
        """Finish what is being written, and let go. Closing twice is fine."""
        await self._database.aclose()

    async def add(
        self,
        story: Story,
        *,
        key: str | None = None,
        urgent: bool = False,
        position: int | None = None,
    ) -> tuple[Row, bool]:
        """Take a story in, unless it is there; then only its label and position are replaced.

        Args:
            story: The story.
            key: The story's name if the user has none for it. Without it, the name is made of the
                content and of how many of the same content have come since the journal was opened.
            urgent: Whether somebody waits for it interactively.
            position: The story's number in the input, from 0.

        Returns:
            Its row, and whether it is new.

        Raises:
            InvalidRequestError: Another story has that key.
            JournalError: The story could not be recorded.
        """
        add = partial(self._add, story, key, urgent=urgent, position=position)
        return await self._database.run(add, write=True)

    async def seek(self, story: Story) -> Row | None:
        """Return the row that `add` would return, and add nothing; the story is counted, though."""
        # Counting writes, but not to the file.
        return await self._database.run(partial(self._seek, story), write=False)

    async def get(self, key: str) -> Row | None:
        """Return the story of that key."""
        return await self._database.run(partial(self._get, key), write=False)

    async def find(self, *, key: str = "", generation_id: str = "") -> Row | None:
        """Return the story of that key or else of that generation; either may be left out."""
        names = {"key": key or None, "generation_id": generation_id or None}
        rows = await self._database.run(partial(self._rows, _FIND, names), write=False)
        return rows[0] if rows else None

    async def at(self, id_: int) -> Row:
        """Return the story at that place of the journal."""
        rows = await self._database.run(partial(self._rows, "WHERE id = ?", (id_,)), write=False)
        if not rows:
            raise JournalError(f"{self._database.path}: a story is gone from it")
        return rows[0]

    async def waiting(self, *, urgent: bool, limit: int) -> list[Row]:
        """Return the first stories that are to be sent."""
        where = "WHERE state = 'queued' AND urgent = ? ORDER BY id LIMIT ?"
        return await self._database.run(partial(self._rows, where, (urgent, limit)), write=False)

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
            page = await self._database.run(partial(self._rows, where, values), write=False)
            for row in page:
                yield row
            if len(page) < _PAGE:
                return
            last = page[-1].id

    async def counts(self) -> dict[BatchState, int]:
        """Return how many stories are in each state."""
        return await self._database.run(_counts, write=False)

    async def change(
        self,
        row: Row,
        state: BatchState,
        *,
        origins: Sequence[BatchState],
        generation: ComicGeneration | None = None,
        error: BaseException | None = None,
        files: Sequence[str] | None = None,
    ) -> Row:
        """Write how far a story has come, if it is in one of `origins`.

        Args:
            row: The story.
            state: The story's new state.
            origins: The states it may be in now: a step that is told too late changes nothing.
            generation: The server's answer about the comic.
            error: The reason why it failed.
            files: The comic's pictures, relative to the output folder.

        Returns:
            The row as it is now.

        Raises:
            JournalError: The change could not be recorded.
        """
        now = time.time()
        values: dict[str, Any] = {
            "id": row.id,
            "state": state.value,
            "attempts": int(state is BatchState.SENDING),
            "generation_id": generation.id if generation else None,
            "generation": _dump(generation.raw) if generation else None,
            "error": dump_error(error) if error else None,
            "files": None if files is None else json.dumps(list(files)),
            "sent_at": now if state is BatchState.SENDING else None,
            "accepted_at": now if generation else None,
            "ended_at": now if state in _ENDED and files is None else None,
        }
        change = partial(self._change, frozenset(origins), values)
        return await self._database.run(change, write=True)

    async def forget(self, row: Row) -> None:
        """Remove a story's row."""
        await self._database.run(partial(_forget, row.id), write=True)

    # What follows runs inside a transaction.

    def _recover(self, connection: sqlite3.Connection) -> None:
        """Mark the stories that were being sent when the last owner ended as uncertain."""
        for row in self._rows("WHERE state = 'sending'", (), connection):
            when = datetime.fromtimestamp(row.sent_at or 0.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            reason = f"it was sent at {when}, and the program ended before the answer was recorded"
            error = dump_error(SubmissionUncertainError(None, reason))
            connection.execute(
                "UPDATE job SET state = 'uncertain', error = ? WHERE id = ?", (error, row.id)
            )

    def _add(
        self,
        story: Story,
        key: str | None,
        connection: sqlite3.Connection,
        *,
        urgent: bool,
        position: int | None,
    ) -> tuple[Row, bool]:
        name = story.key or key or _derived_key(story, connection)
        row = self._get(name, connection)
        stands = {"label": story.label, "position": position}
        if row is not None:
            _same(row, story)
            moved = (story.label or row.label, row.position if position is None else position)
            if moved != (row.label, row.position):
                connection.execute(_MOVE, {**stands, "id": row.id})
                (row,) = self._rows("WHERE id = ?", (row.id,), connection)
            return row, False
        values = {
            "key": name,
            "digest": story.digest,
            "request": story.text,
            "urgent": urgent,
            **stands,
            "now": time.time(),
        }
        connection.execute(_INSERT, values)
        added = self._get(name, connection)
        assert added is not None
        return added, True

    def _seek(self, story: Story, connection: sqlite3.Connection) -> Row | None:
        row = self._get(story.key or _derived_key(story, connection), connection)
        return None if row is None else _same(row, story)

    def _get(self, key: str, connection: sqlite3.Connection) -> Row | None:
        rows = self._rows("WHERE key = ?", (key,), connection)
        return rows[0] if rows else None

    def _change(
        self,
        origins: frozenset[BatchState],
        values: dict[str, Any],
        connection: sqlite3.Connection,
    ) -> Row:
        rows = self._rows("WHERE id = ?", (values["id"],), connection)
        if not rows:
            raise JournalError(f"{self._database.path}: a story is gone from it")
        if rows[0].state not in origins:
            return rows[0]
        connection.execute(_UPDATE, values)
        (row,) = self._rows("WHERE id = ?", (values["id"],), connection)
        return row

    def _rows(
        self, where: str, values: Sequence[Any] | Mapping[str, Any], connection: sqlite3.Connection
    ) -> list[Row]:
        self._serial += 1
        try:
            return [
                Row(self._serial, *columns)
                for columns in connection.execute(f"{_SELECT} {where}", values)
            ]
        except _DAMAGED as error:
            raise JournalError(f"{self._database.path}: it is damaged ({error!r})") from error


def _derived_key(story: Story, connection: sqlite3.Connection) -> str:
    """Name a story after its content and how many of the same content came before it.

    So a line that is inserted above it does not make another story of it.
    """
    connection.execute(
        "INSERT INTO seen VALUES (?, 1) ON CONFLICT (digest) DO UPDATE SET number = number + 1",
        (story.digest,),
    )
    (number,) = connection.execute(
        "SELECT number FROM seen WHERE digest = ?", (story.digest,)
    ).fetchone()
    return f"content:{story.digest.hex()}/{number}"


def _same(row: Row, story: Story) -> Row:
    if row.digest != story.digest:
        raise InvalidRequestError(
            "key", row.key, "a key of its own: the journal has another story under this one"
        )
    return row


def _counts(connection: sqlite3.Connection) -> dict[BatchState, int]:
    counted = connection.execute("SELECT state, count(*) FROM job GROUP BY state")
    return {BatchState(state): number for state, number in counted}


def _forget(id_: int, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM job WHERE id = ?", (id_,))
