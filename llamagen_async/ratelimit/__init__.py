"""How many requests a key may still send, and when the next slot is free."""

from llamagen_async.ratelimit.ledger import (
    Grant,
    Ledger,
    LimitsSnapshot,
    LimitState,
    MemoryLedger,
    Refusal,
)
from llamagen_async.ratelimit.limiter import Limiter, Slot
from llamagen_async.ratelimit.registry import fingerprint, shared_limiter
from llamagen_async.ratelimit.windows import Account, Verdict, WindowState

__all__ = [
    "Account",
    "Grant",
    "Ledger",
    "LimitState",
    "Limiter",
    "LimitsSnapshot",
    "MemoryLedger",
    "Refusal",
    "Slot",
    "Verdict",
    "WindowState",
    "fingerprint",
    "shared_limiter",
]
