"""What the limiter costs and what it lets through, beside its peers in the same run.

    python benchmarks/limiter.py [--quick]

Three questions, each answered for this package and for its peers on this machine, now:

1. What does an uncontended slot cost in memory, taken and given back?
2. How many requests does each let into the worst window, if it is kept busy? Theirs exceed the
   limit by design: a leaky bucket admits nearly twice its limit, and a log of grants does not see
   how late a request arrives.
3. How many slots a second do the stores grant (SQLite, Redis)?

Prints a table, writes `benchmarks/results/limiter.json`, asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from aiolimiter import AsyncLimiter
from pyrate_limiter import (
    BucketAsyncWrapper,
    Duration,
    InMemoryBucket,
    Limiter as PyrateLimiter,
    Rate,
)

from llamagen_async import Plan, RateLimit, RequestKind
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import Ledger, Limiter, MemoryLedger, Outcome, Grant
from llamagen_async.simulation import run

RESULTS: Final = Path(__file__).parent / "results"
