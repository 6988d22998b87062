"""The count of a key: how many requests it may still send, and when the next slot is free."""

from llamagen_async.ratelimit.failover import OnStoreFailure
from llamagen_async.ratelimit.limiter import Limiter, Slot
from llamagen_async.ratelimit.protocol import (
    ANSWERED,
    Claim,
    KeyState,
    LimitsSnapshot,
    LimitState,
    NoSlot,
    Outcome,
    PeerReport,
    Priority,
    WaitingRequests,
    Workload,
)
from llamagen_async.ratelimit.registry import Identity, close_limiter, is_settled, open_limiter

__all__ = [
    "ANSWERED",
    "Claim",
    "Identity",
    "KeyState",
    "LimitState",
    "Limiter",
    "LimitsSnapshot",
    "NoSlot",
    "OnStoreFailure",
    "Outcome",
    "PeerReport",
    "Priority",
    "Slot",
    "WaitingRequests",
    "Workload",
    "close_limiter",
    "is_settled",
    "open_limiter",
]
