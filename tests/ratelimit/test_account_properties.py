"""What must never happen to the count, whatever the order of events.

A state machine plays one account against three servers that count differently. Requests arrive
at any time between grant and response, are lost, given back or never reported; processes crash
and load what was stored; the server refuses and pauses. Whatever happens, no server ever sees more
than its limit allows.
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
    """One account, several askers, three servers."""

    granted = Bundle("granted")
    sent = Bundle("sent")

    @initialize(plan=st.sampled_from(PLANS), offset=st.floats(0, 120))
    def start(self, plan: Plan, offset: float) -> None:
        self.plan = plan
        self.now = 1000.0
        self.account = WindowLog(plan, lease=LEASE)
        self.servers = [Meter(plan.limits, algorithm=name, offset=offset) for name in SERVERS]
        self.line: list[str] = []
        self.open: dict[int, float] = {}

    @rule(seconds=moments)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=granted, asker=st.sampled_from("ab"), patiently=st.booleans())
    def ask(self, asker: str, patiently: bool) -> object:
        """Ask once; a patient asker waits as told and asks again, until there is a slot."""
        answer = self.account.reserve(asker, self.now)
        while patiently and isinstance(answer, SlotWait):
            assert answer.ask_at > self.now, "asking again at once would be busy waiting"
            self.now = answer.ask_at
            answer = self.account.reserve(asker, self.now)
        if isinstance(answer, SlotWait):
            return multiple()
        assert answer.granted_at <= self.now
        self.open[answer.slot] = self.now
        return answer

    @rule(target=granted, asker=st.sampled_from("ab"), number=st.integers(1, 6))
    def ask_for_many(self, asker: str, number: int) -> object:
        """Ask once for several: the first who has to wait has a place in the line."""
        answers = self.account.reserve_many(asker, number, self.now)
        assert 1 <= len(answers) <= number
        grants = [one for one in answers if isinstance(one, Grant)]
        assert len(grants) == number or isinstance(answers[-1], SlotWait)
        self.open.update((grant.slot, self.now) for grant in grants)
        return multiple(*grants)

    @rule(target=granted)
    def ask_for_a_free_one(self) -> object:
        """What nearly every request in memory does."""
        slot = self.account.hold_free(self.now)
        if not slot:
            return multiple()
        self.open[slot] = self.now
        return Grant(slot, self.now, 0.0, False, None)

    @rule(asker=st.sampled_from("ab"))
    def leave(self, asker: str) -> None:
        self.account.leave(asker)

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
        self.account.spend(grant.slot, self.now)
        self.account.refusals.accept(grant.granted_at)

    @rule(grant=consumes(sent), after=st.none() | st.floats(0, 30))
    def is_refused(self, grant: Grant, after: float | None) -> None:
        """Another program used the key."""
        before = self.account.refusals.paused_until
        self.account.spend(grant.slot, self.now)
        self.account.refusals.refuse(grant.granted_at, self.now, after, took_last=grant.took_last)
        assert self.account.refusals.paused_until >= before, "a pause is only ever lengthened"
        assert after is None or self.account.refusals.paused_until >= self.now + after

    @rule(grant=consumes(granted), back=st.booleans())
    def is_not_sent(self, grant: Grant, back: bool) -> None:
        """Given back, or given up with the process that was to send it."""
        if back:
            self.account.give_back(grant.slot)

    @rule(grant=consumes(sent))
    def is_never_reported(self, grant: Grant) -> None:
        """Its process was killed: only the lease is left."""

    @rule()
    def restart(self) -> None:
        """All processes die, and what was stored is loaded."""
        state = json.loads(json.dumps(self.account.dump()))
        self.account = WindowLog.load(self.plan, state, lease=LEASE)

    @invariant()
    def no_slot_is_lost_for_good(self) -> None:
        """Asked late enough, with nothing reported ever again, every slot is free."""
        if not hasattr(self, "account"):
            return
        state = json.loads(json.dumps(self.account.dump()))
        twin = WindowLog.load(self.plan, state, lease=LEASE)
        late = max(self.now + LEASE + 121, twin.refusals.paused_until)
        assert all(window.used == 0 for window in twin.states(late))
        assert isinstance(twin.reserve("somebody", late), Grant)


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


histories = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 3.0, 10.0, 17.0, 20.0, 60.0]),
        st.sampled_from(["reserve", "reserve", "answered", "answered", "refuse", "leave"]),
        st.sampled_from("abc"),
    ),
    max_size=30,
)


def account_after(
    plan: Plan, ahead: float, history: list[tuple[float, str, str]]
) -> tuple[WindowLog, float]:
    """Return an account with a history, and what time it is then."""
    account, now, grants = WindowLog(plan, lease=LEASE, ahead=ahead), 1000.0, list[Grant]()
    for elapsed, what, ticket in history:
        now += elapsed
        if what == "reserve":
            answer = account.reserve(ticket, now)
            grants += [answer] if isinstance(answer, Grant) else []
        elif what == "leave":
            account.leave(ticket)
        elif grants:
            grant = grants.pop(0)
            if what == "refuse":
                account.spend(grant.slot, now)
                account.refusals.refuse(grant.granted_at, now, 1.0, took_last=grant.took_last)
            else:
                account.answered(grant.slot, grant.granted_at, now)
    return account, now


@given(st.sampled_from(PLANS), st.sampled_from([0.0, 3.0]), histories, st.integers(1, 8))
def test_many_at_once_are_as_many_one_after_another(
    plan: Plan, ahead: float, history: list[tuple[float, str, str]], number: int
) -> None:
    """Each with a ticket of its own; who is told to wait has the first one's from then on."""
    account, now = account_after(plan, ahead, history)
    twin = deepcopy(account)
    many = account.reserve_many("a", number, now)
    line: dict[str, str] = {}
    for place, answer in enumerate(many):
        ticket = "a" if place == 0 else f"behind {place}"
        one = twin.reserve(ticket, now)
        assert attrs.astuple(one) == attrs.astuple(answer)
        if isinstance(one, SlotWait):
            assert answer is many[-1]
            line[ticket] = "a"
    granted = [answer.granted_at for answer in many if isinstance(answer, Grant)]
    assert granted == sorted(granted)
    assert len(granted) == number or isinstance(many[-1], SlotWait)
    state = twin.dump()
    state["line"] = [(line.get(ticket, ticket), until) for ticket, until in state["line"]]
    assert account.dump() == state


@given(st.sampled_from([*PLANS, Plan.DEMO, Plan.PAID]), st.sampled_from([0.0, 3.0]), histories)
def test_a_free_slot_is_the_one_that_reserve_grants(
    plan: Plan, ahead: float, history: list[tuple[float, str, str]]
) -> None:
    """With nothing to say of it; and if there is more to say, nothing has been done."""
    account, now = account_after(plan, ahead, history)
    twin, before = deepcopy(account), deepcopy(account)
    slot = account.hold_free(now)
    grant = twin.reserve("new", now)
    if slot:
        assert isinstance(grant, Grant)
        assert attrs.astuple(grant) == (slot, now, 0.0, False, None)
        assert account.dump() == twin.dump()
    else:
        assert account.states(now) == before.states(now)
        assert account.dump() == before.dump()
