"""The view on a key: what a client tells the others, and what it makes of what they tell."""

from __future__ import annotations

import asyncio
import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async import Plan
from llamagen_async.forecasting import Forecasts
from llamagen_async.models import ComicGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import PeerReport, Priority, WaitingRequests
from llamagen_async.scheduling.key_view import KeyView
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import PollTarget
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import APIRequest
from tests.support.claims import key_state

NOW = 1_000.0
CHECK = APIRequest(RequestKind.STATUS, "GET", "/comics/generations/0")


def view() -> KeyView:
    limiter: Any = SimpleNamespace(plan=Plan.PAID)
    return KeyView(limiter, RequestQueue(), PollSet(Forecasts()))


def run_comic(one: KeyView, name: str, accepted_at: float, *, urgent: bool = True) -> PollTarget:
    target = PollTarget(name, CHECK, ComicGeneration.parse, accepted_at, urgent=urgent)
    one._polls.add(target)
    return target


def tell(speaker: KeyView, listener: KeyView, *, age: float = 0.0) -> None:
    """Let one client hear what another has to do."""
    here = PeerReport(listener.client, 0.0, (), "")
    speaker.update(key_state(peers=(here,)), NOW - age)
    text = speaker.workload(NOW - age).text
    report = PeerReport(speaker.client, age, (), text)
    listener.update(key_state(peers=(report,)), NOW)


def test_what_one_client_runs_counts_for_all() -> None:
    """A comic of another process wants a slot like one of this process, and grows as old."""
    one, other = view(), view()
    run_comic(one, "a", NOW - 30.0)
    run_comic(other, "b", NOW - 50.0, urgent=False)
    tell(other, one, age=10.0)
    assert (one.running(NOW), one.running(NOW, urgent=True)) == (2, 1)
    assert sorted(group.age for group in one.groups(NOW)) == pytest.approx([30.0, 50.0])
    assert [group.age for group in one.groups(NOW, urgent=False)] == pytest.approx([50.0])


async def test_nobody_is_told_of_comics_as_long_as_nobody_shares_the_key() -> None:
    """The wait queue is told what it needs all the same."""
    one, other = view(), view()
    run_comic(one, "a", NOW - 30.0)
    request = APIRequest(RequestKind.USAGE, "GET", "/comics/usage")
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    one._queue.push(Submission(request, lambda body: body, NOW, future))
    alone = one.workload(NOW)
    assert (len(alone.waiting), alone.text) == (1, "")
    tell(one, other)
    assert other.running(NOW) == 1


def test_a_client_that_is_not_heard_of_runs_nothing_for_long() -> None:
    """A process that was killed does not make slots expensive for ever."""
    one, other = view(), view()
    run_comic(other, "b", NOW - 50.0)
    tell(other, one)
    assert (len(one.groups(NOW + 299.0)), one.running(NOW + 299.0)) == (1, 1)
    assert (one.groups(NOW + 301.0), one.running(NOW + 301.0)) == ([], 0)


def test_arrivals_of_all_clients_are_one_rate() -> None:
    """One arrival is no rate; those of eight processes are one all the same."""
    one, other, alone = view(), view(), view()
    for client, seconds in (
        (one, range(0, 1_000, 60)),
        (other, range(30, 1_000, 60)),
        (alone, range(0, 1_000, 30)),
    ):
        client.arrived.extend(map(float, seconds))
    tell(other, one)
    assert one.slots(NOW).arrivals == pytest.approx(alone.slots(NOW).arrivals, rel=0.01)


def test_durations_are_learned_once_and_only_when_asked_for() -> None:
    """Durations that others observed are taken over, but not before the saved ones are read."""
    one, other = view(), view()
    target = run_comic(other, "b", NOW - 70.0)
    other._polls.record_result(target, done=True, checked_at=NOW, now=NOW)
    tell(other, one)
    assert one._polls.forecasts.observed == 0
    one.learns = True
    tell(other, one)
    tell(other, one)
    assert one._polls.forecasts.observed == 1


def test_many_generations_are_told_of_as_few_groups() -> None:
    """The report of a client is bounded, and counts them all."""
    one, other = view(), view()
    for number in range(500):
        target = run_comic(other, f"{number}", NOW - number)
        target.last_running_age = number / 2
        other._polls._withdraw(target)
        other._polls._insert(target)
    tell(other, one)
    assert one.running(NOW) == pytest.approx(500, abs=1)
    assert len(json.loads(other.workload(NOW).text)["running"]) <= 32


def test_slots_of_others_that_go_before_are_not_free() -> None:
    """Until the time that the ledger has told, no slot is free for this client."""
    one = view()
    one.update(key_state(returning=(20.0,) * 9), NOW, no_slot_for=5.0)
    assert one.slots(NOW).free == 0
    assert one.slots(NOW).returning[0] == 5.0
    assert one.slots(NOW + 5.0).free == 1
    assert one.slots(NOW + 5.0, holds_one=True).free == 2


def test_requests_of_others_wait_until_they_may_have_been_served() -> None:
    """A report that is older is believed less."""
    one = view()
    waiting = (WaitingRequests(Priority.BATCH, 10, 5.0, 1.0),)
    one.update(key_state(peers=(PeerReport("other", 0.0, waiting, ""),)), NOW)
    assert one.waiting(NOW, 6.0, Priority.BATCH) == 10
    assert one.waiting(NOW + 60.0, 6.0, Priority.BATCH) == 5
    assert one.waiting(NOW, 6.0, Priority.INTERACTIVE) == 0


@pytest.mark.once
@given(
    st.text()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["running", "arrived", "observed"]),
        st.recursive(st.none() | st.floats() | st.text(), st.lists)
        | st.lists(st.lists(st.floats(), min_size=4, max_size=4)),
    ).map(json.dumps)
)
def test_a_text_without_sense_is_a_client_that_does_nothing(text: str) -> None:
    """A store may hold anything; no text of another client breaks this one."""
    one = view()
    one.learns = True
    one.update(key_state(peers=(PeerReport("other", 0.0, (), text),)), NOW)
    assert one.is_shared
    assert one.slots(NOW).arrivals >= 0
    assert all(math.isfinite(group.age) and group.count >= 0 for group in one.groups(NOW))
