"""The order in which the queued stories of a journal are sent. Questions for `Journal.ask`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from llamagen_async.batch.journal.schema import BLOCK
from llamagen_async.models import BatchState

__all__ = ["count_ahead", "count_queued", "listed", "queued_keys"]

_LAST: Final = 2**63 - 1
"""A number that no story of a journal has reached."""
_NEWEST_OF: Final = """
    SELECT * FROM (
        SELECT id FROM job WHERE state = ? AND urgent = ? AND id < ? ORDER BY id DESC LIMIT ?
    )
"""
"""The newest stories of one state, as an index has them: to sort all takes a second of 100,000."""
_AHEAD: Final = """
    SELECT
        (SELECT total(number) FROM queued WHERE urgent > mine.urgent)
        + (SELECT total(number) FROM queued WHERE urgent = mine.urgent AND block < mine.id / :block)
        + (
            SELECT count(*) FROM job WHERE state = 'queued' AND urgent = mine.urgent
            AND id >= mine.id / :block * :block AND id < mine.id
        )
    FROM job AS mine WHERE key = :key
"""


def listed(
    states: Sequence[BatchState], before: int | None, limit: int
) -> tuple[str, tuple[object, ...]]:
    """Return what selects the newest stories, and its values.

    Args:
        states: Only stories in these states, if there are any.
        before: Only stories that are older than the one of this number, if it is given.
        limit: How many, at most.
    """
    newest, values = list[str](), list[object]()
    for state in dict.fromkeys(states or BatchState):
        for urgent in (0, 1):
            newest.append(_NEWEST_OF)
            values += (state, urgent, _LAST if before is None else before, limit)
    where = f"WHERE id IN ({' UNION ALL '.join(newest)}) ORDER BY id DESC LIMIT ?"
    return where, (*values, limit)


def count_ahead(key: str, connection: sqlite3.Connection) -> int:
    """Return how many queued stories go before the one of that key."""
    found = connection.execute(_AHEAD, {"key": key, "block": BLOCK}).fetchone()
    return 0 if found is None else int(found[0])


def count_queued(connection: sqlite3.Connection) -> int:
    """Return how many stories are queued."""
    return int(connection.execute("SELECT total(number) FROM queued").fetchone()[0])


def queued_keys(connection: sqlite3.Connection) -> list[str]:
    """Return the keys of the queued stories, the one that goes first at the beginning."""
    order = "SELECT key FROM job WHERE state = 'queued' ORDER BY urgent DESC, id"
    return [key for (key,) in connection.execute(order)]
