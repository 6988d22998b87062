"""A program that runs a batch with a journal and may be killed at any instant.

    python tests/support/crash_program.py '{"stories": [...], "journal": "run.db", ...}'

Says "ready" when it has started, begins at the first line on stdin, and prints a JSON line for
each item and one for the error that ended it, if one did.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import Any

from llamagen_async import Batch, JournalError, LlamaGenClient

NOBODY = 65_534
LOADED = (LlamaGenClient("loads-what-clients-need"), Batch)
"""Modules loaded in advance: a process without rights may not read Python's own files later."""


async def work(
    stories: list[Any], journal: str, out: str | None, client: dict[str, Any], **_limits: Any
) -> None:
    async with LlamaGenClient(**client) as llamagen:
        try:
            async for item in llamagen.comics.batch(stories, out=out, journal=journal):
                say(
                    index=item.index,
                    state=item.state,
                    id=item.generation and item.generation.id,
                    error=item.error and f"{type(item.error).__name__}: {item.error}",
                )
        except JournalError as error:
            say(error=str(error))


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def give_up(*, file_size: int | None = None, as_nobody: bool = False, **_orders: Any) -> None:
    """Give up the right to write large files, or those of others."""
    if file_size is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    if as_nobody and os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    orders = json.loads(sys.argv[1])
    give_up(**orders)
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(work(**orders))
