"""What a run and the ones before it know of each story, on disk: there may be a million stories.

All of it is in temporary files that vanish with the process; the journal is what lasts.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from llamagen_async.cli.results.records import RESULTS, Record
from llamagen_async.models import BatchState

__all__ = ["EarlierResults", "Notes"]

_NOTES: Final = """
    CREATE TABLE ended (key TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE note (id INTEGER PRIMARY KEY, key TEXT UNIQUE, number INTEGER, state TEXT,
        text TEXT);
"""
_LINES: Final = """
    CREATE TABLE line (place INTEGER PRIMARY KEY, key TEXT, generation TEXT);
    CREATE INDEX line_by_key ON line (key);
    CREATE INDEX line_by_generation ON line (generation);
"""


class Notes:
    """What this run knows of its stories."""

    def __init__(self) -> None:
        self._file = _temporary(_NOTES)
        weakref.finalize(self, self._file.close)

    def had_ended(self, key: str) -> None:
        """Note that a story had ended before this run."""
        self._file.execute("INSERT OR IGNORE INTO ended VALUES (?)", (key,))

    def is_old(self, key: str | None) -> bool:
        """Return whether a story had ended before this run."""
        found = self._file.execute("SELECT 1 FROM ended WHERE key = ?", (key,))
        return found.fetchone() is not None

    def add(self, record: Record, *, in_journal: bool) -> None:
        """Note what became of a story; what the journal has of it is left out."""
        kept = record
        if in_journal:
            kept = attrs.evolve(record, prompt="", request={}, files=(), pages=())
        self._file.execute(
            "INSERT INTO note (key, number, state, text) VALUES (?, ?, ?, ?) ON CONFLICT (key) "
            "DO UPDATE SET number = excluded.number, state = excluded.state, text = excluded.text",
            (
                kept.key if in_journal else None,
                record.index,
                record.state.value,
                json.dumps(kept.to_json(), default=str),
            ),
        )

    def of(self, key: str) -> Record | None:
        """Return what is noted of a story of the journal."""
        found = self._file.execute("SELECT text FROM note WHERE key = ?", (key,)).fetchone()
        return None if found is None else Record.from_json(json.loads(found[0]))

    def others(self) -> Iterator[Record]:
        """Yield all that is noted of stories that are in no journal, in the input's order."""
        found = self._file.execute("SELECT text FROM note WHERE key IS NULL ORDER BY number, id")
        for (text,) in found:
            yield Record.from_json(json.loads(text))

    def drop_unsent(self) -> None:
        """Forget the stories that are in no journal and were not sent."""
        self._file.execute(
            "DELETE FROM note WHERE key IS NULL AND state = ?", (BatchState.QUEUED.value,)
        )

    def close(self) -> None:
        """Forget everything."""
        self._file.close()


class EarlierResults:
    """The `results.jsonl` that earlier runs left in a folder; what can't be read is left out.

    It is the file itself that is read again: only where each line begins is remembered.
    """

    def __init__(self, folder: Path) -> None:
        self._index = _temporary(_LINES)
        weakref.finalize(self, self._index.close)
        self._lines: BinaryIO | None = None
        with contextlib.suppress(OSError):
            self._lines = (folder / RESULTS).open("rb")
        if self._lines is None:
            return
        place = 0
        for line in self._lines:
            record = _record(line)
            if record is not None:
                values = (place, record.key, record.id)
                self._index.execute("INSERT INTO line VALUES (?, ?, ?)", values)
            place += len(line)

    def take(self, key: str, id_: str | None) -> Record | None:
        """Return what is known of a story, which is known no more afterwards."""
        found = self._index.execute(
            "SELECT place FROM line WHERE generation = ? "
            "UNION ALL SELECT place FROM line WHERE key = ? AND (generation IS NULL OR ? IS NULL)",
            (id_, key, id_),
        ).fetchall()
        for place in found:
            self._index.execute("DELETE FROM line WHERE place = ?", place)
        return self._at(*found[0]) if found else None

    def left(self) -> Iterator[Record]:
        """Yield what was, or may have been, paid for and was not taken."""
        for (place,) in self._index.execute("SELECT place FROM line ORDER BY place"):
            record = self._at(place)
            if record is not None and (record.id or record.state is BatchState.UNCERTAIN):
                yield record

    def close(self) -> None:
        """Let go of the file."""
        self._index.close()
        if self._lines is not None:
            self._lines.close()

    def _at(self, place: int) -> Record | None:
        assert self._lines is not None
        self._lines.seek(place)
        return _record(self._lines.readline())


def _temporary(tables: str) -> sqlite3.Connection:
    # Without a name it is in memory while it is small, and in a file that nobody sees if not.
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {tables}")
    return connection


def _record(line: bytes) -> Record | None:
    try:
        return Record.from_json(json.loads(line))
    except (ValueError, RecursionError):
        return None
