"""The count itself: which slots are held, which are spent, and when a waiter gets one.

Theory. A server may count arrivals in a sliding window, in windows aligned to its clock, or
with a token bucket; nobody outside knows which. All three admit a client that never has more
than `limit` requests arrive in any `per` seconds. The client does not see arrivals, only its
own grant before and the response after. So a slot is *held* from the grant, when it counts
with no end, until the response, and *spent* from then on, for `per` seconds. The arrival lies
between the two, hence the server's window has moved past it before the slot is free again,
whatever the latency was. Counting from the grant instead would let an arrival that was slow on
its way meet ten that were fast.

A claim that finds no slot gets a position in the wait queue and is told when to ask again: at
the time at which the slot for that position is free. So a wait costs one more question and no
polling. While all slots are held by requests in flight nobody knows that time yet; but none can
be free sooner than `per` seconds from now, so that is when asking again makes sense.

A store may have been away. Its clients then go on by their shares, but none does before the store
has been silent for a lease and a window. So after such a silence the shares of the clients that
were not heard of since count as used, until they must have found out that the store is back.

Nothing here reads a clock, waits or does I/O: every call is told `now`, in seconds. The memory
and SQLite ledgers use this class; the Redis ledger's script does the same on the server.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import attrs

from llamagen_async.plans import DAY, HOUR, Plan, RateLimit
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    KeyState,
    LimitsSnapshot,
    LimitState,
    NoSlot,
    Outcome,
    Workload,
)
from llamagen_async.ratelimit.shares import longest_short, shares_of
from llamagen_async.ratelimit.throttle import Throttle
from llamagen_async.ratelimit.wait_queue import WaitQueue
from llamagen_async.stored_values import NEVER, StateReader

__all__ = ["LedgerTimes", "WindowLog"]


@attrs.frozen
class LedgerTimes:
    """The durations that a ledger keeps to, in seconds of its clock."""

    lease: float
    """Time after which a slot counts as spent if nothing was ever reported."""
    grace: float = 5.0
    """Time that a position is kept for a claim that should have been repeated."""
    client_lease: float = 3_600.0
    """Time after which a client that is not heard of no longer shares the key."""
    silence: float = 0.0
    """Time within which every client finds out that a store is back; 0 for what is never away."""
    tolerance: float = 0.05
    """Time by which the ways of two questions differ: clients tell no time more exactly."""


_LONGEST_LEASE: Final = 130
"""Leases of this client that the lease of another may be: a request takes 600 s at most, a lease
5 s more, and at least those 5 s."""


class _Held(NamedTuple):
    """A slot that is held."""

    until: float
    """Time at which it counts as spent even if no response is ever reported."""
    granted_at: float
    """Time at which it was granted."""
    is_last_slot: bool
    """Whether no other slot of the shortest window was left."""


class WindowLog:
    """The slots of one key: a sliding log for all windows of a plan, and the wait queue."""

    def __init__(self, plan: Plan, times: LedgerTimes) -> None:
        self.plan = plan
        self.times = times
        self.wall_offset: float = 0.0
        """Unix time minus `now`, for windows that are aligned to the clock."""
        self.throttle: Throttle = Throttle(plan.rate)
        self.queue: WaitQueue = WaitQueue(times.client_lease, shares_of(plan), times.tolerance)
        self._horizon = self._longest = max(limit.per for limit in plan.limits)
        """Seconds of the longest window that any plan had, and that this plan has."""
        self._most = max(limit.limit for limit in plan.limits)
        """The largest limit that any plan had: older requests than that number do not matter."""
        self._held: dict[str, _Held] = {}
        """Claim id -> the slot that it holds."""
        self._spent: list[float] = []
        """Times at which the responses came, oldest first."""
        self._last_call = NEVER
        """Time of the last operation that anybody asked for."""
        self._silent_until = NEVER
        """Time at which the last long silence ended."""

    def reserve(self, claim: Claim, now: float) -> Grant | NoSlot:
        """Hold a slot for a claim, or give it a position in the wait queue."""
        self._begin(now)
        is_held = self._held.pop(claim.id, None) is not None
        at, limit, known = self._earliest(claim, now)
        grace = self.times.grace
        since = self.queue.since(claim, now)  # what was told before is replaced
        self.queue.report(claim.client, claim.workload, now, until=now + grace)
        is_granted = (known and at <= now) or (is_held and self.throttle.paused_until <= now)
        if is_granted or not claim.waits:
            self.queue.withdraw(claim.id, claim.client)
        else:
            self.queue.wait(claim, since, until=at + grace)
        if is_granted:
            if not is_held:
                self.queue.last_was_check = claim.priority.is_check
            is_last_slot = self._used(self.plan.rate, now) + 1 >= self.plan.rate.limit
            # A slot that is asked for again has a whole lease again: nothing was sent in it yet.
            self._held[claim.id] = _Held(now + self.times.lease, now, is_last_slot)
            return Grant(claim.id, claim.client, self.state(claim.client, now))
        return NoSlot(max(0.0, at - now), limit, self.state(claim.client, now))

    def commit(self, grant: Grant, outcome: Outcome, workload: Workload, now: float) -> KeyState:
        """Spend a slot, and take over what the answer says about the limits."""
        self._begin(now)
        self.queue.report(grant.client, workload, now, until=now + self.times.grace)
        held = self._held.pop(grant.id, None)
        if held is not None:
            self._spend(1, now)
            if outcome.refused:
                self.throttle.refuse(
                    held.granted_at, now, outcome.retry_after, is_last_slot=held.is_last_slot
                )
            else:
                self.throttle.accept(held.granted_at)
            named = (limit for limit in self.plan.limits if limit.limit == outcome.server_limit)
            if outcome.server_left is not None and (limit := next(named, None)) is not None:
                # What the server says is left may only be less than was counted.
                left = max(0, outcome.server_left)
                self._spend(min(limit.limit, limit.limit - left - self._used(limit, now)), now)
        return self.state(grant.client, now)

    def release(self, claim: str, client: str, now: float, *, leaves: bool = False) -> None:
        """Give up the slot or the position of a claim, or all that a client has."""
        self._begin(now)
        self._held.pop(claim, None)
        self.queue.withdraw(claim, client, leaves=leaves)

    def record(self, number: int, now: float, *, pause: float = 0.0) -> None:
        """Count requests that were sent without a slot, and pause everyone."""
        self._begin(now)
        self._spend(min(number, self._most), now)  # more than fill every window change nothing
        self.throttle.pause(now, pause)

    def snapshot(self, now: float, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known at `now`."""
        self._expire(now)
        states: list[LimitState] = []
        for limit in self.plan.limits:
            used = self._used(limit, now)
            free_at, _ = self._free_at(limit, now, position)
            states.append(LimitState(limit, used, max(0, limit.limit - used), free_at - now))
        return LimitsSnapshot(
            plan=self.plan.name,
            windows=tuple(states),
            paused_for=max(0.0, self.throttle.paused_until - now),
            burst=self.throttle.burst,
            in_flight=len(self._held),
            clients=len(self.queue),
            waiting=self.queue.waiting(now),
        )

    def state(self, client: str, now: float) -> KeyState:
        """Return how the key stands, as one of its clients is told."""
        counted = self._spent[self._gone(self.plan.rate, now) :]
        back = (self._back_at(self.plan.rate, response) - now for response in counted)
        quotas = (max(0, limit.limit - self._used(limit, now)) for limit in self.plan.quotas)
        return KeyState(
            returning=(*back, *(self.plan.rate.per for _ in self._held)),
            quota_left=min(quotas, default=None),
            paused_for=max(0.0, self.throttle.paused_until - now),
            share=self.queue.share_of(client),
            peers=self.queue.peers(client, now),
        )

    def with_plan(self, plan: Plan) -> WindowLog:
        """Return a window log for another plan that remembers the same; this one is not used on."""
        return self.load(plan, self.dump(), self.times, StateReader(math.inf))

    @property
    def over_at(self) -> float:
        """The time from which it is as good as a new one, if nothing is asked of it until then."""
        counted = [one.until for one in self._held.values()] + list(self._spent)
        if self.throttle.burst < self.plan.rate.limit:
            counted.append(self._last_call + DAY)  # what 429s have taught is worth more
        return max(self.throttle.paused_until, *counted, self._last_call) + self._horizon

    def dump(self) -> dict[str, Any]:
        """Return all that changes, as JSON can hold it; parts of it change with this."""
        return {
            "held": [(name, *held) for name, held in self._held.items()],
            "spent": self._spent,
            "horizon": self._horizon,
            "most": self._most,
            "last_call": self._last_call,
            "silent_until": self._silent_until,
            **self.queue.dump(),
            **self.throttle.dump(),
        }

    @classmethod
    def load(
        cls, plan: Plan, state: Mapping[str, Any], times: LedgerTimes, read: StateReader
    ) -> Self:
        """Return a window log with what `dump` returned."""
        log, spent = cls(plan, times), state["spent"]
        for name, until, granted_at, is_last_slot in state["held"]:
            held = _Held(read.time(until), read.past(granted_at), bool(is_last_slot))
            if held.until - held.granted_at > _LONGEST_LEASE * times.lease:
                raise ValueError("a lease that can't be")
            log._held[name] = held
        log._spent = spent
        if spent != sorted(spent) or (spent and read.time(spent[0]) > read.past(spent[-1])):
            raise ValueError("times out of order")
        log._horizon = max(log._horizon, read.time(state["horizon"]))
        log._most = max(log._most, read.whole(state["most"]))
        log._last_call = read.past(state["last_call"])
        log._silent_until = read.past(state["silent_until"])
        log.queue.load(state, read)
        log.throttle.load(state, read)
        return log

    def _begin(self, now: float) -> None:
        """Begin an operation: notice a long silence, and drop what is over."""
        if now - self._last_call >= self.times.lease + longest_short(self.plan):
            self._silent_until = now
        self._last_call = now
        self._expire(now)

    def _expire(self, now: float) -> None:
        """Drop old responses and clients; spend the slots whose lease is over."""
        held, spent = self._held, self._spent
        while held and (until := next(iter(held.values())).until) <= now:
            del held[next(iter(held))]
            self._spend(1, until)
        old = bisect.bisect_right(spent, now - self._horizon)
        if len(spent) > self._most:  # what no window of this plan needs, and no other one
            unneeded = bisect.bisect_right(spent, now - self._longest)
            old = max(old, min(unneeded, len(spent) - self._most))
        del spent[:old]
        self.queue.expire(now)

    def _spend(self, number: int, now: float) -> None:
        """Count requests that were answered now."""
        place = bisect.bisect_right(self._spent, now)
        self._spent[place:place] = [now] * number

    def _earliest(self, claim: Claim, now: float) -> tuple[float, RateLimit | None, bool]:
        """Return when a slot is free for a claim.

        Also which window is the last to have one, and whether the time is exact; if it is not,
        it can only be later.
        """
        position = self.queue.position(claim, now)
        at, blocking, exact = max(now, self.throttle.paused_until), None, True
        spacing = self.throttle.spacing
        for limit in self.plan.limits if spacing is None else (*self.plan.limits, spacing):
            free_at, known = self._free_at(limit, now, position)
            if (unheard := self._unheard(claim.client, limit, now)) > 0:
                later, known = self._free_at(limit, now, position + unheard)
                heard_at = self._silent_until + self.times.silence
                free_at = max(free_at, min(later, heard_at))
            exact = exact and known
            if free_at > at:
                at, blocking = free_at, limit
        return at, blocking, exact

    def _unheard(self, client: str, limit: RateLimit, now: float) -> int:
        """Return the slots that others may have used by their shares, unknown to the store."""
        if now >= self._silent_until + self.times.silence or limit.per >= HOUR:
            return 0
        share = self.queue.unheard(client, self._silent_until)
        return -(-share * (limit.limit - 1) // max(1, self.queue.shares))

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

    def _gone(self, limit: RateLimit, now: float) -> int:
        """Return how many responses no longer count in a window."""
        return bisect.bisect_right(
            self._spent, now, key=lambda response: self._back_at(limit, response)
        )

    def _used(self, limit: RateLimit, now: float) -> int:
        return len(self._spent) - self._gone(limit, now) + len(self._held)
