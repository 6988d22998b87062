"""The requests that a dispatcher decides about, and its turn in the wait queue. Plain data."""

from __future__ import annotations

import asyncio

import attrs

from llamagen_async.ratelimit import Priority
from llamagen_async.scheduling.policy import DispatchPolicy
from llamagen_async.scheduling.request_queue import RequestQueue

__all__ = ["DispatchLoop", "Turn"]


@attrs.define(eq=False, repr=False)
class DispatchLoop:
    """The requests that draw on the same slots, and the task that decides about the next one."""

    queue: RequestQueue
    policy: DispatchPolicy
    metered: bool
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    """Set when something was added, ended or learned since the last decision."""
    task: asyncio.Task[None] | None = None
    """The task that decides; `None` if there is nothing to decide."""


@attrs.define(eq=False, repr=False)
class Turn:
    """The turn of a claim in the wait queue of the key, which has been told when to ask again."""

    claim: str
    """The id of the claim."""
    priority: Priority
    """The priority with which it was asked for."""
    ask_at: float
    """When to ask again, in seconds of the server's clock."""
