"""Failover: when the store of spent requests is away, keep to a share of the limits.

Each answer of the store tells a client its share. While the store is away, a client goes on within
it, by a count of its own; together all clients never exceed the limits, because:

- Shares never add up to more than the limits, even if answers are lost: each question says which
  share its client knows of (`wait_queue`).
- A share is used once everything that the store has granted must be over: a lease and a window
  after everyone must have noticed the outage. A short outage makes all wait, and loses nothing.
- Who has not reached the store for nearly as long as it keeps a client's share sends nothing.
- The store is asked every few seconds as long as anything was sent that it does not know of. Was
  it not asked for longer, it may have been back meanwhile: the outage begins again.
- What was sent meanwhile is reported before anything else is asked of the store, and what is in
  flight again until it has ended. After a long silence, the store holds the shares back of those
  that it has not heard of, until they must have reported.
- A day's quota is not shared: what others have used of it since the last answer is not known.

Two things nobody can know. A process that is killed in an outage takes with it what it has sent and
not reported. And a store that is away for one process only, or back for so short that one misses
it, looks to it like one that is away for all: it uses its share beside what the store grants.
A status check without a share waits for the store to be back, as its caller has said for how long;
other requests raise `QuotaStoreError`. With `on_failure="raise"` checks do, too, and all at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Literal, TypeVar

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import ClientClosedError, QuotaStoreError
from llamagen_async.observing import logger_of
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    KeyState,
    Ledger,
    LimitsSnapshot,
    NoSlot,
    Outcome,
    Workload,
)
from llamagen_async.ratelimit.shares import Share, longest_short, shared_plan, shares_of
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from llamagen_async.stored_values import NEVER, StoreError

__all__ = ["FailoverLedger", "OnStoreFailure"]

OnStoreFailure = Literal["local", "raise"]
"""The choice when the store is away: go on within a share, or fail."""

_logger = logger_of(__name__)
_T = TypeVar("_T")

_ASK_AGAIN: Final = 3.0
"""Real seconds between two attempts to reach the store, at most."""
_ASKS_EACH_WINDOW: Final = 20
"""Attempts in one window, at least: a store that is back must not be overlooked."""


@attrs.define(eq=False)
class _Outage:
    """The time without the store, and what is sent in it."""

    share: int
    """Slots of the tightest short window that are this ledger's clients'."""
    begins_at: float
    """The clock's time from which the share may be used."""
    ends_at: float
    """The clock's time from which the store may have given the share to others."""
    asked_at: float = NEVER
    """The clock's time of the last question that was not answered."""
    ask_at: float = NEVER
    """The clock's time at which the store is asked again."""
    reason: str = ""
    """The last words of the store, or of who asked it."""


