"""The comics that changes are about: which one, whether it is there, and whose turn it is.

A change names its comic by another story's key or by the comic's id. The id of the first sort is
written when that other story succeeds. Everything here runs inside a transaction.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.rows import Rows
from llamagen_async.batch.journal.story import Story
from llamagen_async.errors import InvalidRequestError
from llamagen_async.models import BatchState
from llamagen_async.requests import RequestType

__all__ = [
    "BEHIND",
    "BLOCKER",
    "NEWEST",
    "ORPHANS",
    "WAITING",
    "aim",
    "check_target",
    "has_changes",
]

WAITING: Final = """
    WHERE state = 'queued' AND urgent = :urgent
    AND (of_key IS NULL OR target IS NOT NULL)
    AND (target IS NULL OR NOT EXISTS (
        SELECT 1 FROM job AS other WHERE other.target = job.target AND other.id <> job.id AND (
            other.state IN ('sending', 'running')
            OR other.state = 'uncertain' AND other.sent_at > :since
            OR other.state = 'queued' AND other.id < job.id
        )
    ))
    AND (target IS NULL OR NOT EXISTS (
        SELECT 1 FROM job AS comic WHERE comic.generation_id = job.target
        AND comic.id <> job.id AND comic.state = 'running'
    ))
    ORDER BY id LIMIT :limit
"""
"""Selects stories that can be sent: of the changes of a comic one at a time, in their order, and
none while another may be at work."""
ORPHANS: Final = """
    WHERE state = 'queued'
    AND of_key IN (SELECT key FROM job WHERE state IN ('failed', 'cancelled'))
    ORDER BY id
"""
"""Selects changes whose comic there will never be."""
NEWEST: Final = """
    WHERE generation_id = :generation_id AND state IN ('succeeded', :also)
    ORDER BY ended_at DESC, id DESC LIMIT 1
"""
"""Selects the story that says how a comic was last seen to end."""
BLOCKER: Final = """
    WHERE state = 'uncertain' AND (key = :of OR target = :target AND sent_at > :since)
    ORDER BY id LIMIT 1
"""
"""Selects the story behind which a change waits, and nobody knows how long."""
BEHIND: Final = "WHERE state = 'queued' AND (of_key = :key OR target = :target) ORDER BY id"
"""Selects the changes that wait for a story."""
_AIM: Final = "UPDATE job SET target = :target WHERE of_key = :key AND target IS NULL"
_HAS_CHANGES: Final = """
    SELECT EXISTS (SELECT 1 FROM job WHERE of_key IS NOT NULL)
        OR EXISTS (SELECT 1 FROM job WHERE target IS NOT NULL)
"""


def has_changes(connection: sqlite3.Connection) -> bool:
    """Whether a journal has any change of a comic."""
    (found,) = connection.execute(_HAS_CHANGES).fetchone()
    return bool(found)


def aim(row: Row, connection: sqlite3.Connection) -> None:
    """Write the id of a story's comic to the changes that have waited for it."""
    if row.state is BatchState.SUCCEEDED:
        connection.execute(_AIM, {"target": row.generation_id, "key": row.key})


def check_target(
    name: str, story: Story, rows: Rows, connection: sqlite3.Connection, *, is_last: bool
) -> Row | None:
    """Return the story whose comic a new story changes, if it names one and that is known.

    Args:
        name: The new story's key.
        story: The new story.
        rows: Reads the journal.
        connection: The journal.
        is_last: Whether no further story is to come that it could mean.

    Raises:
        InvalidRequestError: It can't change that one's comic.
    """
    if story.of is None:
        return None
    found = rows.of_key(story.of, connection)
    if found is None:
        if is_last:
            raise InvalidRequestError("of", story.of, "the key of a story in the journal")
        return None
    if found.type is RequestType.ANIMATION:
        raise InvalidRequestError("of", story.of, "a comic's; this is an animation's")
    if is_last and found.state in (BatchState.FAILED, BatchState.CANCELLED):
        raise InvalidRequestError("of", story.of, "the key of a story that has not failed")
    chain, next_ = [name, found.key], found
    while next_.of is not None:
        if next_.of in chain:
            way = " of ".join(map(repr, (*chain, next_.of)))
            raise InvalidRequestError(
                "of", story.of, f"a comic that does not wait for this one ({way})"
            )
        chain.append(next_.of)
        following = rows.of_key(next_.of, connection)
        if following is None:
            break
        next_ = following
    return found
