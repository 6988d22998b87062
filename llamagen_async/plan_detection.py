"""The plan of a key, by what the server says that was used."""

from __future__ import annotations

import attrs

from llamagen_async.models import Usage
from llamagen_async.observing import logger_of
from llamagen_async.plans import DAY, Plan, RateLimit
from llamagen_async.ratelimit import Limiter

__all__ = ["plan_for", "take_over"]

_logger = logger_of(__name__)


async def take_over(usage: Usage, limiter: Limiter) -> None:
    """Keep the limits of the plan that a key has, and count what was used of its day."""
    # What is metered the server does not say: what was set holds.
    plan = attrs.evolve(plan_for(usage), metered=limiter.plan.metered)
    limiter.change_plan(plan)
    _logger.info("the plan is %s", plan.name)
    if plan.quotas and usage.api_usage_count is not None:
        windows = (await limiter.ledger.snapshot()).windows
        known = min(window.used for window in windows if window.limit in plan.quotas)
        # The server counts what other programs have sent, too. More than full is not counted.
        spent = min(usage.api_usage_count, max(limit.limit for limit in plan.quotas))
        await limiter.ledger.record(max(0, spent - known))


def plan_for(usage: Usage) -> Plan:
    """Return the plan of a key from what the usage endpoint says.

    Only `isPaidPlan: true` is the paid plan: taking a demo key for a paid one would be refused.
    Where the server names another daily limit than the documented one, the smaller one holds.
    """
    if usage.is_paid_plan:
        return Plan.PAID
    daily = usage.api_max_usage
    short, day = Plan.DEMO.limits
    if daily is None or not 0 < daily < day.limit:
        return Plan.DEMO
    return Plan("demo", limits=(short, RateLimit(daily, per=DAY)))
