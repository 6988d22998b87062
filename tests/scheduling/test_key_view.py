"""The view on a key: what a client tells the others, and what it makes of what they tell."""

from __future__ import annotations

import asyncio
import json
import math
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async import Plan
from llamagen_async.forecasting import Forecasts, arrival_weight
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
        target = run_comic(other, f"{number}", NOW - number * 1.0137)
        target.last_running_age = number / 3
        other._polls._withdraw(target)
        other._polls._insert(target)
    tell(other, one)
    assert one.running(NOW) == pytest.approx(500, abs=1)
    told = json.loads(other.workload(NOW).text)["running"]
    assert 16 <= len(told) <= 32
    assert [round(value, 2) for group in told for value in group[:3]] == [
        value for group in told for value in group[:3]
    ]
    ages = sum(group.age * group.count for group in one.groups(NOW))
    assert ages == pytest.approx(1.0137 * 500 * 499 / 2, rel=0.01), "their ages are those of all"


def test_a_few_generations_are_told_of_one_by_one() -> None:
    """Each with its age and the age at which it was last seen running, to the hundredth."""
    one, other = view(), view()
    for number in range(5):
        target = run_comic(other, f"{number}", NOW - 30.126 - number, urgent=number > 1)
        target.last_running_age = 10.126 + number
        other._polls._withdraw(target)
        other._polls._insert(target)
    other._polls.remember_accepted("6", NOW - 1.126, will_wait=True)
    other.arrived.append(NOW - 77.126)
    tell(other, one)
    told = json.loads(other.workload(NOW).text)
    assert sorted(told["running"]) == [
        [1.13, 0.0, 1, True],
        *([round(30.13 + n, 2), round(10.13 + n, 2), 1, n > 1] for n in range(5)),
    ]
    assert told["arrived"] == [pytest.approx(0.8, abs=0.2), 77.13]
    assert (one.running(NOW), one.running(NOW, urgent=True)) == (6, 4)
    seen = sorted((group.age, group.last_running_age) for group in one.groups(NOW))
    assert seen[1:] == [pytest.approx((30.13 + n, 10.13 + n)) for n in range(5)]


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"running": 7}',
        '{"running": [[1, 2, 3]]}',
        '{"running": [["a", 2, 3, true]]}',
        '{"running": [[-1, 2, 3, true]]}',
        '{"arrived": [1e999, 2]}',
        '{"observed": [[1, ["comic"], -5, 3]]}',
        '{"observed": 3}',
    ],
)
def test_a_client_that_says_what_nobody_understands_is_there(text: str) -> None:
    """And does nothing, as far as is known."""
    one = view()
    one.learns = True
    one.update(key_state(peers=(PeerReport("other", 0.0, (), text),)), NOW)
    assert one.is_shared
    assert (one.running(NOW), one.slots(NOW).arrivals, one.groups(NOW)) == (0, 0, [])
    assert one._polls.forecasts.observed == 0


def test_slots_of_others_that_go_before_are_not_free() -> None:
    """Until the time that the ledger has told, no slot is free for this client."""
    one = view()
    one.update(key_state(returning=(20.0,) * 9), NOW, no_slot_for=5.0)
    assert one.slots(NOW).free == 0
    assert one.slots(NOW).returning[0] == 5.0
    assert one.slots(NOW + 5.0).free == 1
    assert one.slots(NOW + 5.0, holds_one=True).free == 2


@pytest.mark.parametrize(
    ("others", "before"),
    [
        ([(120.0, 0.0)], 1),
        ([(30.0, 0.0)], 0),
        ([(120.0, 119.0)], 0),
        ([(120.0, 0.0), (130.0, 0.0), (130.0, 129.0)], 2),
    ],
    ids=["older", "younger", "older, and just checked", "several"],
)
def test_checks_of_others_that_are_worth_more_go_before(
    others: list[tuple[float, float]], before: int
) -> None:
    """As far as is known: what was seen running just now is hardly done."""
    one = view()
    mine = run_comic(one, "mine", NOW - 60.0)
    text = json.dumps({"running": [[age, last, 1, True] for age, last in others]})
    report = PeerReport("other", 0.0, (), text)
    one.update(key_state(returning=(20.0,) * 10, peers=(report,)), NOW)
    assert one.before(mine, NOW) == before
    one.update(key_state(returning=(20.0,) * 9, peers=(report,)), NOW)
    assert one.before(mine, NOW) == 0, "a slot is free: nobody has to wait for another"


def test_requests_of_others_that_somebody_waits_for_go_before_a_check() -> None:
    one = view()
    mine = run_comic(one, "mine", NOW - 60.0)
    waiting = tuple(
        WaitingRequests(priority, count, 5.0, 1.0)
        for priority, count in (
            (Priority.INTERACTIVE, 1),
            (Priority.READ, 2),
            (Priority.OVERDUE, 4),
            (Priority.CHECK, 8),
            (Priority.BATCH, 16),
        )
    )
    report = PeerReport("other", 0.0, waiting, "")
    one.update(key_state(returning=(20.0,) * 10, peers=(report,)), NOW)
    assert one.before(mine, NOW) == 7


