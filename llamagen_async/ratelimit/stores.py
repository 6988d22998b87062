"""Quota URLs and their stores: `sqlite:///path` for one machine, `redis://host` for many."""

from __future__ import annotations

from typing import Final

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import SharedLedger
from llamagen_async.ratelimit.window_log import Durations

__all__ = ["check_quota", "open_store"]

_MARGIN: Final = 5.0
"""Real seconds by which a store's lease outlasts the longest request: its report takes time."""
_GRACE: Final = 5.0
"""Seconds of the server's clock that a position is kept for a client that should have asked."""
_REAL_GRACE: Final = 1.0
"""Real seconds that a position is kept, at least: a fast server's clock makes no client faster."""
_CLIENT_LEASE: Final = 3_600.0
"""Real seconds for which a client that is not heard of shares the key."""
_SILENCE: Final = 8.0
"""Real seconds in which every client finds out that the store is back: it asks every three
seconds, and an answer takes two at most."""
_WAY: Final = 1.0
"""Real seconds that a question takes on its way to the store, at most."""
_ALLOWED: Final = "'sqlite:///PATH', 'redis://HOST:PORT/DB', 'rediss://HOST:PORT/DB' or None"


def check_quota(quota: object) -> str | None:
    """Return the URL of a store, or `None` for this process's memory.

    Raises:
        InvalidRequestError: The URL names no store. Only its scheme is repeated, because a
            password may be in the rest.
    """
    if quota is None:
        return None
    scheme, separator, rest = quota.partition("://") if isinstance(quota, str) else ("", "", "")
    known = scheme in ("redis", "rediss", "unix") or (scheme == "sqlite" and rest[:1] == "/")
    if not separator or not rest.strip("/") or not known:
        shown = f"{scheme}://..." if separator else type(quota).__name__
        raise InvalidRequestError("quota", shown, _ALLOWED)
    return str(quota)


def store_durations(speed: float, timeout: float) -> Durations:
    """Return the durations that a store keeps to, in seconds of the server's clock.

    Args:
        speed: How many times faster than real time the server's clock runs.
        timeout: Real seconds that one request may take.
    """
    return Durations(
        lease=(timeout + _MARGIN) * speed,
        grace=max(_GRACE, _REAL_GRACE * speed),
        client_lease=_CLIENT_LEASE * speed,
        silence=_SILENCE * speed,
        tolerance=_WAY * speed,
    )


def open_store(
    quota: str, name: str, plan: Plan, speed: float, durations: Durations
) -> SharedLedger:
    """Return the ledger that a quota URL names; nothing is opened before it is used.

    Args:
        quota: A URL that `check_quota` has let pass.
        name: The hash that names the count.
        plan: The windows to count.
        speed: How many times faster than real time the server's clock runs.
        durations: The durations to keep to.
    """
    # Imported when needed: most programs need neither.
    if quota.startswith("sqlite:///"):
        from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger  # noqa: PLC0415

        path = quota.removeprefix("sqlite:///")
        return SQLiteLedger(path, name=name, plan=plan, speed=speed, durations=durations)
    from llamagen_async.ratelimit.redis.ledger import RedisLedger  # noqa: PLC0415

    return RedisLedger(quota, name=name, plan=plan, speed=speed, durations=durations)
