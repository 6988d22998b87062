"""Events kept for those who follow jobs, as no I/O is needed to see."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import pytest

from llamagen_async import BatchState
from llamagen_async.batch.events import ComicJob, Mark, Subscriptions

pytestmark = pytest.mark.virtual_time

AT = datetime(2026, 1, 1, tzinfo=UTC)
JOB = ComicJob("k", BatchState.QUEUED, 0, AT, AT)


async def test_what_waits_for_a_reader_is_what_a_stream_tells() -> None:
    """Of a thousand positions the last one is kept, and no state is left out."""
    subscriptions = Subscriptions()
    with subscriptions.open("k") as subscription:
        for position in range(1_000, 0, -1):
            subscriptions.tell(attrs.evolve(JOB, position=position))
        steps = (BatchState.SENDING, BatchState.RUNNING, BatchState.SUCCEEDED)
        for state in steps:
            for _ in range(100):
                subscriptions.tell(attrs.evolve(JOB, state=state, attempts=1))
        assert len(subscription._waiting) == 4
        first = attrs.evolve(JOB, position=1_001)
        told = [event async for event in subscription.follow(first, Mark(2, 1_001))]
    assert [event.state for event in told] == [BatchState.QUEUED, *steps]
    assert told[0].position == 1
