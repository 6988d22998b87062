"""No continuation and no redraw is sent twice, at whichever step the power is cut.

These tests fail if the intent of a change is not written before it leaves, or if what was being
sent is taken for unsent.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import ComicQueue, LlamaGenClient, LlamaGenError
from llamagen_async.simulation import run
from tests.support.machine import ROOMY
from tests.support.power import Power
from tests.support.scripted import Network, minute

pytestmark = pytest.mark.once

STORIES: list[dict[str, Any]] = [
    {"key": "a", "prompt": "a cat", "fix_panel_num": 1},
    {"key": "b", "type": "continue", "of": "a", "prompt": "rain", "fix_panel_num": 1},
    {"key": "c", "type": "update_panel", "of": "b", "panel": 0, "prompt": "a dog"},
]
KEYS = [story["key"] for story in STORIES]


async def as_batch(client: LlamaGenClient, journal: Path) -> None:
    """Run the stories as a batch, the changes first."""
    async with client.comics.batch(reversed(STORIES), journal=journal) as batch:
        async for _ in batch:
            pass


async def as_orders(client: LlamaGenClient, journal: Path) -> None:
    """Run the stories as orders, each of which may have been placed before."""
    async with ComicQueue(client, journal) as queue:
        for story in STORIES:
            with contextlib.suppress(LlamaGenError):  # refused, as what it changes has failed
                await queue.submit(story)
        for story in STORIES:
            job = await queue.get(story["key"])
            if job is not None:
                with contextlib.suppress(LlamaGenError, TimeoutError):
                    await asyncio.wait_for(queue.result(job), 500)


def states_in(journal: Path) -> dict[str, tuple[str, str | None]]:
    with contextlib.closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT key, state, generation_id FROM job").fetchall()
    return {key: (state, id_) for key, state, id_ in rows}


def check(network: Network, journal: Path) -> dict[str, str]:
    """Assert what has to hold after any number of crashes; return the states in the journal."""
    known = states_in(journal)
    accepted: list[tuple[str, str]] = []
    for one in network.service.stats(1e9)["generations"]:
        first, *more = one["prompt"].split("\n")
        assert first == "a cat"
        accepted.append(("a", one["id"]))
        accepted += [("b", one["id"])] * len(more) + [("c", one["id"])] * one["redrawn"]
    keys = [key for key, _ in accepted]
    assert len(set(keys)) == len(keys), f"paid twice: {keys}"
    for key, id_ in accepted:
        state, its = known[key]
        assert its == id_ or state in ("sending", "uncertain"), "lost"
        assert state != "queued", "would be paid twice"
    return {key: state for key, (state, _) in known.items()}


async def with_cut(
    program: Callable[[LlamaGenClient, Path], Awaitable[None]],
    net: Network,
    journal: Path,
    cut_at: int,
) -> int:
    """Run a program, cut at a step, and then to its end; return the steps of the first run."""
    power = Power(net)

    async def once() -> None:
        async with power.client(ROOMY) as client:
            await program(client, journal)

    await power.run(once, cut_at=cut_at)
    steps = power.steps
    with contextlib.suppress(sqlite3.OperationalError):  # cut before there was a table
        check(net, journal)
    assert await power.run(once, cut_at=None)
    states = check(net, journal)
    assert set(states) == set(KEYS)
    # What comes after a story of which nobody knows is not sent.
    unknown = [key for key in "abc" if states[key] == "uncertain"]
    for key in "abc":
        is_after = bool(unknown) and key > unknown[0]
        assert states[key] == ("queued" if is_after else states[key])
        assert states[key] in ("succeeded", "uncertain", "queued")
        assert (states[key] == "queued") == is_after
    return steps


@pytest.mark.parametrize(("program", "first"), [(as_batch, 1), (as_orders, 2)])
def test_a_cut_at_every_sixth_step(program: Any, first: int, tmp_path: Path) -> None:
    """All stories end finished, uncertain or behind such a one, and none is sent twice."""
    cut_at = uncertain = 0
    for cut_at in itertools.count(first, 6):
        net = Network(minute(30.0, plans={"the-key": ROOMY}), key="the-key", latency=(0.1, 2.0))
        journal = tmp_path / f"{cut_at}.db"
        steps = run(with_cut(program, net, journal, cut_at))
        uncertain += "uncertain" in check(net, journal).values()
        if steps < cut_at:
            break
    assert cut_at > 30
    assert 1 <= uncertain < cut_at / 12
