"""Properties of the window log, whatever the order of events.

A state machine plays one window log against servers that count differently. Clients ask with any
priority, requests arrive at any time between grant and response, are lost, given back or never
reported; processes crash and load what was stored; the server answers 429 and pauses. Whatever
happens, no server ever gets more requests than its limit allows, and no check goes before a create
that could have had the slot.
"""

from __future__ import annotations

import itertools
import json

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from llamagen_async.plans import DAY, Plan, RateLimit
from llamagen_async.ratelimit import (
    ANSWERED,
    Claim,
    NoSlot,
    Outcome,
    Priority,
    WaitingRequests,
    Workload,
)
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.shares import shares_of
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from llamagen_async.sandbox.algorithms import Algorithm, Meter
from llamagen_async.stored_values import StateReader
from tests.support.claims import IDLE_WORKLOAD, claim

LEASE = 30.0
GRACE = 5.0
TIMES = LedgerTimes(lease=LEASE, grace=GRACE, client_lease=600.0, silence=8.0)
ALIGNED = Plan("aligned", limits=(RateLimit(3, per=20, aligned=True), RateLimit(8, per=100)))
PLANS = (
    Plan("one", limits=RateLimit(1, per=10)),
    Plan("few", limits=RateLimit(3, per=20)),
    Plan("two windows", limits=(RateLimit(2, per=10), RateLimit(5, per=120))),
    Plan.DEMO,
    ALIGNED,
)
SERVERS: tuple[Algorithm, ...] = ("sliding", "fixed", "bucket")
CREATES = (Priority.INTERACTIVE, Priority.BATCH)
moments = st.sampled_from([0.0, 0.1, 1.0, 4.9, 5.0, 9.9, 10.0, 10.1, 20.0, 31.0]) | st.floats(0, 40)
clients = st.sampled_from("abc")
priorities = st.sampled_from(list(Priority))
names = itertools.count()


@attrs.define(eq=False)
class Holder:
    """A slot, as its client knows it."""

    grant: Grant
    granted_at: float
    arrived: bool = False


