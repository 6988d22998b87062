"""Servers that fail in any way at any time, and callers that leave: what holds all the same.

`LLAMAGEN_CHAOS` is the number of examples; `nox -s chaos` tries many more than the other sessions.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamagen_async import (
    BatchItem,
    BatchState,
    JournalError,
    RequestKind,
)
from llamagen_async.scheduling.circuit import TRIP
from llamagen_async.simulation import run
from tests.support.callers import Caller, ask, logged, rows
from tests.support.faults import FAULTS, Faulty, Outage, full_disks
from tests.support.scripted import left_over, minute, now

pytestmark = [pytest.mark.once, pytest.mark.no_cover]

EXAMPLES: Final = int(os.environ.get("LLAMAGEN_CHAOS", "16"))
WINDOW: Final = 60.0
"""Seconds of the paid plan's window."""
NOTICED: Final = 30.0 + 30.0
"""Seconds after an outage until it is known to be over: the longest gap, and a probe on its way."""
numbers: Final = itertools.count()
LONG: Final = 100_000.0
"""Seconds that outlast every outage here."""

chaos = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow], derandomize=EXAMPLES < 100
)

WHOLE: Final = tuple(RequestKind)
PARTS: Final = (WHOLE, WHOLE, (RequestKind.CREATE,), (RequestKind.STATUS,))
outages = st.lists(
    st.builds(
        Outage,
        begin=st.floats(0.0, 400.0),
        seconds=st.floats(1.0, 2_000.0),
        fault=st.sampled_from(FAULTS),
        kinds=st.sampled_from(PARTS),
    ),
    max_size=3,
)
disks = st.lists(st.tuples(st.floats(0.0, 400.0), st.floats(1.0, 600.0)), max_size=1)
"""Times in which the disk is full: begin and length in seconds."""
latencies = st.sampled_from([0.0, 0.3, (0.1, 3.0)])


async def batch(
    network: Faulty, stories: Sequence[Any], journal: Path, url: str, leave_after: float | None
) -> list[BatchItem]:
    """Run a batch as a program of its own, which may be left in the middle, or has no disk."""
    items: list[BatchItem] = []
    async with network.client(base_url=url, max_retries=0) as client:
        running = client.comics.batch(stories, journal=journal, timeout=LONG)
        try:
            async with running, asyncio.timeout(leave_after):
                async for item in running:
                    items.append(item)  # noqa: PERF401  # what came before it was left counts
        except TimeoutError:
            pass
        except JournalError as error:
            assert "disk" in str(error)  # noqa: PT017  # any other one is a failure
    assert not left_over()
    return items


@chaos
@given(
    number=st.integers(1, 25),
    outages=outages,
    latency=latencies,
    leaves=st.lists(st.floats(0.0, 900.0), max_size=2),
    full=disks,
)
def test_a_batch_survives_everything(
    number: int,
    outages: list[Outage],
    latency: Any,
    leaves: list[float],
    full: list[tuple[float, float]],
) -> None:
    """A batch that is left and run again through outages ends with each story once."""
    stories = [f"s{n}" for n in range(number)]

    async def main(outages: list[Outage]) -> tuple[Faulty, list[BatchItem], float]:
        url = f"https://chaos-{next(numbers)}.invalid"  # another key, of which nothing is spent
        network = Faulty(minute(), latency=latency, outages=outages)
        for leave_after in (*leaves, None):
            items = await batch(network, stories, journal, url, leave_after)
        for begin, seconds in full:  # again, when there is room
            # A second later: the sum is rounded, and the disk full to the last instant.
            await asyncio.sleep(max(0.0, begin + seconds + 1.0 - now()))
            items = await batch(network, stories, journal, url, None)
        return network, items, now()

    with logged() as log, tempfile.TemporaryDirectory() as folder, full_disks(full):
        journal = Path(folder, "run.db")
        network, items, ended = run(main(outages))
        known = rows(journal)
    assert len(items) == number
    assert set(network.stories.values()) <= {1}, "paid twice"
    for item in items:
        assert item.request is not None
        if item.state is BatchState.UNCERTAIN:
            assert network.doubtful[item.request.prompt or ""], "it was provably not sent"
        else:
            assert item.state is BatchState.SUCCEEDED, repr(item.error)
    in_journal = {id_ for _, id_ in known.values()}
    told = {item.generation.id for item in items if item.generation is not None}
    lost = {id_ for id_ in network.delivered - in_journal - told if id_ not in log.text}
    assert not lost
    if leaves or full:
        return
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder, "run.db")
        _, _, undisturbed = run(main([]))
    assert ended <= undisturbed + delay(outages)


def chain(number: int) -> list[dict[str, Any]]:
    """Return a comic, three changes of it, and an animation."""
    a, b, c, d, v = (f"{letter}{number}" for letter in "abcdv")
    redraw = {"type": "update_panel", "panel": 0}
    return [
        {"key": a, "prompt": a},
        {"key": b, "prompt": b, "type": "continue", "of": a},
        {"key": c, "prompt": c, "of": b, **redraw},
        {"key": d, "prompt": d, "of": a, **redraw},
        {"key": v, "prompt": v, "type": "animation"},
    ]


