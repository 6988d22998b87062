"""What the next free slot is used for: puts together what the policy decides on.

Knows the line, the generations that are waited for, and which slots were spent when. What slots
will be wanted for is worked out anew whenever something was learned or has changed, but not more
often than a few times a second: it does not move faster than that. What one of them costs then
depends on how many are free, and so is a matter of each decision.
"""

from __future__ import annotations

import bisect
from collections import deque
from typing import Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.forecasting.slot_price import (
    ArrivalRate,
    DemandForecast,
    Returning,
    SlotForecast,
    price_of_delay,
)
from llamagen_async.plans import Plan, RequestKind
from llamagen_async.scheduling.admission import AdmissionControl
from llamagen_async.scheduling.policy import (
    ALMOST_CERTAIN,
    HURRY,
    PLENTIFUL,
    Action,
    Situation,
    check_threshold,
    choose,
    is_hurried,
)
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import Poll, PollTarget, PollThreshold
from llamagen_async.scheduling.request_queue import Job, RequestQueue

__all__ = ["Choice", "DispatchPolicy", "Wait"]

_LEAST_WAIT: Final = 0.01
"""Seconds between two decisions that find nothing to send, at least."""
_LONGEST_WAIT: Final = 60.0
"""Seconds between two decisions, at most: a quota may have come back."""
_REVISIONS: Final = 8
"""So often within a second the demand is worked out, at most."""
_CHEAP: Final = PollThreshold(price=1.0)
"""When looks cost nothing, they are made as often as they may tell something."""


_SCOUTS: Final = 4
"""While so few were seen to end a look is worth so many times its price: it teaches."""
_WORTH_SCOUTING: Final = 0.6
"""The chance of a look that is made even before the creates of a batch that hurries, or with one
of the last slots."""
_LAST_SLOTS: Final = 2
"""So few free slots are not spent on unlikely looks,"""
_LONG_GAP: Final = 10.0
"""if the next one comes back in so many seconds or more."""
_LONG: Final = 240.0
"""Seconds that a comic may take before enough were seen to know."""
_REPRICED: Final = 3
"""So often within an interval of the limit a price that falls by and by is worked out again."""
_RECONSIDERED: Final = 1.0
"""Seconds after which a slot that is kept is thought about again."""


@attrs.frozen(eq=False, repr=False)
class Wait:
    """Nothing is worth a slot now."""

    seconds: float


Choice = Job | PollTarget | Wait
"""What a free slot is used for."""


