"""A program for an environment without extras: the core is whole, the rest says what to install.

The session `build` runs it with the wheel alone.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import Any

import llamagen_async
from llamagen_async import InvalidRequestError, LlamaGenClient


async def limits() -> None:
    async with LlamaGenClient("k", quota="redis://127.0.0.1") as client:
        await client.limits()


CALLS: dict[str, Callable[[], Any]] = {
    "otel": lambda: LlamaGenClient("k", telemetry=True),
    "redis": lambda: asyncio.run(limits()),
    "taskiq": lambda: importlib.import_module("llamagen_async.taskiq"),
    "web": lambda: importlib.import_module("llamagen_async.web").create_app,
}


def main() -> None:
    for name in llamagen_async.__all__:
        getattr(llamagen_async, name)
    for extra, call in CALLS.items():
        try:
            call()
        except (ImportError, InvalidRequestError) as error:
            assert f"pip install 'llamagen-async[{extra}]'" in str(error), error  # noqa: PT017
        else:
            raise SystemExit(f"{extra} is installed here")
    print(llamagen_async.__version__, llamagen_async.__file__)


if __name__ == "__main__":
    main()
