"""The limiter: who waits for a slot waits here, first come first served.

The ledger is the authority on the count. In front of it stands an `aiolimiter` token bucket that
shapes bursts: a plan with `burst=3` lets three requests leave back to back and spaces the rest,
however many slots the window still has. A plan without `burst` has none: a bucket as wide as the
window never waits where the ledger would not, except wrongly, for a token that a slot which was
given back has used up.

A round trip to a store asks for all who wait, and for who will be back at once: each gets a slot,
and the first who gets none a place in the line, which is kept here for whoever is next by then. So
a key that is used up costs one question a request.

A slot may be got some time before it is used: a store gives it a few seconds before it is back, and
the bucket spaces what leaves. If a request of anybody was refused meanwhile, the slot goes back and
is asked for anew, behind those who wait already. So nobody leaves during a pause but who looked for
it within the last tenth of a second of the server's clock, or while word of the refusal was on its
way to the store and from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from llamagen_async.clock import Clock
from llamagen_async.plans import Plan, RateLimit, RequestKind
from llamagen_async.ratelimit.headers import rate_limit_headers
from llamagen_async.ratelimit.ledger import (
    ANSWERED,
    UNMETERED,
    Grant,
    Ledger,
    LimitsSnapshot,
    NoSlot,
    Outcome,
)
from llamagen_async.ratelimit.memory import MemoryLedger
from llamagen_async.ratelimit.throttle import guessed_pause

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Limiter", "Slot"]

_logger = logging.getLogger(__name__)
_MOST_TOGETHER: Final = 32
"""Slots that are asked for at once, at most: none of them should be held for long unused."""
_BRIEF: Final = 0.1
"""Seconds of the server's clock in which a slot may be used without looking for a pause again."""


