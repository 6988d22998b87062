"""A program that handles many stories in its own process, to measure the memory they take.

    python tests/support/many.py submit|unsent|done|lives NUMBER FOLDER

Prints the number of stories, and the most memory that the process took, in MB.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from llamagen_async import ComicQueue, LlamaGenClient, Plan, RateLimit, RequestKind
from llamagen_async.simulation import run
from llamagen_async.transport import APIRequest, APIResponse, decode

WIDE = Plan("wide", limits=RateLimit(10_000, per=60))
NARROW = Plan("narrow", limits=RateLimit(10, per=60))
AT_ONCE = 1_000
STORY = "A cat saves the city, and tells it to everybody who wants to hear it. "


class Server:
    """A transport that answers at once with success or with an error status, or never."""

    def __init__(self, *, status: int = 200, silent: bool = False) -> None:
        self._status = status
        self._silent = silent
        self._created = 0

    async def send(self, request: APIRequest) -> APIResponse:
        if self._silent:
            await asyncio.Event().wait()
        if request.kind is RequestKind.CREATE:
            self._created += 1
        body = {"id": f"c{self._created}", "status": "SUCCEEDED", "caption": STORY * 10}
        return decode(self._status, {}, json.dumps(body).encode(), now=lambda: NotImplemented)

    async def aclose(self) -> None:
        pass


def client(server: Server, plan: Plan = WIDE) -> LlamaGenClient:
    return LlamaGenClient("k", plan=plan, base_url="https://many.invalid", transport=server)


def stories(number: int) -> Iterator[str]:
    return (f"{STORY}{n}" for n in range(number))


async def submit(number: int, journal: Path) -> int:
    """Queue all stories at a server that never answers."""
    async with client(Server(silent=True), NARROW) as one:
        queue = ComicQueue(one, journal)
        for begin in range(0, number, AT_ONCE):
            await asyncio.gather(
                *(queue.submit(f"{STORY}{n}", key=f"{n}") for n in range(begin, begin + AT_ONCE))
            )
        await queue.aclose(0)
    with closing(sqlite3.connect(journal)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM job").fetchone()
    return int(count)


async def batch(number: int, journal: Path | None, server: Server) -> int:
    """Run a batch of all stories, which it reads lazily, and count the states of its items."""
    states: Counter[str] = Counter()
    async with client(server) as one:
        async for item in one.comics.batch(stories(number), journal=journal):
            states[item.state] += 1
    assert len(states) == 1, states
    return states.total()


async def done(number: int, journal: Path) -> int:
    """Run a batch with a journal in which all stories are done."""
    await batch(1, journal, Server())
    with closing(sqlite3.connect(journal)) as connection:
        columns = "digest, type, request, urgent, state, generation_id, generation, queued_at"
        connection.execute(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?) "
            f"INSERT INTO job (key, {columns}) SELECT 'content:' || lower(hex(digest)) || '/' || "
            f"(x + 1), {columns} FROM job, n",
            (number - 1,),
        )
        connection.commit()
    states: Counter[str] = Counter()
    async with client(Server(silent=True)) as one:
        same = (f"{STORY}0" for _ in range(number))
        async for item in one.comics.batch(same, journal=journal):
            states[item.state] += 1
    assert states == {"succeeded": number}
    return number


def main(what: str, number: int, folder: Path) -> None:
    journal = folder / "run.db"
    programs: dict[str, Any] = {
        "submit": lambda: asyncio.run(submit(number, journal)),
        "unsent": lambda: asyncio.run(batch(number, journal, Server(status=402))),
        "done": lambda: asyncio.run(done(number, journal)),
        "lives": lambda: run(batch(number, None, Server())),
    }
    print(programs[what](), round(peak_memory() / 1e6))


def peak_memory() -> float:
    """Return the most bytes that this process has taken."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there includes the program that started this one
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found
        return int(found[1]) * 1e3
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1e3


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