@pytest.mark.parametrize(
    ("others", "own", "gap", "wait"),
    [
        (0, 0, 12.0, 12.0),
        (0, 4, 12.0, 12.0),
        (4, 0, 6.0, 6.0),
        (4, 0, 12.0, 24.0),
        (12, 0, 6.0, 60.0),
    ],
    ids=["nobody's", "one's own", "too few", "one before", "more than there are slots"],
)
def test_a_check_leaves_a_slot_to_creates_of_others_that_most_likely_come(
    others: int, own: int, gap: float, wait: float
) -> None:
    """Creates are expected to come as they came before, also while time passes."""
    one = view()
    mine = run_comic(one, "mine", NOW - 60.0)
    if own:
        one.arrived.extend(range(0, int(NOW), 60 // own))
    came = [float(second) for second in range(0, int(NOW), 60 // others)] if others else []
    text = json.dumps({"arrived": [arrival_weight(came, NOW), NOW]})
    returning = tuple(gap * number for number in range(1, 11))
    reports = (PeerReport("other", 0.0, (), text),)
    one.update(key_state(returning=returning, peers=reports), NOW)
    for passed in (0.0, 3.0, gap):
        at = NOW + passed
        assert one.slot_left_in(mine, one.slots(at), at) == wait - passed
    assert one.slot_left_in(mine, one.slots(NOW + wait), NOW + wait) == 0.0
    one.update(key_state(returning=returning[:9], peers=reports), NOW)
    assert one.slot_left_in(mine, one.slots(NOW), NOW) == 0.0, "one is free"


def test_slots_come_back_as_the_ledger_has_said() -> None:
    """Slots that are back are free, the others stand in their order, and a held one is free."""
    one = view()
    one.update(key_state(returning=(5.0, 10.0, 40.0), quota_left=7), NOW)
    assert (one.used(NOW), one.used(NOW + 5.0), one.used(NOW + 39.0)) == (3, 2, 1)
    assert one.quota_left == 7
    now, later = one.slots(NOW), one.slots(NOW + 7.0)
    assert (now.free, list(now.returning)) == (7, [5.0, 10.0, 40.0])
    assert (later.free, list(later.returning)) == (8, [3.0, 33.0])
    assert (now.interval, now.per, now.arrivals) == (6.0, 60.0, 0.0)
    held = one.slots(NOW, holds_one=True)
    assert (held.free, list(held.returning)) == (8, [5.0, 10.0])
    assert one.slots(NOW + 50.0, holds_one=True).free == 10
    one.update(key_state(returning=tuple(float(n) for n in range(1, 13))), NOW)
    many = one.slots(NOW)
    assert (many.free, list(many.returning)) == (0, [float(n) for n in range(3, 13)])


def test_the_first_arrival_of_all_clients_begins_their_rate() -> None:
    """However long ago it was told, and none is one if creates need no slot."""
    one, other = view(), view()
    one.arrived.extend([NOW - 50.0, NOW - 20.0])
    other.arrived.extend([NOW - 400.0, NOW - 390.0, NOW - 10.0])
    alone = one.slots(NOW).arrivals
    tell(other, one)
    both = one.slots(NOW).arrivals
    assert 0 < both < alone, "five in 400 seconds are fewer than two in 50"
    tell(other, one, age=100.0)
    assert one.slots(NOW).arrivals < both, "what it told of has faded since"
    limiter: Any = SimpleNamespace(plan=attrs.evolve(Plan.PAID, metered={"status"}))
    unmetered = KeyView(limiter, RequestQueue(), PollSet(Forecasts()))
    unmetered.arrived.extend(one.arrived)
    assert unmetered.slots(NOW).arrivals == 0.0


def test_only_newer_durations_of_each_client_are_learned() -> None:
    """Each client counts its own; what was heard before is not heard again."""
    one = view()
    one.learns = True

    def hear(client: str, *observed: list[Any]) -> int:
        report = PeerReport(client, 0.0, (), json.dumps({"observed": observed}))
        one.update(key_state(peers=(report,)), NOW)
        return one._polls.forecasts.observed

    assert hear("a", [1, ["comic"], 40.0, 50.0], [2, ["comic"], 41.0, 51.0]) == 2
    assert hear("a", [2, ["comic"], 41.0, 51.0], [3, ["comic"], 42.0, 52.0]) == 3
    assert hear("b", [1, ["comic"], 40.0, 50.0]) == 4
    forecast = one._polls.forecasts.overall.forecast
    assert forecast.chance_done(100.0, last_running_age=0.0) > 0.8
    assert hear("b", [1, ["comic"], 40.0, 50.0]) == 4


async def test_the_request_that_a_slot_is_asked_for_is_not_told_of_twice() -> None:
    """The claim tells of it."""
    one = view()
    request = APIRequest(RequestKind.USAGE, "GET", "/comics/usage")
    loop = asyncio.get_running_loop()
    first, second = (
        Submission[Any](request, str, NOW - 9.0 + n, loop.create_future()) for n in range(2)
    )
    one._queue.push(first)
    one.claimed = first
    assert one.workload(NOW).waiting == ()
    one._queue.push(second)
    assert [waiting.count for waiting in one.workload(NOW).waiting] == [1]
    one.claimed = None
    assert [waiting.oldest for waiting in one.workload(NOW).waiting] == [9.0, 8.0]


def test_requests_of_several_clients_wait_together() -> None:
    """By their priorities; none of them is left once slots enough have gone by."""
    one = view()
    reports = tuple(
        PeerReport(f"{n}", 0.0, (WaitingRequests(Priority.BATCH, n, 5.0, 1.0),), "")
        for n in (1, 2, 3)
    )
    one.update(key_state(peers=reports), NOW)
    assert one.waiting(NOW, 6.0, Priority.BATCH) == 6
    assert one.waiting(NOW, 6.0, Priority.INTERACTIVE, Priority.BATCH) == 6
    assert one.waiting(NOW + 600.0, 6.0, Priority.BATCH) == 0
    assert len({one.client, *(view().client for _ in range(5))}) == 6
    one.update(key_state(), NOW)
    assert not one.is_shared
    assert one.waiting(NOW, 6.0, Priority.BATCH) == 0


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
