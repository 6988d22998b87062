"""Turns at the files of a folder: two runs that end together must not lose one's results."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["own_turn"]


@asynccontextmanager
async def own_turn(folder: Path) -> AsyncGenerator[None, None]:
    """Keep other runs from writing results to a folder, where the system can lock folders."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl  # noqa: PLC0415  # not on Windows

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)  # which lets others in, too
            await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
        yield
