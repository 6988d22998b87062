"""Claims for slots and states of a key, of which only what a test names is special."""

from __future__ import annotations

from typing import Any

from llamagen_async.ratelimit import Claim, KeyState, Priority, Workload

__all__ = ["claim", "key_state"]


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
        "clients": 1,
        "share": 0,
        "peers": (),
    }
    return KeyState(**{**quiet, **fields})
