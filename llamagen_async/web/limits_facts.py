"""Limits as JSON says them. No I/O."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamagen_async.ratelimit import LimitsSnapshot

__all__ = ["limits_facts"]


def limits_facts(snapshot: LimitsSnapshot, now: datetime, speed: float) -> dict[str, Any]:
    """Return the limits; seconds are real ones, but for the length of a window.

    Args:
        snapshot: The limits.
        now: The time, in UTC.
        speed: How many times faster than real time the server's clock runs.
    """

    def at(seconds: float) -> str | None:
        return (now + timedelta(seconds=seconds / speed)).isoformat() if seconds > 0 else None

    return {
        "plan": snapshot.plan,
        "windows": [
            {
                "limit": one.limit.limit,
                "per": one.limit.per,
                "used": one.used,
                "free": one.free,
                "next_free_in": max(one.next_free_in, snapshot.paused_for) / speed,
                "next_free_at": at(max(one.next_free_in, snapshot.paused_for)),
            }
            for one in snapshot.windows
        ],
        "paused_for": snapshot.paused_for / speed,
        "paused_until": at(snapshot.paused_for),
        "in_flight": snapshot.in_flight,
        "burst": snapshot.burst,
        "clients": snapshot.clients,
        "waiting": {one.name.lower(): number for one, number in snapshot.waiting.items()},
        "waiting_before": snapshot.before(),
    }
