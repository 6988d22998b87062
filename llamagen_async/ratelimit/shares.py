"""The shares of a plan's limits that clients keep to while the store of spent requests is away."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.stored_values import NEVER

__all__ = ["Share", "longest_short", "shared_plan", "shares_of", "short_limits"]


@attrs.define(eq=False)
class Share:
    """The share of one client, as far as it knows."""

    slots: int = 0
    """Slots of the tightest short window."""
    told_at: float = NEVER
    """The clock's time of the last question that was answered."""
    questions: int = 0
    """Questions that were asked."""
    open: int = 0
    """Questions that are on their way."""


def short_limits(plan: Plan) -> Sequence[RateLimit]:
    """Return the windows of a plan that are shorter than an hour."""
    return [limit for limit in plan.limits if limit not in plan.quotas]


def longest_short(plan: Plan) -> float:
    """Return the seconds of the longest window of a plan that is shorter than an hour."""
    return max((limit.per for limit in short_limits(plan)), default=0.0)


def shares_of(plan: Plan) -> int:
    """Return the slots that clients may share while the store is away: all but one."""
    return min((limit.limit for limit in short_limits(plan)), default=1) - 1


def shared_plan(plan: Plan, share: int) -> Plan:
    """Return the plan of clients that have `share` slots of the tightest short window."""
    shares, short = max(1, shares_of(plan)), short_limits(plan)
    limits = [RateLimit(max(1, share * (one.limit - 1) // shares), per=one.per) for one in short]
    return attrs.evolve(plan, limits=limits)
