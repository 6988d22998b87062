"""Nothing is paid twice and nothing paid is lost, at whichever step the power is cut.

These tests fail if the intent is not written before a request leaves, if the id is written after
the waiting, or if what was being sent is taken for unsent.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async import (
    APIConnectionError,
    BatchItem,
    BatchState,
    ComicQueue,
    LlamaGenClient,
    Plan,
    RateLimit,
    RateLimitError,
    ServerError,
)
from llamagen_async.simulation import run
from tests.support.power import Power
from tests.support.scripted import Network, Sent, minute

ROOMY = Plan("roomy", limits=RateLimit(1_000, per=60))
STORIES = ["s0", "s1", "s2"]
FINAL = {BatchState.SUCCEEDED, BatchState.UNCERTAIN, BatchState.FAILED}

Program = Callable[[LlamaGenClient, Path], Any]


async def as_batch(client: LlamaGenClient, journal: Path) -> dict[str, BatchState]:
    """Run the stories as a batch."""
    items: list[BatchItem] = []
    async with client.comics.batch(STORIES, journal=journal) as batch:
        async for item in batch:
            items.append(item)  # noqa: PERF401  # the batch may raise
    return {item.request.prompt or "": item.state for item in items if item.request}


async def as_orders(client: LlamaGenClient, journal: Path) -> dict[str, BatchState]:
    """Run the stories as orders, each of which may have been placed before."""
    states: dict[str, BatchState] = {}
    async with ComicQueue(client, journal) as queue:
        jobs = [await queue.submit(story, key=f"order {story}") for story in STORIES]
        for story, job in zip(STORIES, jobs, strict=True):
            async for event in queue.events(job):
                states[story] = event.state
                if event.error is not None and not event.is_final:
                    return states  # it is held up: enough for today
    return states


def network(after: Callable[[Sent], Exception | None] | None = None) -> Network:
    service = minute(30.0, plans={"the-key": ROOMY})
    return Network(service, key="the-key", latency=(0.1, 2.0), after=after)


def check(network: Network, journal: Path) -> dict[str, str]:
    """Assert what has to hold after any number of crashes; return the states in the journal."""
    assert all(number == 1 for number in network.stories.values()), "paid twice"
    with contextlib.closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT request, state, generation_id FROM job").fetchall()
    known = {json.loads(request)["prompt"]: (state, id_) for request, state, id_ in rows}
    for one in network.service.stats(1e9)["generations"]:
        state, id_ = known[one["prompt"]]
        assert id_ == one["id"] or state in ("sending", "uncertain"), "lost"
        assert state != "queued", "would be paid twice"
    return {story: state for story, (state, _) in known.items()}


async def with_cuts(program: Program, net: Network, journal: Path, cuts: list[int]) -> int:
    """Run a program again and again, cut at these steps, then to its end.

    Returns:
        The steps of the first run.
    """
    power = Power(net)
    states: dict[str, BatchState] = {}
    first = 0

    async def once() -> None:
        nonlocal states
        async with power.client(ROOMY) as client:
            states = await program(client, journal)

    for cut_at in cuts:
        await power.run(once, cut_at=cut_at)
        first = first or power.steps
        with contextlib.suppress(sqlite3.OperationalError):  # cut before there was a table
            check(net, journal)
    for _ in range(20):
        assert await power.run(once, cut_at=None)
        first = first or power.steps
        check(net, journal)
        if len(states) == len(STORIES) and set(states.values()) <= FINAL:
            break
    assert len(states) == len(STORIES)
    assert set(states.values()) <= FINAL
    assert set(check(net, journal)) == set(STORIES)
    return first


@pytest.mark.once
@pytest.mark.parametrize("program", [as_batch, as_orders])
def test_a_cut_at_every_step(program: Program, tmp_path: Path) -> None:
    """Each step of a whole run is cut once; all stories end finished or uncertain, none twice."""
    cut_at = 0
    uncertain = 0
    for cut_at in itertools.count(1):
        net = network()
        journal = tmp_path / f"{cut_at}.db"
        steps = run(with_cuts(program, net, journal, [cut_at]))
        uncertain += "uncertain" in check(net, journal).values()
        if steps < cut_at:
            break
    assert cut_at > 25
    # A cut between the intent and the id can't be told from one a moment earlier.
    assert 3 <= uncertain < cut_at / 2


@pytest.mark.once
@pytest.mark.no_cover
@pytest.mark.parametrize("program", [as_batch, as_orders])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_cuts_and_faults_at_random(program: Program, data: st.DataObject) -> None:
    """Several cuts in a row, while the server and the network fail in all their ways."""
    errors: list[Exception | None] = [
        None,
        None,
        None,
        ServerError(500, None, "x"),
        APIConnectionError("lost"),
        APIConnectionError("no connection", request_sent=False),
        RateLimitError(429, None, "x", None, 20.0),
    ]
    cuts = data.draw(st.lists(st.integers(1, 60), max_size=5))
    faults = data.draw(st.lists(st.sampled_from(errors), max_size=20))

    def before(sent: Sent) -> Exception | None:
        """A request that is said not to have arrived has not arrived."""
        error = faults[sent.n] if sent.kind == "create" and sent.n < len(faults) else None
        certain = isinstance(error, RateLimitError) or (
            isinstance(error, APIConnectionError) and not error.request_sent
        )
        return error if certain else None

    def after(sent: Sent) -> Exception | None:
        error = faults[sent.n] if sent.kind == "create" and sent.n < len(faults) else None
        return None if before(sent) else error

    with tempfile.TemporaryDirectory() as folder:
        net = Network(
            minute(30.0, plans={"the-key": ROOMY}),
            key="the-key",
            latency=(0.1, 2.0),
            before=before,
            after=after,
        )
        run(with_cuts(program, net, Path(folder, "run.db"), cuts))
