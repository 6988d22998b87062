"""Evidence of comics that were paid for and that a journal does not know.

A journal that is gone, empty or an older copy looks like one whose stories were never sent. The
files beside it know better: what they know is compared before anything is sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from llamagen_async.batch.journal.file_names import RESULTS, WAL
from llamagen_async.batch.journal.reserve import Receipt
from llamagen_async.models import BatchState
from llamagen_async.requests import RequestType

__all__ = ["accepted_in", "evidence_against", "journal_name", "orphaned_changes"]

_CHANGES: Final = [type_.value for type_ in RequestType if type_.is_change]


def journal_name(journal: Path, folder: Path) -> str:
    """Return how results in a folder name the journal that they were read from."""
    with contextlib.suppress(ValueError):  # on another drive
        return Path(os.path.relpath(os.path.realpath(journal), os.path.realpath(folder))).as_posix()
    return journal.as_posix()


def orphaned_changes(journal: Path) -> Path | None:
    """Return the file of SQLite's newest changes if the journal to which they belong is gone."""
    changes = journal.with_name(journal.name + WAL)
    with contextlib.suppress(OSError):
        is_gone = not journal.exists() or not journal.stat().st_size
        if is_gone and changes.stat().st_size:
            return changes
    return None


def accepted_in(connection: sqlite3.Connection) -> int:
    """Return how many comics a journal knows to be accepted."""
    number: int
    (number,) = connection.execute(
        "SELECT count(*) FROM job WHERE generation_id IS NOT NULL"
    ).fetchone()
    return number


def evidence_against(
    journal: Path,
    connection: sqlite3.Connection,
    *,
    counted: int,
    receipts: Iterable[Receipt],
    folders: Iterable[Path],
) -> str | None:
    """Return what the files beside a journal know and it does not; `None` if it knows all.

    Args:
        journal: The journal's file.
        connection: The journal.
        counted: How many accepted comics it had when somebody last counted.
        receipts: What is noted in its reserve.
        folders: The folders that may have results of its stories.
    """
    for receipt in receipts:
        if not _has_row(connection, receipt):
            return f"its reserve has generation {receipt.id}, which it does not know"
    known = accepted_in(connection)
    if known < counted:
        return f"it had {counted} accepted comics, and has {known}"
    for folder in folders:
        file = folder / RESULTS
        unknown = list(_unknown(connection, file, journal_name(journal, folder)))
        if unknown:
            comics = "one comic" if len(unknown) == 1 else f"{len(unknown)} comics"
            return f"{file} has {comics} that it does not know, such as {unknown[0]}"
    return None


def _has_row(connection: sqlite3.Connection, receipt: Receipt) -> bool:
    row = connection.execute("SELECT hex(digest) FROM job WHERE id = ?", (receipt.row,)).fetchone()
    return row is not None and str(row[0]).lower().startswith(receipt.digest)


def _unknown(connection: sqlite3.Connection, results: Path, name: str) -> Iterator[str]:
    """Yield the comics in a file of results that were this journal's and are not in it."""
    for record in _records(results):
        id_, key = record.get("id"), record.get("key")
        if record.get("journal", name) != name or not isinstance(key, str):
            continue
        is_change = record.get("type") in _CHANGES  # its comic has the same id
        if isinstance(id_, str) and not is_change:
            found = connection.execute("SELECT 1 FROM job WHERE generation_id = ?", (id_,))
        elif (is_change and id_) or record.get("state") == BatchState.UNCERTAIN:
            found = connection.execute("SELECT 1 FROM job WHERE key = ?", (key,))
        else:
            continue
        if found.fetchone() is None:
            yield id_ or key


def _records(results: Path) -> Iterator[dict[str, Any]]:
    if not results.is_file():  # what is no file may never end
        return
    with contextlib.suppress(OSError), results.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record
