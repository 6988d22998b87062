"""The first transaction of a journal: is it the right one, and what did its last owner leave?

A journal of another account is refused, and one that does not know what the files beside it know.
What the last owner noted in the reserve is taken in; what it was sending when it ended is
uncertain. The same is done for each worker of a shared journal that dies.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.batch.journal.codec import AccountId, dump_error
from llamagen_async.batch.journal.evidence import evidence_against, orphaned_changes
from llamagen_async.batch.journal.lock import JournalLock
from llamagen_async.batch.journal.reserve import Receipt, Reserve
from llamagen_async.batch.journal.schema import bind, bound_to, check_account
from llamagen_async.errors import JournalError, SubmissionUncertainError
from llamagen_async.observing import about, logger_of

__all__ = ["keep_changes", "take_in", "verify", "verify_missing"]

_logger = logger_of(__name__)

_TAKE_IN: Final = """
    UPDATE job SET state = :state, generation_id = :id, generation = :generation, error = NULL,
        accepted_at = CASE WHEN :id IS NULL THEN NULL ELSE coalesce(accepted_at, sent_at) END,
        credits = CASE WHEN :id IS NULL THEN NULL ELSE credits END,
        worker = NULL
    WHERE id = :row AND generation_id IS NULL AND state IN ('sending', 'uncertain')
"""
_LOST: Final = """
    SELECT id, sent_at FROM job WHERE state = 'sending'
        AND (worker IS NULL OR worker NOT IN (SELECT token FROM worker))
"""
"""Selects what was being sent by somebody who is gone."""
_QUESTION: Final = (
    "is it the right journal? {}. Put the right one back, or go on without it by start_over=True: "
    "what it had is then paid for again. Nothing was sent"
)


def keep_changes(journal: Path, *, start_over: bool) -> None:
    """Refuse to make a journal whose newest changes are still there: SQLite would remove them.

    Raises:
        JournalError: They are there, and nobody has said to go on without them.
    """
    changes = orphaned_changes(journal)
    if changes is None:
        return
    if not start_over:
        problem = f"It is gone or empty, and its newest changes are in {changes}"
        raise JournalError(f"{journal}: {_QUESTION.format(problem)}")
    changes.replace(changes.with_name(f"{changes.name}-old"))


def verify(
    journal: Path,
    account: AccountId,
    connection: sqlite3.Connection,
    *,
    receipts: Sequence[Receipt],
    counted: int,
    folders: Iterable[Path],
    start_over: bool,
) -> None:
    """Refuse a journal that is not the right one.

    Args:
        journal: The journal's file.
        account: The account whose generations it is to hold.
        connection: The journal.
        receipts: What its last owners have noted in their reserves.
        counted: How many accepted comics it had when somebody last counted.
        folders: The folders that may have results of its stories.
        start_over: Go on with a journal that does not know what the files beside it know.

    Raises:
        JournalError: It is refused.
    """
    check_account(journal, bound_to(connection), account)
    if not start_over:
        problem = evidence_against(
            journal, connection, counted=counted, receipts=receipts, folders=folders
        )
        if problem is not None:
            raise JournalError(f"{journal}: {_QUESTION.format(problem)}")


def verify_missing(
    journal: Path,
    account: AccountId,
    folders: Iterable[Path],
    connection: sqlite3.Connection,
    *,
    start_over: bool,
) -> None:
    """Refuse to go on without a journal that is gone, as a run would, and make no file.

    Args:
        journal: The journal's file, which is not there.
        account: The account whose generations it is to hold.
        folders: The folders that may have results of its stories.
        connection: An empty journal in its place.
        start_over: Go on although the files beside it know comics.

    Raises:
        JournalError: The files beside it know comics, or can't be read.
    """
    if start_over:
        return
    path = Path(os.path.realpath(journal))
    lock, receipts = JournalLock(path), list[Receipt]()
    try:
        if path.parent.is_dir():
            lock.read_count()
            receipts = Reserve(path, account, "none").of_dead()
    except OSError as error:
        raise JournalError(f"{journal}: {error}") from error
    keep_changes(path, start_over=False)
    verify(
        path,
        account,
        connection,
        receipts=receipts,
        counted=lock.accepted,
        folders=[path.parent, *folders],
        start_over=False,
    )


def take_in(
    receipts: Iterable[Receipt], account: AccountId, connection: sqlite3.Connection
) -> None:
    """Write what was noted; stories that were being sent without a receipt are uncertain."""
    for receipt in receipts:
        text = json.dumps({"id": receipt.id, "status": "PENDING"}) if receipt.id else None
        values = {**attrs.asdict(receipt), "generation": text}
        changed = connection.execute(_TAKE_IN, values).rowcount
        if not changed and receipt.id is not None and not _knows(connection, receipt.id):
            text = "generation %s was accepted, and no journal has its story"
            _logger.warning(text, receipt.id, extra=about(generation_id=receipt.id))
        if receipt.id is not None:
            bind(connection, account)
    for id_, sent_at in connection.execute(_LOST).fetchall():
        when = datetime.fromtimestamp(sent_at or 0.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        reason = f"it was sent at {when}, and the program ended before the answer was recorded"
        error = dump_error(SubmissionUncertainError(None, reason))
        connection.execute(
            "UPDATE job SET state = 'uncertain', error = ?, worker = NULL WHERE id = ?",
            (error, id_),
        )


def _knows(connection: sqlite3.Connection, id_: str) -> bool:
    found = connection.execute("SELECT 1 FROM job WHERE generation_id = ?", (id_,))
    return found.fetchone() is not None
