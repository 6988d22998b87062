"""The policy: what the next free slot is used for. Decided late, told everything, sends nothing.

1. Somebody waits interactively: their request goes first, creates before reads.
2. A status check costs a slot only if it finds the generation still running. A slot's price is the
   lateness that wasting it causes: the fewer slots are free and the more are wanted, the higher it
   is. A check is due at the age that the plan for that price names (`forecasting`).
3. Of the checks that are due, the one goes first that would be due at the highest price: it gains
   least by waiting. A check that is due goes before a batch's next create.
4. But a batch whose remaining work is shorter than a comic may take starts what is left to start:
   its last comic is what it will wait for.
5. Otherwise a batch's creates go before checks: a generation that runs costs nothing while it is
   waited for. If nothing else could be sent, the slot waits until a check is due.
6. Nothing starves. For somebody who waits interactively a check is due every two minutes; a check
   of a comic that has most probably been ready for minutes goes before everything, and later so
   does a batch's. Two such checks in a row never go before one interactive request.
7. When a long window (the demo plan's day) runs short, a check is due when it is likely enough for
   each comic to get by with its share of what is left; when hardly more than one check is left for
   each, almost certain. No comic is started whose collecting check would not fit.
8. The rules hold for a whole key. Prices count what all of its clients run and want, and a slot is
   asked for with a priority (`ratelimit.Priority`): so a create goes before a check whatever
   process either comes from. A check that is due while the batch of another client hurries (4) asks
   with the last priority. A check asks when others most likely leave a slot, and one that is held
   is used if a check is nearly due: to ask in vain, or to give back, is a way to the store.
"""

from __future__ import annotations

import enum
import math
from typing import Any, Final

import attrs

from llamagen_async.forecasting import (
    PollThreshold,
    Quote,
    SlotForecast,
    SlotPrice,
)
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter, Priority
from llamagen_async.scheduling.admission import AdmissionControl
from llamagen_async.scheduling.circuit import TRIP, Circuit
from llamagen_async.scheduling.key_view import KeyView
from llamagen_async.scheduling.poll_set import ALMOST_CERTAIN, PollSet
from llamagen_async.scheduling.poll_target import Poll, PollTarget
from llamagen_async.scheduling.request_queue import PRIORITIES, RequestQueue
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import APIRequest

__all__ = [
    "HURRY",
    "PLENTIFUL",
    "Action",
    "Decision",
    "DispatchPolicy",
    "Idle",
    "Situation",
    "check_threshold",
    "choose",
    "is_hurried",
    "send",
]

PLENTIFUL: Final = 0.2
"""The least chance that is asked of a check where a long window has room for many."""
HURRY: Final = 0.98
"""The quantile of a comic's duration that a batch needs for its last comic."""
_PLENTY: Final = 5.0
"""Checks left for each comic from which on there is no need to economize."""
_HARDLY_MORE_THAN_ONE: Final = 1.5
"""Checks left for each comic below which none may be wasted: the day has time enough."""
_PRACTICALLY_DONE: Final = 0.99
"""The chance to be done that is asked of a check when none may be wasted."""
_CREATE_AND_CHECK: Final = 2
"""Slots that a comic takes at least."""

_SLOW_CREATE: Final = 18.0
"""Seconds that the answer to a create may take without slowing down those that follow: no more of
them are on their way, unanswered, than the plan allows in that time, and three at least. So many
may be uncertain when the server breaks down."""
_MIN_IDLE: Final = 0.01
"""Seconds between two decisions that find nothing to send, at least."""
_MAX_IDLE: Final = 60.0
"""Seconds between two decisions, at most: a quota may have come back."""
_EXPLORATION: Final = 4
"""Comics that are seen to end, or checks on their way, before a check stops teaching much."""
_EXPLORATION_CHANCE: Final = 0.6
"""The chance to be done from which on a check is made for what it teaches before the creates of a
batch that hurries, or with one of the last slots."""
_LAST_SLOTS: Final = 2
"""Free slots that are not spent on unlikely checks, if the next one is long in returning."""
_LONG_GAP: Final = 10.0
"""Seconds until the next slot returns from which on the last ones are kept."""
_LONG_COMIC: Final = 240.0
"""Seconds that a comic may take, as long as too few were seen to know."""
_REPRICED: Final = 3
"""Decisions within one interval of the limit while slots are becoming cheaper."""
_RECONSIDERED: Final = 1.0
"""Seconds after which a slot that is kept for a likelier check is decided about again."""


