"""One count per key and server in a process, without anyone having to pass it around.

In memory the count outlives the clients: a second client that is opened after the first was closed
is bound by what the first one spent. Only living clients bind anything else: limiters are kept
weakly, for their clients own them, and one whose event loop is closed is passed over. A process
that was forked begins afresh, and so does a loop in virtual time, whose times mean nothing to
others. Keys are named by a hash; the key itself is never kept here.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.failover import FailoverLedger, OnStoreFailure
from llamagen_async.ratelimit.limiter import Limiter
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Ledger
from llamagen_async.ratelimit.stores import open_store, store_times
from llamagen_async.ratelimit.window_log import LedgerTimes

__all__ = ["Identity", "close_limiter", "is_settled", "open_limiter"]

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


_Counts = dict[Identity, MemoryLedger]
"""The counts in memory; that of a key without an open limiter is packed."""

_lock = threading.Lock()
_memory: Final[_Counts] = {}
"""The counts of all loops whose clock is the machine's."""
_virtual: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Counts]] = WeakKeyDictionary()
"""The counts of each loop in virtual time, whose clock begins at 0 and is its own."""
_limiters: Final[WeakValueDictionary[Identity, WeakValueDictionary[int, Limiter]]] = (
    WeakValueDictionary()
)
"""The limiters by identity and event loop; a limiter keeps its loop, whose `id` is its own."""
_clock_of: Final = functools.cache(Clock)


def open_limiter(
    identity: Identity,
    plan: Plan,
    *,
    timeout: float,
    on_store_failure: OnStoreFailure = "local",
) -> Limiter:
    """Return the limiter of this key and server in the running event loop; close it when done.

    It is the caller's to keep: without anyone who does, it is collected, closed or not.

    Args:
        identity: The count to take part in.
        plan: The windows and the kinds of request that are metered.
        timeout: Real seconds that one request may take.
        on_store_failure: What to do when the store is away.

    Raises:
        InvalidRequestError: A client of the same key that is still open has another plan, or the
            store's URL is not understood.
    """
    clock = _clock_of(identity.speed)
    loop = id(asyncio.get_running_loop())
    with _lock:
        of_loops = _limiters.setdefault(identity, WeakValueDictionary())
        for other in list(of_loops.values()):
            if plan not in (other.named_plan, other.plan) and not other.loop.is_closed():
                allowed = f"{other.plan.name!r}, as for the open client of the same key"
                raise InvalidRequestError("plan", plan.name, allowed)
        limiter = of_loops.get(loop)
        if limiter is None:
            ledger = _ledger(identity, plan, clock, timeout, on_store_failure)
            limiter = of_loops[loop] = Limiter(plan, ledger, clock)
            limiter.of_loops = of_loops
        return limiter


def is_settled(limiter: Limiter) -> bool:
    """Whether nothing is known of a key that only its limiter knows."""
    return not isinstance(limiter.ledger, FailoverLedger) or limiter.ledger.is_settled


async def close_limiter(identity: Identity, limiter: Limiter, *, user: object = None) -> None:
    """Give a limiter back; the last of its users to do so lets go of the store.

    If this is cut short, calling it again lets go of what is left.
    """
    with _lock:
        if user is not None:
            limiter.users.discard(user)
        if limiter.users:
            return
        of_loops = limiter.of_loops
        if of_loops.get(id(limiter.loop)) is limiter:
            del of_loops[id(limiter.loop)]
        # A process that was forked since knows of other limiters.
        is_last = not of_loops and _limiters.get(identity) is of_loops
        ledger = _counts_of(limiter.loop).get(identity)
        if is_last and ledger is not None:
            ledger.pack()
    await limiter.ledger.aclose()


def _ledger(
    identity: Identity, plan: Plan, clock: Clock, timeout: float, on_store_failure: OnStoreFailure
) -> Ledger:
    if identity.quota is not None:
        times = store_times(clock.speed, timeout)
        store = open_store(identity.quota, identity.name, plan, clock.speed, times)
        return FailoverLedger(store, plan, clock, times, on_failure=on_store_failure)
    loop = asyncio.get_running_loop()
    counts = _counts_of(loop)
    _forget_old(counts, loop.time())
    ledger = counts.get(identity)
    if ledger is None:
        now, times = _time_of(identity.speed)
        ledger = counts[identity] = MemoryLedger(plan, now, times, wall=time.time)
    ledger.change_plan(plan)
    return ledger


@functools.cache
def _time_of(speed: float) -> tuple[Callable[[], float], LedgerTimes]:
    """Return the clock and the times of all counts in memory at a speed: there may be thousands."""
    return Clock(speed).now, LedgerTimes(lease=_LEASE * speed)


def _counts_of(loop: asyncio.AbstractEventLoop) -> _Counts:
    """Return the counts of all loops that have the same clock as this one."""
    is_virtual = getattr(loop, "is_virtual", False)
    return _virtual.setdefault(loop, {}) if is_virtual else _memory


def _forget_old(counts: _Counts, now: float) -> None:
    """Forget counts in which nothing counts any more: two are looked at for each that is opened."""
    for identity, known in list(itertools.islice(counts.items(), 2)):
        del counts[identity]
        if not known.is_over(now * identity.speed):
            counts[identity] = known  # looked at again when all others were


def _begin_afresh() -> None:
    """Forget what the parent of a process that was forked has: none of it is this process's."""
    global _lock  # noqa: PLW0603  # another thread of the parent may have held it
    _lock = threading.Lock()
    _memory.clear()
    _virtual.clear()
    _limiters.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_afresh)
