"""Stores by their URLs: `sqlite:///path` for one machine, `redis://host` for many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.plans import Plan
from llamagen_async.quota import MEMORY, SQLITE, check_quota
from llamagen_async.ratelimit.protocol import Ledger
from llamagen_async.ratelimit.window_log import LedgerTimes

__all__ = ["open_store", "prove_store", "store_times"]

_MARGIN: Final = 5.0
"""Real seconds by which a store's lease outlasts the longest request: its report takes time."""
_REAL_GRACE: Final = 1.0
"""Real seconds that a position is kept, at least: a fast server's clock makes no client faster."""
_SILENCE: Final = 8.0
"""Real seconds in which every client finds out that the store is back: it asks every three
seconds, and an answer takes two at most."""


def store_times(speed: float, timeout: float) -> LedgerTimes:
    """Return the times that a store keeps to, for requests of `timeout` real seconds at most."""
    real = LedgerTimes(lease=timeout + _MARGIN, silence=_SILENCE)
    times = LedgerTimes(*(seconds * speed for seconds in attrs.astuple(real)))
    return attrs.evolve(times, grace=max(real.grace, _REAL_GRACE * speed))


def open_store(quota: str, name: str, plan: Plan, speed: float, times: LedgerTimes) -> Ledger:
    """Return the ledger that a quota URL names, which `check_quota` has let pass.

    Nothing is opened before it is used. The other arguments are those of the ledgers.
    """
    # Imported when needed: most programs need neither.
    if quota.startswith(SQLITE):
        from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger  # noqa: PLC0415
        from llamagen_async.ratelimit.sqlite.store import SQLiteStore  # noqa: PLC0415

        store = SQLiteStore.shared(quota.removeprefix(SQLITE))
        return SQLiteLedger(store, name=name, plan=plan, speed=speed, times=times)
    from llamagen_async.ratelimit.redis.ledger import RedisLedger, script  # noqa: PLC0415
    from llamagen_async.redis_server import RedisConnection  # noqa: PLC0415

    connection = RedisConnection.shared(quota, script())
    return RedisLedger(connection, name=name, plan=plan, speed=speed, times=times)


async def prove_store(quota: str) -> None:
    """Open the store of a URL and close it again; do nothing for `MEMORY`.

    Raises:
        InvalidRequestError: It is no URL of a store.
        StoreError: It can't be opened.
        OSError: Its file can be read and not written: it would count nothing.
    """
    if check_quota(quota) == MEMORY:
        return
    # Nothing is counted; what a Redis keeps of it expires.
    ledger = open_store(quota, "nobody", Plan.DEMO, 1.0, store_times(1.0, 1.0))
    try:
        await ledger.snapshot()
        if quota.startswith(SQLITE):
            _prove_writable(Path(quota.removeprefix(SQLITE)))
    finally:
        await ledger.aclose()


def _prove_writable(path: Path) -> None:
    if not os.access(path.expanduser(), os.W_OK):
        raise PermissionError(f"{path.expanduser()} may not be written")
