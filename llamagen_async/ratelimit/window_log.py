"""The count itself: which slots are held, which are spent, who is next, when a slot is free.

Theory. A server may count arrivals in a sliding window, in windows aligned to its clock, or
with a token bucket; nobody outside knows which. All three admit a client that never has more
than `limit` requests arrive in any `per` seconds. The client does not see arrivals, only its
own grant before and the response after. So a slot is *held* from the grant, when it counts
with no end, until the response, and *spent* from then on, for `per` seconds. The arrival lies
between the two, hence the server's window has moved past it before the slot is free again,
whatever the latency was. Counting from the grant instead would let an arrival that was slow on
its way meet ten that were fast.

Who finds no slot gets a place in the line and is told when to ask again: that is the time at
which the slot for that place is back, so that a wait costs one question more and no polling.
If all slots are on their way nobody knows it yet; but none can be back sooner than `per` seconds
from now, so that is when asking again makes sense.

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
    """The account's number for it."""
    granted_at: float
    """When it may be used, on the account's clock."""
    delay: float
    """Seconds until then; a store gives a slot a moment before it is back."""
    took_last: bool
    """Whether it was the last slot of the shortest window."""
    quota_left: int | None
    """How many more slots the plan's long windows have; `None` if it has no long window."""


@attrs.frozen
class SlotWait:
    """No slot is free for the caller, who has a place in the line now."""

    ask_at: float
    """When to ask again."""
    limit: RateLimit | None
    """The window that is full; `None` during a pause."""


@attrs.frozen
class WindowState:
    """One window as it stands."""

    limit: RateLimit
    """The window."""
    used: int
    """Slots held or spent."""
    next_free_at: float
    """When a slot is free: the time asked for if one is free then."""

    @property
    def free(self) -> int:
        """Slots that are free."""
        return max(0, self.limit.limit - self.used)


