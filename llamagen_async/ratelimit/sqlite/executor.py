"""Who does what with the file behind the SQLite ledger: a thread, or the caller at once.

An event loop must not wait for a disk, nor for another process. A thread may. But for what takes
some microseconds, another thread costs four times as much as the thing itself, also to the event
loop. So an operation is done at once, by its caller, if all of this holds:

- The last one was quick, and is over for a moment only: then the file is open, the disk answers,
  and nobody holds the lock for long. Who has not asked for a while finds that out in the thread,
  which is not waited for if it hangs.
- Nobody is waited for: neither who uses the file in this process nor, see `sqlite_store`, who
  holds its lock in another one.
- The disk is not waited for either: a commit leaves what it has written to the operating system.
  What must be on the disk, and what carries the log into the file, is the thread's business.

What is left is a disk that begins to hang in the very moment between two such operations: it holds
up the event loop until it answers.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Final, TypeVar

from llamagen_async.ratelimit.sqlite.store import NotAtOnceError, SQLiteStore

__all__ = ["SQLiteWorker", "Work"]

_T = TypeVar("_T")
Work = Callable[[SQLiteStore, float | None], _T]
"""What is done with the store by a time on the monotonic clock; without one, now or not at all."""

_QUICK: Final = 0.005
"""Real seconds that an operation takes at most where nobody and nothing is in the way."""
_AWAKE: Final = 0.05
"""Real seconds after such an operation in which the next one will be as quick."""


class SQLiteWorker:
    """Uses one store, which nobody else does.

    Args:
        store: The store.
        inherited: The worker of the process from which this one was forked. It is kept, since a
            connection that is closed here would disturb that process.
    """

    def __init__(self, store: SQLiteStore, *, inherited: SQLiteWorker | None) -> None:
        self.store = store
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="llamagen-async-ledger")
        self.process = os.getpid()
        self.ended: Future[None] | None = None
        self._inherited = inherited
        self._turn = threading.Lock()
        """Held by who uses the store."""
        self._jobs: deque[None] = deque()
        """One for each that is in the thread or on its way there; several threads count."""
        self._awake_until = -math.inf

    @property
    def is_usable(self) -> bool:
        """Whether there is a thread: none survives a fork, or the end."""
        return self.ended is None and self.process == os.getpid()

    def do_at_once(self, work: Work[_T]) -> _T:
        """Do it now, in this thread.

        Raises:
            NotAtOnceError: It may take time. Nothing was done.
        """
        begun = monotonic()
        if (
            begun > self._awake_until
            or self._jobs
            or not self.is_usable
            or not self._turn.acquire(blocking=False)
        ):
            raise NotAtOnceError
        try:
            answer = work(self.store, None)
            self._note_pace(begun)
        except BaseException:
            self._awake_until = -math.inf
            raise
        finally:
            self._turn.release()
        return answer

    def submit(self, work: Callable[[SQLiteStore, float], _T], patience: float) -> Future[_T]:
        """Have it done by the thread, after all that was submitted before.

        Args:
            work: What to do.
            patience: Real seconds from now until its deadline.
        """
        self._jobs.append(None)
        return self.thread.submit(self._do, work, monotonic() + patience)

    def end(self) -> Future[None]:
        """Close the file and end the thread after all that was submitted before."""
        if self.ended is None:
            self.ended = self.submit(lambda store, _: store.close(), 0.0)
            self.thread.shutdown(wait=False)
        return self.ended

    def _do(self, work: Callable[[SQLiteStore, float], _T], deadline: float) -> _T:
        try:
            with self._turn:
                begun = monotonic()
                answer = work(self.store, deadline)
                self._note_pace(begun)
                return answer
        finally:
            self._jobs.pop()

    def _note_pace(self, begun: float) -> None:
        now = monotonic()
        self._awake_until = now + _AWAKE if now - begun <= _QUICK else -math.inf
