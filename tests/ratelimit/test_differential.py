"""The memory ledger and the SQLite ledger answer the same to the same questions."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from llamagen_async import Plan, RateLimit
from llamagen_async.ratelimit import Claim, Outcome, Priority, WaitingRequests, Workload
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.window_log import LedgerTimes

PLANS = (
    Plan.DEMO,
    Plan("few", limits=RateLimit(3, per=20)),
    Plan("aligned", limits=(RateLimit(2, per=10, aligned=True), RateLimit(5, per=120))),
)
TIMES = LedgerTimes(lease=30.0, grace=5.0, client_lease=600.0, silence=8.0, tolerance=1.0)

priorities = st.sampled_from(list(Priority))
workloads = st.builds(
    lambda waiting, share: Workload(
        tuple(WaitingRequests(what, count, 9.0, 3.0) for what, count in waiting), "text", share
    ),
    st.lists(st.tuples(priorities, st.integers(1, 4)), max_size=2),
    st.integers(0, 3),
)
outcomes = st.builds(
    Outcome,
    refused=st.booleans(),
    retry_after=st.none() | st.floats(0, 40),
    server_limit=st.none() | st.integers(2, 5),
    server_left=st.none() | st.integers(-1, 5),
)
OPERATIONS = ("reserve", "commit", "release", "leave", "record", "snapshot", "read")
operations = st.tuples(
    st.sampled_from(["reserve", *OPERATIONS]),
    st.sampled_from("abc"),
    st.integers(0, 3),
    priorities,
    st.floats(0, 90),
    workloads,
    outcomes,
    st.sampled_from([0.0, 0.25, 5.0, 11.0, 40.0, 100.0, 700.0]),
)
history = st.lists(operations, max_size=25)


async def answers(
    ledger: MemoryLedger | SQLiteLedger, time: list[float], steps: list[Any]
) -> list[object]:
    """Do the operations; return what was answered."""
    found: list[object] = []
    time[0] = 1000.0
    for what, client, number, priority, waited, workload, outcome, elapsed in steps:
        time[0] += elapsed
        name = f"{client}.{number}"
        if what == "reserve":
            claim = Claim(name, client, priority, waited, workload, waits=number > 0)
            found.append(await ledger.reserve(claim))
        elif what == "commit":
            grants = [one for one in found if isinstance(one, Grant) and one.client == client]
            if grants:
                found.append(await ledger.commit(grants[-1], outcome, workload))
        elif what == "record":
            await ledger.record(number, pause=outcome.retry_after or 0.0)
        elif what == "read":
            found += [await ledger.admit_read() for _ in range(2 * number)]
        elif what == "snapshot":
            found.append(await ledger.snapshot(position=number))
        else:
            ledger.release(name, client, leaves=what == "leave")
            await ledger.snapshot()  # by then it is done
    found.append(await ledger.snapshot())
    return found


@given(st.sampled_from(PLANS), history)
@settings(max_examples=60, deadline=None)
def test_the_file_and_the_memory_answer_alike(plan: Plan, steps: list[Any]) -> None:
    """Whatever was asked, in whatever order, at whatever time."""
    time = [1000.0]
    wall = lambda: time[0] + 7.0  # noqa: E731  # a clock

    async def main() -> tuple[list[object], list[object]]:
        memory = MemoryLedger(plan, lambda: time[0], TIMES, wall=wall)
        with tempfile.TemporaryDirectory() as folder:
            file = SQLiteLedger(
                Path(folder) / "quota.db",
                name="n",
                plan=plan,
                times=TIMES,
                now=lambda: time[0],
                wall=wall,
            )
            both = await answers(memory, time, steps), await answers(file, time, steps)
            await file.aclose()
        return both

    of_memory, of_file = asyncio.run(main())
    assert of_memory == of_file
