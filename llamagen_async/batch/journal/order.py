"""The order in which the queued stories of a journal are sent. Questions for `Journal.ask`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from llamagen_async.models import BatchState

__all__ = ["count_ahead", "count_queued", "listed", "queued_keys"]

_NEWEST: Final = 2**63 - 1
"""A number that no story of a journal has reached."""
_AHEAD: Final = """
    SELECT count(*) FROM job AS mine JOIN job AS other ON other.state = 'queued' AND
        (other.urgent > mine.urgent OR (other.urgent = mine.urgent AND other.id < mine.id))
    WHERE mine.key = ?
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
    known = tuple(states or BatchState)
    where = f"WHERE state IN ({', '.join('?' * len(known))}) AND id < ? ORDER BY id DESC LIMIT ?"
    return where, (*known, _NEWEST if before is None else before, limit)


def count_ahead(key: str, connection: sqlite3.Connection) -> int:
    """Return how many queued stories go before the one of that key."""
    number: int = connection.execute(_AHEAD, (key,)).fetchone()[0]
    return number


def count_queued(connection: sqlite3.Connection) -> int:
    """Return how many stories are queued."""
    number: int = connection.execute("SELECT count(*) FROM job WHERE state = 'queued'").fetchone()[
        0
    ]
    return number


def queued_keys(connection: sqlite3.Connection) -> list[str]:
    """Return the keys of the queued stories, the one that goes first at the beginning."""
    order = "SELECT key FROM job WHERE state = 'queued' ORDER BY urgent DESC, id"
    return [key for (key,) in connection.execute(order)]
