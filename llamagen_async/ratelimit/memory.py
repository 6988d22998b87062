"""The ledger of one process: all its threads and event loops share it, nothing is kept."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TypeVar

import attrs

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.log_ledger import LogLedger, Operation
from llamagen_async.ratelimit.protocol import Claim, fits_blob
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from llamagen_async.stored_values import StateReader, decode, encode

__all__ = ["KeptCount", "MemoryLedger"]

_T = TypeVar("_T")


@attrs.frozen
class KeptCount:
    """The count of a key that nobody uses, in a tenth of the memory."""

    state: bytes
    """The window log, as JSON without the names."""
    over_at: float
    """The time from which nothing in it counts any more."""
    blob: str | None
    """The text that was saved with it."""

    def is_over(self, now: float) -> bool:
        """Whether it is as good as a new one."""
        return self.blob is None and self.over_at <= now


class MemoryLedger(LogLedger):
    """A ledger in this process.

    Args:
        plan: Which windows to count.
        now: The time in seconds; the same for all threads.
        times: The times to keep to.
        wall: The unix time in seconds, for windows that are aligned to the clock.
        kept: What an earlier ledger has counted.
    """

    def __init__(
        self,
        plan: Plan,
        now: Callable[[], float],
        times: LedgerTimes,
        *,
        wall: Callable[[], float] | None = None,
        kept: KeptCount | None = None,
    ) -> None:
        super().__init__(plan)
        self._now = now
        self._wall = wall
        self._log = WindowLog(plan, times)
        self._lock = threading.Lock()
        self._blob: str | None = None
        if kept is not None:
            # Loops may begin their time anew, and nobody else has written it.
            state = dict(zip(self._log.dump(), decode(kept.state.decode()), strict=True))
            self._log = WindowLog.load(plan, state, times, StateReader(math.inf))
            self._blob = kept.blob

    def kept(self) -> KeptCount:
        """Return all that it knows, to go on from later."""
        with self._lock:
            state = encode([*self._log.dump().values()]).encode()
            return KeptCount(state, self._log.over_at, self._blob)

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
