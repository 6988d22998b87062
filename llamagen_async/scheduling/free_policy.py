"""The policy for what needs no slot: it is sent at once, but for the pace of reads.

1. A billed request that the plan does not meter is sent as soon as the server takes creates.
2. Reads, those that somebody asks for and status checks, keep the pace that the ledger keeps.
   When the next one may leave, what somebody reads goes first, then the check that is worth most.
3. A check is due when its forecast says that it is worth the lateness that it saves, at a low price
   (`FREE_POLLS`): so no generation is checked more often than that, however free checks are.
"""

from __future__ import annotations

import math
from typing import Final

from llamagen_async.forecasting import FREE_POLLS
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Priority
from llamagen_async.scheduling.policy import Action, Choice, Decision, DispatchPolicy, Idle, choose

__all__ = ["FreePolicy"]

_MIN_IDLE: Final = 0.01
"""Seconds between two decisions that find nothing to send, at least."""


class FreePolicy(DispatchPolicy):
    """Decides what is sent next that needs no slot; its arguments are those of `DispatchPolicy`."""

    read_at: float = -math.inf
    """Time before which no read leaves, as the ledger said last."""

    def read_wait(self, now: float) -> float:
        """Return the seconds until a read may leave; 0 if it may leave now, as far as is known."""
        return max(0.0, self.read_at - now)

    def decide(self, now: float, *, holds_one: bool) -> Decision:  # noqa: ARG002  # no slot
        """Return what is sent now without a slot.

        Args:
            now: The time.
            holds_one: Not used: there is no slot to hold.
        """
        head = self._head(None, now) if self._queue.size else None
        wait = self.read_wait(now)
        if wait and (head is None or not head.request.kind.is_billed):
            return Idle(max(_MIN_IDLE, wait))
        makes_checks = RequestKind.STATUS not in self._limiter.plan.metered
        if wait or not makes_checks or not self._polls.targets:
            return self._start(head, now)
        poll = self._polls.next_poll(now, FREE_POLLS, FREE_POLLS)
        action = choose(self._situation(head, poll, hurried=False))
        if action is Action.SEND:
            return self._start(head, now)
        if action is Action.CHECK and poll.target is not None:
            return Choice(poll.target, Priority.OVERDUE if poll.is_overdue else Priority.CHECK)
        return Idle(max(_MIN_IDLE, poll.next_at - now) if poll.next_at < math.inf else math.inf)
