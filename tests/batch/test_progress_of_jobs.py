"""A comic that runs is told of as its panels are drawn, at no further request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, ComicGeneration, ComicQueue
from llamagen_async.batch.events import ComicJob, Mark
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.sandbox import PAID_KEY, Durations, Fault, SandboxService
from llamagen_async.simulation import simulated_client

pytestmark = pytest.mark.virtual_time

CHECKED = Plan("checked", limits=RateLimit(60, per=60))


def slow_service(*faults: Fault) -> SandboxService:
    plans = {PAID_KEY: CHECKED}
    return SandboxService(plans=plans, durations=Durations.constant(100), faults=faults)


async def told(service: SandboxService, after: str | None = None) -> tuple[list[ComicJob], int]:
    """Return the events of a job, and the number of status checks."""
    async with simulated_client(service, plan=CHECKED) as client, ComicQueue(client) as queue:
        job = await queue.submit({"prompt": "a", "fix_panel_num": 4}, key="k")
        events = [event async for event in queue.events(job, after=after)]
        return events, client.stats().requests["status"]


def drawn(event: ComicJob) -> int:
    return sum(panel.asset_url is not None for panel in event.panels)


async def test_panels_are_told_as_they_are_drawn() -> None:
    """Each event has more of them than the one before, and a mark of its own."""
    events, checks = await told(slow_service(Fault("early-pictures")))
    numbers = [drawn(event) for event in events if event.state is BatchState.RUNNING]
    assert numbers == sorted(set(numbers))
    assert 0 < numbers[-1] <= 4
    assert len({str(event.mark) for event in events}) == len(events)
    assert drawn(events[-1]) == 4
    # Nobody asks for their sake.
    assert (await told(slow_service()))[1] == checks


async def test_a_reader_that_comes_back_is_told_what_is_new() -> None:
    """And of what it has seen nothing twice, also when the comic is done meanwhile."""
    events, _ = await told(slow_service(Fault("early-pictures")))
    running = [event for event in events if event.state is BatchState.RUNNING]
    for n, event in enumerate(running):
        seen = Mark.parse(str(event.mark))
        assert [one.follows(seen) for one in running] == [m > n for m in range(len(running))]
        assert events[-1].follows(seen)
        assert events[-1].missed(seen) is None
    accepted = events[-1].missed(Mark.of(0, BatchState.QUEUED))
    assert accepted is not None
    assert str(accepted.mark) == str(running[0].mark)


async def test_a_function_that_fails_ends_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_comic: ComicGeneration) -> None:
        raise ZeroDivisionError

    service = slow_service(Fault("early-pictures"))
    async with simulated_client(service, plan=CHECKED) as client:
        comic = await client.comics.create("a")
        done = await client.comics.wait_for_completion(comic.id, progress=fail)
        assert done.succeeded
    assert "ZeroDivisionError" in caplog.text


async def test_who_waits_sees_the_comic_unfinished(tmp_path: Path) -> None:
    seen: list[Any] = []
    service = slow_service(Fault("early-pictures"))
    async with simulated_client(service, plan=CHECKED) as client:
        comic = await client.comics.create("a")
        await client.comics.wait_for_completion(comic.id, progress=seen.append)
        with pytest.raises(ValueError, match="progress"):
            await client.comics.wait_for_completion(comic.id, progress="yes")  # type: ignore[arg-type]  # as a user might
    assert seen
    assert not any(one.is_done for one in seen)
