"""One test for each rule of the policy, in the order in which its docstring states them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async import Plan, RateLimit
from llamagen_async.forecasting import Forecasts, PollThreshold
from llamagen_async.models import ComicGeneration
from llamagen_async.plans import DAY, RequestKind
from llamagen_async.ratelimit import PeerReport, Priority, WaitingRequests
from llamagen_async.scheduling.admission import can_afford
from llamagen_async.scheduling.circuit import Circuit
from llamagen_async.scheduling.key_view import KeyView
from llamagen_async.scheduling.policy import (
    PLENTIFUL,
    Action,
    Choice,
    DispatchPolicy,
    Idle,
    Situation,
    check_threshold,
    choose,
    is_hurried,
)
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import PollTarget
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import APIRequest
from tests.support.claims import key_state

PAID = Plan.PAID
DEMO = Plan("demo", limits=(RateLimit(4, per=60), RateLimit(15, per=DAY)))
CHECK = APIRequest(RequestKind.STATUS, "GET", "/comics/generations/0")


def situation(**fields: Any) -> Situation:
    """Return a situation in which only `fields` is anything but quiet."""
    return Situation(**{"urgent": False, "queued": False, "due": False, **fields})


@pytest.mark.parametrize("due", [True, False])
def test_1_interactive_requests_go_first(*, due: bool) -> None:
    """An interactive request is sent even when a check is due."""
    assert choose(situation(urgent=True, queued=True, due=due)) is Action.SEND


def test_3_a_due_check_goes_before_the_batchs_next_create() -> None:
    """A slot that finishes a comic now is worth more than one that starts another."""
    assert choose(situation(queued=True, due=True)) is Action.CHECK


def test_4_a_batch_that_hurries_starts_what_is_left() -> None:
    """The comic that is started last decides when the batch ends; a check can wait."""
    assert choose(situation(queued=True, due=True, hurried=True)) is Action.SEND
    assert choose(situation(due=True, hurried=True)) is Action.CHECK


@pytest.mark.parametrize(("left", "hurried"), [(10, True), (19, True), (20, False), (500, False)])
def test_4_a_batch_hurries_when_its_work_is_short(left: int, *, hurried: bool) -> None:
    """Work is short if it takes less time than a comic: here 20 comics, six seconds apart."""
    assert is_hurried(left, interval=6.0, duration=120.0) is hurried


def test_5_otherwise_the_batch_goes_on() -> None:
    """A running comic costs nothing, so the next one is started; without one the slot waits."""
    assert choose(situation(queued=True)) is Action.SEND
    assert choose(situation()) is Action.WAIT


@pytest.mark.parametrize("urgent", [True, False])
@pytest.mark.parametrize("hurried", [True, False])
def test_6_an_overdue_check_goes_before_everything(*, urgent: bool, hurried: bool) -> None:
    """No check starves, however much is queued and whoever waits."""
    busy = situation(urgent=urgent, queued=True, due=True, overdue=True, hurried=hurried)
    assert choose(busy) is Action.CHECK


@pytest.mark.parametrize(
    ("running", "left", "expected"),
    [
        (1, 15, 0.2),
        (2, 10, 0.2),
        (2, 5, 0.4),
        (2, 3, 1 / 1.5),
        (2, 2, 0.99),
        (2, 1, 0.99),
        (2, 0, 0.99),
        (0, 1, 0.2),
    ],
)
def test_7_few_slots_of_a_long_window_go_to_likely_checks(
    running: int, left: int, expected: float
) -> None:
    """The fewer checks each comic can still be given, the surer each has to be."""
    assert check_threshold(left, queued=0, running=running) == pytest.approx(expected)


def test_7_slots_that_creates_will_need_are_not_there_for_checks() -> None:
    """Ten slots are plenty for two comics, and few if four more wait to be started."""
    alone = check_threshold(10, queued=0, running=2)
    shared = check_threshold(10, queued=4, running=2)
    assert alone < shared == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("left", "running", "ahead", "affordable"),
    [
        (None, 99, 99, True),
        (2, 0, 0, True),
        (1, 0, 0, False),
        (0, 0, 0, False),
        (15, 0, 6, True),
        (15, 0, 7, False),
        (5, 3, 0, True),
        (4, 3, 0, False),
    ],
)
def test_7_a_comic_is_started_only_if_its_check_fits_too(
    left: int | None, running: int, ahead: int, *, affordable: bool
) -> None:
    """Each running comic keeps one slot, each one ahead keeps two."""
    assert can_afford(left, running=running, ahead=ahead, slots_each=2) is affordable


def test_7_checks_that_are_not_counted_need_no_room() -> None:
    """A plan that meters creates only can spend its last slot on one."""
    assert can_afford(1, running=9, ahead=0, slots_each=1)
    assert not can_afford(1, running=0, ahead=1, slots_each=1)


@given(
    urgent=st.booleans(),
    queued=st.integers(0, 50),
    running=st.integers(0, 50),
    due=st.booleans(),
    overdue=st.booleans(),
    hurried=st.booleans(),
    left=st.none() | st.integers(0, 50),
)
def test_only_a_possible_action_is_chosen(
    *,
    urgent: bool,
    queued: int,
    running: int,
    due: bool,
    overdue: bool,
    hurried: bool,
    left: int | None,
) -> None:
    """No send without a request, no check that is not due, no idle slot beside a request."""
    now = situation(
        urgent=urgent and queued > 0,
        queued=queued > 0,
        due=due,
        overdue=overdue and due,
        hurried=hurried,
    )
    action = choose(now)
    assert action is not Action.SEND or queued
    assert action is not Action.CHECK or due
    assert action is not Action.WAIT or not (queued or due)
    assert PLENTIFUL <= check_threshold(left, queued=queued, running=running) <= 0.99


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


class FixedLimits:
    """A limiter of which only the plan matters."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


