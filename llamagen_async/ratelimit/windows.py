"""The count itself: which slots are held, which are spent, when the next one is free.

Theory. A server may count arrivals in a sliding window, in windows aligned to its clock, or
with a token bucket; nobody outside knows which. All three admit a client that never has more
than `limit` requests arrive in any `per` seconds. The client does not see arrivals, only its
own grant before and the response after. So a slot is *held* from the grant, when it counts
with no end, until the response, and *spent* from then on, for `per` seconds. The arrival lies
between the two, hence the server's window has moved past it before the slot is free again,
whatever the latency was. Counting from the grant instead would let an arrival that was slow on
its way meet ten that were fast.

Nothing here reads a clock, waits or does I/O: every call is told `now`, in seconds.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

from llamagen_async.plans import Plan, RateLimit

__all__ = ["Account", "Verdict", "WindowState"]

_LONGEST_PAUSE: Final = 60.0
"""The longest pause in seconds that is guessed when the server names none."""

_PATIENCE: Final = 5
"""How many windows' worth of answers without a refusal let the burst grow by one."""

_MOST_PATIENCE: Final = 160
"""What that number is doubled up to, each time that growing was a mistake."""


@attrs.frozen
class Verdict:
    """Whether a request may leave now, and if not, when to ask again and why."""

    admitted: bool
    """Whether it may leave now."""
    ask_at: float = 0.0
    """When asking again makes sense if no response frees a slot before."""
    limit: RateLimit | None = None
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


_ADMITTED: Final = Verdict(admitted=True)


