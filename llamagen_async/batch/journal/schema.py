"""The tables of a journal's file, what is written to them, and which files are refused."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from llamagen_async.batch.journal.codec import AccountId, Row, dump_error, dump_generation
from llamagen_async.batch.journal.story import Story, content_key
from llamagen_async.errors import InvalidRequestError, JournalError, SubmissionUncertainError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.prices import Charge, Prices
from llamagen_async.requests.differences import differences
from llamagen_async.sqlite_file import claim

__all__ = [
    "BLOCK",
    "FIND",
    "INSERT",
    "UPDATE",
    "bind",
    "bound_to",
    "check_account",
    "counts_of",
    "derived_key",
    "forget",
    "is_edited",
    "keep_url",
    "prepare",
    "refuse_second",
    "renew",
    "same_story",
    "spent_in",
    "update_values",
    "uploaded_url",
]

_APPLICATION_ID: Final = 0x6C6C676A
"""The mark of a journal in a file's header, so that no other database is taken for one."""
_SCHEMA: Final = 4
"""The version of the tables below."""
_TABLES: Final = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE job (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        digest BLOB NOT NULL,
        request TEXT NOT NULL,
        type TEXT NOT NULL,
        of_key TEXT,
        target TEXT,
        urgent INTEGER NOT NULL,
        label TEXT NOT NULL DEFAULT '',
        position INTEGER,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        generation_id TEXT,
        generation TEXT,
        error TEXT,
        files TEXT,
        queued_at REAL NOT NULL,
        sent_at REAL,
        accepted_at REAL,
        ended_at REAL,
        credits REAL,
        credits_lost REAL NOT NULL DEFAULT 0,
        worker TEXT
    );
    CREATE TABLE worker (
        token TEXT PRIMARY KEY,
        process INTEGER NOT NULL,
        place TEXT NOT NULL,
        base_url TEXT NOT NULL,
        account TEXT NOT NULL,
        beat REAL NOT NULL
    );
    CREATE TABLE queued (
        urgent INTEGER, block INTEGER, number INTEGER, PRIMARY KEY (urgent, block)
    ) WITHOUT ROWID;
    CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, at REAL NOT NULL);
    CREATE TABLE upload (digest TEXT PRIMARY KEY, url TEXT NOT NULL, uploaded_at REAL NOT NULL);
    CREATE INDEX job_by_state ON job (state, urgent, id);
    CREATE INDEX job_by_generation ON job (generation_id) WHERE generation_id IS NOT NULL;
    CREATE INDEX job_by_of ON job (of_key) WHERE of_key IS NOT NULL;
    CREATE INDEX job_by_credits ON job (credits, credits_lost);
    CREATE INDEX job_by_target ON job (target) WHERE target IS NOT NULL;
    CREATE INDEX job_by_worker ON job (worker) WHERE worker IS NOT NULL;
"""
BLOCK: Final = 1_000
"""Number of consecutive ids of stories whose queued ones are counted together."""


def _count_queued(name: str, event: str, row: str, change: int) -> str:
    """Return a trigger that counts a row of `job` when it begins or ends to be queued."""
    return f"""
        CREATE TRIGGER {name} AFTER {event} ON job WHEN {row}.state = 'queued' BEGIN
            INSERT INTO queued VALUES ({row}.urgent, {row}.id / {BLOCK}, {change})
            ON CONFLICT DO UPDATE SET number = number + excluded.number;
        END
    """  # noqa: S608  # a definition takes no parameters


_TRIGGERS: Final = (
    _count_queued("job_inserted", "INSERT", "new", 1),
    _count_queued("job_deleted", "DELETE", "old", -1),
    _count_queued("job_changes", "UPDATE OF id, urgent, state", "old", -1),
    _count_queued("job_changed", "UPDATE OF id, urgent, state", "new", 1),
)
"""The triggers that keep `queued`: the position of one story among a million is found at once."""
_ENDED: Final = (BatchState.SUCCEEDED, BatchState.FAILED, BatchState.CANCELLED)
_FORGOTTEN: Final = (
    "CREATE TEMP TABLE forgotten (generation_id TEXT PRIMARY KEY, key TEXT NOT NULL)"
)
"""The generations of stories that were removed: no other story may be answered with one of them."""
_STATE_WORDS: Final = {
    BatchState.QUEUED: "was not sent yet",
    BatchState.SENDING: "is on its way",
    BatchState.RUNNING: "is being drawn",
    BatchState.SUCCEEDED: "is done",
    BatchState.FAILED: "has failed",
    BatchState.UNCERTAIN: "may have been accepted",
}
_COUNT: Final = "CREATE TEMP TABLE seen (digest BLOB PRIMARY KEY, number INTEGER NOT NULL)"
"""How often each content has come in this input: in a file, for there may be a million."""


INSERT: Final = """
    INSERT INTO job (
        key, digest, request, type, of_key, target, urgent, label, position, state, queued_at
    ) VALUES (
        :key, :digest, :request, :type, :of, :target, :urgent, :label, :position, 'queued', :now
    )
