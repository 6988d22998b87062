"""The count itself: which slots are held, which are spent, and when a waiter gets one.

Theory. A server may count arrivals in a sliding window, in windows aligned to its clock, or
with a token bucket; nobody outside knows which. All three admit a client that never has more
than `limit` requests arrive in any `per` seconds. The client does not see arrivals, only its
own grant before and the response after. So a slot is *held* from the grant, when it counts
with no end, until the response, and *spent* from then on, for `per` seconds. The arrival lies
between the two, hence the server's window has moved past it before the slot is free again,
whatever the latency was. Counting from the grant instead would let an arrival that was slow on
its way meet ten that were fast.

A waiter that finds no slot gets a position in the wait queue and is told when to ask again: at
the time at which the slot for that position is free. So a wait costs one more question and no
polling. While all slots are held by requests in flight nobody knows that time yet; but none can
be free sooner than `per` seconds from now, so that is when asking again makes sense.

Nothing here reads a clock, waits or does I/O: every call is told `now`, in seconds. The memory
and SQLite ledgers use this class; the Redis ledger's script does the same on the server.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.throttle import Throttle

__all__ = ["Grant", "SlotWait", "WindowLog", "WindowState"]


@attrs.define(eq=False)
class Grant:
    """A slot that is held until it is spent or given back."""

    slot: int
    """The slot's number in its window log."""
    granted_at: float
    """Time from which the slot may be used, on the window log's clock."""
    early_by: float
    """Seconds until the slot may be used; a store grants a slot a few seconds early."""
    is_last_slot: bool
    """Whether no other slot of the shortest window was left."""
    quota_left: int | None
    """Slots left in the plan's long windows; `None` if it has no long window."""


@attrs.frozen
class SlotWait:
    """No slot is free for the waiter, which has a position in the wait queue now."""

    ask_at: float
    """Time at which to ask again."""
    limit: RateLimit | None
    """The window that is full; `None` during a pause."""


@attrs.frozen
class WindowState:
    """One window as it stands at a given time."""

    limit: RateLimit
    """The window."""
    used: int
    """Slots held or spent."""
    next_free_at: float
    """Time at which a slot is free: the time asked for if one is free then."""

    @property
    def free(self) -> int:
        """Slots that are free."""
        return max(0, self.limit.limit - self.used)