@attrs.frozen
class OneRunning:
    """A policy with one running comic and a clock that the test moves."""

    policy: DispatchPolicy
    polls: PollSet
    view: KeyView
    clock: ManualClock
    queue: RequestQueue
    admission: Any

    def choice(self, quota_left: int | None = None, *, holds_one: bool = False) -> Choice:
        """Return what a slot is asked for now; fail if the policy idles."""
        self.view.quota_left = quota_left
        decision = self.policy.decide(self.clock.at, holds_one=holds_one)
        assert isinstance(decision, Choice)
        return decision

    def chooses(self, quota_left: int | None = None) -> object:
        """Return what is sent or checked now; fail if the policy idles."""
        return self.choice(quota_left).use

    def idles(self, quota_left: int | None = None) -> float:
        """Return for how many seconds the policy idles now; fail if it would send something."""
        self.view.quota_left = quota_left
        decision = self.policy.decide(self.clock.at, holds_one=False)
        assert isinstance(decision, Idle)
        return decision.seconds


def target(id_: str, accepted_at: float) -> PollTarget:
    return PollTarget(id_, CHECK, ComicGeneration.parse, accepted_at)


def one_running(
    plan: Plan = PAID,
    *,
    spent: int,
    age: float = 20.0,
    coming: bool = True,
    observed: int = 30,
) -> OneRunning:
    """Return a policy at 1000 s: `spent` slots were used 20 s ago, one comic runs."""
    clock: Any = ManualClock()
    limiter: Any = FixedLimits(plan)
    admission: Any = SimpleNamespace(running=1, unanswered=(), has_room=True)
    admission.has_quota = lambda _kind, _left: admission.has_room
    forecasts = Forecasts()
    for _ in range(observed):
        forecasts.observe((), 50.0, 70.0)
    polls = PollSet(forecasts)
    queue = RequestQueue()
    view = KeyView(limiter, queue, polls)
    policy = DispatchPolicy(limiter, queue, polls, view, admission, Circuit())
    view.arrived.extend(float(second) for second in range(0, 980 if coming else 0, 15))
    clock.at = 980.0
    view.update(key_state(returning=(plan.rate.per,) * spent), clock.at)
    clock.at = 1_000.0
    polls.add(target("0", 1_000.0 - age))
    return OneRunning(policy, polls, view, clock, queue, admission)


def create(
    one: OneRunning, *, urgent: bool, kind: RequestKind = RequestKind.CREATE, waited: float = 0.0
) -> Submission[Any]:
    """Have a create, or another request, wait for a slot."""
    request = APIRequest(kind, "POST", "/comics/generations")
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    waiting = Submission[Any](request, str, one.clock.at - waited, future, urgent=urgent)
    one.queue.push(waiting)
    return waiting


def test_a_falling_price_is_computed_again_soon() -> None:
    """With one slot left for 40 s a check is expensive now, and becomes cheaper."""
    assert one_running(spent=9).idles() <= PAID.rate.interval / 3


