"""Runs a command's coroutine, and turns Ctrl-C into one orderly cancellation.

The first Ctrl-C (or a request of the system to end) cancels the coroutine, which then says what
was done and what still runs. The second one is ignored: the end is near. The third one ends the
process at once. No signal is needed that Windows lacks.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

from llamagen_async.cli.errors import INTERRUPTED

__all__ = ["run_async"]

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_PATIENCE: Final = 2
"""How many interrupts are taken before the process just ends."""


def run_async(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `work` in an event loop of its own and return its exit status.

    A cancelled `work` may catch the cancellation to clean up; whatever it returns then is its
    status. If it lets the cancellation pass, the status is 130.
    """
    interrupts = _Interrupts()

    async def main() -> int:
        interrupts.watch(asyncio.get_running_loop(), asyncio.current_task())
        return await work()

    interrupts.install()
    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        interrupts.uninstall()


class _Interrupts:
    """A signal handler for as long as one coroutine runs."""

    def __init__(self) -> None:
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def watch(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
        """Cancel this task from now on."""
        self._loop, self._task = loop, task

    def install(self) -> None:
        """Take over the signals that nobody else has taken or ignores."""
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is None:
                continue
            before = signal.getsignal(number)
            if before in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._handle)
                self._before[number] = before

    def uninstall(self) -> None:
        """Give the signals back, unless the process is about to end because of one."""
        for number, before in self._before.items():
            # An impatient second Ctrl-C must not hit the interpreter while it shuts down.
            signal.signal(number, signal.SIG_IGN if self._count else before)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count > _PATIENCE:
            os._exit(128 + number)
        if self._count == 1:
            if self._loop is None or self._task is None:
                raise KeyboardInterrupt
            self._loop.call_soon_threadsafe(self._task.cancel)
