"""Claims for slots and states of a key, of which only what a test names is special."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

from llamagen_async.ratelimit import Claim, KeyState, Limiter, NoSlot, Priority, Slot, Workload

__all__ = ["IDLE_WORKLOAD", "acquire", "claim", "key_state"]

IDLE_WORKLOAD: Final = Workload()
"""The workload of a client that has nothing to do."""
_names = itertools.count()


def claim(
    name: str,
    client: str = "client",
    priority: Priority = Priority.INTERACTIVE,
    *,
    waited: float = 0.0,
    workload: Workload | None = None,
    waits: bool = True,
) -> Claim:
    """Return a claim of a client that has nothing else to do."""
    return Claim(name, client, priority, waited, workload or Workload(), waits)


def key_state(**fields: Any) -> KeyState:
    """Return the state of a key of which nothing is used, and that one client has."""
    quiet: dict[str, Any] = {
        "returning": (),
        "quota_left": None,
        "paused_for": 0.0,
        "share": 0,
        "peers": (),
    }
    return KeyState(**{**quiet, **fields})


async def acquire(limiter: Limiter, client: str = "a") -> Slot:
    """Wait for a slot as the dispatcher does."""
    name = f"{client}.{next(_names)}"
    answer = await limiter.reserve(claim(name, client))
    while isinstance(answer, NoSlot):
        await asyncio.sleep(answer.delay / limiter._clock.speed)
        answer = await limiter.reserve(claim(name, client))
    return answer