class Account:
    """The slots of one key: a sliding log for all windows of a plan, the pause, the burst."""

    def __init__(self, plan: Plan) -> None:
        self.limits = plan.limits
        self.paused_until = -math.inf
        self.burst = plan.rate.limit
        """How many requests may leave back to back, as learned from refusals."""
        self._rate = plan.rate
        self._quotas = plan.quotas
        self._longest = max(limit.per for limit in plan.limits)
        self._held: dict[int, float] = {}
        """Slot -> when it counts as spent even if no response is ever reported."""
        self._spent: deque[float] = deque()
        """When each response came, oldest first."""
        self._last_slot = 0
        self._pause_set_at = -math.inf
        self._pauses = 0
        self._accepted = 0
        self._patience = _PATIENCE * self._rate.limit

    def with_plan(self, plan: Plan) -> Account:
        """Return an account for another plan that remembers the same requests and pause."""
        account = Account(plan)
        account.paused_until = self.paused_until
        account._held.update(self._held)
        account._spent.extend(self._spent)
        account._last_slot = self._last_slot
        return account

    @property
    def held(self) -> int:
        """How many slots are held by requests without a response."""
        return len(self._held)

    def ask(self, now: float) -> Verdict:
        """Say whether a request may leave at `now`, without taking a slot."""
        if self.paused_until > now:
            return Verdict(admitted=False, ask_at=self.paused_until)
        self._settle(now)
        verdict = _ADMITTED
        for limit in self._windows():
            free_at = self._free_at(limit, now)
            if free_at > now and free_at > verdict.ask_at:
                verdict = Verdict(admitted=False, ask_at=free_at, limit=limit)
        return verdict

    def hold(self, now: float, lease: float) -> int:
        """Take a slot that `ask` has admitted and return its number.

        If nothing is reported within `lease` seconds, the slot counts as spent at that time.
        The lease is the same for all slots of an account.
        """
        self._last_slot += 1
        self._held[self._last_slot] = now + lease
        return self._last_slot

    def spend(self, slot: int, now: float) -> None:
        """Report the response to the request that held `slot`, or that it was given up."""
        if self._held.pop(slot, None) is not None:
            self._record(now)

    def give_back(self, slot: int) -> None:
        """Report that the request never left: the slot is free at once."""
        self._held.pop(slot, None)

    def refuse(self, granted_at: float, now: float, retry_after: float | None) -> None:
        """Report a 429 to a request that was granted at `granted_at`.

        Everyone pauses for `retry_after` seconds in full; without it for twice as long as the
        last time. The burst is halved, unless the windows were full and so explain the refusal.
        """
        if granted_at >= self._pause_set_at:
            self._pauses += 1
            self._pause_set_at = now
        if retry_after is None:
            retry_after = min(_LONGEST_PAUSE, self._rate.interval * 2.0 ** (self._pauses - 1))
        self.paused_until = max(self.paused_until, now + retry_after)
        self._accepted = 0
        if self._used(self._rate, now) < self._rate.limit:
            if self.burst == 1 or self._patience > _PATIENCE * self._rate.limit:
                self._patience = min(2 * self._patience, _MOST_PATIENCE * self._rate.limit)
            self.burst = max(1, self.burst // 2)

    def accept(self, granted_at: float) -> None:
        """Report an answer other than 429.

        The next pause starts small again, and after several windows' worth of answers without
        a refusal the burst grows by one.
        """
        if granted_at < self._pause_set_at:
            return
        self._pauses = 0
        if self.burst < self._rate.limit:
            self._accepted += 1
            if self._accepted >= self._patience:
                self._accepted = 0
                self.burst += 1

    def quota_left(self, now: float) -> int | None:
        """Return how many slots the plan's long windows have left; `None` if it has none."""
        if not self._quotas:
            return None
        return min(max(0, limit.limit - self._used(limit, now)) for limit in self._quotas)

    def states(self, now: float) -> tuple[WindowState, ...]:
        """Return every window of the plan as it stands at `now`."""
        self._settle(now)
        return tuple(
            WindowState(limit, self._used(limit, now), max(now, self._free_at(limit, now)))
            for limit in self.limits
        )

    def projected(self, now: float, position: int) -> Verdict:
        """Say when a request with `position` others before it can leave at the earliest.

        Requests on their way are taken to be answered now, the others to be answered at once.
        """
        self._settle(now)
        worst = Verdict(admitted=True, ask_at=max(now, self.paused_until))
        for limit in self.limits:
            at = self._projected(limit, now, position)
            if at > worst.ask_at:
                worst = Verdict(admitted=False, ask_at=at, limit=limit)
        return worst

    def _projected(self, limit: RateLimit, now: float, position: int) -> float:
        known = len(self._spent) + len(self._held)
        turn, cycles = known + position - limit.limit, 0
        while turn >= known:
            turn, cycles = turn - limit.limit, cycles + 1
        if turn < 0:
            return now + cycles * limit.per
        since = self._spent[turn] if turn < len(self._spent) else now
        return max(now, since + limit.per) + cycles * limit.per

    def _windows(self) -> Sequence[RateLimit]:
        if self.burst >= self._rate.limit:
            return self.limits
        # Towards strict spacing: `burst` requests in the time that `burst` requests take.
        return (*self.limits, RateLimit(self.burst, per=self.burst * self._rate.interval))

    def _free_at(self, limit: RateLimit, now: float) -> float:
        """Return when `limit` has room: in the past or `now` if it has room already.

        If only a response can make room, it is when the oldest lease would have made it.
        """
        room = limit.limit - len(self._held)
        if room <= 0:
            return next(iter(self._held.values())) + limit.per
        if room > len(self._spent):
            return now
        return self._spent[-room] + limit.per

    def _used(self, limit: RateLimit, now: float) -> int:
        gone = bisect.bisect_right(self._spent, now, key=lambda response: response + limit.per)
        return len(self._spent) - gone + len(self._held)

    def _record(self, at: float) -> None:
        spent = self._spent
        if not spent or at >= spent[-1]:
            spent.append(at)
            return
        index = len(spent)
        while index and spent[index - 1] > at:
            index -= 1
        spent.insert(index, at)

    def _settle(self, now: float) -> None:
        """Forget what no window counts any more; spend what was never reported."""
        held = self._held
        while held and (until := next(iter(held.values()))) <= now:
            del held[next(iter(held))]
            self._record(until)
        spent = self._spent
        while spent and spent[0] + self._longest <= now:
            spent.popleft()
