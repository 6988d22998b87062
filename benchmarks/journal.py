"""The cost of a write to the journal, beside bare sqlite3 with the same settings in the same run.

    python benchmarks/journal.py [--quick]

Both wait for the disk at each commit. Writes that follow each other cost what the disk takes;
twenty at once share the journal's commits, while bare sqlite3 makes one commit for each. How long
the event loop is held up meanwhile is measured, too: with the journal it never waits for the disk.

Prints a table, writes `benchmarks/results/journal.json`, asserts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from _report import is_quick, print_table, write_json

from llamagen_async import BatchState
from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story

ACCOUNT: Final = AccountId.of("key", "https://api.example/v1")
STORY: Final = "A superhero cat saves a city from giant mice, and everybody hears of it. "
INTERVAL: Final = 0.0005
"""Seconds between two measurements of whether the event loop is held up."""

Write = Callable[[int], Awaitable[None]]


async def own(folder: Path, number: int, at_once: int) -> dict[str, Any]:
    """Add stories to the journal and write their intents: two writes for each."""
    journal = Journal(folder / "ours.db", ACCOUNT)
    await journal.open()

    async def write(n: int) -> None:
        row, _ = await journal.add(Story.parse(f"{STORY}{n}", f"{at_once}/{n}"))
        await journal.change(row, BatchState.SENDING, origins=(BatchState.QUEUED,))

    try:
        return await measured(write, number, at_once)
    finally:
        await journal.aclose()


async def bare(folder: Path, number: int, at_once: int) -> dict[str, Any]:
    """Do the same with sqlite3 alone, in the event loop's thread."""
    with contextlib.closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as one:
        one.execute("PRAGMA journal_mode = WAL")
        for name in ("synchronous = FULL", "fullfsync = 1", "checkpoint_fullfsync = 1"):
            one.execute(f"PRAGMA {name}")
        one.execute(
            "CREATE TABLE IF NOT EXISTS job "
            "(id INTEGER PRIMARY KEY, key TEXT UNIQUE, request TEXT, state TEXT, at REAL)"
        )

        async def write(n: int) -> None:
            text = json.dumps({"prompt": f"{STORY}{n}"})
            values = (f"{at_once}/{n}", text, "queued", time.time())
            one.execute("INSERT INTO job (key, request, state, at) VALUES (?, ?, ?, ?)", values)
            await asyncio.sleep(0)
            one.execute("UPDATE job SET state = 'sending' WHERE key = ?", (f"{at_once}/{n}",))

        return await measured(write, number, at_once)


async def measured(write: Write, number: int, at_once: int) -> dict[str, Any]:
    """Do `number` pairs of writes, `at_once` at a time."""
    held_up: list[float] = []
    measuring = asyncio.create_task(measure_delays(held_up))
    numbers = iter(range(number))

    async def some() -> None:
        for n in numbers:
            await write(n)

    begun = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(at_once)))
    took = time.perf_counter() - begun
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)
    return {
        "writes": 2 * number,
        "seconds": took,
        "held up": statistics.median(held_up) if held_up else took,
    }


async def measure_delays(held_up: list[float]) -> None:
    """Collect the seconds by which the event loop wakes up later than it was asked to."""
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(INTERVAL)
        held_up.append(time.perf_counter() - begun - INTERVAL)


def compare(*, quick: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for at_once in (1, 20):
        number = (100 if quick else 500) * (1 if at_once == 1 else 4)
        seen: dict[str, list[dict[str, Any]]] = {"journal": [], "bare sqlite3": []}
        for _ in range(3 if quick else 5):
            for name, run in (("journal", own), ("bare sqlite3", bare)):
                with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                    seen[name].append(asyncio.run(run(Path(folder), number, at_once)))
        each = {
            name: [one["seconds"] / one["writes"] * 1e3 for one in ones]
            for name, ones in seen.items()
        }
        ratios = [ours / theirs for ours, theirs in zip(*each.values(), strict=True)]
        rows += [
            {
                "at once": at_once,
                "store": name,
                "writes a second": round(1e3 / statistics.median(each[name])),
                "ms each": round(statistics.median(each[name]), 3),
                "loop held up, ms": round(
                    statistics.median(one["held up"] for one in ones) * 1e3, 3
                ),
                "ours / bare": round(statistics.median(ratios), 2),
            }
            for name, ones in seen.items()
        ]
    return rows


def main() -> None:
    quick = is_quick(__doc__)
    rows = compare(quick=quick)
    print_table(
        "Writes that are on disk when they return, in the current folder",
        list(rows[0]),
        [list(row.values()) for row in rows],
    )
    results = {"sqlite": sqlite3.sqlite_version, "writes": rows}
    write_json("journal", ["llamagen-async"], results, quick=quick)


if __name__ == "__main__":
    main()