class DispatchPolicy:
    """Decides for one client.

    Args:
        plan: The limits.
        queue: The requests that wait.
        watches: The generations that are waited for.
        patience: Knows what the long windows have room for.
        clock: The server's clock.
    """

    def __init__(
        self,
        plan: Plan,
        queue: RequestQueue,
        watches: PollSet,
        patience: AdmissionControl,
        clock: Clock,
    ) -> None:
        self.plan = plan
        self.arrivals = ArrivalRate()
        self._queue = queue
        self._watches = watches
        self._patience = patience
        self._clock = clock
        self._spent: list[float] = []
        self._first_spent = 0
        """The position of the first that has not come back."""
        self._demands: tuple[DemandForecast | None, DemandForecast | None] = (None, None)
        self._revised: object = None
        self._is_scarce = False
        """Whether slots cost more now than they will when some have come back."""
        self._was_overdue = False
        self._revisions: deque[float] = deque([float("-inf")] * _REVISIONS, maxlen=_REVISIONS)

    def spend(self) -> None:
        """Note that a slot was spent now."""
        self._spent.append(self._clock.now())

    def choose(self, quota_left: int | None, *, queue: bool, checks: bool) -> Choice:
        """Return what a slot that is free now is used for.

        Args:
            quota_left: Free slots in the plan's long windows; `None` if it has none.
            queue: Whether requests of the queue draw on this slot.
            checks: Whether status checks do.
        """
        now = self._clock.now()
        head = self._head(quota_left) if queue else None
        if not checks:
            return head or Wait(_LONGEST_WAIT)
        self._is_scarce = False
        bars = self._bars(now, head, quota_left) if queue else (_CHEAP, _CHEAP)
        look = self._watches.look(now, *bars)
        urgent = head is not None and head.urgent
        situation = Situation(
            urgent=urgent,
            queued=head is not None,
            due=look.watch is not None,
            overdue=look.overdue and not (urgent and self._was_overdue),
            hurried=head is not None and self._is_hurried() and not self._is_scout(look),
        )
        action = choose(situation)
        if action is Action.SEND and head is not None:
            wait = 0.0 if urgent else self._watches.answer_at(now) - now
            return Wait(wait) if wait > 0 else head
        wait = self._reserved(look, now) if queue and head is None else 0.0
        if action is Action.CHECK and look.watch is not None and not wait:
            return look.watch
        until = min(wait or look.next_at - now, _LONGEST_WAIT)
        if queue and (returning := self._supply(now).returning):
            until = min(until, returning[0])  # slots are cheaper then
        if self._is_scarce:
            until = min(until, self.plan.rate.interval / _REPRICED)  # and already before
        return Wait(max(_LEAST_WAIT, until))

    def take(self, choice: Job | PollTarget) -> None:
        """Note that the slot was used for `choice`."""
        self._was_overdue = isinstance(choice, PollTarget)

    def _head(self, quota_left: int | None) -> Job | None:
        """Return the request whose turn it is, if the plan's long windows have room for it."""
        head = self._queue.head()
        if head is None or quota_left is None or self._patience.affords(head.kind, quota_left):
            return head
        return self._queue.head(billed=False)

    def _reserved(self, look: Poll, now: float) -> float:
        """Return how long one of the last free slots is kept for a likelier look, in seconds.

        Once they are spent, the next one is long in coming. While others keep coming, the price of
        a slot takes care of that.
        """
        supply = self._supply(now)
        if look.watch is None or look.overdue or not supply.free or supply.arrivals:
            return 0.0
        until_next = supply.returning[0] if supply.returning else supply.per
        is_last = supply.free <= _LAST_SLOTS and until_next > _LONG_GAP
        is_kept = is_last and look.chance < _WORTH_SCOUTING
        return min(until_next, _RECONSIDERED) if is_kept else 0.0

    def _is_scout(self, look: Poll) -> bool:
        """Whether a look teaches so much that the rest of a batch may wait for it."""
        known = self._watches.forecasts.observed + self._watches.in_flight
        return known < _SCOUTS and look.chance >= _WORTH_SCOUTING

    def _is_hurried(self) -> bool:
        forecast = self._watches.forecasts.overall.forecast
        duration = forecast.quantile(HURRY)
        if forecast.observed <= _SCOUTS:
            duration = max(duration, _LONG)
        return is_hurried(self._left, interval=self.plan.rate.interval, duration=duration)

    @property
    def _left(self) -> int:
        return self._queue.billed + len(self._watches)

    def _bars(
        self, now: float, head: Job | None, quota_left: int | None
    ) -> tuple[PollThreshold, PollThreshold]:
        """Return when looks are due for those who wait interactively, and for a batch."""
        queued = len(self._queue) if head is not None else 0
        threshold = check_threshold(quota_left, queued=queued, running=len(self._watches))
        if threshold > PLENTIFUL:
            bar = PollThreshold(chance=max(threshold, ALMOST_CERTAIN if queued else 0.0))
            return bar, bar
        batch = head is not None and not head.urgent
        supply = self._supply(now)
        if not supply.free and not batch:
            return _CHEAP, _CHEAP  # the limiter has to say how long the wait is; then ask again
        everyone, mine = self._demand(now, supply, batch=batch)
        if batch:
            rest = price_of_delay(self._left, supply.interval)
            if self._watches.forecasts.observed < _SCOUTS:
                rest /= _SCOUTS
        else:
            assert everyone is not None
            rest = everyone.price(supply)
            self._is_scarce = rest > everyone.least
        price = rest if mine is None else min(rest, mine.price(supply))
        return PollThreshold(price=price), PollThreshold(price=rest)

    def _demand(
        self, now: float, supply: SlotForecast, *, batch: bool
    ) -> tuple[DemandForecast | None, DemandForecast | None]:
        """Return what slots will be wanted for by all, and by those who wait interactively.

        Where that is the same, or if a batch's creates decide on the price, it is `None`.
        """
        running, urgent = len(self._watches), self._watches.urgent
        state = (self._watches.forecasts.version, running, urgent, batch, self.plan)
        is_old = now - self._revisions[-1] >= supply.interval / 4
        is_missing = not batch and self._demands[0] is None
        may_be_revised = now - self._revisions[0] >= 1.0 or is_missing
        if (state != self._revised or is_old) and may_be_revised:
            self._revisions.append(now)
            self._revised = state
            newcomers = self._watches.forecasts.overall
            everyone = mine = None
            if not batch:
                everyone = DemandForecast(self._watches.candidates(now), supply, newcomers)
            if urgent and (batch or urgent < running):
                mine = DemandForecast(self._watches.candidates(now, urgent=True), supply, newcomers)
            self._demands = everyone, mine
        return self._demands

    def _supply(self, now: float) -> SlotForecast:
        rate = self.plan.rate
        first = bisect.bisect_right(self._spent, now - rate.per, lo=self._first_spent)
        self._first_spent = first = max(first, len(self._spent) - rate.limit)
        if first > len(self._spent) // 2:
            del self._spent[:first]
            self._first_spent = first = 0
        return SlotForecast(
            free=max(0, rate.limit - len(self._spent) + first),
            returning=Returning(self._spent, first, rate.per, now),
            interval=rate.interval,
            per=rate.per,
            arrivals=self.arrivals.rate(now) if self.plan.meters(RequestKind.CREATE) else 0.0,
        )
