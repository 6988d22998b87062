"""The requests that a dispatcher decides about, and its turn in the wait queue. Plain data."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final, Self

import attrs

from llamagen_async.plans import RateLimit
from llamagen_async.ratelimit import Claim, NoSlot, Priority
from llamagen_async.scheduling.policy import Choice, DispatchPolicy
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.submission import Submission

__all__ = ["DispatchLoop", "Turn"]

_ANSWERED_IN: Final = 3.0
"""Seconds that a request takes, about. If they are too many, a slot is used later by the rest; if
they are too few, it is asked once more."""
_LATEST: Final = 4.0
"""Seconds after the ledger's time at which it is asked again at the latest: less than the grace."""


@attrs.define(eq=False, repr=False)
class DispatchLoop:
    """The requests that draw on the same slots, and the task that decides about the next one."""

    queue: RequestQueue
    policy: DispatchPolicy
    metered: bool
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    """Set when something was added, ended or learned since the last decision."""
    task: asyncio.Task[None] | None = None
    """The task that decides; `None` if there is nothing to decide."""


@attrs.define(eq=False, repr=False)
class Turn:
    """The turn of a claim in the wait queue of the key, which has been told when to ask again."""

    claim: str
    """The id of the claim."""
    priority: Priority
    """The priority with which it was asked for."""
    since: float
    """Time since which the request waits that it was asked for; `-inf` if that is a check."""
    ask_at: float
    """When to ask again, in seconds of the server's clock."""
    told: int
    """How many requests wait here, as others were told."""
    tell_at: float
    """When to ask again if more wait here by then, in order to tell others of them."""
    others: int
    """How many requests of others waited."""

    @classmethod
    def begin(
        cls,
        claim: Claim,
        request: Submission[Any] | None,
        answer: NoSlot,
        now: float,
        *,
        rate: RateLimit,
        waiting: int,
        others: int,
    ) -> Self:
        """Return the turn of a claim for which no slot was free.

        Args:
            claim: The claim.
            request: The request that it is for; `None` if that is a check.
            answer: What the ledger has answered.
            now: The time.
            rate: The plan's shortest window.
            waiting: How many requests wait here.
            others: How many requests of others wait.
        """
        return cls(
            claim=claim.id,
            priority=claim.priority,
            since=-math.inf if request is None else request.since,
            ask_at=now + (answer.delay if request is None else _ask_in(answer, rate, others)),
            told=waiting,
            # As many as a window has slots may be sent at once, in the order that is known.
            tell_at=now + (rate.interval if waiting + others < rate.limit else math.inf),
            others=others,
        )

    def until(self, choice: Choice, waiting: int, others: int) -> float:
        """Return when to ask again.

        Args:
            choice: What a slot would be used for now.
            waiting: How many requests wait here now.
            others: How many requests of others wait, as far as is known.
        """
        since = choice.use.since if isinstance(choice.use, Submission) else self.since
        if choice.priority < self.priority or since < self.since:
            return -math.inf  # others do not know yet that it goes before theirs
        if self.others and not others:
            return -math.inf  # they have ended, so a slot may be free earlier
        return min(self.ask_at, self.tell_at) if waiting > self.told else self.ask_at


def _ask_in(answer: NoSlot, rate: RateLimit, others: int) -> float:
    """Return the seconds after which to ask again for a slot behind `others` that wait.

    The ledger says when those leave one. If some of them end without a word, nobody takes the slots
    that they leave. So it is asked again when all slots are back and one more could have been used,
    and later if there are so many others that they use them in any case.
    """
    limit = answer.limit
    if limit is None or not others:
        return answer.delay
    # A slot that another request uses before is back a window after the answer to that one. Who
    # asks much later than the ledger has said has lost the position.
    delay = answer.delay + min(_ANSWERED_IN * (answer.delay // limit.per), _LATEST)
    returning = answer.state.returning
    is_left = limit == rate and len(returning) < rate.limit
    all_back = 0.0 if is_left else max(returning, default=0.0)
    left_in = all_back + min(others * limit.interval, 2 * limit.per)
    # One question answers both if the ledger's time is about as early.
    about_then = left_in + limit.interval
    return min(delay, about_then) if answer.delay <= about_then else left_in