class AnyInterleaving(RuleBasedStateMachine):
    """One window log, several clients, several servers."""

    granted = Bundle("granted")
    sent = Bundle("sent")

    @initialize(plan=st.sampled_from(PLANS), offset=st.floats(0, 120))
    def start(self, plan: Plan, offset: float) -> None:
        self.plan = plan
        self.now = 1000.0
        self.log = WindowLog(plan, TIMES)
        if plan is ALIGNED:
            # Such a plan trusts the server's clock: only its own windows are kept.
            self.servers = [
                Meter(plan.limits[:1], algorithm="fixed", offset=0.0),
                Meter(plan.limits[1:], algorithm="sliding", offset=offset),
            ]
        else:
            self.servers = [Meter(plan.limits, algorithm=one, offset=offset) for one in SERVERS]
        self.turns: dict[str, tuple[Claim, float]] = {}
        """Client -> its claim that waits, and the time until which it does."""

    @rule(seconds=moments)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        target=granted,
        client=clients,
        priority=priorities,
        waited=st.floats(0, 100),
        again=st.booleans(),
        patient=st.booleans(),
        waits=st.booleans(),
        others=st.lists(st.tuples(priorities, st.integers(1, 5)), max_size=2),
    )
    def ask(
        self,
        client: str,
        priority: Priority,
        waited: float,
        again: bool,
        patient: bool,
        waits: bool,
        others: list[tuple[Priority, int]],
    ) -> object:
        """Ask once, or wait as told and ask again until there is a slot."""
        turn = self.turns.pop(client, None)
        name = turn[0].id if turn and again else f"{client}.{next(names)}"
        waiting = tuple(WaitingRequests(what, count, 9.0, 3.0) for what, count in others)
        claim = Claim(name, client, priority, waited, Workload(waiting), waits or patient)
        answer = self.reserve(claim)
        for _ in range(20 if patient else 0):
            if isinstance(answer, Grant):
                break
            assert answer.delay > 0, "asking again at once would be busy waiting"
            self.now += answer.delay
            claim = attrs.evolve(claim, waited=claim.waited + answer.delay)
            answer = self.reserve(claim)
        if isinstance(answer, NoSlot):
            assert not patient, "whoever waits as told is served, if nobody else asks"
            return multiple()
        return Holder(answer, self.now)

    def reserve(self, claim: Claim) -> Grant | NoSlot:
        before = self.log.snapshot(self.now)
        last_was_check = self.log.queue.last_was_check
        answer = self.log.reserve(claim, self.now)
        if isinstance(answer, NoSlot):
            if claim.waits:
                self.turns[claim.client] = claim, self.now + answer.delay + GRACE
            return answer
        free = min(window.free for window in before.windows)
        self.turns.pop(claim.client, None)
        ahead = [
            other.priority
            for other, until in self.turns.values()
            if self.now < until and other.priority < claim.priority and other.priority in CREATES
        ]
        goes_first = claim.priority is Priority.OVERDUE and not last_was_check
        if claim.priority.is_check and not goes_first:
            assert free > len(ahead), "a create that waits could have had the slot"
        return answer

    @rule(client=clients, before=st.floats(0, 14), after=st.floats(0, 14))
    def send(self, client: str, before: float, after: float) -> None:
        """Ask once, and send: the request arrives some time before its answer comes."""
        answer = self.reserve(claim(f"{client}.{next(names)}", client, waits=False))
        if isinstance(answer, Grant):
            self.now += before
            for server in self.servers:
                assert server.admit(self.now) is None, f"refused at {self.now}"
            self.now += after
            self.log.commit(answer, ANSWERED, IDLE_WORKLOAD, self.now)

    @rule(client=clients)
    def give_up(self, client: str) -> None:
        """A wait is cancelled."""
        if client in self.turns:
            self.log.release(self.turns.pop(client)[0].id, client, self.now)

    @rule(client=clients)
    def leave(self, client: str) -> None:
        self.log.release("", client, self.now, leaves=True)
        self.turns.pop(client, None)

    @rule(target=granted, holder=consumes(granted))
    def ask_once_more(self, holder: Holder) -> object:
        """Nothing was sent yet: a slot that is still held may be used for a whole lease again."""
        name, client = holder.grant.id, holder.grant.client
        answer = self.log.reserve(claim(name, client, waits=False), self.now)
        return Holder(answer, self.now) if isinstance(answer, Grant) else multiple()

    @rule(target=sent, holder=consumes(granted))
    def arrive(self, holder: Holder) -> object:
        """The request reaches the server, later than it left and before its lease is over."""
        if self.now >= holder.granted_at + LEASE:
            return multiple()
        for server in self.servers:
            assert server.admit(self.now) is None, f"refused at {self.now}"
        return holder

    @rule(holder=consumes(sent), left=st.none() | st.integers(-1, 5))
    def respond(self, holder: Holder, left: int | None) -> None:
        limit = self.plan.rate.limit if left is not None else None
        self.log.commit(
            holder.grant, Outcome(server_limit=limit, server_left=left), IDLE_WORKLOAD, self.now
        )

    @rule(holder=consumes(sent), after=st.none() | st.floats(0, 30))
    def is_refused(self, holder: Holder, after: float | None) -> None:
        """Another program used the key."""
        before = self.log.throttle.paused_until
        outcome = Outcome(refused=True, retry_after=after)
        self.log.commit(holder.grant, outcome, IDLE_WORKLOAD, self.now)
        assert self.log.throttle.paused_until >= before, "a pause is only ever lengthened"

    @rule(holder=consumes(granted), back=st.booleans())
    def is_not_sent(self, holder: Holder, back: bool) -> None:
        """Given back, or given up with the process that was to send it."""
        if back:
            self.log.release(holder.grant.id, holder.grant.client, self.now)

    @rule(holder=consumes(sent))
    def is_never_reported(self, holder: Holder) -> None:
        """The process of the request was killed: only the lease is left."""

    @rule()
    def restart(self) -> None:
        """All processes die, and what was stored is loaded."""
        self.log = self.twin()

    def twin(self) -> WindowLog:
        state = json.loads(json.dumps(self.log.dump()))
        twin = WindowLog.load(self.plan, state, TIMES, StateReader(self.now))
        assert twin.dump() == self.log.dump()
        return twin

    @invariant()
    def no_slot_is_lost_for_good(self) -> None:
        """Late enough, even if nothing is ever reported again, every slot is free."""
        if not hasattr(self, "log"):
            return
        twin = self.twin()
        late = self.now + LEASE + 3 * max(limit.per for limit in self.plan.limits)
        late = max(late, twin.throttle.paused_until) + 1000
        assert all(window.used == 0 for window in twin.snapshot(late).windows)
        assert isinstance(twin.reserve(claim("x", "somebody", Priority.SPARE), late), Grant)