@settings(chaos, max_examples=max(1, EXAMPLES // 2))
@given(
    number=st.integers(1, 5),
    outages=outages,
    latency=latencies,
    leaves=st.lists(st.floats(0.0, 900.0), max_size=2),
    full=disks,
)
def test_changes_survive_everything(
    number: int,
    outages: list[Outage],
    latency: Any,
    leaves: list[float],
    full: list[tuple[float, float]],
) -> None:
    """Each change is paid for once, and none is sent behind one of which nobody knows."""
    stories = [story for n in range(number) for story in chain(n)]

    async def main() -> tuple[Faulty, list[BatchItem]]:
        url = f"https://chaos-{next(numbers)}.invalid"
        network = Faulty(minute(), latency=latency, outages=outages)
        for leave_after in (*leaves, None):
            items = await batch(network, stories, journal, url, leave_after)
        for begin, seconds in full:
            await asyncio.sleep(max(0.0, begin + seconds + 1.0 - now()))
            items = await batch(network, stories, journal, url, None)
        return network, items

    with logged(), tempfile.TemporaryDirectory() as folder, full_disks(full):
        journal = Path(folder, "run.db")
        network, items = run(main())
    states = {item.key: item.state for item in items}
    assert len(states) == len(stories)
    assert set(network.accepted.values()) <= {0, 1}, "paid twice"
    for item in items:
        key = item.key or ""
        if item.state is BatchState.UNCERTAIN:
            assert network.doubtful[key], "it was provably not sent"
        elif item.state is BatchState.QUEUED:
            others = {states[f"{letter}{key[1:]}"] for letter in "abcd"}
            assert key[0] in "bcd", repr(item.error)
            assert BatchState.UNCERTAIN in others, repr(item.error)
        else:
            assert item.state is BatchState.SUCCEEDED, repr(item.error)
            assert network.accepted[key] == 1


def delay(outages: list[Outage]) -> float:
    """Return the seconds by which outages may delay a batch."""
    total = sum(one.seconds for one in outages)
    for one in outages:
        total += WINDOW + NOTICED
        if one.kinds != WHOLE or one.fault == "too many":
            # Creates that may be lost are tried rarely, and pauses after refusals double.
            total += 2 * one.seconds + WINDOW
    return total


@settings(chaos, max_examples=max(1, EXAMPLES // 5))
@given(
    outages=st.lists(
        st.builds(
            Outage,
            st.just(0.0),
            st.floats(60.0, 3_600.0),
            st.sampled_from(["broken", "late", "garbage", "cut on the way there"]),
        ),
        min_size=1,
        max_size=1,
    ),
    latency=latencies,
)
def test_an_outage_makes_no_more_creates_uncertain_than_it_takes_to_notice(
    outages: list[Outage], latency: Any
) -> None:
    async def main() -> list[BatchItem]:
        network = Faulty(minute(), latency=latency, outages=outages)
        async with network.client(base_url=f"https://chaos-{next(numbers)}.invalid") as client:
            stories = [f"s{n}" for n in range(30)]
            return [item async for item in client.comics.batch(stories, timeout=LONG)]

    with logged():
        states = [item.state for item in run(main())]
    assert states.count(BatchState.UNCERTAIN) <= TRIP
    assert states.count(BatchState.SUCCEEDED) >= 30 - TRIP


callers = st.lists(
    st.builds(
        Caller,
        comes=st.floats(0.0, 300.0),
        timeout=st.floats(1.0, 2_000.0),
        leaves=st.none() | st.floats(0.0, 600.0),
    ),
    min_size=1,
    max_size=12,
)


@chaos
@given(callers=callers, outages=outages, latency=latencies)
def test_every_wait_ends_at_its_time_or_with_its_comic(
    callers: list[Caller], outages: list[Outage], latency: Any
) -> None:
    """Nothing that was paid for is lost with a caller that leaves, and no wait is too long."""

    async def main() -> tuple[Faulty, set[str], list[str]]:
        network = Faulty(minute(), latency=latency, outages=outages)
        ids: set[str] = set()
        async with network.client(base_url=f"https://chaos-{next(numbers)}.invalid") as client:
            outcomes = await asyncio.gather(
                *(ask(client, number, caller, ids) for number, caller in enumerate(callers))
            )
        assert not left_over()
        return network, ids, outcomes

    with logged() as log:
        network, ids, outcomes = run(main())
    assert set(network.stories.values()) <= {1}, "paid twice"
    assert not {id_ for id_ in network.delivered - ids if id_ not in log.text}
    for number, outcome in enumerate(outcomes):
        if outcome == "uncertain":
            assert network.doubtful[f"s{number}"], "it was provably not sent"
        assert outcome != "sent", "it is uncertain"
        if outcome == "not sent":
            assert not network.stories[f"s{number}"]
