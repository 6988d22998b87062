"""One count per key and server in a process, without anyone having to pass it around.

In memory the count outlives the clients: a second client that is opened after the first was closed
is bound by what the first one spent. Keys are named by a hash; the key itself is never kept here.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import Counter
from typing import Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.failover import FailoverLedger, OnStoreFailure
from llamagen_async.ratelimit.limiter import Limiter
from llamagen_async.ratelimit.memory import MemoryLedger
from llamagen_async.ratelimit.protocol import SharedLedger
from llamagen_async.ratelimit.stores import open_store, store_durations
from llamagen_async.ratelimit.window_log import Durations

__all__ = ["Identity", "close_limiter", "open_limiter"]

_LEASE: Final = 900.0
"""Real seconds after which a slot in memory without a report counts as spent.

Longer than any request may take: only the slot of an owner that is gone is ever spent by it.
"""


@attrs.frozen
class Identity:
    """The name of one count: a key at a server, at a speed, in a store."""

    name: str
    """Hash of the key and the server, from which neither can be read."""
    speed: float
    """How many times faster than real time the server's clock runs."""
    quota: str | None
    """The store's URL; `None` for this process's memory."""

    @classmethod
    def of(cls, api_key: str, base_url: str, speed: float, quota: str | None) -> Identity:
        """Return the identity of a key at a server, without the key in it."""
        text = "\x1f".join(("llamagen_async", api_key, base_url, f"{speed:g}"))
        return cls(hashlib.sha256(text.encode()).hexdigest()[:32], speed, quota)


_lock: Final = threading.Lock()
_memory: Final[dict[Identity, MemoryLedger]] = {}
_plans: Final[dict[Identity, Plan]] = {}
_limiters: Final[dict[tuple[Identity, int], Limiter]] = {}
_users: Final[Counter[tuple[Identity, int]]] = Counter()
# Limiters and their users are kept by identity and event loop.


def open_limiter(
    identity: Identity,
    plan: Plan,
    *,
    timeout: float,
    on_store_failure: OnStoreFailure = "local",
) -> Limiter:
    """Return the limiter of this key and server in the running event loop; close it when done.

    Args:
        identity: The count to take part in.
        plan: The windows and the kinds of request that are metered.
        timeout: Real seconds that one request may take.
        on_store_failure: What to do when the store is away.

    Raises:
        InvalidRequestError: A client of the same key that is still open has another plan, or the
            store's URL is not understood.
    """
    clock = Clock(identity.speed)
    key = (identity, id(asyncio.get_running_loop()))
    with _lock:
        used = any(users and known == identity for (known, _), users in _users.items())
        if used and _plans[identity] != plan:
            raise InvalidRequestError(
                "plan",
                plan.name,
                f"{_plans[identity].name!r}, as for the open client of the same key",
            )
        limiter = _limiters.get(key)
        if limiter is None:
            ledger = _ledger(identity, plan, clock, timeout, on_store_failure)
            limiter = _limiters[key] = Limiter(plan, ledger, clock)
        _plans[identity] = plan
        _users[key] += 1
        return limiter


async def close_limiter(identity: Identity, limiter: Limiter) -> None:
    """Give a limiter back; the last one to do so in a loop lets go of the store."""
    key = (identity, id(limiter.loop))
    with _lock:
        _users[key] -= 1
        if _users[key] > 0:
            return
        del _users[key]
        _limiters.pop(key, None)
    await limiter.aclose()


def _ledger(
    identity: Identity, plan: Plan, clock: Clock, timeout: float, on_store_failure: OnStoreFailure
) -> SharedLedger:
    if identity.quota is not None:
        durations = store_durations(clock.speed, timeout)
        store = open_store(identity.quota, identity.name, plan, clock.speed, durations)
        return FailoverLedger(store, plan, clock, durations, on_failure=on_store_failure)
    ledger = _memory.get(identity)
    if ledger is None:
        ledger = _memory[identity] = MemoryLedger(
            plan, clock.now, Durations(lease=_LEASE * clock.speed), wall=time.time
        )
    elif _plans[identity] != plan:
        ledger.change_plan(plan)
    return ledger
