"""The cost of one more story while 1 to 100,000 wait already.

    python benchmarks/scaling.py [--quick]

Nothing is sent meanwhile: no slot is free. Each number of stories has a fresh process.

1. A `ComicQueue` with its journal on disk: one more story submitted, one story asked for with its
   position in the queue, the memory of the process, and the size of the journal.
2. Without a journal: `create` in so many tasks, which wait for a slot in memory.

Times are processor time of all threads of the process, so others may use the machine meanwhile,
and each is the least of all rounds. `--quick` ends at 10,000 stories. Prints tables, writes
`benchmarks/results/scaling.json`, asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from _report import print_table, write_json

from llamagen_async import ComicQueue, LlamaGenClient, Plan, RateLimit
from llamagen_async.plans import RequestKind
from llamagen_async.simulation import run
from llamagen_async.transport import APIRequest, APIResponse

SIZES: Final = (1, 10, 100, 1_000, 10_000, 100_000)
QUICK: Final = 10_000
"""Stories of the longest queue of a quick run."""
ROUNDS: Final = 100
"""Measurements of each time, of which the least counts."""
SUBMITTED: Final = 500
"""Stories that are submitted at once until the queue is as long as wanted."""
SEEN: Final = 1_000
"""The fewest stories whose memory is told from what the process needs anyway."""
CLOSED: Final = Plan("closed", limits=RateLimit(1, per=86_400))
"""A plan that never creates a comic: its only slot is kept for the check of one."""
STORY: Final = "A superhero cat saves a city from giant mice, and everybody hears of it. "

Row = dict[str, Any]


class Accepting:
    """A transport that accepts creates."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    async def send(self, request: APIRequest) -> APIResponse:
        """Accept a create."""
        assert request.kind is RequestKind.CREATE
        return APIResponse(200, {}, {"id": f"cmc_{next(self._numbers)}", "status": "PROCESSING"})

    async def aclose(self) -> None:
        """Do nothing: nothing is held."""


async def queued(number: int) -> Row:
    """Let so many stories wait in a journal."""
    async with (
        LlamaGenClient("key", plan=CLOSED, quota="memory", transport=Accepting()) as client,
        folder_here() as folder,
        ComicQueue(client, journal=folder / "orders.db") as queue,
    ):
        await queue.cancel(await queue.submit(STORY, key="first"))  # what only one needs is there
        before = resident()
        for begin in range(0, number, SUBMITTED):
            some = range(begin, min(number, begin + SUBMITTED))
            await asyncio.gather(*(queue.submit(f"{STORY}{n}", key=f"{n}") for n in some))
        after, size = resident(), sum(one.stat().st_size for one in folder.iterdir())
        submits: list[float] = []
        positions: list[float] = []
        for n in range(ROUNDS):
            begun = time.process_time()
            job = await queue.submit(f"{STORY}more {n}", key=f"more-{n}")
            submits.append(time.process_time() - begun)
            begun = time.process_time()
            found = await queue.get(job.key)
            positions.append(time.process_time() - begun)
            assert found is not None
            assert job.position == found.position == number + 1
            await queue.cancel(job)
    return {
        "waiting": number,
        "submit_ms": min(submits) * 1e3,
        "position_ms": min(positions) * 1e3,
        "process_mb": after / 1e6,
        "bytes_each": (after - before) / number if number >= SEEN else None,
        "journal_bytes_each": size / number if number >= SEEN else None,
    }


async def in_memory(number: int) -> Row:
    """Let so many creates wait for a slot of the paid plan, in virtual time."""
    tasks: list[asyncio.Task[Any]] = []
    async with LlamaGenClient("key", plan="paid", transport=Accepting()) as client:
        create = client.comics.create
        await asyncio.gather(*(create(STORY) for _ in range(Plan.PAID.rate.limit)))
        before = resident()
        tasks += [asyncio.create_task(create(f"{STORY}{n}")) for n in range(number)]
        await asyncio.sleep(1)  # virtual: all have begun to wait
        gc.collect()
        after = resident()
        times: list[float] = []
        for _ in range(ROUNDS):
            begun = time.process_time()
            more = asyncio.create_task(create(STORY))
            await asyncio.sleep(0.001)
            times.append(time.process_time() - begun)
            assert not more.done()
            more.cancel()
            await asyncio.gather(more, return_exceptions=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "waiting": number,
        "create_ms": min(times) * 1e3,
        "bytes_each": (after - before) / number if number >= SEEN else None,
    }


@asynccontextmanager
async def folder_here() -> AsyncIterator[Path]:
    """Yield a new folder on the disk of the current one: others may be in memory."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), ignore_cleanup_errors=True) as name:
        yield Path(name)


def resident() -> int:
    """Return the bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fresh(what: str, number: int) -> Row:
    """Measure one case in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", what, str(number)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=3_600,
    )
    row: Row = json.loads(done.stdout)
    return row


def table(title: str, rows: list[Row], *remarks: str) -> None:
    print_table(title, [*rows[0]], [[*row.values()] for row in rows], *remarks)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"end at {QUICK:,} stories")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        what, number = options.case[0], int(options.case[1])
        row = asyncio.run(queued(number)) if what == "queue" else run(in_memory(number))
        print(json.dumps(row))
        return
    sizes = [size for size in SIZES if size <= QUICK or not options.quick]
    queue = [fresh("queue", size) for size in sizes]
    remark = f"Milliseconds of processor time, the least of {ROUNDS}."
    table("1. Stories that wait in the journal of a queue", queue, remark)
    memory = [fresh("memory", size) for size in sizes]
    table("2. Creates that wait in memory", memory, remark)
    write_json(
        "scaling",
        ("llamagen-async", "aiohttp", "attrs"),
        {"rounds": ROUNDS, "queue": queue, "memory": memory},
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
