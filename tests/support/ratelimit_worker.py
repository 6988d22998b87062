"""One process of `test_many_processes.py`: creates comics, then checks the status of each once.

Each request that was answered is recorded as a line of JSON before anything else is done. Started
again with the same record after it was killed, the process continues where the record ends. Told
of comics to wait for, the process creates none, and waits for them until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from llamagen_async import LlamaGenClient, Plan, QuotaStoreError, RateLimit
from llamagen_async.ratelimit.sqlite.store import SQLiteStore
from llamagen_async.redis_server import RedisConnection

_AGAIN: Final = 0.02
"""Real seconds after which a request is repeated that failed because the store was away."""
_VERY_LONG: Final = 1e6
"""Seconds for which comics are waited for: longer than any test runs."""


class Worker:
    """Sends requests until its record is complete.

    Args:
        record: The file in which requests are recorded.
        comics: Number of comics to create; each takes two requests.
        at_once: Number of comics to work on at a time.
        client: The arguments of the client; a plan may be the two numbers of its window.
        waits_for: The ids of comics that run already.
        dies: The answer after which the process kills itself, and seconds from then.
    """

    def __init__(
        self,
        record: str,
        comics: int,
        at_once: int,
        client: dict[str, Any],
        waits_for: Sequence[str] = (),
        dies: tuple[int, float] | None = None,
    ) -> None:
        self._record = Path(record)
        self._at_once = at_once
        plan: Any = client["plan"]
        if not isinstance(plan, str):
            plan = Plan("narrow", limits=RateLimit(plan[0], per=plan[1]))
        self._client = LlamaGenClient(**client | {"plan": plan})
        self._waits_for = waits_for
        self._dies = dies
        self._answers = 0
        self._round_trips = 0
        lines = self._record.read_text("utf-8").splitlines() if self._record.exists() else []
        known = [json.loads(line) for line in lines]
        checked = {one["comic"] for one in known if one["what"] == "check"}
        created = [one["comic"] for one in known if one["what"] == "create"]
        self._to_create = comics - len(created)
        self._to_check = deque(name for name in created if name not in checked)

    async def run(self) -> None:
        self._count(SQLiteStore, "submit")
        self._count(RedisConnection, "evaluate")
        async with self._client, asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._work())
            for name in self._waits_for:
                group.create_task(self._client.comics.wait_for_completion(name, timeout=_VERY_LONG))

    async def _work(self) -> None:
        while self._to_create:
            self._to_create -= 1
            create = partial(self._client.comics.create, "a cat")
            self._to_check.append(await self._answered("create", create))
        while self._to_check:
            name = self._to_check.popleft()
            await self._answered("check", partial(self._client.comics.get, name))

    async def _answered(self, what: str, send: Callable[[], Awaitable[Any]]) -> str:
        while True:
            try:
                comic = await send()
            except QuotaStoreError:
                await asyncio.sleep(_AGAIN)
            else:
                break
        answered = {
            "what": what,
            "comic": comic.id,
            "at": time.monotonic(),
            "process": os.getpid(),
            "sent": self._client.stats().total,
            "round_trips": self._round_trips,
        }
        # One write: a process that is killed leaves a whole line or none.
        with self._record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(answered) + "\n")
        self._answers += 1
        if self._dies is not None and self._answers == self._dies[0]:
            asyncio.get_running_loop().call_later(
                self._dies[1], os.kill, os.getpid(), signal.SIGKILL
            )
        name: str = comic.id
        return name

    def _count(self, owner: type, name: str) -> None:
        """Count the calls of a method by which a store is asked."""
        original = getattr(owner, name)

        def counting(*args: Any, **options: Any) -> Any:
            self._round_trips += 1
            return original(*args, **options)

        setattr(owner, name, counting)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    worker = Worker(**json.loads(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(worker.run())
