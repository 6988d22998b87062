"""Reading a journal's file, whoever works with it, and leaving the folder as it is.

Nothing here takes the journal's lock, writes to it, or loads what a batch needs.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

from llamagen_async.batch.journal.file_names import WAL

__all__ = ["DEFAULT_FOLDER", "JOURNAL", "journal_in", "names_in", "read_file"]

_T = TypeVar("_T")

DEFAULT_FOLDER: Final = "comics"
"""The folder of a batch's pictures, if no other was given."""
JOURNAL: Final = "journal.db"
"""The journal's name in that folder, if no other was given."""
_TIMEOUT: Final = 10.0
"""Seconds to wait for another program's lock."""
_NAMES: Final = """
    SELECT name, state FROM (
        SELECT key AS name, state, id FROM job WHERE :keys AND key NOT LIKE 'content:%'
        UNION ALL SELECT generation_id, state, id FROM job WHERE generation_id IS NOT NULL
    ) WHERE substr(name, 1, length(:begin)) = :begin GROUP BY name ORDER BY max(id) DESC LIMIT :most
"""
"""Selects keys, if they are wanted, and ids that begin in a way, the newest first."""
_MOST: Final = 200
"""Names that a shell is offered at most."""


def journal_in(place: Path) -> Path:
    """Return the journal that is meant by a batch's folder, or by the file itself."""
    return place / JOURNAL if place.is_dir() else place


def read_file(path: Path, question: Callable[[sqlite3.Connection], _T]) -> _T:
    """Return the answer to a question about a journal's file.

    Args:
        path: The file, which exists.
        question: Asks, and writes nothing; it may be asked more than once.

    Raises:
        sqlite3.Error: The file can't be read.
    """
    changes = path.with_name(path.name + WAL)
    while True:
        # With `mode=ro` alone SQLite makes files beside it and leaves them there.
        is_alone = not changes.exists()
        mode = "mode=ro&immutable=1" if is_alone else "mode=ro"
        name = f"{path.absolute().as_uri()}?{mode}"
        try:
            with closing(
                sqlite3.connect(name, uri=True, timeout=_TIMEOUT, isolation_level=None)
            ) as connection:
                connection.execute("BEGIN")
                value = question(connection)
        except sqlite3.Error:
            if is_alone and changes.exists():
                continue
            raise
        if is_alone and changes.exists():
            continue  # somebody has begun to write meanwhile
        return value


def names_in(place: Path, begin: str, *, keys: bool) -> list[tuple[str, str]]:
    """Return the ids that a journal has, and their stories' states, for a shell's completion.

    Args:
        place: A batch's folder, or the journal.
        begin: The beginning of the names.
        keys: Whether the keys that a user has given are wanted, too.

    Returns:
        At most 200, the newest first; none if there is no such journal, or it can't be read.
    """
    path = journal_in(place)
    values = {"begin": begin, "keys": keys, "most": _MOST}
    with contextlib.suppress(sqlite3.Error, OSError, ValueError):
        if path.is_file():
            return read_file(path, lambda connection: connection.execute(_NAMES, values).fetchall())
    return []