class WindowLog:
    """The slots of one key: a sliding log for all windows of a plan, and the wait queue.

    Args:
        plan: The windows.
        lease: Seconds after which a slot counts as spent if nothing was ever reported.
        ahead: Seconds before a slot is free at which it is already granted to the next waiter.
        grace: Seconds that a position is kept for a waiter that should have asked again.
    """

    def __init__(self, plan: Plan, *, lease: float, ahead: float = 0.0, grace: float = 5.0) -> None:
        self.limits = plan.limits
        self.lease = lease
        self.ahead = ahead
        self.grace = grace
        self.wall_offset = 0.0
        """Unix time minus `now`, for windows that are aligned to the clock."""
        self.throttle = Throttle(plan.rate)
        """How long everyone pauses, and how many requests may leave back to back."""
        self._rate = plan.rate
        self._quotas = plan.quotas
        self._longest = max(limit.per for limit in plan.limits)
        self._smallest = min(limit.limit for limit in plan.limits)
        self._held: dict[int, float] = {}
        """Slot -> time at which it counts as spent even if no response is ever reported."""
        self._spent: deque[float] = deque()
        """Times at which the responses came, oldest first."""
        self._queue: dict[str, float] = {}
        """Waiter id -> time at which its position is lost; first come, first served."""
        self._last_slot = 0

    @property
    def held(self) -> int:
        """Slots held by requests without a response."""
        return len(self._held)

    def reserve(self, waiter_id: str, now: float) -> Grant | SlotWait:
        """Hold a slot for a waiter, or give it a position in the wait queue."""
        spent = self._spent
        while spent and spent[0] + self._longest <= now:
            spent.popleft()
        if (
            len(spent) + len(self._held) < self._smallest
            and not self._queue
            and self.throttle.paused_until <= now
            and self.throttle.burst >= self._rate.limit
        ):
            # Nobody waits, and every window has room even with all answers that are still counted.
            return self._hold(now, now)
        self._expire(now)
        at, limit, known = self._earliest(now, self._position(waiter_id))
        if known and at <= now + self.ahead:
            self._queue.pop(waiter_id, None)
            return self._hold(at, now)
        self._queue[waiter_id] = at + self.grace
        return SlotWait(at, limit)

    def reserve_many(self, waiter_id: str, number: int, now: float) -> list[Grant | SlotWait]:
        """Reserve for `number` requests that share a waiter id, up to the first that has to wait.

        The requests after the first one are served like waiters that come last of all.
        """
        answers: list[Grant | SlotWait] = []
        while len(answers) < number:
            answer = self.reserve(waiter_id, now)
            answers.append(answer)
            if isinstance(answer, SlotWait):
                break
        return answers

    def cancel_wait(self, waiter_id: str) -> None:
        """Give up a position in the wait queue."""
        self._queue.pop(waiter_id, None)

    def spend(self, slot: int, now: float) -> None:
        """Report the response to the request that held `slot`, or that it was given up."""
        if self._held.pop(slot, None) is not None:
            bisect.insort(self._spent, now)

    def answered(self, slot: int, granted_at: float, now: float) -> None:
        """Report an answer other than 429: spend the slot and learn from it."""
        if self._held.pop(slot, None) is not None:
            bisect.insort(self._spent, now)
        throttle = self.throttle
        if throttle.pauses or throttle.burst < self._rate.limit:
            throttle.accept(granted_at)

    def give_back(self, slot: int) -> None:
        """Report that the request never left: the slot is free at once."""
        self._held.pop(slot, None)

    def record_external(self, number: int, now: float) -> None:
        """Count requests that were sent without a slot, or by another program."""
        self._expire(now)
        for _ in range(number):
            bisect.insort(self._spent, now)

    def reconcile(self, limit: RateLimit, left: int, now: float) -> None:
        """Take over what the server says is left of a window, if that is less than counted."""
        self._expire(now)
        excess = limit.limit - max(0, left) - self._used(limit, now)
        for _ in range(excess):
            bisect.insort(self._spent, now)

    def quota_left(self, now: float) -> int | None:
        """Return how many slots the plan's long windows have left; `None` if it has none."""
        if not self._quotas:
            return None
        return min(max(0, limit.limit - self._used(limit, now)) for limit in self._quotas)

    def states(self, now: float) -> tuple[WindowState, ...]:
        """Return every window of the plan as it stands at `now`."""
        self._expire(now)
        return tuple(
            WindowState(limit, self._used(limit, now), self._free_at(limit, now, 0)[0])
            for limit in self.limits
        )

    def projected(self, now: float, position: int) -> SlotWait:
        """Return when a request with `position` others before it can leave at the earliest."""
        self._expire(now)
        at, limit, _ = self._earliest(now, position)
        return SlotWait(at, limit)

    def with_plan(self, plan: Plan) -> WindowLog:
        """Return a window log for another plan that remembers the same requests and pause."""
        log = WindowLog(plan, lease=self.lease, ahead=self.ahead, grace=self.grace)
        log.throttle.paused_until = self.throttle.paused_until
        log._held.update(self._held)
        log._spent.extend(self._spent)
        log._last_slot = self._last_slot
        return log

    def dump(self) -> dict[str, Any]:
        """Return all that changes, as JSON can hold it."""
        return {
            "held": list(self._held.items()),
            "spent": list(self._spent),
            "queue": list(self._queue.items()),
            "last_slot": self._last_slot,
            **self.throttle.dump(),
        }

    @classmethod
    def load(
        cls,
        plan: Plan,
        state: Mapping[str, Any],
        *,
        lease: float,
        ahead: float = 0.0,
        grace: float = 5.0,
    ) -> Self:
        """Return a window log with what `dump` returned."""
        log = cls(plan, lease=lease, ahead=ahead, grace=grace)
        log._held.update((int(slot), until) for slot, until in state["held"])
        log._spent.extend(state["spent"])
        log._queue.update((waiter_id, until) for waiter_id, until in state["queue"])
        log._last_slot = state["last_slot"]
        log.throttle.load(state)
        return log

    def _hold(self, at: float, now: float) -> Grant:
        self._last_slot = slot = self._last_slot + 1
        self._held[slot] = at + self.lease
        full = len(self._spent) + len(self._held) >= self._rate.limit and self._is_full(now)
        return Grant(slot, at, at - now, full, self.quota_left(now) if self._quotas else None)

    def _is_full(self, now: float) -> bool:
        """Return whether the shortest window has no slot left."""
        spent = self._spent
        oldest = len(spent) + len(self._held) - self._rate.limit
        if not 0 <= oldest < len(spent):
            return oldest >= 0
        return self._back_at(self._rate, spent[oldest]) > now

    def _position(self, waiter_id: str) -> int:
        """Return how many waiters are before this one; a new one comes last."""
        for position, other in enumerate(self._queue):
            if other == waiter_id:
                return position
        return len(self._queue)

    def _earliest(self, now: float, position: int) -> tuple[float, RateLimit | None, bool]:
        """Return when a slot is free for a waiter with `position` others before it.

        Also which window is the last to have one, and whether the time is exact; if it is not,
        it can only be later.
        """
        at, blocking, exact = max(now, self.throttle.paused_until), None, True
        for limit in self._windows():
            free_at, known = self._free_at(limit, now, position)
            exact = exact and known
            if free_at > at:
                at, blocking = free_at, limit
        return at, blocking, exact

    def _free_at(self, limit: RateLimit, now: float, position: int) -> tuple[float, bool]:
        """Return when `limit` has room after `position` others, and whether that is exact."""
        spent = self._spent
        known = len(spent) + len(self._held)
        turn, windows_later = known + position - limit.limit, 0
        if turn >= known:
            # The slot of a waiter before this one, a window after that one has used it.
            windows_later = (turn - known) // limit.limit + 1
            turn -= windows_later * limit.limit
        if turn < len(spent):
            at = now if turn < 0 else max(now, self._back_at(limit, spent[turn]))
            return at + windows_later * limit.per, not windows_later
        # The slot depends on a response that is still to come: it does not come before now.
        return self._back_at(limit, now) + windows_later * limit.per, False

    def _back_at(self, limit: RateLimit, response: float) -> float:
        """Return when a slot is free whose response came at `response`."""
        if not limit.aligned:
            return response + limit.per
        # The window that the server's clock was in at that time ends at a multiple of `per`.
        window = math.floor((response + self.wall_offset) / limit.per) + 1
        return window * limit.per - self.wall_offset

    def _windows(self) -> Sequence[RateLimit]:
        spacing = self.throttle.spacing
        return self.limits if spacing is None else (*self.limits, spacing)

    def _used(self, limit: RateLimit, now: float) -> int:
        gone = bisect.bisect_right(
            self._spent, now, key=lambda response: self._back_at(limit, response)
        )
        return len(self._spent) - gone + len(self._held)

    def _expire(self, now: float) -> None:
        """Drop old responses and lost positions; spend the slots whose lease is over."""
        held, queue, spent = self._held, self._queue, self._spent
        while held and (until := next(iter(held.values()))) <= now:
            del held[next(iter(held))]
            bisect.insort(self._spent, until)
        while spent and spent[0] + self._longest <= now:
            spent.popleft()
        if queue:
            for waiter_id in [waiter_id for waiter_id, until in queue.items() if until <= now]:
                del queue[waiter_id]
