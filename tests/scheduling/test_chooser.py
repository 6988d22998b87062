"""What a free slot is used for, and when it is thought about again."""

from __future__ import annotations

from typing import Any

import attrs

from llamagen_async import Plan, RateLimit
from llamagen_async.plans import DAY
from llamagen_async.scheduling import Forecasts, PollSet, PollTarget
from llamagen_async.scheduling.decision import DispatchPolicy, Wait
from llamagen_async.scheduling.request_queue import RequestQueue

PAID = Plan.PAID
DEMO = Plan("demo", limits=(RateLimit(4, per=60), RateLimit(15, per=DAY)))


@attrs.define
class Stage:
    """A chooser whose clock the test moves."""

    chooser: DispatchPolicy
    watches: PollSet
    clock: Any

    def waits(self, quota_left: int | None = None) -> float:
        """Return how long it waits now; fail if it would send something."""
        choice = self.chooser.choose(quota_left, queue=True, checks=True)
        assert isinstance(choice, Wait)
        return choice.seconds


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


def stage(plan: Plan = PAID, *, spent: int, age: float = 20.0, coming: bool = True) -> Stage:
    """Return one at 1000 s: `spent` slots were used 20 s ago, one comic runs, others may come."""
    clock: Any = Hands()
    forecasts = Forecasts()
    for _ in range(30):
        forecasts.observe((), 50.0, 70.0)
    watches = PollSet(forecasts)
    patience: Any = None
    chooser = DispatchPolicy(plan, RequestQueue(), watches, patience, clock)
    for second in range(0, 980 if coming else 0, 15):
        chooser.arrivals.note(float(second))
    clock.at = 980.0
    for _ in range(spent):
        chooser.spend()
    clock.at = 1_000.0
    watches.add(PollTarget("0", _never, 1_000.0 - age))
    return Stage(chooser, watches, clock)


async def _never(*_: Any) -> Any:
    raise NotImplementedError


def test_a_price_that_falls_is_worked_out_again_soon() -> None:
    """With one slot left for 40 s a look is dear now, and cheaper by and by."""
    assert stage(spent=9).waits() <= PAID.rate.interval / 3


def test_a_slot_that_comes_back_is_a_reason_to_think_again() -> None:
    """Slots are cheaper then: whatever was not worth one before may be."""
    assert stage(spent=0, age=0.0, coming=False).waits() > 41.0
    assert stage(spent=3, age=0.0, coming=False).waits() == 40.0


def test_where_nobody_comes_it_sleeps_until_a_look_is_due() -> None:
    """A comic that has only begun is no reason to wake up, and nothing else is there."""
    assert stage(spent=0, age=0.0, coming=False).waits() > 10.0


def test_waiting_for_a_long_window_is_no_reason_to_wake_up() -> None:
    """Prices do not matter there, also if they did a moment ago."""
    scarce = stage(DEMO, spent=3)
    scarce.waits(quota_left=None)
    scarce.clock.at = 1_100.0
    scarce.watches.remove("0")
    scarce.watches.add(PollTarget("new", _never, 1_100.0))
    assert scarce.waits(quota_left=1) > 20.0
