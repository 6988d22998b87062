"""One of the processes of `test_many_processes.py`: creates comics and looks at each of them once.

It notes each request that was answered, as a line of JSON, before it does anything else. Started
again with the same notes after it was killed, it goes on where they end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from redis.asyncio.client import PubSub

from llamagen_async import LlamaGenClient, QuotaStoreError
from llamagen_async.ratelimit.redis.connection import RedisLink
from llamagen_async.ratelimit.sqlite.store import SQLiteStore

_AGAIN: Final = 0.02
"""Real seconds after which a request is asked for again that the store's absence has stopped."""


class Worker:
    """Sends requests until its notes say that it is done.

    Args:
        notes: The file that it notes in.
        comics: How many comics it creates; each takes two requests.
        at_once: How many of them it is busy with at a time.
        client: The arguments of its client.
    """

    def __init__(self, notes: str, comics: int, at_once: int, client: dict[str, Any]) -> None:
        self._notes = Path(notes)
        self._at_once = at_once
        self._client = LlamaGenClient(**client)
        self._round_trips = 0
        lines = self._notes.read_text("utf-8").splitlines() if self._notes.exists() else []
        known = [json.loads(line) for line in lines]
        checked = {note["comic"] for note in known if note["what"] == "check"}
        created = [note["comic"] for note in known if note["what"] == "create"]
        self._todo: deque[str | None] = deque(name for name in created if name not in checked)
        self._todo.extend([None] * (comics - len(created)))

    async def run(self) -> None:
        self._count(SQLiteStore, "_transact")
        self._count(SQLiteStore, "paused_for")
        # What is sent to Redis once a connection is made, also to hear of pauses.
        self._count(RedisLink, "evaluate")
        self._count(RedisLink, "execute")
        self._count(PubSub, "execute_command")
        async with self._client, asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._work())

    async def _work(self) -> None:
        while self._todo:
            name = self._todo.popleft() or await self._created()
            await self._answered("check", partial(self._client.comics.get, name))

    async def _created(self) -> str:
        return await self._answered("create", partial(self._client.comics.create, "a cat"))

    async def _answered(self, what: str, send: Callable[[], Awaitable[Any]]) -> str:
        while True:
            try:
                comic = await send()
            except QuotaStoreError:
                await asyncio.sleep(_AGAIN)
            else:
                break
        note = {
            "what": what,
            "comic": comic.id,
            "at": time.monotonic(),
            "process": os.getpid(),
            "sent": self._client.stats().total,
            "round_trips": self._round_trips,
        }
        # One write: who is killed leaves a whole line or none.
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
        name: str = comic.id
        return name

    def _count(self, owner: type, name: str) -> None:
        """Count the calls of a method: of the one place where a store is really asked."""
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