def test_a_returning_slot_is_a_reason_to_decide_again() -> None:
    """A slot that comes back makes slots cheaper, so that a check may be worth one."""
    assert one_running(spent=0, age=0.0, coming=False).idles() > 41.0
    assert one_running(spent=3, age=0.0, coming=False).idles() == 40.0


def test_without_requests_the_policy_idles_until_a_check_is_due() -> None:
    """A comic that has only begun is no reason to decide again soon."""
    assert one_running(spent=0, age=0.0, coming=False).idles() > 10.0


async def test_5_a_batch_waits_a_moment_for_an_answer_that_teaches() -> None:
    """The next create goes when it is there, or three seconds after it was asked for."""
    one = one_running(spent=0, observed=0, coming=False)
    one.polls.mark_in_flight(one.polls.targets["0"], 997.5)
    batch = create(one, urgent=False)
    assert one.idles() == pytest.approx(0.5)
    one.clock.at = 1_000.5
    assert one.chooses() is batch
    person = create(one, urgent=True)
    one.polls.mark_in_flight(one.polls.targets["0"], 1_000.4)
    assert one.chooses() is person
    known = one_running(spent=0, coming=False)
    known.polls.mark_in_flight(known.polls.targets["0"], 997.5)
    batch = create(known, urgent=False)
    assert known.chooses() is batch, "enough is known without it"


async def test_6_an_overdue_check_and_somebody_who_waits_take_turns() -> None:
    """Two such checks in a row never go before one interactive request; a batch waits for all."""
    one = one_running(spent=0, age=900.0, coming=False)
    batch = create(one, urgent=False)
    late, later = one.polls.targets["0"], target("1", 200.0)
    one.polls.add(later)
    one.policy.was_check = True
    assert one.chooses() is late
    person = create(one, urgent=True)
    assert one.chooses() is person
    one.policy.was_check = False
    assert one.chooses() is late
    one.polls.mark_in_flight(late, one.clock.at)
    assert one.chooses() is later
    one.queue.remove(person)
    one.polls.mark_in_flight(later, one.clock.at)
    assert one.chooses() is batch


async def test_7_the_rest_of_a_batch_needs_its_part_of_the_day() -> None:
    """A check that is likely enough alone has to be almost certain while creates wait."""
    alone, beside = (one_running(DEMO, spent=0, age=61.0, coming=False) for _ in range(2))
    assert alone.chooses(quota_left=4) is alone.polls.targets["0"]
    waiting = create(beside, urgent=False)
    assert beside.chooses(quota_left=4) is waiting
    beside.admission.has_room = False
    assert beside.chooses(quota_left=4) is beside.polls.targets["0"], "none of them can be sent"


def test_few_slots_of_a_long_window_are_no_reason_to_decide_again() -> None:
    """Prices do not matter while a long window is short of slots, even if they did before."""
    scarce = one_running(DEMO, spent=3)
    scarce.idles(quota_left=None)
    scarce.clock.at = 1_100.0
    scarce.polls.remove("0")
    scarce.polls.add(target("new", 1_100.0))
    assert scarce.idles(quota_left=1) > 20.0


async def test_a_slot_is_asked_for_with_what_a_request_is_worth() -> None:
    """The priority, how long it has waited, and when a check may be worth more."""
    one = one_running(spent=0, age=0.0, coming=False)
    due_at = one.polls.next_poll(1_000.0, *[PollThreshold(price=1.0)] * 2).next_at
    for urgent, kind, priority in (
        (False, RequestKind.USAGE, Priority.BATCH),
        (False, RequestKind.CREATE, Priority.BATCH),
        (True, RequestKind.USAGE, Priority.READ),
        (True, RequestKind.CREATE, Priority.INTERACTIVE),
    ):
        waiting = create(one, urgent=urgent, kind=kind, waited=7.0)
        asked = one.choice()
        assert (asked.use, asked.priority, asked.waited) == (waiting, priority, 7.0)
        assert asked.waits
        assert 10.0 < asked.until <= due_at - 1_000.0 + 60.0
        assert asked.is_read is (kind is RequestKind.USAGE)
    one.polls.remove("0")
    assert one.choice().until == float("inf"), "there is nothing to check"


async def test_a_check_alone_takes_a_free_slot_and_waits_for_none() -> None:
    """The price of a slot is known when there is one: it is decided again then."""
    one = one_running(spent=0, age=75.0, coming=False)
    asked = one.choice()
    assert (asked.use, asked.priority) == (one.polls.targets["0"], Priority.CHECK)
    assert not asked.waits
    assert one.choice(holds_one=True).waits
    full = one_running(spent=10, age=75.0, coming=False)
    decision = full.policy.decide(1_000.0, holds_one=False)
    assert isinstance(decision, Idle)
    assert (decision.seconds, decision.lacks_slot) == (40.0, True)


