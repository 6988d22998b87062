"""Runs a command's coroutine, and turns Ctrl-C into one orderly cancellation.

The first Ctrl-C (or a request of the system to end) cancels the coroutine, which then prints what
was done and what still runs. The second one is ignored, because the end is near; `asyncio` itself
would break off here. The third one ends the process at once. No signal is needed that Windows
lacks.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from llamagen_async.cli.exit_status import INTERRUPTED

if TYPE_CHECKING:
    import asyncio

__all__ = ["interruptible", "run_async"]

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_ORDERLY: Final = 2
"""Interrupts that leave the command time to clean up; the next one ends the process."""


def run_async(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `work` in an event loop of its own and return its exit status.

    A cancelled `work` may catch the cancellation to clean up; the value that it returns then is its
    status. If it lets the cancellation pass, the status is 130.
    """
    import asyncio  # noqa: PLC0415  # not needed by who is told of a mistake instead

    task: asyncio.Task[Any] | None = None

    def cancel() -> None:
        if task is None:
            raise KeyboardInterrupt
        with contextlib.suppress(RuntimeError):  # the loop is closed: the command has ended
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def main() -> int:
        nonlocal task
        task = asyncio.current_task()
        return await work()

    with _handled(cancel, ends=True):
        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            return INTERRUPTED


@contextmanager
def interruptible() -> Generator[None]:
    """Have the first Ctrl-C, or request of the system to end, raise `KeyboardInterrupt` in here.

    That is for work without an event loop.
    """

    def stop() -> None:
        raise KeyboardInterrupt

    with _handled(stop, ends=False):
        yield


@contextmanager
def _handled(act: Callable[[], None], *, ends: bool) -> Generator[None]:
    """Call `act` at the first interrupt; the second one is ignored, the third ends the process.

    Args:
        act: What is done.
        ends: Whether the interpreter shuts down afterwards, which no other interrupt must hit.
    """
    interrupts = 0

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > _ORDERLY:
            os._exit(128 + number)
        if interrupts == 1:
            act()

    before = {number: signal.signal(number, interrupt) for number in _unclaimed_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if interrupts and ends else handler)


def _unclaimed_signals() -> list[signal.Signals]:
    """Return the signals to act on, without those that somebody else handles or ignores."""
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    unclaimed = (signal.SIG_DFL, signal.default_int_handler)
    return [number for number in numbers if signal.getsignal(number) in unclaimed]
