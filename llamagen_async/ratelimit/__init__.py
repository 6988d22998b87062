"""The count of a key: how many requests it may still send, and when the next slot is free."""

from llamagen_async.ratelimit.failover import OnStoreFailure
from llamagen_async.ratelimit.limiter import Limiter, Slot
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import (
    ANSWERED,
    Claim,
    Grant,
    KeyState,
    Ledger,
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
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from llamagen_async.stored_values import StoreError

__all__ = [
    "ANSWERED",
    "Claim",
    "Grant",
    "Identity",
    "KeyState",
    "Ledger",
    "LedgerTimes",
    "LimitState",
    "Limiter",
    "LimitsSnapshot",
    "MemoryLedger",
    "NoSlot",
    "OnStoreFailure",
    "Outcome",
    "PeerReport",
    "Priority",
    "Slot",
    "StoreError",
    "WaitingRequests",
    "WindowLog",
    "Workload",
    "close_limiter",
    "is_settled",
    "open_limiter",
]
