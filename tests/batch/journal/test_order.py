"""Positions in a journal: counted in blocks, and as one would count the rows."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from llamagen_async.batch.journal.order import count_ahead, count_queued, listed, queued_keys
from llamagen_async.batch.journal.schema import BLOCK
from llamagen_async.models import BatchState
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


async def test_the_newest_stories_are_found_as_quickly_among_many(tmp_path: Path) -> None:
    """In any states, and whatever was named twice; counted in steps of SQLite's machine."""
    async with opened(tmp_path / "run.db"):
        pass
    chance, steps = random.Random(7), list[int]()
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:

        def newest(states: list[BatchState], before: int | None) -> list[tuple[int, str]]:
            where, values = listed(states, before, 20)
            steps.clear()
            return connection.execute(f"SELECT id, state FROM job {where}", values).fetchall()

        connection.set_progress_handler(lambda: steps.append(1), 1)
        taken: dict[str, int] = {}
        for most in (400, 8_000):
            for number in range(connection.execute("SELECT count(*) FROM job").fetchone()[0], most):
                values = (number, f"k{number}", chance.randrange(2), chance.choice(STATES))
                connection.execute(f"{ROW} (?, ?, '', '', '', ?, ?, 0)", values)
            rows = connection.execute("SELECT id, state FROM job ORDER BY id DESC").fetchall()
            for words in ([], ["failed"], ["queued", "failed", "queued"], ["uncertain"]):
                states = [BatchState(word) for word in words]
                for before in (None, 300):
                    wanted = [
                        (number, state)
                        for number, state in rows
                        if (not words or state in words) and (before is None or number < before)
                    ]
                    assert newest(states, before) == wanted[:20]
                    name = f"{words} {before}"
                    assert len(steps) <= 2 * taken.setdefault(name, len(steps)), name
        assert newest([BatchState.QUEUED] * 600, None)
