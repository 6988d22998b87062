"""A thread for what may never end, such as reading a pipe that nobody writes to.

Neither who gives it up nor the end of the program waits for it, as they would for a thread of the
event loop's own executor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

__all__ = ["in_own_thread"]

_T = TypeVar("_T")


async def in_own_thread(call: Callable[..., _T], *args: object) -> _T:
    """Run `call` in a thread of its own, and return what it returns."""
    return await asyncio.get_running_loop().run_in_executor(_OwnThreads(), call, *args)


class _OwnThreads(Executor):
    """Gives each call a thread, which ends with the process at the latest."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # raised again where it is awaited
                future.set_exception(error)

        threading.Thread(target=run, name="llamagen-file", daemon=True).start()
        return future