TestAnyInterleaving = pytest.mark.once(AnyInterleaving.TestCase)
TestAnyInterleaving.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


@attrs.define(eq=False)
class Client:
    """A client that asks as it is told, for the best of the requests that it has."""

    name: str
    wants: list[tuple[Priority, float]]
    """The priorities of its requests, and since when they wait."""
    ask_at: float = 0.0
    claims: int = 0

    def ask(self, log: WindowLog, now: float) -> Priority | None:
        """Ask once; return the priority of the request that was sent and answered at once."""

        def order(one: tuple[Priority, float]) -> tuple[int, float]:
            first = one[0] is Priority.OVERDUE and not log.queue.last_was_check
            return (-1 if first else one[0], one[1])

        best, *others = sorted(self.wants, key=order)
        told = Workload(tuple(WaitingRequests(p, 1, now - at, now - at) for p, at in others))
        name = f"{self.name}.{self.claims}"
        answer = log.reserve(Claim(name, self.name, best[0], now - best[1], told), now)
        if isinstance(answer, NoSlot):
            self.ask_at = now + answer.delay
            return None
        self.claims += 1
        self.wants.remove(best)
        self.ask_at = now
        log.commit(answer, ANSWERED, IDLE_WORKLOAD, now)
        return best[0]


def served(log: WindowLog, all_clients: list[Client]) -> list[tuple[float, str, Priority]]:
    """Let all clients ask when they are told to; return when which request was sent."""
    found: list[tuple[float, str, Priority]] = []
    while waiting := [one for one in all_clients if one.wants]:
        client = min(waiting, key=lambda one: one.ask_at)
        now = client.ask_at
        if (sent := client.ask(log, now)) is not None:
            found.append((now, client.name, sent))
    return found


since = st.integers(-9, 0).map(float)
wishes = st.lists(st.tuples(priorities.filter(lambda one: not one.is_check), since), max_size=5)
overdue = st.lists(st.tuples(st.just(Priority.OVERDUE), since), max_size=1)


