"""The ledger of one process: all its threads and event loops share it, nothing is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.log_ledger import LogLedger, Operation
from llamagen_async.ratelimit.protocol import Claim, fits_blob
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog

__all__ = ["MemoryLedger"]

_T = TypeVar("_T")


class MemoryLedger(LogLedger):
    """A ledger in this process.

    Args:
        plan: Which windows to count.
        now: The time in seconds; the same for all threads.
        times: The times to keep to.
        wall: The unix time in seconds, for windows that are aligned to the clock.
    """

    def __init__(
        self,
        plan: Plan,
        now: Callable[[], float],
        times: LedgerTimes,
        *,
        wall: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(plan)
        self._now = now
        self._wall = wall
        self._log = WindowLog(plan, times)
        self._lock = threading.Lock()
        self._blob: str | None = None

    async def load_blob(self) -> str | None:
        """Return the text that was saved last."""
        return self._blob

    async def save_blob(self, text: str) -> None:
        """Keep a text, unless it is too long."""
        if fits_blob(text):
            self._blob = text

    async def aclose(self) -> None:
        """Do nothing: the count outlives its users."""

    async def _do(
        self, operation: Operation[_T], *, claim: Claim | None = None, write: bool = True
    ) -> _T:
        del claim, write
        return self._start(operation)

    def _start(self, operation: Operation[_T]) -> _T:
        with self._lock:
            if self._log.plan != self._plan:
                self._log = self._log.with_plan(self._plan)
            now = self._now()
            if self._wall is not None:
                self._log.wall_offset = self._wall() - now
            return operation(self._log, now)
