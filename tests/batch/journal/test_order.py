"""Positions in a journal: counted in blocks, and as one would count the rows."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from llamagen_async.batch.journal.order import count_ahead, count_queued, queued_keys
from llamagen_async.batch.journal.schema import BLOCK
from tests.support.journals import opened

STATES = ("queued", "sending", "running", "failed")
ROW = "INSERT INTO job (id, key, digest, request, type, urgent, state, queued_at) VALUES "


def check(connection: sqlite3.Connection) -> None:
    """Assert that each queued story's position is its place in the order of all."""
    keys = queued_keys(connection)
    assert count_queued(connection) == len(keys)
    assert [count_ahead(key, connection) for key in keys] == list(range(len(keys)))


async def test_positions_are_right_whatever_changes(tmp_path: Path) -> None:
    """Rows come, go, and change their state, their urgency and their id, across blocks."""
    async with opened(tmp_path / "run.db"):
        pass
    chance = random.Random(5)
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        check(connection)
        for step in range(300):
            # Numbers on both sides of the borders of blocks.
            number = chance.choice([1, 2, 3]) * BLOCK + chance.randrange(-4, 4)
            taken = connection.execute("SELECT 1 FROM job WHERE id = ?", (number,)).fetchone()
            new = (chance.choice(STATES), chance.randrange(2))
            if taken is None:
                values = (number, f"k{step}", *reversed(new))
                connection.execute(f"{ROW} (?, ?, '', '', '', ?, ?, 0)", values)
            elif chance.random() < 0.3:
                connection.execute("DELETE FROM job WHERE id = ?", (number,))
            else:
                change = "UPDATE job SET state = ?, urgent = ? WHERE id = ?"
                connection.execute(change, (*new, number))
            check(connection)
        connection.execute("UPDATE job SET id = id + 1500")
        check(connection)
        assert count_ahead("nobody's", connection) == 0