@attrs.frozen(eq=False, repr=False)
class Idle:
    """The decision that nothing is worth a slot now."""

    seconds: float
    """Seconds of the server's clock after which to decide again."""
    lacks_slot: bool = False
    """Whether a check would be made if a slot were free."""


@attrs.frozen(eq=False, repr=False)
class Choice:
    """The decision what a slot is used for."""

    use: Submission[Any] | PollTarget | APIRequest
    """The request of the queue, the generation to check, or a read to probe the server with."""
    priority: Priority
    """The priority with which a slot is asked for."""
    waited: float = 0.0
    """Seconds for which the request has waited."""
    until: float = math.inf
    """Seconds after which to decide again if no slot is free before."""
    waits: bool = True
    """Whether it waits for a slot; if not, it is decided again when the next one is free."""

    @property
    def is_read(self) -> bool:
        """Whether it costs nothing: the request of the queue may be a billed one."""
        return not (isinstance(self.use, Submission) and self.use.request.kind.is_billed)


Decision = Choice | Idle
"""The use of a free slot, or nothing yet."""


class Action(enum.Enum):
    """A use of the free slot."""

    SEND = enum.auto()
    """The first request in the queue is sent."""
    CHECK = enum.auto()
    """The status check that is worth most is made."""
    WAIT = enum.auto()
    """Nothing is sent yet."""


@attrs.frozen(eq=False, repr=False)
class Situation:
    """The facts that the choice depends on."""

    urgent: bool
    """Whether someone waits interactively for a request in the queue."""
    queued: bool
    """Whether there is any request in the queue."""
    due: bool
    """Whether a check is due."""
    overdue: bool = False
    """Whether the check should have been made long ago."""
    hurried: bool = False
    """Whether the batch has to start what is left, see `is_hurried`."""