class WindowLog:
    """The slots of one key: a sliding log for all windows of a plan, and the line.

    Args:
        plan: The windows.
        lease: Seconds after which a slot counts as spent if nothing was ever reported.
        ahead: How many seconds before a slot is back it is already given to who is next.
        grace: Seconds that a place in the line is kept for somebody who should have asked.
    """

    def __init__(self, plan: Plan, *, lease: float, ahead: float = 0.0, grace: float = 5.0) -> None:
        self.limits = plan.limits
        self.lease = lease
        self.ahead = ahead
        self.grace = grace
        self.wall_offset = 0.0
        """Unix time minus `now`, for windows that are aligned to the clock."""
        self.refusals = Throttle(plan.rate)
        """How long everyone pauses, and how many may leave back to back."""
        self._rate = plan.rate
        self._quotas = plan.quotas
        self._longest = max(limit.per for limit in plan.limits)
        self._fewest = min(limit.limit for limit in plan.limits)
        self._plenty = 0 if self._quotas else self._fewest - 1
        """With fewer than so many slots in use there is nothing to say of the next one."""
        self._held: dict[int, float] = {}
        """Slot -> when it counts as spent even if no response is ever reported."""
        self._spent: deque[float] = deque()
        """When each response came, oldest first."""
        self._line: dict[str, float] = {}
        """Ticket -> when its place is lost; first come first."""
        self._last_slot = 0

    @property
    def held(self) -> int:
        """How many slots are held by requests without a response."""
        return len(self._held)

    def reserve(self, ticket: str, now: float) -> Grant | SlotWait:
        """Hold a slot for `ticket`, or give it a place in the line."""
        self._forget(now)
        if self._is_roomy(now):
            return self._hold(now, now)
        self._settle(now)
        at, limit, known = self._earliest(now, self._place(ticket))
        if known and at <= now + self.ahead:
            self._line.pop(ticket, None)
            return self._hold(at, now)
        self._line[ticket] = at + self.grace
        return SlotWait(at, limit)

    def hold_free(self, now: float) -> int:
        """Do the same for somebody whom no window could make wait: what nearly every request is.

        Returns:
            The slot's number. There is nothing else to say of it: it may be used now, it is not
            the last one of a window, and the plan has no long window. 0 if that is not so; then
            nothing was done, and `reserve` has to be asked.
        """
        spent, held, refusals = self._spent, self._held, self.refusals
        if spent and spent[0] + self._longest <= now:
            self._forget(now)
        if (
            len(spent) + len(held) >= self._plenty
            or self._line
            or refusals.paused_until > now
            or refusals.burst < self._rate.limit
        ):
            return 0
        self._last_slot = slot = self._last_slot + 1
        held[slot] = now + self.lease
        return slot

    def reserve_many(self, ticket: str, number: int, now: float) -> list[Grant | SlotWait]:
        """Do the same for `number` who share a ticket, up to the first one who has to wait.

        Whoever stands behind the first one is served like somebody who asks last of all.
        """
        answers: list[Grant | SlotWait] = []
        while len(answers) < number:
            answer = self.reserve(ticket, now)
            answers.append(answer)
            if isinstance(answer, SlotWait):
                break
        return answers

    def leave(self, ticket: str) -> None:
        """Give up a place in the line."""
        self._line.pop(ticket, None)

    def spend(self, slot: int, now: float) -> None:
        """Report the response to the request that held `slot`, or that it was given up."""
        if self._held.pop(slot, None) is not None:
            self._record(now)

    def answered(self, slot: int, granted_at: float, now: float) -> None:
        """Report an answer other than 429: spend the slot and learn from it."""
        if self._held.pop(slot, None) is not None:
            spent = self._spent
            if not spent or now >= spent[-1]:
                spent.append(now)
            else:
                self._record(now)
        self.refusals.accept(granted_at)

    def give_back(self, slot: int) -> None:
        """Report that the request never left: the slot is free at once."""
        self._held.pop(slot, None)

    def spend_unasked(self, number: int, now: float) -> None:
        """Count requests that were sent without a slot, or by somebody else."""
        self._settle(now)
        for _ in range(number):
            self._record(now)

    def correct(self, limit: RateLimit, left: int, now: float) -> None:
        """Take over what the server says is left of a window, if that is less than counted."""
        self._settle(now)
        excess = limit.limit - max(0, left) - self._used(limit, now)
        for _ in range(excess):
            self._record(now)

    def quota_left(self, now: float) -> int | None:
        """Return how many slots the plan's long windows have left; `None` if it has none."""
        if not self._quotas:
            return None
        return min(max(0, limit.limit - self._used(limit, now)) for limit in self._quotas)

    def states(self, now: float) -> tuple[WindowState, ...]:
        """Return every window of the plan as it stands at `now`."""
        self._settle(now)
        return tuple(
            WindowState(limit, self._used(limit, now), self._free_at(limit, now, 0)[0])
            for limit in self.limits
        )

    def projected(self, now: float, position: int) -> SlotWait:
        """Say when a request with `position` others before it can leave at the earliest."""
        self._settle(now)
        at, limit, _ = self._earliest(now, position)
        return SlotWait(at, limit)

    def with_plan(self, plan: Plan) -> WindowLog:
        """Return an account for another plan that remembers the same requests and pause."""
        account = WindowLog(plan, lease=self.lease, ahead=self.ahead, grace=self.grace)
        account.refusals.paused_until = self.refusals.paused_until
        account._held.update(self._held)
        account._spent.extend(self._spent)
        account._last_slot = self._last_slot
        return account

    def dump(self) -> dict[str, Any]:
        """Return all that changes, as JSON can hold it."""
        return {
            "held": list(self._held.items()),
            "spent": list(self._spent),
            "line": list(self._line.items()),
            "last_slot": self._last_slot,
            **self.refusals.dump(),
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
        """Return an account with what `dump` returned."""
        account = cls(plan, lease=lease, ahead=ahead, grace=grace)
        account._held.update((int(slot), until) for slot, until in state["held"])
        account._spent.extend(state["spent"])
        account._line.update((ticket, until) for ticket, until in state["line"])
        account._last_slot = state["last_slot"]
        account.refusals.load(state)
        return account

    def _hold(self, at: float, now: float) -> Grant:
        self._last_slot = slot = self._last_slot + 1
        self._held[slot] = at + self.lease
        full = len(self._spent) + len(self._held) >= self._rate.limit and self._is_full(now)
        return Grant(slot, at, at - now, full, self.quota_left(now) if self._quotas else None)

    def _is_roomy(self, now: float) -> bool:
        """Whether every window has room, whatever has come back since, and nobody waits."""
        return (
            len(self._spent) + len(self._held) < self._fewest
            and not self._line
            and self.refusals.paused_until <= now
            and self.refusals.burst >= self._rate.limit
        )

    def _is_full(self, now: float) -> bool:
        """Whether the shortest window has no slot left."""
        spent = self._spent
        oldest = len(spent) + len(self._held) - self._rate.limit
        if not 0 <= oldest < len(spent):
            return oldest >= 0
        return self._back_at(self._rate, spent[oldest]) > now

    def _place(self, ticket: str) -> int:
        for place, other in enumerate(self._line):
            if other == ticket:
                return place
        return len(self._line)

    def _earliest(self, now: float, position: int) -> tuple[float, RateLimit | None, bool]:
        """Return when a slot is back for somebody with `position` others before them.

        Also which window is the last to have one, and whether the time is exact; if it is not,
        it can only be later.
        """
        at, blocking, exact = max(now, self.refusals.paused_until), None, True
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
            # It takes the slot of one who is before it in the line, a window after that one.
            windows_later = (turn - known) // limit.limit + 1
            turn -= windows_later * limit.limit
        if turn < len(spent):
            at = now if turn < 0 else max(now, self._back_at(limit, spent[turn]))
            return at + windows_later * limit.per, not windows_later
        # It depends on a response that is still to come: it does not come before now.
        return self._back_at(limit, now) + windows_later * limit.per, False

    def _back_at(self, limit: RateLimit, response: float) -> float:
        """Return when a slot whose response came at `response` is back."""
        if not limit.aligned:
            return response + limit.per
        # The window that the server's clock was in at that time ends at a multiple of `per`.
        window = math.floor((response + self.wall_offset) / limit.per) + 1
        return window * limit.per - self.wall_offset

    def _windows(self) -> Sequence[RateLimit]:
        spacing = self.refusals.spacing
        return self.limits if spacing is None else (*self.limits, spacing)

    def _used(self, limit: RateLimit, now: float) -> int:
        gone = bisect.bisect_right(
            self._spent, now, key=lambda response: self._back_at(limit, response)
        )
        return len(self._spent) - gone + len(self._held)

    def _record(self, at: float) -> None:
        spent = self._spent
        if not spent or at >= spent[-1]:
            spent.append(at)
        else:
            spent.insert(bisect.bisect_right(spent, at), at)

    def _forget(self, now: float) -> None:
        """Forget the responses that no window counts any more."""
        spent = self._spent
        while spent and spent[0] + self._longest <= now:
            spent.popleft()

    def _settle(self, now: float) -> None:
        """Forget what counts no more: old responses, lost places; spend what was lost."""
        held, line = self._held, self._line
        while held and (until := next(iter(held.values()))) <= now:
            del held[next(iter(held))]
            self._record(until)
        self._forget(now)
        if line:
            for ticket in [ticket for ticket, until in line.items() if until <= now]:
                del line[ticket]