@attrs.define(eq=False)
class FailoverLedger:
    """A ledger over a store that may go away."""

    _store: Ledger
    _plan: Plan
    _clock: Clock
    _times: LedgerTimes
    """The times that the store keeps to."""
    _on_failure: OnStoreFailure = attrs.field(default="local", kw_only=True, alias="on_failure")
    _log: WindowLog = attrs.field(init=False)
    """The count of what is sent without the store, by the clock; it also has the pause."""
    _outage: _Outage | None = attrs.field(default=None, init=False)
    _shares: dict[str, Share] = attrs.field(factory=dict[str, Share], init=False)
    _was_there: bool = attrs.field(default=False, init=False)
    """Whether the store has ever answered."""
    _local: set[str] = attrs.field(factory=set[str], init=False)
    """Claims that hold a slot that the store does not know of."""
    _unreported: int = attrs.field(default=0, init=False)
    """Requests without the store that have ended, and of which it does not know."""
    _lock: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    """Held while they are reported."""
    _reporting: asyncio.Task[None] | None = attrs.field(default=None, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        # Nobody else uses it.
        self._log = WindowLog(self._plan, attrs.evolve(self._times, silence=0.0))

    def __repr__(self) -> str:
        return f"FailoverLedger({self._store!r})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on."""
        self._plan = plan
        self._shares.clear()  # they are slots of the old plan's window
        self._log = self._log.with_plan(plan)
        if self._outage is not None:
            self._outage.share = 0
        self._store.change_plan(plan)

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Hold a slot, of the store's or of the clients' share."""
        share = self._shares.setdefault(claim.client, Share())
        workload = attrs.evolve(claim.workload, share=share.slots)
        asked = attrs.evolve(claim, workload=workload)
        answer = await self._ask(share, partial(self._store.reserve, asked))
        if isinstance(answer, _Outage):
            return self._reserve(answer, claim)
        self._local.discard(claim.id)  # asked for again: nothing was sent in that slot
        return answer

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Spend the slot where it was granted; a store that is away learns of it by the lease."""
        if grant.id not in self._local:
            share = self._shares.setdefault(grant.client, Share())
            workload = attrs.evolve(workload, share=share.slots)
            report = partial(self._store.commit, grant, outcome, workload)
            state = await self._ask(share, report)
            if isinstance(state, KeyState):
                return state
            if outcome.refused:
                now = self._clock.now()
                self._log.throttle.refuse(now, now, outcome.retry_after, is_last_slot=True)
        else:
            self._local.discard(grant.id)
            self._unreported += 1
            self._report_soon()
            self._log.commit(grant, outcome, workload, self._clock.now())
        return self._state(grant.client)

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up the slot or the position of a claim."""
        if leaves:
            self._shares.pop(client, None)
        self._local.discard(claim)
        self._log.release(claim, client, self._clock.now(), leaves=leaves)
        self._store.release(claim, client, leaves=leaves)

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests that were spent without a slot, as soon as the store is there."""
        self._log.throttle.pause(self._clock.now(), pause)
        answer = await self._ask(Share(), partial(self._store.record, number, pause=pause))
        if isinstance(answer, _Outage):
            self._unreported += number
            self._report_soon()

    async def admit_read(self) -> float:
        """Count a read that needs no slot; while the store is away, by the share of the slots."""
        answer = await self._ask(Share(), self._store.admit_read)
        if not isinstance(answer, _Outage):
            return answer
        self._check(answer, needs_slot=False)
        slots = sum(one.slots for one in self._shares.values())
        per = max(1.0, shares_of(self._plan) / max(1, slots))
        return self._log.throttle.admit_read(self._clock.now(), per=per)

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now, of the share while the store is away."""
        ask = partial(self._store.snapshot, position=position)
        answer = await self._ask(Share(), ask)
        if not isinstance(answer, _Outage):
            return answer
        self._check(answer)
        return self._log.snapshot(self._clock.now(), position=position)

    async def load_blob(self) -> str | None:
        """Return the store's text; `None` while it is away, whatever `on_failure` says."""
        if not self._is_known_away:
            with contextlib.suppress(StoreError, ClientClosedError):
                return await self._store.load_blob()
        return None

    async def save_blob(self, text: str) -> None:
        """Save a text in the store; do nothing while it is away."""
        if not self._is_known_away:
            with contextlib.suppress(StoreError, ClientClosedError):
                await self._store.save_blob(text)

    @property
    def is_settled(self) -> bool:
        """Whether the store is there, and knows of all requests that were sent."""
        return self._outage is None and not (self._unreported or self._local)

    async def aclose(self) -> None:
        """Report what the store does not know of, if it is there, and let go of it."""
        self._is_closed = True
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        with contextlib.suppress(StoreError, ClientClosedError):
            await self._report()
        await self._store.aclose()

    async def _ask(self, share: Share, use: Callable[[], Awaitable[_T]]) -> _T | _Outage:
        """Use the store, after it was told what it does not know; return the outage if it is away.

        `share` is that of the client that asks, as the question says it.
        """
        outage, asked_at = self._outage, self._clock.now()
        if outage is not None and self._is_known_away:
            return outage
        share.questions += 1
        number, is_alone = share.questions, not share.open
        share.open += 1
        try:
            if outage is not None:
                outage.ask_at = asked_at + self._ask_again  # nobody else asks meanwhile
                await self._report()
            answer = await use()
        except StoreError as error:
            return self._leave_store(error, asked_at)
        finally:
            share.open -= 1
        self._was_there = True
        state = answer.state if isinstance(answer, Grant | NoSlot) else answer
        if isinstance(state, KeyState):
            # The store may believe another question, which knows of a smaller share.
            is_known = is_alone and number == share.questions
            share.slots = state.share if is_known else min(share.slots, state.share)
            share.told_at = max(share.told_at, asked_at)
            if state.paused_for:
                self._log.throttle.pause(self._clock.now(), state.paused_for)
        if self._outage is not None:
            self._come_back()
        return answer

    def _reserve(self, outage: _Outage, claim: Claim) -> Grant | NoSlot:
        if self._on_failure == "raise" or not (self._was_there and claim.priority.is_check):
            self._check(outage)  # a check waits: its caller has said for how long
        now = self._clock.now()
        is_paused = now < self._log.throttle.paused_until
        until = min(outage.ends_at, outage.asked_at + self._times.silence)
        is_used = outage.begins_at <= now < until
        if not outage.share or is_paused or not is_used:
            delay, limit = max(0.0, outage.ask_at - now), None if is_paused else self._plan.rate
            return NoSlot(delay, limit, self._state(claim.client), is_unknown=not is_paused)
        answer = self._log.reserve(claim, now)
        if isinstance(answer, NoSlot):  # no waiter should sleep through the store's return
            return attrs.evolve(answer, delay=min(answer.delay, max(0.0, outage.ask_at - now)))
        self._local.add(claim.id)
        self._report_soon()
        return answer

    def _check(self, outage: _Outage, *, needs_slot: bool = True) -> None:
        """Raise an error if the outage has to be told to who asks."""
        now = self._clock.now()
        has_share = outage.share > 0 and now < outage.ends_at
        may_wait = self._was_there and (now < outage.begins_at or not needs_slot)
        if self._on_failure == "raise" or not (has_share or may_wait):
            raise QuotaStoreError(
                f"the store of spent requests is away ({outage.reason}); nothing was sent. Try "
                "again when it is back; quota='memory' counts without, for one process at a time"
            )

    def _leave_store(self, error: StoreError, asked_at: float) -> _Outage:
        """Note that a question that was asked at `asked_at` was not answered."""
        outage, now = self._outage, self._clock.now()
        if outage is None:
            fails = self._on_failure == "raise"
            then = "requests that need it fail" if fails else "going on within a share"
            _logger.warning("the store of spent requests is away (%s): %s", error, then)
        if outage is None or asked_at >= outage.asked_at + self._times.silence:
            outage = self._outage = self._begin_outage(now)
        outage.asked_at = max(outage.asked_at, asked_at)
        outage.ask_at, outage.reason = now + self._ask_again, str(error)
        return outage

    def _begin_outage(self, now: float) -> _Outage:
        times = self._times
        over = times.lease + longest_short(self._plan)
        half = times.client_lease / 2
        shares = [one for one in self._shares.values() if one.slots and now < one.told_at + half]
        share = 0 if self._plan.quotas else sum(one.slots for one in shares)
        self._log = self._log.with_plan(shared_plan(self._plan, share) if share else self._plan)
        kept_until = min((one.told_at for one in shares), default=now) + times.client_lease
        return _Outage(share, now + over + times.silence, kept_until - over)

    def _come_back(self) -> None:
        self._outage = None
        _logger.warning("the store of spent requests is back")

    @property
    def _is_known_away(self) -> bool:
        """Whether it is not yet time to ask the store again."""
        return self._outage is not None and self._clock.now() < self._outage.ask_at

    @property
    def _ask_again(self) -> float:
        """Seconds after which the store is asked again."""
        return min(_ASK_AGAIN * self._clock.speed, self._plan.rate.per / _ASKS_EACH_WINDOW)

    def _state(self, client: str) -> KeyState:
        """Return what is known without the store: nothing of a day's quota."""
        state = self._log.state(client, self._clock.now())
        return attrs.evolve(state, quota_left=0) if self._plan.quotas else state

    def _report_soon(self) -> None:
        """Ask the store until it knows of all requests that were sent without it."""
        if not self._is_closed and (self._reporting is None or self._reporting.done()):
            self._reporting = asyncio.create_task(self._insist())

    async def _insist(self) -> None:
        while self._unreported or self._local:
            # What is in flight counts from the report, and is reported again before that is over.
            delay = self._plan.rate.per / 2
            if self._outage is not None:
                delay = max(0.0, self._outage.ask_at - self._clock.now())
            await self._clock.sleep(delay)
            asked_at = self._clock.now()
            try:
                await self._report()
            except StoreError as error:
                self._leave_store(error, asked_at)

    async def _report(self) -> None:
        """Report all requests that were sent without the store, those in flight included."""
        async with self._lock:
            known: set[str] = set()
            while self._outage is not None or self._unreported or not self._local <= known:
                number, known, self._unreported = self._unreported, set(self._local), 0
                pause = max(0.0, self._log.throttle.paused_until - self._clock.now())
                try:
                    await self._store.record(number + len(known), pause=pause)
                except BaseException:
                    self._unreported += number
                    raise
                if self._outage is not None and not self._unreported and self._local <= known:
                    self._come_back()  # nothing was granted while the report travelled