@given(
    st.tuples(st.just(1), st.lists(wishes | overdue, max_size=7))
    | st.tuples(st.just(3), st.lists(wishes, max_size=7)),
    st.booleans(),
)
def test_no_slot_idles_and_each_is_used_for_the_best_request_of_all(
    work: tuple[int, list[list[tuple[Priority, float]]]], last_was_check: bool
) -> None:
    """Over any number of clients, each of which asks only when it was told to."""
    limit, wants = work
    log = WindowLog(
        Plan("some", limits=RateLimit(limit, per=10)), LedgerTimes(lease=LEASE, tolerance=0.0)
    )
    log.record(limit, -10.0)
    log.queue.last_was_check = last_was_check
    wants = [each for each in wants if each]
    best = sorted(one for each in wants for one in each)
    every_client = [Client(str(number), list(each)) for number, each in enumerate(wants)]
    for one in every_client:  # all are known before the first slot is free
        assert one.ask(log, -9.0) is None
    sent = served(log, every_client)
    assert [at for at, _, _ in sent] == [10.0 * (n // limit) for n in range(len(best))]
    checks = [one for one in best if one[0] is Priority.OVERDUE]
    others = [one for one in best if one[0] is not Priority.OVERDUE]
    expected: list[Priority] = []
    while checks or others:
        before = others and others[0][0] < Priority.OVERDUE
        first = checks and (not last_was_check or not before)
        expected.append((checks if first else others).pop(0)[0])
        last_was_check = expected[-1].is_check
    if limit == 1:
        assert [priority for _, _, priority in sent] == expected


@pytest.mark.parametrize("others", [1, 3, 7])
def test_an_overdue_check_and_an_interactive_request_never_wait_for_two_of_the_other(
    others: int,
) -> None:
    """However many of them come, without end."""
    log = WindowLog(
        Plan("one", limits=RateLimit(1, per=10)), LedgerTimes(lease=LEASE, tolerance=0.0)
    )
    log.record(1, 0.0)
    every = {str(n): Priority.OVERDUE for n in range(others)}
    every |= {f"i{n}": Priority.INTERACTIVE for n in range(others)}
    used: list[Priority] = []
    now, claims = 0.0, dict.fromkeys(every, 0)
    for _ in range(40):
        for client, priority in every.items():
            answer = log.reserve(claim(f"{client}.{claims[client]}", client, priority), now)
            if isinstance(answer, Grant):
                claims[client] += 1
                used.append(priority)
                log.commit(answer, ANSWERED, IDLE_WORKLOAD, now)
        now += 10
    assert {first is second for first, second in itertools.pairwise(used)} == {False}
    assert max(claims.values()) - min(claims.values()) <= 1, "first come, first served"


def test_a_batch_waits_for_those_before_it_and_no_longer() -> None:
    """Requests of a batch are not overtaken by later ones, nor by checks that may wait."""
    log = WindowLog(
        Plan("one", limits=RateLimit(1, per=10)), LedgerTimes(lease=LEASE, tolerance=0.0)
    )
    log.record(1, 0.0)
    now, sent = 0.0, 0
    for turn in range(60):
        rivals = [
            claim(f"mine.{sent}", "mine", Priority.BATCH, waited=now + 1),
            claim("late", "late", Priority.BATCH, waited=now - 5),
            claim("spare", "spare", Priority.SPARE, waited=now),
        ]
        if turn % 3 == 0:
            rivals.insert(0, claim(f"i.{turn}", "i", Priority.INTERACTIVE))
        for one in rivals:
            answer = log.reserve(one, now)
            if isinstance(answer, Grant):
                assert one.client in ("i", "mine")
                sent += one.client == "mine"
                log.commit(answer, ANSWERED, IDLE_WORKLOAD, now)
        now += 10
    assert sent >= 38


@pytest.mark.parametrize("plan", [*PLANS, Plan.PAID, Plan("day", limits=RateLimit(9, per=DAY))])
def test_one_slot_of_the_tightest_short_window_is_nobodys(plan: Plan) -> None:
    """A plan without a short window has no shares."""
    short = [limit.limit for limit in plan.limits if limit.per < 3600]
    assert shares_of(plan) == min(short, default=1) - 1


@given(st.floats(0, 100), st.floats(0, 20))
def test_after_a_long_silence_others_have_their_shares(silence: float, later: float) -> None:
    """And nothing is held back if the silence was too short for anyone to use one."""
    log = WindowLog(Plan.PAID, TIMES)
    for client in "ab" * 3:
        known = Workload(share=log.queue.share_of(client))
        log.reserve(claim(client, client, waits=False, workload=known), 0.0)
        log.release(client, client, 0.0)
    now = silence

    def granted() -> int:
        answers = (log.reserve(claim(f"a.{next(names)}", "a", waits=False), now) for _ in range(11))
        return sum(isinstance(answer, Grant) for answer in answers)

    is_long = silence >= LEASE + 60
    assert granted() == (6 if is_long else 10)
    now += later
    assert granted() == (4 if is_long and later >= 8 else 0)
