"""The view of a client on its whole key: what is spent, wanted and learned, by it and by others.

Several clients may share a key, in other processes and on other hosts. Each answer of the ledger
says how the key stands and what the other clients have told. The view keeps that, lets it grow
older, and adds what this client knows of itself. So every client prices slots, and learns how long
generations take, as one client alone would. It also words what this client tells the others.

Nothing here sends anything: every call is told `now`, in seconds of the server's clock.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from llamagen_async.forecasting import (
    PollGroup,
    SlotForecast,
    arrival_rate,
    arrival_weight,
    faded_weight,
)
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import (
    KeyState,
    Limiter,
    PeerReport,
    Priority,
    WaitingRequests,
    Workload,
)
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import PollTarget
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.submission import Submission
from llamagen_async.stored_values import DAMAGED, encode

__all__ = ["KeyView"]

_MAX_ARRIVALS: Final = 512
"""Interactive requests whose times are remembered; older ones weigh nothing any more."""
_MAX_GROUPS: Final = 32
"""Groups of running generations that a client tells of, at most; others are put together."""
_BELIEVED_FOR: Final = 300.0
"""Seconds for which a client is believed to have what it has told of: every client that waits for
a generation tells more often."""
_TO_MEDIAN: Final = 1 / 3
"""The number by which the median of a Poisson distribution lies below its mean's next whole number:
rounded down after it is added, any mean becomes its median."""


@attrs.frozen(eq=False)
class _Running:
    """Generations of another client that run, all of about the same age."""

    accepted_at: float
    """Time at which they were accepted, in seconds of the server's clock."""
    last_running_age: float
    """The age in seconds at which they were last seen running; 0 if they never were."""
    count: float
    """How many they are."""
    urgent: bool
    """Whether somebody waits for them interactively."""


@attrs.frozen(eq=False)
class _Peer:
    """The report of another client, with the times at which it was true."""

    told_at: float
    """Time of the report."""
    weight: float
    """Weight of its interactive arrivals at that time."""
    first: float
    """Time at which the first of them came."""
    running: tuple[_Running, ...]
    """Generations of the client that run."""


