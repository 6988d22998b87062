"""Reading the rows of a journal, as they should be where the file could not be written."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llamagen_async.batch.journal.codec import COLUMNS, Row
from llamagen_async.errors import JournalError

__all__ = ["Rows"]

_SELECT: Final = f"SELECT {COLUMNS} FROM job"  # noqa: S608  # constants
_DAMAGED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""Errors of reading a row that is not as it was written."""


class Rows:
    """The rows of one journal. All methods run inside a transaction.

    Args:
        path: The journal's file, for messages.
    """

    def __init__(self, path: Path | None) -> None:
        self.behind: dict[int, Row] = {}
        """Rows as they should be, where the file could not be written."""
        self._path = path
        self._serial = 0

    def of_key(self, key: str, connection: sqlite3.Connection) -> Row | None:
        """Return the story of that key."""
        rows = self.select("WHERE key = ?", (key,), connection)
        return rows[0] if rows else None

    def select(
        self, where: str, values: Sequence[Any] | Mapping[str, Any], connection: sqlite3.Connection
    ) -> list[Row]:
        """Return the stories as they should be."""
        rows = self.read(where, values, connection)
        return [self.behind.get(row.id, row) for row in rows] if self.behind else rows

    def read(
        self, where: str, values: Sequence[Any] | Mapping[str, Any], connection: sqlite3.Connection
    ) -> list[Row]:
        """Return the stories as the file has them.

        Raises:
            JournalError: A row is not as it was written.
        """
        self._serial += 1
        try:
            return [
                Row(self._serial, *columns)
                for columns in connection.execute(f"{_SELECT} {where}", values)
            ]
        except _DAMAGED as error:
            raise JournalError(f"{self._path}: it is damaged ({error!r})") from error
