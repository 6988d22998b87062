"""The wait queue: who goes before whom, for how long a request counts, and the shares."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from llamagen_async.ratelimit import Claim, Priority, WaitingRequests, Workload
from llamagen_async.ratelimit.wait_queue import WaitQueue
from llamagen_async.stored_values import StateReader
from tests.support.claims import IDLE_WORKLOAD

NOW = 1_000.0
LATER = NOW + 60.0

priorities = st.sampled_from(list(Priority))
waits = st.integers(0, 4).map(float)
requests = st.lists(st.tuples(priorities, waits), max_size=4)


def claim_of(client: str, priority: Priority, waited: float, *others: WaitingRequests) -> Claim:
    return Claim(f"{client}.1", client, priority, waited, Workload(others))


def add(queue: WaitQueue, claim: Claim, *, until: float = LATER) -> None:
    """Let a claim wait as if no slot had been free."""
    since = queue.since(claim, NOW)
    queue.report(claim.client, claim.workload, NOW, until=NOW + 5)
    queue.wait(claim, since, until=until)


def queue_of(
    clients: Sequence[Claim], *, last_was_check: bool = False, tolerance: float = 0.0
) -> WaitQueue:
    queue = WaitQueue(3600.0, 9, tolerance)
    queue.last_was_check = last_was_check
    for one in clients:
        add(queue, one)
    return queue


@attrs.frozen
class Request:
    """One request in the model: all that its place in the order depends on."""

    priority: Priority
    waited: float
    joined: int

    def order(self, last_was_check: bool) -> tuple[int, float, int]:
        first = self.priority is Priority.OVERDUE and not last_was_check
        return (-1 if first else self.priority, -self.waited, self.joined)


def served_before(mine: Request, others: list[Request], last_was_check: bool) -> int:
    """Hand out slots one after the other; return how many others get one before `mine`."""
    left, number = [mine, *others], 0
    while True:
        best = min(left, key=lambda one: one.order(last_was_check))
        if best is mine:
            return number
        left.remove(best)
        last_was_check = best.priority.is_check
        number += 1


@given(st.lists(requests, max_size=5), priorities, waits, st.integers(0, 5), st.booleans())
def test_a_position_is_the_number_of_slots_that_others_get_before(
    others: list[list[tuple[Priority, float]]],
    priority: Priority,
    waited: float,
    place: int,
    last_was_check: bool,
) -> None:
    """By priority, then waiting time, then joining; overdue checks take turns with the rest.

    A client that asks for an overdue check, and has more that waits, may use a later slot for that
    than others are told. They ask once more then.
    """
    mine = Request(priority, waited, place)
    claims: list[Claim] = []
    pool: list[Request] = []
    for number, wanted in enumerate(others):
        joined = number if number < place else number + 1
        ordered = sorted(
            (Request(*one, joined) for one in wanted), key=lambda one: one.order(last_was_check)
        )
        if not ordered:
            continue
        pool += ordered
        rest = [WaitingRequests(one.priority, 1, one.waited, one.waited) for one in ordered[1:]]
        claims.append(claim_of(str(joined), ordered[0].priority, ordered[0].waited, *rest))
    own = claim_of("me", priority, waited)
    known = [one for one in claims if int(one.client) < place]
    queue = queue_of(
        [*known, own, *(one for one in claims if one not in known)], last_was_check=last_was_check
    )
    position, expected = queue.position(own, NOW), served_before(mine, pool, last_was_check)
    assert position <= expected
    if all(len(each) <= 1 or Priority.OVERDUE not in dict(each) for each in others):
        assert position == expected


@given(
    st.lists(st.tuples(priorities, waits, requests), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([0.0, 1.0]),
)
@example(  # the first one holds a claim for less than the best that it has
    [
        (Priority.INTERACTIVE, 0.0, [(Priority.OVERDUE, 0.0)]),
        (Priority.OVERDUE, 0.0, []),
    ],
    False,
    0.0,
)
def test_one_of_the_claims_is_always_the_next(
    clients: list[tuple[Priority, float, list[tuple[Priority, float]]]],
    last_was_check: bool,
    tolerance: float,
) -> None:
    """Even if clients ask for something else than the best that they have."""
    claims = [
        claim_of(str(n), priority, waited, *(WaitingRequests(p, 1, w, w) for p, w in others))
        for n, (priority, waited, others) in enumerate(clients)
    ]
    queue = queue_of(claims, last_was_check=last_was_check, tolerance=tolerance)
    assert [queue.position(one, NOW) for one in claims].count(0) == 1


@given(st.integers(1, 6), waits, waits, waits, st.booleans())
def test_requests_between_the_first_and_the_last_lie_evenly(
    count: int, first: float, last: float, waited: float, joined_first: bool
) -> None:
    """Requests that have waited longer count, and as long, if their client joined before."""
    first, last = max(first, last), min(first, last)
    last = first if count == 1 else last
    group = claim_of(
        "a", Priority.INTERACTIVE, 99, WaitingRequests(Priority.BATCH, count, first, last)
    )
    mine = claim_of("b", Priority.BATCH, waited)
    queue = queue_of([group, mine] if joined_first else [mine, group])
    times = [first - (first - last) * n / max(1, count - 1) for n in range(count)]
    expected = sum(one > waited or (joined_first and one == waited) for one in times)
    assert queue.position(mine, NOW) - 1 == pytest.approx(expected)


def test_a_client_does_not_stand_behind_itself() -> None:
    """Whatever else it has that waits."""
    more = WaitingRequests(Priority.INTERACTIVE, 50, 90, 80)
    claim = claim_of("a", Priority.SPARE, 0, more)
    assert queue_of([claim]).position(claim, NOW) == 0


def test_a_claim_keeps_its_place_but_not_that_of_another_priority() -> None:
    """Asked again, a check that says nothing of waiting has waited since it was first asked for."""
    mine, other = claim_of("a", Priority.CHECK, 0), claim_of("b", Priority.CHECK, 3)
    queue = queue_of([mine])
    queue.report("b", IDLE_WORKLOAD, NOW + 5, until=NOW + 10)
    queue.wait(other, queue.since(other, NOW + 5), until=LATER)
    assert queue.position(mine, NOW + 6) == 0
    assert queue.position(attrs.evolve(mine, id="a.2"), NOW + 6) == 1
    assert queue.position(attrs.evolve(mine, priority=Priority.SPARE), NOW + 6) == 1


tellings = st.lists(
    st.tuples(st.sampled_from("ab"), st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    max_size=12,
)


@given(st.sampled_from([0.0, 0.5, 3.0]), tellings)
def test_the_order_of_two_requests_does_not_change_while_they_wait(
    apart: float, told: list[tuple[str, bool, float]]
) -> None:
    """However long each telling takes, and whether a request waits behind the claim or has it."""
    queue, since, now = WaitQueue(3600.0, 9, 1.0), {"a": NOW - 30, "b": NOW - 30 + apart}, NOW
    first = Priority.INTERACTIVE, Priority.READ  # what `b` asks for does not count

    def tell(client: str, is_claimed: bool, took: float) -> None:
        waited = now - took - since[client]
        claim = claim_of(client, Priority.BATCH, waited)
        if not is_claimed:
            behind = WaitingRequests(Priority.BATCH, 1, waited, waited)
            claim = claim_of(client, first[client == "b"], 0, behind)
        begun = queue.since(claim, now)
        queue.report(client, claim.workload, now, until=now + 5)
        queue.wait(claim, begun, until=now + 60)

    def older() -> str:
        """Return whose request goes first, by what others would be told."""
        ages = {
            name: max(one.oldest for one in peer.waiting if one.priority is Priority.BATCH)
            for name in since
            for peer in queue.peers("", now)
            if peer.client == name
        }
        return max("ab", key=lambda name: ages[name])

    tell("a", False, 0.5)
    tell("b", False, 0.5)
    goes_first = older()
    for client, is_claimed, took in told:
        now += 0.125
        tell(client, is_claimed, took)
        assert older() == goes_first


def test_what_is_told_of_another_time_is_another_request() -> None:
    """The first one was sent, and the next one came later."""
    queue = WaitQueue(3600.0, 9, 1.0)
    mine = claim_of("me", Priority.BATCH, 5)
    for waited, position in ((9.0, 1), (8.0, 1), (4.0, 0)):
        workload = Workload((WaitingRequests(Priority.BATCH, 1, waited, waited),))
        queue.report("a", workload, NOW, until=LATER)
        assert queue.position(mine, NOW) == position


def test_requests_count_until_their_claim_should_have_been_repeated() -> None:
    """Or for the grace after the last report, if no claim waits; a report does not prolong it."""
    mine = claim_of("me", Priority.SPARE, 0)
    claim = claim_of("a", Priority.BATCH, 9, WaitingRequests(Priority.BATCH, 3, 8, 1))
    queue = queue_of([claim])
    assert queue.position(mine, LATER - 0.1) == 4
    queue.report("a", claim.workload, LATER - 1, until=LATER + 4)
    assert queue.position(mine, LATER - 0.1) == 4
    assert queue.position(mine, LATER) == 3, "without the claim"
    assert queue.position(mine, LATER + 4) == 0
    assert queue.waiting(LATER + 4) == {}
    assert queue.peers("me", LATER + 4)[0].waiting == ()


def test_a_claim_that_is_withdrawn_counts_no_longer() -> None:
    """Unless another claim of the client has taken its place."""
    mine, claim = claim_of("me", Priority.SPARE, 0), claim_of("a", Priority.BATCH, 9)
    queue = queue_of([claim])
    queue.withdraw("a.0", "a")
    assert queue.position(mine, NOW) == 1
    queue.withdraw("a.1", "a")
    assert queue.position(mine, NOW) == 0


@given(st.lists(st.tuples(priorities, waits, requests), max_size=4), st.booleans())
def test_nothing_is_lost_when_it_is_stored(
    clients: list[tuple[Priority, float, list[tuple[Priority, float]]]], last_was_check: bool
) -> None:
    """As JSON, in the order of joining."""
    queue = queue_of(
        [
            claim_of(str(n), priority, waited, *(WaitingRequests(p, 1, w, w) for p, w in others))
            for n, (priority, waited, others) in enumerate(clients)
        ],
        last_was_check=last_was_check,
    )
    twin = WaitQueue(3600.0, 9)
    twin.load(json.loads(json.dumps(queue.dump())), StateReader(NOW))
    assert twin.dump() == queue.dump()
    assert twin.waiting(NOW) == queue.waiting(NOW)
    mine = claim_of("me", Priority.BATCH, 2)
    assert twin.position(mine, NOW) == queue.position(mine, NOW)


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "lost", "leave", "silent"]),
        st.sampled_from("abcdefghijkl"),
    ),
    max_size=60,
)


@given(steps, st.integers(0, 12))
def test_shares_never_add_up_to_more_than_there_is(
    history: list[tuple[str, str]], shares: int
) -> None:
    """By what the clients know, whatever answers were lost, and whoever joins and leaves."""
    queue, now = WaitQueue(3600.0, shares), NOW
    known: dict[str, tuple[int, float]] = {}
    for what, client in history:
        if what == "leave":
            queue.withdraw("", client, leaves=True)
            known.pop(client, None)
        elif what == "silent":
            now += 2000.0
            known = {name: one for name, one in known.items() if one[1] + 3600.0 > now}
        else:
            queue.expire(now)
            believed, _ = known.get(client, (0, now))
            queue.report(client, Workload(share=believed), now, until=now)
            if what == "ask":
                known[client] = queue.share_of(client), now
            elif client in known:
                known[client] = believed, now
        assert sum(share for share, _ in known.values()) <= shares


@pytest.mark.parametrize("clients", [1, 2, 3, 9, 10, 20])
def test_shares_are_soon_even(clients: int) -> None:
    """When each client has asked three times, as far as whole slots can be even."""
    queue, known = WaitQueue(3600.0, 9), dict.fromkeys(range(clients), 0)
    for client in [*range(clients)] * 3:
        queue.report(str(client), Workload(share=known[client]), NOW, until=NOW)
        known[client] = queue.share_of(str(client))
    fair = max(1, 9 // clients)
    assert sorted(known.values()) == sorted([fair] * min(clients, 9) + [0] * (clients - 9))