class KeyView:
    """The view of one client on its key.

    Args:
        limiter: Knows the plan.
        queue: The client's requests that wait for a slot.
        polls: The client's generations that are waited for.
    """

    def __init__(self, limiter: Limiter, queue: RequestQueue, polls: PollSet) -> None:
        self.client: str = uuid.uuid4().hex[:16]
        """The client's name among those that share the key."""
        self.arrived: deque[float] = deque(maxlen=_MAX_ARRIVALS)
        """When billed requests were asked for interactively, ascending."""
        self.quota_left: int | None = None
        """Free slots in the plan's long windows when last heard of; `None` if it has none."""
        self.learns = False
        """Whether what others have learned is taken over."""
        self._limiter = limiter
        self._queue = queue
        self._polls = polls
        self._was_full = False
        """Whether no slot was free when the ledger last answered."""
        self.claimed: Submission[Any] | None = None
        """The request that a slot is asked for, which the claim tells of."""
        self.no_slot_until: float = -math.inf
        """Time before which the ledger has no slot for this client, as it said last."""
        self._told_at = -math.inf
        self._returning: Sequence[float] = ()
        """Seconds from `_told_at` until each slot of the shortest window that is used comes back,
        ascending."""
        self._peers: list[_Peer] = []
        self._waiting: dict[Priority, int] = {}
        """Requests of the others that waited for a slot at `_told_at`, by priority."""
        self._learned: dict[str, int] = {}
        """Number of the last observation that was taken over from each client."""

    @property
    def is_shared(self) -> bool:
        """Whether other clients share the key."""
        return bool(self._peers)

    def update(self, state: KeyState, now: float, *, no_slot_for: float = 0.0) -> None:
        """Take over what the ledger has just answered.

        Args:
            state: How the key stands.
            now: The time.
            no_slot_for: Seconds before which it has no slot for this client.
        """
        self._told_at = now
        self.no_slot_until = now + no_slot_for
        self.quota_left = state.quota_left
        self._returning = state.returning
        self._was_full = len(state.returning) >= self._limiter.plan.rate.limit
        self._peers = []
        self._waiting = {}
        for report in state.peers:
            self._hear(report, now)

    def workload(self, now: float) -> Workload:
        """Return what this client tells the others, without the request that is claimed.

        As long as there are none, only what the order of the wait queue depends on is told.
        """
        waiting: tuple[WaitingRequests, ...] = ()
        if self._queue.size > (self.claimed is not None and self.claimed.is_queued):
            waiting = tuple(self._queue.waiting(now, without=self.claimed))
        return Workload(waiting, self._news(now) if self._peers else "")

    def used(self, now: float) -> int:
        """Return how many slots of the shortest window are used; any thread may ask."""
        passed = now - self._told_at
        return sum(after > passed for after in self._returning)

    def slots(self, now: float, *, holds_one: bool = False) -> SlotForecast:
        """Return the slots that there will be.

        Args:
            now: The time.
            holds_one: Whether a slot is held that is decided about: it counts as free.
        """
        plan = self._limiter.plan
        rate = plan.rate
        passed = now - self._told_at
        returning = [after - passed for after in self._returning if after > passed]
        if holds_one and returning:
            returning.pop()
        elif now < self.no_slot_until:
            # The slots that seem free are for requests of others that go before.
            free = rate.limit - len(returning)
            returning = sorted([*returning, *([self.no_slot_until - now] * free)])
        return SlotForecast(
            free=max(0, rate.limit - len(returning)),
            returning=returning[-rate.limit :],
            interval=rate.interval,
            per=rate.per,
            arrivals=self._arrivals(now, self.arrived),
        )

    @property
    def others_waiting(self) -> int:
        """How many requests of other clients wait for a slot, as far as is known."""
        return sum(self._waiting.values())

    def slot_left_in(self, target: PollTarget, slots: SlotForecast, now: float) -> float:
        """Return the seconds until there will most likely be a slot that no others want more.

        Before a check go those requests of others of which is known, and the creates that they
        will have asked for until then. Asking for a slot that another one takes is a round trip
        for nothing.
        """
        waits = [0.0] * slots.free + list(slots.returning)
        if not (self._was_full and waits):
            return waits[0] if waits else 0.0
        before, arrivals = self.before(target, now), self._arrivals(now, ())
        for number, wait in enumerate(waits):
            coming = arrivals * (now - self._told_at + wait)
            if int(before + coming + _TO_MEDIAN) <= number:
                return wait
        return waits[-1]

    def before(self, target: PollTarget, now: float) -> int:
        """Return how many requests of others will take slots before a check of this client.

        While no slot is free, nothing changes but that requests are added. So until those slots
        are back that were not free when the others were last heard of, what they do is known.
        """
        if not self._was_full:
            return 0
        forecast = self._polls.forecasts.overall
        of_target = self._polls.forecasts.of(target.profile)
        mine = of_target.highest_price(now - target.accepted_at, target.last_running_age)
        before = sum(
            one.count
            for one in self._others(now)
            if forecast.highest_price(now - one.accepted_at, one.last_running_age) > mine
        )
        urgent = (Priority.INTERACTIVE, Priority.READ, Priority.OVERDUE)
        return int(before) + sum(self._waiting.get(one, 0) for one in urgent)

    def waiting(self, now: float, interval: float, *priorities: Priority) -> int:
        """Return how many requests of the others wait for a slot.

        Args:
            now: The time.
            interval: Seconds from slot to slot; every second one was used for one of them since.
            priorities: Their priorities.
        """
        if not self._waiting:
            return 0
        waiting = sum(self._waiting.get(one, 0) for one in priorities)
        return max(0, waiting - int((now - self._told_at) / interval / 2))

    def running(self, now: float, *, urgent: bool = False) -> float:
        """Return how many generations of all clients run, or how many that somebody waits for."""
        own = self._polls.urgent if urgent else len(self._polls.targets)
        if not self._peers:
            return own
        return own + sum(one.count for one in self._others(now) if one.urgent or not urgent)

    def groups(self, now: float, *, urgent: bool | None = None) -> list[PollGroup]:
        """Return the generations of all clients that may be checked; of one sort of waiting."""
        found = self._polls.groups(now, urgent=urgent)
        if self._peers:
            forecast = self._polls.forecasts.overall
            found += [
                PollGroup(forecast, now - one.accepted_at, one.last_running_age, one.count)
                for one in self._others(now)
                if urgent is None or one.urgent is urgent
            ]
        return found

    def _arrivals(self, now: float, own: Sequence[float]) -> float:
        """Return the creates a second that take slots: of others, and those that came here."""
        if RequestKind.CREATE not in self._limiter.plan.metered:
            return 0.0
        weight, first = (arrival_weight(own, now), own[0]) if own else (0.0, now)
        for one in self._peers:
            if one.weight:
                weight += faded_weight(one.weight, now - one.told_at)
                first = min(first, one.first)
        return arrival_rate(weight, now - first)

    def _news(self, now: float) -> str:
        """Word what the others should know of the generations of this client."""
        running = [
            [round(one.age, 2), round(one.last_running_age, 2), round(one.count, 2), urgent]
            for urgent in (True, False)
            for one in self._polls.groups(now, urgent=urgent)
        ]
        running += [
            [round(now - accepted_at, 2), 0.0, 1, True]
            for accepted_at in self._polls.expected.values()
        ]
        told: dict[str, Any] = {}
        if running:
            told["running"] = _put_together(running)
        if self.arrived:
            weight = arrival_weight(self.arrived, now)
            told["arrived"] = [round(weight, 4), round(now - self.arrived[0], 2)]
        if self._polls.observations:
            told["observed"] = list(self._polls.observations)
        return encode(told) if told else ""

    def _others(self, now: float) -> Iterator[_Running]:
        """Iterate over the generations of clients that were heard of."""
        for peer in self._peers:
            if now - peer.told_at <= _BELIEVED_FOR:
                yield from peer.running

    def _hear(self, report: PeerReport, now: float) -> None:
        """Take over what another client has told."""
        for one in report.waiting:
            self._waiting[one.priority] = self._waiting.get(one.priority, 0) + one.count
        try:
            told: dict[str, Any] = json.loads(report.text) if report.text else {}
            told_at = now - report.age
            weight, first_age = _numbers(told.get("arrived", (0.0, 0.0)))
            running = tuple(
                _Running(told_at - age, last, count, bool(urgent))
                for *numbers, urgent in told.get("running", ())
                for age, last, count in [_numbers(numbers)]
            )
            self._peers.append(_Peer(told_at, weight, told_at - first_age, running))
            if self.learns:
                self._learn(report.client, told)
        except DAMAGED:
            self._peers.append(_Peer(now, 0.0, now, ()))  # it is there, whatever it says

    def _learn(self, client: str, told: Mapping[str, Any]) -> None:
        """Learn from the durations that another client has observed."""
        forecasts = self._polls.forecasts
        known = self._learned.get(client, 0)
        for number, profile, *ages in told.get("observed", ()):
            if number > known:
                longer_than, at_most = _numbers(ages)
                forecasts.observe(tuple(map(str, profile)), longer_than, at_most)
                self._learned[client] = int(number)


def _numbers(values: Iterable[Any]) -> list[float]:
    """Return values as finite numbers that are not negative; raise if they are anything else."""
    numbers = [float(value) for value in values]
    if not all(0.0 <= number < math.inf for number in numbers):
        raise ValueError("a number that can't be")
    return numbers


def _put_together(running: list[list[Any]]) -> list[list[Any]]:
    """Return the groups of running generations; if they are many, several as one."""
    size = math.ceil(len(running) / _MAX_GROUPS)
    if size == 1:
        return running
    running.sort()
    found: list[list[Any]] = []
    for start in range(0, len(running), size):
        some = running[start : start + size]
        total = sum(one[2] for one in some)
        age, last = (round(sum(one[at] * one[2] for one in some) / total, 2) for at in (0, 1))
        found.append([age, last, round(total, 2), some[0][3]])
    return found
