"""Quota URLs and their stores: `sqlite:///path` for one machine, `redis://host` for many."""

from __future__ import annotations

from typing import Final

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import SharedLedger

__all__ = ["check_quota", "open_store"]

_AHEAD: Final = 3.0
"""Seconds of the server's clock by which a store grants a slot early, at least."""
_REAL_AHEAD: Final = 0.05
"""Real seconds by which a store grants a slot early, at least: for high speeds."""
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


def open_store(quota: str, name: str, plan: Plan, *, speed: float, lease: float) -> SharedLedger:
    """Return the ledger that a quota URL names; nothing is opened before it is used.

    Args:
        quota: A URL that `check_quota` has let pass.
        name: The hash that names the count.
        plan: The windows to count.
        speed: How many times faster than real time the server's clock runs.
        lease: Seconds of the server's clock after which a held slot counts as spent.
    """
    # A slot is granted a moment before it is free, which saves a round trip when the first answer
    # was an estimate. The moment is longer than a request takes, and than timers are late.
    ahead = max(_AHEAD, _REAL_AHEAD * speed)
    # Imported when needed: most programs need neither.
    if quota.startswith("sqlite:///"):
        from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger  # noqa: PLC0415

        path = quota.removeprefix("sqlite:///")
        return SQLiteLedger(path, name=name, plan=plan, speed=speed, lease=lease, ahead=ahead)
    from llamagen_async.ratelimit.redis.ledger import RedisLedger  # noqa: PLC0415

    return RedisLedger(quota, name=name, plan=plan, speed=speed, lease=lease, ahead=ahead)
