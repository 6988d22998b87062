"""The order in which the queued stories of a journal are sent. Questions for `Journal.ask`."""

from __future__ import annotations

import sqlite3
from typing import Final

__all__ = ["LISTED", "count_ahead", "count_queued", "queued_keys"]

LISTED: Final = "WHERE state IN ({}) AND id < ? ORDER BY id DESC LIMIT ?"
"""Selects the newest stories in some states, before the one with that number."""
_AHEAD: Final = """
    SELECT count(*) FROM job AS mine JOIN job AS other ON other.state = 'queued' AND
        (other.urgent > mine.urgent OR (other.urgent = mine.urgent AND other.id < mine.id))
    WHERE mine.key = ?
"""


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
