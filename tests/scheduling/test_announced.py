"""Ends that are announced: what an announcement says is learned, and one that is missing told."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from llamagen_async import Plan
from llamagen_async.clock import Clock
from llamagen_async.forecasting import Forecasts, PollThreshold
from llamagen_async.models import ComicGeneration, GenerationStatus
from llamagen_async.plans import RequestKind
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import GenerationWait, PollTarget
from llamagen_async.scheduling.poller import Poller, Waiter
from llamagen_async.transport import APIRequest
from llamagen_async.webhooks import Announcement

pytestmark = pytest.mark.virtual_time

CHECK = APIRequest(RequestKind.STATUS, "GET", "/comics/generations/c")
ANY_CHANCE = PollThreshold(chance=1e-9)


def comic(id_: str, status: str = "SUCCEEDED") -> ComicGeneration:
    panels = [{"assetUrl": "https://cdn/1.png"}]
    return ComicGeneration.parse({"id": id_, "status": status, "comics": [{"panels": panels}]})


def event(id_: str, *, content: bool = False) -> Announcement:
    """An end, with all that there is to know of the comic or without."""
    fields = dict(comic(id_).raw) if content else None
    return Announcement(id_, True, fields, GenerationStatus.SUCCEEDED)


def begun(id_: str) -> Announcement:
    return Announcement(id_, False, None, GenerationStatus.PROCESSING)


class Waiting:
    """A client that waits for comics whose ends are announced."""

    def __init__(self) -> None:
        limiter: Any = SimpleNamespace(plan=Plan.PAID)
        self.polls = PollSet(Forecasts())
        self.poller = Poller(self.polls, limiter, Clock(), announced=True)

    def wait(self, id_: str) -> tuple[Waiter, PollTarget]:
        self.polls.remember_accepted(id_, asyncio.get_running_loop().time())
        waiter = self.poller.add(GenerationWait(id_, CHECK, ComicGeneration.parse, 1800.0))
        return waiter, self.polls.targets[id_]

    def check(self, target: PollTarget, answer: ComicGeneration) -> None:
        """Let a check of it be answered now."""
        now = asyncio.get_running_loop().time()
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        outcome.set_result(answer)
        self.polls.mark_in_flight(target, now)
        self.poller.record_check(target, now, outcome)
        self.polls.mark_idle(target)

    def due_at(self) -> float:
        now = asyncio.get_running_loop().time()
        return self.polls.next_poll(now, ANY_CHANCE, ANY_CHANCE).next_at


async def test_an_announcement_with_the_whole_comic_ends_the_wait() -> None:
    """And teaches how long it took: hardly less than until the event came."""
    one = Waiting()
    waiter, _ = one.wait("c")
    await asyncio.sleep(100)
    assert one.poller.announce(event("c", content=True))
    assert (await waiter.future).asset_urls == ("https://cdn/1.png",)
    assert not one.polls.targets
    assert [list(told[2:]) for told in one.polls.observations] == [[95.0, 100.0]]
    assert not one.poller.announce(event("c", content=True)), "nobody waits any more"


async def test_an_announcement_without_the_comic_makes_a_check_due() -> None:
    """Also if the last one has found it running just now; the answer of an older one is old."""
    one = Waiting()
    waiter, target = one.wait("c")
    await asyncio.sleep(50)
    one.check(target, comic("c", "PROCESSING"))
    assert one.due_at() > 50
    await asyncio.sleep(0.5)
    assert one.poller.announce(event("c"))
    assert one.due_at() == 50.5
    one.polls.record_result(target, done=False, checked_at=50.4, now=50.6)
    assert one.due_at() == 50.5
    one.polls.record_result(target, done=False, checked_at=50.6, now=50.7)
    assert one.due_at() > 50.7, "it was seen running after its end was announced"
    one.check(target, comic("c"))
    assert (await waiter.future).succeeded


async def test_ends_that_are_announced_and_collected_are_not_missed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many checks have brought what their events have left out."""
    one = Waiting()
    for number in range(10):
        _, target = one.wait(f"c{number}")
        assert target.heard is (number > 0)
        await asyncio.sleep(30)
        one.poller.announce(event(target.id))
        one.check(target, comic(target.id))
        assert target.id not in one.polls.targets
    assert one.wait("next")[1].announced
    assert not caplog.records


async def test_ends_that_are_not_announced_are_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From the third in a row on, ends are checked for as without events; until one comes."""
    caplog.set_level(logging.WARNING, "llamagen_async")
    one = Waiting()
    expected = [True] * 3 + [False] * 3
    for number, is_announced in enumerate(expected):
        _, target = one.wait(f"c{number}")
        assert target.announced is is_announced
        await asyncio.sleep(30)
        one.check(target, comic(target.id))
    (record,) = caplog.records
    assert "3 generations in a row" in record.getMessage()
    _, target = one.wait("heard")
    assert one.poller.announce(event("heard"))
    one.check(target, comic("heard"))
    assert one.wait("next")[1].announced


async def test_an_event_that_comes_late_is_one() -> None:
    """A check was quicker than the event, which says that events come."""
    one = Waiting()
    for number in range(5):
        _, target = one.wait(f"c{number}")
        assert target.announced
        await asyncio.sleep(30)
        one.check(target, comic(target.id))
        assert not one.poller.announce(event(target.id))


async def test_a_generation_of_which_events_come_is_known_to_be_heard_of() -> None:
    """And so are those that are waited for next, until an end is missed."""
    one = Waiting()
    _, target = one.wait("c")
    assert not target.heard
    assert one.poller.announce(begun("c"))
    assert target.heard
    assert not one.poller.announce(begun("other"))
    assert one.wait("d")[1].heard
    await asyncio.sleep(30)
    one.check(target, comic("c"))
    assert not one.wait("e")[1].heard


async def test_an_end_that_comes_before_anybody_waits_is_kept() -> None:
    """With the comic it ends the wait at once; without, a check is due."""
    one = Waiting()
    assert not one.poller.announce(event("c", content=True))
    assert not one.poller.announce(event("d"))
    waiter = one.poller.add(GenerationWait("c", CHECK, ComicGeneration.parse, 1800.0))
    assert waiter.future.done()
    assert (await waiter.future).id == "c"
    assert one.poller.finished == 1
    assert not one.polls.targets
    _, target = one.wait("d")
    assert target.has_ended
    assert not target.announced
    assert one.due_at() == asyncio.get_running_loop().time()
