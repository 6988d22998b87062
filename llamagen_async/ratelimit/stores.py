"""Where a quota URL leads: `sqlite:///path` is this machine, `redis://host` is many."""

from __future__ import annotations

from typing import Final

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.ledger import Ledger

__all__ = ["check_quota", "open_store"]

_AHEAD: Final = 3.0
"""Seconds of the server's clock by which a store gives a slot before it is back, at least."""
_REAL_AHEAD: Final = 0.05
"""The same in real seconds."""
_ALLOWED: Final = "'sqlite:///PATH', 'redis://HOST:PORT/DB', 'rediss://HOST:PORT/DB' or None"


def check_quota(quota: object) -> str | None:
    """Return the URL of a store, or `None` for this process's memory.

    Raises:
        InvalidRequestError: It names no store. What was given is not repeated beyond its scheme,
            because a password may be in it.
    """
    if quota is None:
        return None
    scheme, separator, rest = quota.partition("://") if isinstance(quota, str) else ("", "", "")
    known = scheme in ("redis", "rediss", "unix") or (scheme == "sqlite" and rest[:1] == "/")
    if not separator or not rest.strip("/") or not known:
        shown = f"{scheme}://..." if separator else type(quota).__name__
        raise InvalidRequestError("quota", shown, _ALLOWED)
    return str(quota)


def open_store(quota: str, name: str, plan: Plan, *, speed: float, lease: float) -> Ledger:
    """Return the ledger that a quota URL names; nothing is opened before it is used.

    Args:
        quota: A URL that `check_quota` has let pass.
        name: Whose count it is, as a hash.
        plan: What is counted.
        speed: How many times faster than real time the server's clock runs.
        lease: Seconds of the server's clock after which a held slot counts as spent.
    """
    # A slot is given a moment before it is back, which saves a round trip when the first answer
    # was an estimate. It outlasts what requests take, and what timers are late at a high speed.
    ahead = max(_AHEAD, _REAL_AHEAD * speed)
    # Imported when needed: most programs need neither.
    if quota.startswith("sqlite:///"):
        from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger  # noqa: PLC0415

        path = quota.removeprefix("sqlite:///")
        return SQLiteLedger(path, name=name, plan=plan, speed=speed, lease=lease, ahead=ahead)
    from llamagen_async.ratelimit.redis.ledger import RedisLedger  # noqa: PLC0415

    return RedisLedger(quota, name=name, plan=plan, speed=speed, lease=lease, ahead=ahead)
