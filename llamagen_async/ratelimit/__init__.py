"""How many requests a key may still send, and when the next slot is free."""

from llamagen_async.ratelimit.account import Account, Admission, Wait, WindowState
from llamagen_async.ratelimit.ledger import (
    Grant,
    Ledger,
    LimitsSnapshot,
    LimitState,
    Outcome,
    Refusal,
    StoreError,
)
from llamagen_async.ratelimit.limiter import Limiter, Slot
from llamagen_async.ratelimit.memory import MemoryLedger
from llamagen_async.ratelimit.registry import fingerprint, shared_limiter

__all__ = [
    "Account",
    "Admission",
    "Grant",
    "Ledger",
    "LimitState",
    "Limiter",
    "LimitsSnapshot",
    "MemoryLedger",
    "Outcome",
    "Refusal",
    "Slot",
    "StoreError",
    "Wait",
    "WindowState",
    "fingerprint",
    "shared_limiter",
]
