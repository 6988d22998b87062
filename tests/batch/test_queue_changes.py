"""A queue of anything: changes wait for their comic and for each other, and say what for."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    BatchState,
    BatchStory,
    ComicQueue,
    ContinueRequest,
    InvalidRequestError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.sandbox import Durations, SandboxService
from tests.support.batches import roomy
from tests.support.machine import ROOMY
from tests.support.scripted import Network, Sent

pytestmark = pytest.mark.virtual_time

COMIC = {"prompt": "a cat", "fix_panel_num": 1, "key": "a"}
URL = "https://queued.invalid"


def redraw(number: int, of: str = "a") -> dict[str, Any]:
    return {"type": "redraw", "of": of, "panel": 0, "prompt": f"r{number}", "key": f"r{number}"}


def overlaps(network: Network) -> list[str]:
    """Changes that were sent less than a comic's duration after the one before."""
    sent = [one for one in network.sent if one.kind.is_billed and one.prompt != "other"]
    pairs = itertools.pairwise(sent)
    return [str(after) for before, after in pairs if after.at - before.at < 60]


async def test_changes_of_one_comic_run_one_after_the_other(tmp_path: Path) -> None:
    network = roomy()
    async with (
        network.client(base_url=URL) as client,
        ComicQueue(client, tmp_path / "q.db") as queue,
    ):
        jobs = [await queue.submit(COMIC)]
        jobs += [await queue.submit(redraw(number)) for number in range(3)]
        more = BatchStory(ContinueRequest("more"), of="r1", key="m")
        jobs.append(await queue.submit(more))
        jobs.append(await queue.submit({"type": "animation", "prompt": "other"}))
        done = [await queue.result(job) for job in jobs]
    assert all(generation.succeeded for generation in done)
    assert overlaps(network) == []
    sent = [one.prompt for one in network.sent if one.kind.is_billed and one.prompt != "other"]
    assert sent == ["a cat", "r0", "r1", "r2", "more"]


async def test_many_changes_of_one_comic_hold_up_no_other(tmp_path: Path) -> None:
    """However many there are at the head of the queue."""
    network = roomy()
    async with (
        network.client(base_url=URL) as client,
        ComicQueue(client, tmp_path / "q.db") as queue,
    ):
        await queue.submit(COMIC)
        for number in range(200):
            await queue.submit(redraw(number))
        other = await queue.submit("other")
        await queue.result(other)
        assert len(network.of(RequestKind.UPDATE)) < 5


@pytest.mark.parametrize("story", [redraw(1, "nobody"), redraw(1, "v")])
async def test_what_a_queue_does_not_have_can_not_be_changed(story: dict[str, Any]) -> None:
    network = roomy()
    async with network.client() as client, ComicQueue(client) as queue:
        await queue.submit({"type": "animation", "prompt": "other", "key": "v"})
        with pytest.raises(InvalidRequestError, match="of: got"):
            await queue.submit(story)
        assert await queue.get("r1") is None


async def test_changes_of_a_comic_that_failed_fail_with_it(tmp_path: Path) -> None:
    """Changes that wait, changes that wait for these, and changes that come later."""
    service = SandboxService(failure_rate=1.0, plans={"the-key": ROOMY})
    network = Network(service, key="the-key")
    async with (
        network.client(base_url=URL) as client,
        ComicQueue(client, tmp_path / "q.db") as queue,
    ):
        await queue.submit(COMIC)
        jobs = [await queue.submit(redraw(1)), await queue.submit(redraw(2, "r1"))]
        for job, key in zip(jobs, ["a", "r1"], strict=True):
            with pytest.raises(InvalidRequestError, match=f"of: got {key!r}"):
                await queue.result(job)
        with pytest.raises(InvalidRequestError, match="that has not failed"):
            await queue.submit(redraw(3))
    assert network.of(RequestKind.UPDATE) == []


async def test_a_change_behind_an_uncertain_one_says_so(tmp_path: Path) -> None:
    """To those who wait already, and to those who ask; it goes on when that one is sent again."""
    lost = True

    def lose(sent: Sent) -> Exception | None:
        return APIConnectionError("lost") if lost and sent.prompt == "r1" else None

    service = SandboxService(durations=Durations.constant(60), plans={"the-key": ROOMY})
    network = Network(service, key="the-key", after=lose)
    async with (
        network.client(base_url=URL) as client,
        ComicQueue(client, tmp_path / "q.db") as queue,
    ):
        await queue.submit(COMIC)
        first, second = await queue.submit(redraw(1)), await queue.submit(redraw(2, "r1"))
        events = queue.events(second)
        async for event in events:
            if event.error is not None:
                break
        await events.aclose()
        assert "it waits for 'r1'" in str(event.error)
        assert event.state is BatchState.QUEUED
        job = await queue.get(second.key)
        assert job is not None
        assert "it waits for 'r1'" in str(job.error)
        lost = False
        await asyncio.sleep(100)  # which the server is done with by now
        await queue.resend(first)
        assert (await queue.result(second)).succeeded