"""
"""Takes a story in."""
_REWRITE: Final = "UPDATE job SET request = :request WHERE id = :id"
"""Changes what is to be sent for a story."""
_MOVE: Final = """
    UPDATE job SET
        label = coalesce(nullif(:label, ''), label), position = coalesce(:position, position)
    WHERE id = :id
"""
"""Changes where a story stands in its input."""
_OTHER: Final = """
    SELECT key FROM job WHERE generation_id = :generation_id AND id <> :id
    UNION ALL SELECT key FROM forgotten WHERE generation_id = :generation_id LIMIT 1
"""
FIND: Final = (
    "WHERE key = :key OR generation_id = :generation_id ORDER BY key = :key DESC, id LIMIT 1"
)
"""Selects the story of a key or else of a generation, the comic itself before its changes."""
UPDATE: Final = """
    UPDATE job SET
        state = :state,
        attempts = attempts + :attempts,
        generation_id = coalesce(:generation_id, generation_id),
        generation = coalesce(:generation, generation),
        error = :error,
        files = coalesce(:files, files),
        sent_at = coalesce(:sent_at, sent_at),
        accepted_at = coalesce(accepted_at, :accepted_at),
        ended_at = coalesce(:ended_at, ended_at),
        credits_lost = credits_lost
            + iif(state = 'uncertain' AND :state = 'queued', coalesce(credits, 0), 0),
        credits = iif(
            :state = 'queued'
                OR :state = 'failed' AND coalesce(:generation_id, generation_id) IS NULL,
            NULL,
            coalesce(:credits, credits)
        ),
        worker = :worker
    WHERE id = :id
