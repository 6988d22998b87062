"""The load of a client, for those who watch it from outside."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from llamagen_async.scheduling.circuit import CircuitState

__all__ = ["Load"]


@attrs.frozen
class Load:
    """The load of one client at one time: plain numbers, which any thread may read."""

    key: int
    """Identity of the API key's limiter, the same for all of its clients in one event loop."""
    plan: str
    """The name of the plan."""
    per: float
    """Seconds of the plan's shortest window."""
    slots_used: int
    """Slots of that window that are used, by all clients of the key, as this one heard last."""
    slots_limit: int
    """Slots that the window has."""
    quota_left: int | None
    """Free slots in the plan's long windows; `None` if it has none, or nobody has asked."""
    waiting: Mapping[str, int] = attrs.field(hash=False)
    """Requests of this client that wait for a slot, by the name of their priority."""
    running: int
    """Generations that this client waits for."""
    circuit: CircuitState
    """The state of the server."""
