"""Properties of the window log, whatever the order of events.

A state machine plays one window log against three servers that count differently. Requests arrive
at any time between grant and response, are lost, given back or never reported; processes crash
and load what was stored; the server answers 429 and pauses. Whatever happens, no server ever gets
more requests than its limit allows.
"""

from __future__ import annotations

import json
from copy import deepcopy

import attrs
import hypothesis.strategies as st
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

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit import Grant, SlotWait, WindowLog
from llamagen_async.sandbox.algorithms import Algorithm, Meter

LEASE = 30.0
PLANS = (
    Plan("one", limits=RateLimit(1, per=10)),
    Plan("few", limits=RateLimit(3, per=20)),
    Plan("two windows", limits=(RateLimit(2, per=10), RateLimit(5, per=120))),
)
SERVERS: tuple[Algorithm, ...] = ("sliding", "fixed", "bucket")
moments = st.sampled_from([0.0, 0.1, 1.0, 4.9, 5.0, 9.9, 10.0, 10.1, 20.0, 31.0]) | st.floats(0, 40)


class AnyInterleaving(RuleBasedStateMachine):
    """One window log, several waiters, three servers."""

    granted = Bundle("granted")
    sent = Bundle("sent")

    @initialize(plan=st.sampled_from(PLANS), offset=st.floats(0, 120))
    def start(self, plan: Plan, offset: float) -> None:
        self.plan = plan
        self.now = 1000.0
        self.log = WindowLog(plan, lease=LEASE)
        self.servers = [Meter(plan.limits, algorithm=name, offset=offset) for name in SERVERS]
        self.open: dict[int, float] = {}

    @rule(seconds=moments)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=granted, waiter=st.sampled_from("ab"), waits=st.booleans())
    def ask(self, waiter: str, waits: bool) -> object:
        """Ask once, or wait as told and ask again until there is a slot."""
        answer = self.log.reserve(waiter, self.now)
        while waits and isinstance(answer, SlotWait):
            assert answer.ask_at > self.now, "asking again at once would be busy waiting"
            self.now = answer.ask_at
            answer = self.log.reserve(waiter, self.now)
        if isinstance(answer, SlotWait):
            return multiple()
        assert answer.granted_at <= self.now
        self.open[answer.slot] = self.now
        return answer

    @rule(target=granted, waiter=st.sampled_from("ab"), number=st.integers(1, 6))
    def ask_for_many(self, waiter: str, number: int) -> object:
        """Ask once for several: the first that has to wait has a position in the wait queue."""
        answers = self.log.reserve_many(waiter, number, self.now)
        assert 1 <= len(answers) <= number
        grants = [one for one in answers if isinstance(one, Grant)]
        assert len(grants) == number or isinstance(answers[-1], SlotWait)
        self.open.update((grant.slot, self.now) for grant in grants)
        return multiple(*grants)

    @rule(waiter=st.sampled_from("ab"))
    def cancel_wait(self, waiter: str) -> None:
        self.log.cancel_wait(waiter)

    @rule(target=sent, grant=consumes(granted))
    def arrive(self, grant: Grant) -> object:
        """The request reaches the server, later than it left and before its lease is over."""
        if self.now >= self.open[grant.slot] + LEASE:
            return multiple()
        for server in self.servers:
            assert server.admit(self.now) is None, f"refused at {self.now}"
        return grant

    @rule(grant=consumes(sent))
    def respond(self, grant: Grant) -> None:
        self.log.spend(grant.slot, self.now)
        self.log.throttle.accept(grant.granted_at)

    @rule(grant=consumes(sent), after=st.none() | st.floats(0, 30))
    def is_refused(self, grant: Grant, after: float | None) -> None:
        """Another program used the key."""
        before = self.log.throttle.paused_until
        self.log.spend(grant.slot, self.now)
        self.log.throttle.refuse(grant.granted_at, self.now, after, is_last_slot=grant.is_last_slot)
        assert self.log.throttle.paused_until >= before, "a pause is only ever lengthened"
        assert after is None or self.log.throttle.paused_until >= self.now + after

    @rule(grant=consumes(granted), back=st.booleans())
    def is_not_sent(self, grant: Grant, back: bool) -> None:
        """Given back, or given up with the process that was to send it."""
        if back:
            self.log.give_back(grant.slot)

    @rule(grant=consumes(sent))
    def is_never_reported(self, grant: Grant) -> None:
        """The process of the request was killed: only the lease is left."""

    @rule()
    def restart(self) -> None:
        """All processes die, and what was stored is loaded."""
        state = json.loads(json.dumps(self.log.dump()))
        self.log = WindowLog.load(self.plan, state, lease=LEASE)

    @invariant()
    def no_slot_is_lost_for_good(self) -> None:
        """Late enough, even if nothing is ever reported again, every slot is free."""
        if not hasattr(self, "log"):
            return
        state = json.loads(json.dumps(self.log.dump()))
        twin = WindowLog.load(self.plan, state, lease=LEASE)
        late = max(self.now + LEASE + 121, twin.throttle.paused_until)
        assert all(window.used == 0 for window in twin.states(late))
        assert isinstance(twin.reserve("somebody", late), Grant)


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


histories = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 3.0, 10.0, 17.0, 20.0, 60.0]),
        st.sampled_from(["reserve", "reserve", "answered", "answered", "refuse", "cancel_wait"]),
        st.sampled_from("abc"),
    ),
    max_size=30,
)


def log_after(
    plan: Plan, ahead: float, history: list[tuple[float, str, str]]
) -> tuple[WindowLog, float]:
    """Return a window log with a history, and the time at its end."""
    log, now, grants = WindowLog(plan, lease=LEASE, ahead=ahead), 1000.0, list[Grant]()
    for elapsed, what, waiter_id in history:
        now += elapsed
        if what == "reserve":
            answer = log.reserve(waiter_id, now)
            grants += [answer] if isinstance(answer, Grant) else []
        elif what == "cancel_wait":
            log.cancel_wait(waiter_id)
        elif grants:
            grant = grants.pop(0)
            if what == "refuse":
                log.spend(grant.slot, now)
                log.throttle.refuse(grant.granted_at, now, 1.0, is_last_slot=grant.is_last_slot)
            else:
                log.answered(grant.slot, grant.granted_at, now)
    return log, now


@given(st.sampled_from(PLANS), st.sampled_from([0.0, 3.0]), histories, st.integers(1, 8))
def test_reserve_many_is_the_same_as_reserve_one_by_one(
    plan: Plan, ahead: float, history: list[tuple[float, str, str]], number: int
) -> None:
    """With an id for each; a waiter that has to wait has the first one's id from then on."""
    log, now = log_after(plan, ahead, history)
    twin = deepcopy(log)
    many = log.reserve_many("a", number, now)
    ids: dict[str, str] = {}
    for number_before, answer in enumerate(many):
        waiter_id = "a" if number_before == 0 else f"behind {number_before}"
        one = twin.reserve(waiter_id, now)
        assert attrs.astuple(one) == attrs.astuple(answer)
        if isinstance(one, SlotWait):
            assert answer is many[-1]
            ids[waiter_id] = "a"
    granted = [answer.granted_at for answer in many if isinstance(answer, Grant)]
    assert granted == sorted(granted)
    assert len(granted) == number or isinstance(many[-1], SlotWait)
    state = twin.dump()
    state["queue"] = [(ids.get(waiter_id, waiter_id), until) for waiter_id, until in state["queue"]]
    assert log.dump() == state