"""
"""Writes how far a story has come; what is not given stays. What may have been accepted counts as
spent, also once the story is sent again; what provably was not accepted costs nothing."""
_SPENT: Final = "SELECT coalesce(sum(coalesce(credits, 0) + credits_lost), 0) FROM job"


def prepare(path: Path | None, connection: sqlite3.Connection) -> None:
    """Make the tables in a new file; refuse a file that is not ours.

    Args:
        path: The file's name, for messages.
        connection: The file.

    Raises:
        JournalError: The file is refused.
        sqlite3.Error: The file can't be read or written.
    """

    def create(connection: sqlite3.Connection) -> None:
        for statement in (*_TABLES.split(";")[:-1], *_TRIGGERS):
            connection.execute(statement)

    reason = claim(connection, application=_APPLICATION_ID, schema=_SCHEMA, create=create)
    if reason is not None:
        raise JournalError(f"{path}: {reason}")
    connection.execute(_COUNT)
    connection.execute(_FORGOTTEN)


def update_values(
    id_: int,
    state: BatchState,
    generation: AnyGeneration | None,
    error: BaseException | None,
    files: Sequence[str] | None,
    credits_: float | None = None,
) -> dict[str, Any]:
    """Return what `UPDATE` writes of a change now."""
    now = time.time()
    return {
        "id": id_,
        "state": state.value,
        "attempts": int(state is BatchState.SENDING),
        "generation_id": generation.id if generation else None,
        "generation": dump_generation(generation) if generation else None,
        "error": dump_error(error) if error else None,
        "files": None if files is None else json.dumps(list(files)),
        "sent_at": now if state is BatchState.SENDING else None,
        "accepted_at": now if generation else None,
        "ended_at": now if state in _ENDED and files is None else None,
        "credits": credits_,
        "worker": None,
    }


def spent_in(connection: sqlite3.Connection) -> float:
    """Return the credits that all stories have cost, as far as it is known."""
    spent: float
    (spent,) = connection.execute(_SPENT).fetchone()
    return spent


def derived_key(story: Story, connection: sqlite3.Connection) -> str:
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
    return content_key(story, number)


def bind(connection: sqlite3.Connection, account: AccountId) -> None:
    """Write whose generations a journal holds. It holds none before the first one is accepted."""
    values = attrs.asdict(account).items()
    connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", values)


def bound_to(connection: sqlite3.Connection) -> dict[str, str]:
    """Return whose generations a journal holds; empty if it holds none yet."""
    return dict(connection.execute("SELECT name, value FROM meta"))


def check_account(path: Path, bound: Mapping[str, str], account: AccountId) -> None:
    """Refuse a journal of another key or server.

    Raises:
        JournalError: It is about another account than this one.
    """
    if not bound:
        return
    if bound.get("base_url") != account.base_url:
        raise JournalError(
            f"{path}: it is about generations at {bound.get('base_url')}, and this client talks "
            f"to {account.base_url}; name another file, or another base URL"
        )
    if bound.get("account") != account.account:
        raise JournalError(
            f"{path}: it is about generations of another API key; use that key, or name "
            "another file"
        )


def renew(
    row: Row, story: Story, stands: Mapping[str, Any], connection: sqlite3.Connection
) -> bool:
    """Write what an input says of a story that it has again, and return whether that is news.

    Args:
        row: The story as the journal has it.
        story: The same story as it is now.
        stands: The label and position at which it stands.
        connection: The journal.
    """
    # If it was not sent yet, what is no part of its digest may be another one now.
    is_other = row.state is BatchState.QUEUED and row.request_text != story.text
    if is_other:
        connection.execute(_REWRITE, {"request": story.text, "id": row.id})
    label, position = stands["label"] or row.label, stands["position"]
    is_moved = (label, row.position if position is None else position) != (row.label, row.position)
    if is_moved:
        connection.execute(_MOVE, {**stands, "id": row.id})
    return is_other or is_moved


def is_edited(row: Row | None, story: Story, connection: sqlite3.Connection) -> bool:
    """Whether a story was edited under its key, and the one of its row may go: it was never sent.

    Of several stories with one key in the same input the first one is meant.

    Args:
        row: What the journal has under that key.
        story: The story.
        connection: The journal, which counts the keys that have come since it was opened.
    """
    if story.key is None:
        return False
    name = b"key " + story.key.encode()
    is_first = connection.execute("INSERT OR IGNORE INTO seen VALUES (?, 1)", (name,)).rowcount
    is_unsent = row is not None and row.state is BatchState.QUEUED and not row.attempts
    return bool(is_first and is_unsent and row is not None and row.digest != story.digest)


def same_story(row: Row, story: Story) -> Row:
    """Return the row of a story's key, if it is the same story's.

    Raises:
        InvalidRequestError: It is not.
    """
    if row.digest != story.digest:
        raise InvalidRequestError("key", row.key, _edited(row, story))
    return row


def _edited(row: Row, story: Story) -> str:
    """Return what can be done about a story that is not what it was, and what has changed."""
    id_ = f" ({row.generation_id})" if row.generation_id else ""
    try:
        news = differences(row.request, story.request)
    except (InvalidRequestError, ValueError):  # an older version's
        news = []
    if row.of != story.of or (row.target != story.target and story.target is not None):
        news.append("it changes another comic")
    cost = Prices().estimate({Charge.of(story.request): 1})
    return (
        f"a key of its own: the story that has this one {_STATE_WORDS[row.state]}{id_}, and was "
        f"another one ({'; '.join(news) or 'it was edited'}). Nothing was sent. Under another key "
        f"it is a new story, and is paid for: {cost}. To have one panel drawn again, use redraw"
    )


def counts_of(connection: sqlite3.Connection) -> dict[BatchState, int]:
    """Return how many stories are in each state."""
    counted = connection.execute("SELECT state, count(*) FROM job GROUP BY state")
    return {BatchState(state): number for state, number in counted}


def uploaded_url(digest: str, since: float, connection: sqlite3.Connection) -> str | None:
    """Return the URL of a content that was uploaded after a unix time."""
    found = connection.execute(
        "SELECT url FROM upload WHERE digest = ? AND uploaded_at >= ?", (digest, since)
    ).fetchone()
    return None if found is None else str(found[0])


def keep_url(digest: str, url: str, at: float, connection: sqlite3.Connection) -> None:
    """Remember the URL of a content, uploaded at a unix time."""
    connection.execute("INSERT OR REPLACE INTO upload VALUES (?, ?, ?)", (digest, url, at))


def forget(id_: int, connection: sqlite3.Connection) -> None:
    """Remove a story's row, but not what it was answered with."""
    connection.execute(
        "INSERT OR IGNORE INTO forgotten SELECT generation_id, key FROM job "
        "WHERE id = ? AND generation_id IS NOT NULL",
        (id_,),
    )
    connection.execute("DELETE FROM job WHERE id = ?", (id_,))


def refuse_second(values: Mapping[str, Any], connection: sqlite3.Connection) -> None:
    """Refuse an id that another story has: one comic is not the answer to two creates.

    Args:
        values: What `UPDATE` would write.
        connection: The file.

    Raises:
        SubmissionUncertainError: Another story has it.
    """
    other = connection.execute(_OTHER, values).fetchone()
    if other is not None:
        reason = f"the server answered with generation {values['generation_id']}"
        raise SubmissionUncertainError(None, f"{reason}, which is the comic of {other[0]!r}")