@pytest.mark.parametrize(
    ("shared", "quota_left", "held", "early"),
    [
        (True, None, True, 3.0),
        (True, None, False, 0.0),
        (False, None, True, 0.0),
        (True, 100, True, 0.0),
    ],
    ids=["held", "asked for", "of one client", "of a day"],
)
def test_2_a_slot_that_is_held_is_not_given_back_for_moments(
    shared: bool,
    quota_left: int | None,
    held: bool,
    early: float,
) -> None:
    """A check that is due within half a slot's interval is made, as other clients want slots."""
    one = one_running(spent=0, age=0.0, coming=False)
    reports = (PeerReport("other", 0.0, (), ""),) if shared else ()
    one.view.update(key_state(quota_left=quota_left, peers=reports), 1_000.0)
    due_at = 1_000.0
    while isinstance(idle := one.policy.decide(due_at, holds_one=False), Idle):
        due_at += idle.seconds
    for seconds, is_made in ((early + 0.1, False), (early - 0.1, True)):
        decision = one.policy.decide(due_at - seconds, holds_one=held)
        assert isinstance(decision, Choice) is is_made


async def test_2_the_last_slots_are_kept_for_likelier_checks() -> None:
    """A check that hardly finds the end is no use for one if the next is long in returning."""
    for spent, age, passed, is_kept in (
        (7, 40.0, 0.0, False),
        (8, 40.0, 0.0, True),
        (9, 75.0, 0.0, True),
        (8, 85.0, 0.0, False),
        (8, 20.0, 29.5, True),
        (8, 20.0, 30.5, False),
    ):
        one = one_running(spent=spent, age=age, coming=False, observed=0)
        one.clock.at += passed
        decision = one.policy.decide(one.clock.at, holds_one=False)
        assert isinstance(decision, Idle) is is_kept
        if isinstance(decision, Idle):
            assert decision.seconds == 1.0


async def test_8_a_check_beside_a_batch_that_hurries_elsewhere_asks_last() -> None:
    """The slot is one that nobody else of the key has a use for."""
    priorities = []
    for count in (1, 500):
        one = one_running(spent=0, age=75.0, coming=False)
        waiting = (WaitingRequests(Priority.BATCH, count, 5.0, 1.0),)
        report = PeerReport("other", 0.0, waiting, "")
        one.view.update(key_state(peers=(report,)), 1_000.0)
        priorities.append(one.choice().priority)
    assert priorities == [Priority.SPARE, Priority.CHECK]


async def test_creates_are_not_sent_while_too_many_are_unanswered() -> None:
    """No more than three on the paid plan; then reads go on, and checks."""
    one = one_running(spent=0, age=0.0, coming=False)
    waiting = create(one, urgent=True)
    one.admission.unanswered = ("a", "b")
    assert one.chooses() is waiting
    one.admission.unanswered = ("a", "b", "c")
    assert one.idles() > 1.0
    read = create(one, urgent=True, kind=RequestKind.USAGE)
    assert one.chooses() is read
    many = one_running(Plan("many", limits=RateLimit(100, per=60)), spent=0, age=0.0, coming=False)
    waiting = create(many, urgent=True)
    many.admission.unanswered = tuple(range(29))
    assert many.chooses() is waiting
    many.admission.unanswered = tuple(range(30))
    assert many.idles() > 1.0


async def test_a_create_for_which_the_day_has_no_room_lets_reads_pass() -> None:
    one = one_running(DEMO, spent=0, age=0.0, coming=False)
    waiting = create(one, urgent=True)
    assert one.chooses(quota_left=9) is waiting
    one.admission.has_room = False
    assert one.idles(quota_left=9) > 1.0
    read = create(one, urgent=True, kind=RequestKind.USAGE)
    assert one.chooses(quota_left=9) is read


async def test_checks_that_need_no_slot_are_not_decided_about() -> None:
    """The policy for what is free does that."""
    plan = Plan("creates", limits=RateLimit(10, per=60), metered={"create"})
    one = one_running(plan, spent=0, age=500.0, coming=False)
    assert one.idles() == 60.0
    waiting = create(one, urgent=False)
    assert one.chooses() is waiting
