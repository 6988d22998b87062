"""The limiter: waiters wait for a slot here, first come, first served.

The ledger is the authority on the count. In front of it stands an `aiolimiter` token bucket that
shapes bursts: a plan with `burst=3` lets three requests leave back to back and spaces the rest,
however many slots the window still has. A plan without `burst` has none: a bucket as wide as the
window never waits where the ledger would not, except wrongly, for a token that a slot which was
given back has used up.

A round trip to a store asks for all waiters, and for a caller that will be back at once: each gets
a slot, and the first that gets none a position in the wait queue, which is kept here for whichever
waiter is next by then. So a key that is used up costs one question a request.

A slot may be granted some time before it is used: a store grants it a few seconds early, and the
bucket spaces what leaves. If another request was refused (429) meanwhile, the slot goes back and a
new one is asked for, after the requests that wait already. So a request leaves during a pause only
if the ledger was asked for a pause within the last tenth of a second of the server's clock, or
while the report of the 429 was on its way to the store and from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.plans import Plan, RateLimit, RequestKind
from llamagen_async.ratelimit.protocol import (
    ANSWERED,
    UNMETERED,
    Grant,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    SharedLedger,
)
from llamagen_async.ratelimit.throttle import guessed_pause

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Limiter", "Slot"]

_logger = logging.getLogger(__name__)
_MAX_TOGETHER: Final = 32
"""Slots that one question asks for at most: none of them should be held for long unused."""
_PAUSE_KNOWN_FOR: Final = 0.1
"""Seconds of the server's clock for which "there is no pause" is believed without asking again."""


