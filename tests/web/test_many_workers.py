"""Real servers with several workers on one journal: a kill and a rolling restart.

What the key has spent is in a SQLite file beside the journal, or in a real Redis.

The whole of it: `LLAMAGEN_STORIES=200 LLAMAGEN_CLIENTS=50 pytest tests/web/test_many_workers.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.support.cli import needs_posix
from tests.support.customers import Customers, most_late
from tests.support.workers_server import backends, paid_for, sandbox_process

pytestmark = [pytest.mark.once, pytest.mark.timeout(900)]

STORIES: Final = int(os.environ.get("LLAMAGEN_STORIES", "20"))
CLIENTS: Final = int(os.environ.get("LLAMAGEN_CLIENTS", "10"))
WORKERS: Final = {"sqlite": 4, "redis": 4 if "LLAMAGEN_STORIES" in os.environ else 2}
"""Worker processes by the store; few where nobody asks for the whole of it, as each costs two
seconds of processor time to start."""
SPEED: Final = 20.0
"""The speed at which the plan's interval of six seconds is longer than a process is held up."""
SECONDS: Final = 30.0
"""Seconds of the server's clock that a comic takes."""


@needs_posix
@pytest.mark.parametrize("store", WORKERS)
async def test_orders_meet_any_worker_and_each_ends_once(
    request: pytest.FixtureRequest, tmp_path: Path, store: str
) -> None:
    quota = request.getfixturevalue("own_redis_server").url if store == "redis" else None
    with (
        sandbox_process(SPEED, SECONDS) as api,
        backends(tmp_path, api, SPEED, WORKERS[store], quota=quota) as server,
    ):
        async with Customers(server.url, stories=STORIES, clients=CLIENTS) as customers:
            await customers.some_end(STORIES // 10)
            server.kill_one()
            await customers.some_end(STORIES // 10)
            server.restart_all()
            await customers.all_end()
        rows = server.rows("key, state, generation_id, attempts")
        paid, refused = paid_for(api)
    number = Counter(story for story, _ in paid)
    assert set(number.values()) == {1}, number
    assert refused == 0
    assert {key for key, *_ in rows} == customers.accepted.keys()
    assert len(rows) == STORIES
    # What the killed worker was about to be answered is uncertain; nothing else is.
    ends = Counter(state for _, state, _, _ in rows)
    assert ends.keys() <= {"succeeded", "uncertain"}
    for key, state, id_, _ in rows:
        if state == "succeeded":
            assert number[customers.accepted[key]] == 1
            assert id_
    states = {key: state for key, state, _, _ in rows}
    for key, end in customers.ends.items():
        assert end["state"] == states[key]
    assert customers.ends.keys() == customers.accepted.keys()
    # Each story and those that came after it and were paid for before it.
    late = most_late([customers.accepted[key] for key, *_ in rows], paid)
    assert late < WORKERS[store]
    ended = f"{sorted(ends.items())}, {len(customers.ends)} streams, {len(paid)} paid"
    print(f"{store}: {STORIES} stories, {CLIENTS} clients: {ended}, at most {late} late")
