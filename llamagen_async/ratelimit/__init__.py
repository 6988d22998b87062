"""How many requests a key may still send, and when the next slot is free."""

from llamagen_async.ratelimit.account import Account, Grant, Wait, WindowState
from llamagen_async.ratelimit.failover import OnStoreFailure
from llamagen_async.ratelimit.ledger import (
    Ledger,
    LimitsSnapshot,
    LimitState,
    Outcome,
    Refusal,
    StoreError,
)
from llamagen_async.ratelimit.limiter import Limiter, Slot
from llamagen_async.ratelimit.memory import MemoryLedger
from llamagen_async.ratelimit.note import NoteKeeper
from llamagen_async.ratelimit.registry import Identity, close_limiter, open_limiter
from llamagen_async.ratelimit.stores import check_quota

__all__ = [
    "Account",
    "Grant",
    "Identity",
    "Ledger",
    "LimitState",
    "Limiter",
    "LimitsSnapshot",
    "MemoryLedger",
    "NoteKeeper",
    "OnStoreFailure",
    "Outcome",
    "Refusal",
    "Slot",
    "StoreError",
    "Wait",
    "WindowState",
    "check_quota",
    "close_limiter",
    "open_limiter",
]