class Slot:
    """The right to send one request. Report exactly once what became of it."""

    _server_limit: int | None = None
    _server_left: int | None = None

    def __init__(self, limiter: Limiter, held: Grant | int, granted_at: float = 0.0) -> None:
        """Take over a grant, or the number of a slot of which there is nothing else to say."""
        self._limiter: Limiter | None = limiter
        self._held = held
        self._granted_at = granted_at

    @property
    def grant(self) -> Grant:
        """What the ledger said of it."""
        held = self._held
        if isinstance(held, int):
            # Made when somebody asks: it is a good part of what a slot costs.
            held = self._held = Grant(
                held, self._granted_at, delay=0.0, took_last=False, quota_left=None
            )
        return held

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take note of what an answer's headers say about the limits, if it counts."""
        if self._held is UNMETERED:
            return
        self._server_limit, self._server_left = rate_limit_headers(headers)

    async def commit(self, *, refused: bool = False, retry_after: float | None = None) -> None:
        """Report the response, or that the request was given up; later reports do nothing.

        Args:
            refused: The answer was 429.
            retry_after: Seconds that it asked to wait.
        """
        limiter, self._limiter = self._limiter, None
        if limiter is None:
            return
        memory, outcome = limiter.memory, ANSWERED
        if refused or self._server_left is not None:
            outcome = Outcome(refused, retry_after, self._server_limit, self._server_left)
        elif memory is not None and isinstance(held := self._held, int):
            memory.answered_at(held, self._granted_at, limiter.now())
            return
        grant = self.grant
        if grant is UNMETERED:
            if refused:
                await limiter.pause(retry_after)
            else:
                limiter.refusals = 0
            return
        if memory is not None:
            memory.commit_at(grant, outcome, limiter.now())
        else:
            await limiter.ledger.commit(grant, outcome)

    async def give_back(self) -> None:
        """Report that the request never left; later reports do nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None and self._held is not UNMETERED:
            await limiter.ledger.give_back(self.grant)


class Limiter:
    """Hands out slots of one key in the event loop in which it was made.

    Args:
        plan: What is counted.
        ledger: Who counts; other loops, processes or hosts may use the same one.
        clock: The server's clock.
    """

    def __init__(self, plan: Plan, ledger: Ledger, clock: Clock) -> None:
        self.plan = plan
        self.ledger = ledger
        self._unmetered = frozenset(RequestKind) - plan.metered
        self._clock = clock
        self.loop = asyncio.get_running_loop()
        self._bucket = _bucket(plan, clock)
        # In memory there is nobody to wait for, which saves most of what a slot costs.
        self.memory = ledger if isinstance(ledger, MemoryLedger) else None
        self._time = self.loop.time
        self._speed = clock.speed
        self._line = asyncio.Lock()
        self._waiting = 0
        self._ready: deque[tuple[Grant, float]] = deque()
        """Slots of those who are next in line, and when on the clock each may be used."""
        self._told_at = -math.inf
        """When on the clock the ledger was asked last: there was no pause if it gave slots then."""
        self._place: tuple[float, RateLimit | None] | None = None
        """What was told to the next in line who has no slot: when on the clock to ask again, and
        what is full. As long as there is this, the ticket has a place in the ledger's line."""
        self._expected: set[Callable[[], bool]] = set()
        """Who said that they will be back at once for another slot."""
        self._unsubscribe: Callable[[], None] | None = None
        """As long as anybody waits, or is expected: ends hearing of slots that come back."""
        self._changed = asyncio.Event()
        """Set when a slot may be free earlier than was said."""
        self.blocked_until: float | None = None
        """When the first in line may leave, in seconds of the clock; `None` if nobody waits."""
        self.blocked_by: RateLimit | None = None
        """The window that makes them wait; `None` during a pause."""
        self.refusals = 0
        """How many 429 in a row came to what the plan does not meter."""
        self._quota_left: int | None = None
        self._has_waited = False
        self._ticket = uuid.uuid4().hex
        """One is enough: only the first in this limiter's line asks the ledger."""

    def now(self) -> float:
        """Return the time on the server's scale, as `Clock.now` in this limiter's loop."""
        return self._time() * self._speed

    def change_plan(self, plan: Plan) -> None:
        """Keep the limits of another plan from now on, with what was spent so far."""
        self.plan = plan
        self._unmetered = frozenset(RequestKind) - plan.metered
        self._bucket = _bucket(plan, self._clock)
        self.ledger.change_plan(plan)

    @property
    def quota_left(self) -> int | None:
        """Free slots in the plan's long windows when last heard of; `None` if it has none."""
        return self._quota_left if self.plan.quotas else None

    async def acquire(
        self,
        kind: RequestKind,
        *,
        blocked: Callable[[], None] | None = None,
        wants_more: Callable[[], bool] | None = None,
    ) -> Slot:
        """Wait for a slot, first come first served, and hold it.

        A cancelled wait leaves nothing behind. A kind that the plan does not meter waits for the
        end of a pause, and for nothing else.

        Args:
            kind: What the slot is for.
            blocked: Called when it is known how long the wait will be: `blocked_until` tells.
            wants_more: Says, when the ledger is asked, whether the caller will be back at once for
                another slot. That one, or the place in the line for it, then costs no round trip
                of its own. It is kept until the caller is back, or `rest`s.
        """
        if self._unmetered and kind in self._unmetered:
            while pause := await self.ledger.paused_for():
                await self._clock.sleep(pause)
            return Slot(self, UNMETERED)
        if not self._waiting and self._bucket is None and self.memory is not None:
            now = self._time() * self._speed
            if slot := self.memory.hold_free_at(now):
                return Slot(self, slot, now)
            answer = self.memory.reserve_at(self._ticket, now)
            if isinstance(answer, Grant):
                self._quota_left = answer.quota_left
                return Slot(self, answer)
        if self._unsubscribe is None:
            self._unsubscribe = self.ledger.subscribe(self._wake)
        self._waiting += 1
        if wants_more is not None:
            self._expected.discard(wants_more)
        try:
            async with self._line:
                return await self._first_in_line(blocked, wants_more)
        finally:
            self._waiting -= 1
            self._give_up_unneeded()

    def rest(self, wants_more: Callable[[], bool]) -> None:
        """Give up what is kept for somebody who will not be back at once after all."""
        if wants_more in self._expected:
            self._expected.discard(wants_more)
            self._give_up_unneeded()

    async def pause(self, retry_after: float | None) -> None:
        """Hold everyone after a 429 to what the plan does not meter: the count can't explain it.

        Args:
            retry_after: Seconds that the server asked to wait; without it, twice as long each
                time in a row.
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
        self._quota_left = min(quotas)
        return self._quota_left

    async def projected(self, position: int) -> NoSlot:
        """Say how long a request with `position` others before it waits at least, and for what."""
        return await self.ledger.projected(position)

    @property
    def _behind(self) -> int:
        """How many wait in this limiter's line, or will at once."""
        return self._waiting + len(self._expected)

    def _give_up_unneeded(self) -> None:
        """Give back the slots, and the place, that nobody is left to take."""
        behind = self._behind
        if len(self._ready) > behind:
            self._return_unused(behind)
        if not behind and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if not behind and self._place is not None:
            self._place = None
            self.ledger.leave(self._ticket)

    async def _first_in_line(
        self, blocked: Callable[[], None] | None, wants_more: Callable[[], bool] | None
    ) -> Slot:
        answer = self._known() or await self._ask(wants_more)
        while True:
            if isinstance(answer, NoSlot) or answer.delay:
                answer = await self._wait_for(answer, blocked, wants_more)
            if await self._may_be_used(answer):
                break
            answer = await self._ask(wants_more)
        self._quota_left = answer.quota_left
        return Slot(self, answer)

    async def _may_be_used(self, grant: Grant) -> bool:
        """Wait for a token, if there is a bucket; give the slot back if there is a pause then."""
        try:
            if self._bucket is not None:
                await self._bucket.acquire()
            if self._clock.now() - self._told_at <= _BRIEF:
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

    def _known(self) -> Grant | NoSlot | None:
        """Return what the ledger has already said of who is first in line now."""
        if self._ready:
            grant, at = self._ready.popleft()
            grant.delay = max(0.0, at - self._clock.now())
            return grant
        if self._place is None:
            return None
        ask_at, limit = self._place
        return NoSlot(max(0.0, ask_at - self._clock.now()), limit)

    async def _ask(self, wants_more: Callable[[], bool] | None) -> Grant | NoSlot:
        """Ask for a slot, and in the same round trip for those who stand behind."""
        # Memory makes no round trips. A token bucket lets one through at a time: slots for more
        # would be held unused.
        is_alone = self.memory is not None or self._bucket is not None
        if wants_more is not None:
            # Near the end of a quota nobody holds a slot beside the one that is decided about.
            if not is_alone and not self.plan.quotas and wants_more():
                self._expected.add(wants_more)
            else:
                self._expected.discard(wants_more)
        number = min(self._behind, _MOST_TOGETHER)
        self._place = None
        self._changed.clear()
        if is_alone or number == 1:
            answers = [await self.ledger.reserve(self._ticket)]
        else:
            answers = await self.ledger.reserve_many(self._ticket, number)
        now = self._told_at = self._clock.now()
        if isinstance(last := answers[-1], NoSlot):
            self._place = now + last.delay, last.limit
        self._ready.extend((one, now + one.delay) for one in answers[1:] if isinstance(one, Grant))
        if len(self._ready) >= self._behind:
            self._return_unused(self._behind - 1)
        return answers[0]

    def _return_unused(self, behind: int) -> None:
        """Give back the slots of those who were cancelled: only `behind` are left in the line."""
        number = len(self._ready) - behind
        self.ledger.return_unused([self._ready.pop()[0] for _ in range(number)])

    async def _wait_for(
        self,
        answer: Grant | NoSlot,
        blocked: Callable[[], None] | None,
        wants_more: Callable[[], bool] | None,
    ) -> Grant:
        try:
            while isinstance(answer, NoSlot):
                self._say_once(answer)
                self.blocked_until = self._clock.now() + answer.delay
                self.blocked_by = answer.limit
                if blocked is not None:
                    blocked()
                await self._clock.wait(self._changed, answer.delay)
                answer = await self._ask(wants_more)
            await self._clock.sleep(answer.delay)
        except BaseException:
            if isinstance(answer, Grant):
                await self.ledger.give_back(answer)
            raise
        finally:
            self.blocked_until = self.blocked_by = None
        return answer

    def _wake(self) -> None:
        # From another thread whose loop outlives this one, too.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._changed.set)

    def _say_once(self, refusal: NoSlot) -> None:
        if self._has_waited:
            return
        self._has_waited = True
        if refusal.limit is None:
            _logger.info("the server refused a request: all wait for %.1f s", refusal.delay)
        else:
            _logger.info("the limit of %s is used: waiting %.1f s", refusal.limit, refusal.delay)


def _bucket(plan: Plan, clock: Clock) -> AsyncLimiter | None:
    if plan.burst is None:
        return None
    from aiolimiter import AsyncLimiter  # noqa: PLC0415  # slow to import, and seldom needed

    return AsyncLimiter(plan.burst, clock.real(plan.burst * plan.rate.interval))