class DispatchPolicy:
    """Decides what the slots of one queue are used for.

    Args:
        limiter: Knows the plan.
        queue: The requests that wait for a slot.
        polls: The generations that are waited for.
        view: Knows what the whole key has to do.
        admission: Knows what the long windows have room for.
        circuit: Knows whether the server takes creates.
    """

    def __init__(
        self,
        limiter: Limiter,
        queue: RequestQueue,
        polls: PollSet,
        view: KeyView,
        admission: AdmissionControl,
        circuit: Circuit,
    ) -> None:
        self.was_check = False
        """Whether the last slot was used for a check."""
        self._limiter = limiter
        self._queue = queue
        self._polls = polls
        self._view = view
        self._admission = admission
        self._circuit = circuit
        self._price = SlotPrice()

    def decide(self, now: float, *, holds_one: bool) -> Decision:
        """Return what a slot that is free now is used for.

        Args:
            now: The time.
            holds_one: Whether a slot is held, which is decided about.
        """
        quota_left = self._view.quota_left
        if quota_left is not None and holds_one:
            quota_left += 1
        head = self._head(quota_left, now) if self._queue.size else None
        if RequestKind.STATUS not in self._limiter.plan.metered:
            return Idle(_MAX_IDLE) if head is None else send(head, now)  # checks need no slots
        if not self._polls.targets:
            return self._start(head, now)
        slots = self._view.slots(now, holds_one=holds_one)
        batch_waits = self._batch_waits(head, slots, now)
        unfinished = self._unfinished(slots, now) if batch_waits else 0.0
        quote = self._quote(head, slots, now, quota_left, batch_waits, unfinished)
        quote = self._held(quote, slots, quota_left) if holds_one else quote
        poll = self._polls.next_poll(now, quote.urgent, quote.batch)
        is_hurried_batch = batch_waits and self._hurries(unfinished) and not self._teaches(poll)
        action = choose(self._situation(head, poll, hurried=is_hurried_batch))
        if action is Action.SEND:
            until = math.inf if poll.target is not None else max(_MIN_IDLE, poll.next_at - now)
            return self._start(head, now, until=until)
        may_keep = head is None and slots.free <= _LAST_SLOTS
        kept = self._kept(slots, poll) if may_keep else 0.0
        if action is Action.CHECK and poll.target is not None and not kept:
            if poll.is_overdue:
                return Choice(poll.target, Priority.OVERDUE)
            if batch_waits or holds_one:
                priority = Priority.SPARE if is_hurried_batch else Priority.CHECK
                return Choice(poll.target, priority)
            return self._next_check(poll.target, slots, now)
        until = min(kept or poll.next_at - now, _MAX_IDLE)
        if slots.returning:
            until = min(until, slots.returning[0])  # slots are cheaper then
        if quote.is_elevated:
            until = min(until, slots.interval / _REPRICED)  # and already before
        return Idle(max(_MIN_IDLE, until))

    def _quote(
        self,
        head: Submission[Any] | None,
        slots: SlotForecast,
        now: float,
        quota_left: int | None,
        batch_waits: bool,  # noqa: FBT001  # one of six facts of one private call
        unfinished: float,
    ) -> Quote:
        """Return when a check is due."""
        threshold = None if quota_left is None else self._scarce_threshold(head, quota_left)
        if threshold is not None:
            return Quote(threshold, threshold, is_elevated=False)
        return self._price.quote(
            now,
            slots,
            self._view,
            self._polls.forecasts,
            batch_waits=batch_waits,
            unfinished=unfinished,
        )

    def _held(self, quote: Quote, slots: SlotForecast, quota_left: int | None) -> Quote:
        """Return when a check is due in a slot that is held.

        To give it back and to ask for another takes three round trips to a store that is shared.
        """
        is_kept = self._view.is_shared and quota_left is None
        return quote.earlier(slots.interval / 2) if is_kept else quote

    def _next_check(self, target: PollTarget, slots: SlotForecast, now: float) -> Decision:
        """Return a check, or how long to wait for a slot that no other request will take."""
        wait = self._view.slot_left_in(target, slots, now)
        if wait <= 0:
            return Choice(target, Priority.CHECK, waits=False)
        # What a slot costs is known when there is one.
        return Idle(max(_MIN_IDLE, wait), lacks_slot=True)

    def _batch_waits(self, head: Submission[Any] | None, slots: SlotForecast, now: float) -> bool:
        """Whether the create of a batch is next in the queue of the whole key."""
        if head is not None:
            return not head.urgent
        return self._view.waiting(now, slots.interval, Priority.BATCH) > 0

    def _unfinished(self, slots: SlotForecast, now: float) -> float:
        """Return how many generations of the whole key are not collected yet."""
        others = self._view.waiting(now, slots.interval, Priority.INTERACTIVE, Priority.BATCH)
        return self._queue.billed + others + self._view.running(now)

    def _head(self, quota_left: int | None, now: float) -> Submission[Any] | None:
        """Return the request whose turn it is, if server and long windows have room for it."""
        head = self._queue.head()
        if head is None or not head.request.kind.is_billed:
            return head
        unanswered, rate = len(self._admission.unanswered), self._limiter.plan.rate
        if unanswered + self._circuit.failed_creates >= TRIP:
            most = max(TRIP, int(_SLOW_CREATE / rate.interval))
            if not self._circuit.may_create(now, unanswered, most):
                return self._queue.head(billed=False)
        if quota_left is None or self._admission.has_quota(head.request.kind, quota_left):
            return head
        return self._queue.head(billed=False)

    def _start(
        self, head: Submission[Any] | None, now: float, *, until: float = math.inf
    ) -> Decision:
        """Send the head of the queue, unless an answer is worth waiting for."""
        if head is None:
            return Idle(_MAX_IDLE)
        wait = 0.0 if head.urgent else self._polls.answer_at(now) - now
        return Idle(wait) if wait > 0 else send(head, now, until=until)

    def _scarce_threshold(
        self, head: Submission[Any] | None, quota_left: int
    ) -> PollThreshold | None:
        """Return how likely a check must be while a long window is short; `None` if none is."""
        queued = self._queue.size if head is not None else 0
        chance = check_threshold(quota_left, queued=queued, running=self._admission.running)
        if chance <= PLENTIFUL:
            return None
        return PollThreshold(chance=max(chance, ALMOST_CERTAIN if queued else 0.0))

    def _situation(self, head: Submission[Any] | None, poll: Poll, *, hurried: bool) -> Situation:
        urgent = head is not None and head.urgent
        return Situation(
            urgent=urgent,
            queued=head is not None,
            due=poll.target is not None,
            overdue=poll.is_overdue and not (urgent and self.was_check),
            hurried=hurried,
        )

    def _kept(self, slots: SlotForecast, poll: Poll) -> float:
        """Return for how many seconds one of the last free slots is kept for a likelier check.

        Once they are spent, the next one is long in returning. While interactive requests keep
        coming, the price of a slot takes care of that.
        """
        if poll.target is None or poll.is_overdue or not slots.free or slots.arrivals:
            return 0.0
        until_next = slots.returning[0] if slots.returning else slots.per
        is_kept = until_next > _LONG_GAP and poll.chance < _EXPLORATION_CHANCE
        return min(until_next, _RECONSIDERED) if is_kept else 0.0

    def _teaches(self, poll: Poll) -> bool:
        """Whether a check teaches so much that the rest of a batch may wait for it."""
        known = self._polls.forecasts.observed + self._polls.in_flight
        return known < _EXPLORATION and poll.chance >= _EXPLORATION_CHANCE

    def _hurries(self, unfinished: float) -> bool:
        """Whether the batch has to start what is left, see `is_hurried`."""
        forecast = self._polls.forecasts.overall.forecast
        duration = forecast.age_when(HURRY)
        if forecast.observed <= _EXPLORATION:
            duration = max(duration, _LONG_COMIC)
        return is_hurried(unfinished, interval=self._limiter.plan.rate.interval, duration=duration)


