"""One count per key and server in a process, without anyone having to pass it around.

The count outlives the clients: who opens a second client after the first was closed is bound by
what the first one spent. Keys are named by a hash; the key itself is never kept here.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import weakref
from typing import Final

from llamagen_async.clock import Clock
from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.limiter import Limiter
from llamagen_async.ratelimit.memory import MemoryLedger

__all__ = ["LEASE", "fingerprint", "shared_limiter"]

LEASE: Final = 900.0
"""Real seconds after which a slot that nobody reported on counts as spent.

Longer than any request may take, so that only a slot whose owner is gone is ever spent by it.
"""

_Name = tuple[str, str, float]

_lock: Final = threading.Lock()
_ledgers: Final[dict[_Name, MemoryLedger]] = {}
_plans: Final[dict[_Name, Plan]] = {}
_limiters: Final[weakref.WeakValueDictionary[tuple[_Name, int], Limiter]] = (
    weakref.WeakValueDictionary()
)


def fingerprint(api_key: str) -> str:
    """Return a name for a key that does not tell the key."""
    return hashlib.sha256(f"llamagen_async:{api_key}".encode()).hexdigest()[:16]


def shared_limiter(api_key: str, base_url: str, plan: Plan, clock: Clock) -> Limiter:
    """Return the limiter of this key and server in the running event loop.

    All loops and threads of the process share one ledger for it.

    Raises:
        InvalidRequestError: A client of the same key that is still open has another plan.
    """
    name = (fingerprint(api_key), base_url, clock.speed)
    place = (name, id(asyncio.get_running_loop()))
    with _lock:
        known = _plans.setdefault(name, plan)
        ledger = _ledgers.get(name)
        if ledger is None:
            ledger = _ledgers[name] = MemoryLedger(plan, clock.now, lease=LEASE * clock.speed)
        if known != plan:
            if any(used == name for used, _ in list(_limiters)):
                raise InvalidRequestError(
                    "plan", plan.name, f"{known.name!r}, as for the open client of the same key"
                )
            ledger.change_plan(plan)
            _plans[name] = plan
        limiter = _limiters.get(place)
        if limiter is None:
            limiter = _limiters[place] = Limiter(plan, ledger, clock)
        return limiter