@attrs.define(eq=False)
class Slot:
    """The right to send one request. Report its end exactly once, by `commit` or `give_back`."""

    _limiter: Limiter | None
    _grant: Grant
    quota_left: int | None = None
    """Slots left in the plan's long windows when this one was granted; `None` without any."""

    async def commit(
        self,
        *,
        refused: bool = False,
        retry_after: float | None = None,
        rate_limit: tuple[int | None, int | None] = (None, None),
    ) -> None:
        """Report the response, or that the request was given up; later reports do nothing.

        Args:
            refused: Whether the answer was 429.
            retry_after: Seconds that a 429 asked to wait.
            rate_limit: The limit that the answer's headers speak of, and the requests left of it.
        """
        limiter, self._limiter = self._limiter, None
        if limiter is None:
            return
        limit, left = rate_limit
        if self._grant is not UNMETERED:
            is_usual = not refused and left is None
            outcome = ANSWERED if is_usual else Outcome(refused, retry_after, limit, left)
            await limiter.ledger.commit(self._grant, outcome)
        elif refused:
            await limiter.pause(retry_after)
        else:
            limiter.refusals = 0

    async def give_back(self) -> None:
        """Report that the request never left; later reports do nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None and self._grant is not UNMETERED:
            await limiter.ledger.give_back(self._grant)


class Limiter:
    """Hands out slots of one key in the event loop in which it was made.

    Args:
        plan: The windows, and the kinds of request that are metered.
        ledger: The count; other loops, processes or hosts may use the same one.
        clock: The server's clock.
    """

    def __init__(self, plan: Plan, ledger: SharedLedger, clock: Clock) -> None:
        self.plan = plan
        self.ledger = ledger
        self._unmetered = frozenset(RequestKind) - plan.metered
        self._clock = clock
        self.loop = asyncio.get_running_loop()
        self._bucket = _bucket(plan, clock)
        self._turn = asyncio.Lock()
        """Held by the first waiter; the others wait for it in the order in which they came."""
        self._waiting = 0
        self._ready: deque[tuple[Grant, float]] = deque()
        """Slots for the next waiters, each with the clock's time from which it may be used."""
        self._told_at = -math.inf
        """The clock's time of the last question. If it brought a slot, there was no pause then."""
        self._next_answer: tuple[float, RateLimit | None] | None = None
        """The answer to the next waiter without a slot: the clock's time to ask again, and the full
        window. While this is set, the waiter id has a position in the ledger's wait queue."""
        self.expected: set[Callable[[], bool]] = set()
        """Callbacks of callers that will be back at once for another slot."""
        self._changed = asyncio.Event()
        """Set when a slot may be free earlier than the ledger said."""
        self.blocked_until: float | None = None
        """The clock's time at which the first waiter may leave; `None` if nobody waits."""
        self.blocked_by: RateLimit | None = None
        """The window that makes waiters wait; `None` during a pause."""
        self.refusals = 0
        """429s in a row to requests that the plan does not meter."""
        self.quota_left: int | None = None
        """Free slots in the plan's long windows when last heard of; `None` if it has none."""
        self._has_waited = False
        self._waiter_id = uuid.uuid4().hex
        """One id for all waiters: only the first of them asks the ledger."""
        # A ledger in memory outlives its users: it must not keep one that was forgotten.
        wake = weakref.WeakMethod(self._wake)
        unsubscribe = ledger.subscribe(lambda: known() if (known := wake()) else None)
        self._unsubscribe = weakref.finalize(self, unsubscribe)
        self._unsubscribe.atexit = False

    def change_plan(self, plan: Plan) -> None:
        """Keep the limits of another plan from now on, with what was spent so far."""
        self.plan = plan
        self._unmetered = frozenset(RequestKind) - plan.metered
        self._bucket = _bucket(plan, self._clock)
        if not plan.quotas:
            self.quota_left = None
        self.ledger.change_plan(plan)

    async def acquire(
        self,
        kind: RequestKind,
        *,
        on_blocked: Callable[[], None] | None = None,
        wants_more: Callable[[], bool] | None = None,
    ) -> Slot:
        """Wait for a slot, first come first served, and hold it.

        A cancelled wait leaves nothing behind. A kind that the plan does not meter waits for the
        end of a pause, and for nothing else.

        Args:
            kind: The kind of the request that the slot is for.
            on_blocked: Called when it is known how long the wait will be: see `blocked_until`.
            wants_more: Called when the ledger is asked: whether the caller will be back at once for
                another slot. That one, or the position for it, then costs no round trip of its
                own. It is kept until the caller is back, or calls `rest`.
        """
        if self._unmetered and kind in self._unmetered:
            while pause := await self.ledger.paused_for():
                await self._clock.sleep(pause)
            return Slot(self, UNMETERED)
        self._waiting += 1
        if wants_more is not None:
            self.expected.discard(wants_more)
        try:
            async with self._turn:
                is_known = self._ready or self._next_answer is not None
                answer = self._known() if is_known else await self._ask(wants_more)
                if (
                    is_known
                    or isinstance(answer, NoSlot)
                    or answer.early_by
                    or self._bucket is not None
                ):
                    answer = await self._wait_for(answer, on_blocked, wants_more)
                self.quota_left = answer.quota_left if self.plan.quotas else None
                return Slot(self, answer, quota_left=answer.quota_left)
        finally:
            self._waiting -= 1
            if self._ready or self._next_answer is not None:
                self._give_up_unneeded()

    def rest(self, wants_more: Callable[[], bool]) -> None:
        """Give up what is kept for a caller that will not be back at once after all."""
        if wants_more in self.expected:
            self.expected.discard(wants_more)
            self._give_up_unneeded()

    async def pause(self, retry_after: float | None) -> None:
        """Pause everyone after a 429 to a request that the plan does not meter.

        Args:
            retry_after: Seconds that the server asked to wait; without it, the pause is twice as
                long each time in a row.
        """
        self.refusals += 1
        if retry_after is None:
            retry_after = guessed_pause(self.refusals, self.plan.rate.interval)
        await self.ledger.commit(UNMETERED, Outcome(refused=True, retry_after=retry_after))

    async def snapshot(self) -> LimitsSnapshot:
        """Return what the ledger knows now."""
        return await self.ledger.snapshot()

    async def fresh_quota_left(self) -> int:
        """Ask the ledger how many slots the plan's long windows have left."""
        windows = (await self.snapshot()).windows
        quotas = (window.free for window in windows if window.limit in self.plan.quotas)
        self.quota_left = min(quotas)
        return self.quota_left

    async def projected(self, position: int) -> NoSlot:
        """Return how long a request with `position` others before it waits, and for what."""
        return await self.ledger.projected(position)

    async def aclose(self) -> None:
        """Let go of the ledger; nobody may wait for a slot any more."""
        self._unsubscribe()
        await self.ledger.aclose()

    @property
    def _behind(self) -> int:
        """Callers that wait for a slot of this limiter, or will at once."""
        return self._waiting + len(self.expected)

    def _give_up_unneeded(self) -> None:
        """Give back the slots, and the position, that nobody is left to take."""
        behind = self._behind
        if len(self._ready) > behind:
            self._return_unused(behind)
        if not behind and self._next_answer is not None:
            self._next_answer = None
            self.ledger.cancel_wait(self._waiter_id)

    async def _wait_for(
        self,
        answer: Grant | NoSlot,
        on_blocked: Callable[[], None] | None,
        wants_more: Callable[[], bool] | None,
    ) -> Grant:
        """Return a slot once it may be used, given the ledger's last answer."""
        while True:
            if isinstance(answer, NoSlot) or answer.early_by:
                answer = await self._wait_until_granted(answer, on_blocked, wants_more)
            if await self._may_be_used(answer):
                return answer
            answer = await self._ask(wants_more)

    async def _may_be_used(self, grant: Grant) -> bool:
        """Wait for a token, if there is a bucket; give the slot back if there is a pause then."""
        try:
            if self._bucket is not None:
                await self._bucket.acquire()
            if self._clock.now() - self._told_at <= _PAUSE_KNOWN_FOR:
                return True
            if not await self.ledger.paused_for():
                self._told_at = self._clock.now()
                return True
        except BaseException:
            await self.ledger.give_back(grant)
            raise
        if self._ready:
            self._return_unused(0)
        await self.ledger.give_back(grant)
        return False

    def _known(self) -> Grant | NoSlot:
        """Return the ledger's answer for the first waiter, which a question before has brought."""
        if self._ready:
            grant, at = self._ready.popleft()
            grant.early_by = max(0.0, at - self._clock.now())
            return grant
        assert self._next_answer is not None
        ask_at, limit = self._next_answer
        return NoSlot(max(0.0, ask_at - self._clock.now()), limit)

    async def _ask(self, wants_more: Callable[[], bool] | None) -> Grant | NoSlot:
        """Ask for a slot, and in the same round trip for the waiters behind."""
        # To ask memory again costs nothing. A token bucket lets one through at a time: slots for
        # more would be held unused.
        is_alone = self._bucket is not None or not self.ledger.is_remote
        if wants_more is not None:
            # Near the end of a quota nothing is held but the slot that is decided about.
            if not is_alone and not self.plan.quotas and wants_more():
                self.expected.add(wants_more)
            else:
                self.expected.discard(wants_more)
        number = 1 if is_alone else min(self._waiting + len(self.expected), _MAX_TOGETHER)
        self._next_answer = None
        self._changed.clear()
        if number == 1:
            answers = [await self.ledger.reserve(self._waiter_id)]
        else:
            answers = await self.ledger.reserve_many(self._waiter_id, number)
        now = self._told_at = self._clock.now()
        if isinstance(last := answers[-1], NoSlot):
            self._next_answer = now + last.delay, last.limit
        for one in answers[1:]:
            if isinstance(one, Grant):
                self._ready.append((one, now + one.early_by))
        if self._ready and len(self._ready) >= self._behind:
            self._return_unused(self._behind - 1)
        return answers[0]

    def _return_unused(self, behind: int) -> None:
        """Give back the slots of cancelled waiters: only `behind` are left."""
        number = len(self._ready) - behind
        self.ledger.return_unused([self._ready.pop()[0] for _ in range(number)])

    async def _wait_until_granted(
        self,
        answer: Grant | NoSlot,
        on_blocked: Callable[[], None] | None,
        wants_more: Callable[[], bool] | None,
    ) -> Grant:
        try:
            while isinstance(answer, NoSlot):
                self._log_first_wait(answer)
                self.blocked_until = self._clock.now() + answer.delay
                self.blocked_by = answer.limit
                if on_blocked is not None:
                    on_blocked()
                await self._clock.wait(self._changed, answer.delay)
                answer = await self._ask(wants_more)
            await self._clock.sleep(answer.early_by)
        except BaseException:
            if isinstance(answer, Grant):
                await self.ledger.give_back(answer)
            raise
        finally:
            self.blocked_until = self.blocked_by = None
        return answer

    def _wake(self) -> None:
        # A ledger may call this from another thread, whose loop outlives this one.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._changed.set)

    def _log_first_wait(self, no_slot: NoSlot) -> None:
        if self._has_waited:
            return
        self._has_waited = True
        if no_slot.limit is None:
            _logger.info("the server refused a request: all wait for %.1f s", no_slot.delay)
        else:
            _logger.info("the limit of %s is used: waiting %.1f s", no_slot.limit, no_slot.delay)


def _bucket(plan: Plan, clock: Clock) -> AsyncLimiter | None:
    if plan.burst is None:
        return None
    from aiolimiter import AsyncLimiter  # noqa: PLC0415  # slow to import, and seldom needed

    return AsyncLimiter(plan.burst, clock.real(plan.burst * plan.rate.interval))