def send(head: Submission[Any], now: float, *, until: float = math.inf) -> Choice:
    """Return the choice of the head of the queue."""
    return Choice(head, PRIORITIES[head.priority], max(0.0, now - head.since), until)


def choose(situation: Situation) -> Action:
    """Return what a slot that is free now is used for."""
    if situation.overdue:
        return Action.CHECK
    if situation.urgent:
        return Action.SEND
    if situation.due and not (situation.queued and situation.hurried):
        return Action.CHECK
    return Action.SEND if situation.queued else Action.WAIT


def is_hurried(left: float, *, interval: float, duration: float) -> bool:
    """Whether a batch has to start what is left before it collects what is done.

    Args:
        left: Comics that are not collected yet, those included that are not started.
        interval: Seconds from slot to slot.
        duration: Seconds that a comic may take, at the quantile `HURRY`.
    """
    return left * interval < duration


def check_threshold(quota_left: int | None, *, queued: int, running: int) -> float:
    """Return how likely a check must be to finish a comic to be worth a slot of a long window.

    Args:
        quota_left: Free slots in the plan's long windows; `None` if it has none.
        queued: Requests that wait to be sent.
        running: Comics that run and are waited for.
    """
    if quota_left is None or not running:
        return PLENTIFUL
    startable = max(0, min(queued, (quota_left - running) // _CREATE_AND_CHECK))
    checks_each = (quota_left - startable) / (running + startable)
    if checks_each >= _PLENTY:
        return PLENTIFUL
    if checks_each < _HARDLY_MORE_THAN_ONE:
        return _PRACTICALLY_DONE
    return max(PLENTIFUL, min(ALMOST_CERTAIN, 1.0 / checks_each))
