"""The client's cost, beside aiohttp and asyncio alone in the same run.

    python benchmarks/overhead.py [--quick] [--only requests|decisions|memory|imports]

1. Requests a second with limits off, against aiohttp alone that decodes the same answers. The
   server is a process of its own that sends one canned answer with the id that was asked for, so
   that the client's side decides.
2. Real time for one decision with 100,000 generations that are waited for, against 100: the whole
   client in virtual time, from a free slot to the answer, with a transport that answers at once.
3. Memory of one waiting comic, against a bare task that waits for a future.
4. `import llamagen_async` in a fresh process with compiled modules, against `import aiohttp`.

The last three have a bound that the project has set itself; the first one is only reported, because
the API allows ten requests a minute. Prints tables, writes `benchmarks/results/overhead.json`,
asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from _report import print_table, write_json

from llamagen_async import ComicGeneration, LlamaGenClient, Plan, RateLimit
from llamagen_async.sandbox import PAID_KEY, Call, SandboxService
from llamagen_async.simulation import run
from llamagen_async.transport import APIRequest, APIResponse

PACKAGES: Final = ("llamagen-async", "aiohttp", "attrs", "backoff")
KEY: Final = "lg_benchmark_key"
OFF: Final = Plan("off", limits=RateLimit(10_000_000, per=60), metered=())
BUSY: Final = Plan("busy", limits=RateLimit(60, per=60))
"""A plan with fewer slots than generations worth a status check: each slot is a choice."""
FAST: Final = 100_000.0
"""Speed of a clock at which reads never wait for the pace of those that are not metered."""
LONG: Final = 1e6
"""Seconds of a timeout that no measurement reaches."""

Row = dict[str, Any]
Read = Callable[[str], Awaitable[ComicGeneration]]


def bounded(row: Row, value: float, *, most: float) -> Row:
    """Add a bound to a row, and whether `value` keeps it."""
    return {**row, "bound": f"<= {most}", "held": "yes" if value <= most else "NO"}


# 1. Requests a second


async def requests(*, quick: bool) -> list[Row]:
    number, repeats = (200, 5) if quick else (1_000, 15)
    ids = [f"cmc_{n:020x}" for n in range(number)]
    rows: list[Row] = []
    async with server() as url, readers(url) as contenders:
        for at_once in (1, 20, 100):
            times: dict[str, list[float]] = {name: [] for name in contenders}
            for turn in range(repeats + 1):
                for name, read in contenders.items():
                    gc.collect()
                    begun = time.perf_counter()
                    await drain(read, ids, at_once)
                    if turn:  # the first one opens the connections
                        times[name].append(time.perf_counter() - begun)
            ours, theirs = times.values()
            speed = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
            rows.append(
                {
                    "at once": at_once,
                    "llamagen_async": round(number / statistics.median(ours)),
                    "aiohttp": round(number / statistics.median(theirs)),
                    "ours / aiohttp": round(speed, 2),
                }
            )
    return rows


async def drain(read: Read, ids: list[str], at_once: int) -> None:
    """Read all `ids`, `at_once` at a time."""
    left = iter(ids)

    async def some() -> None:
        for id_ in left:
            await read(id_)

    await asyncio.gather(*(some() for _ in range(at_once)))


@asynccontextmanager
async def readers(url: str) -> AsyncIterator[dict[str, Read]]:
    """Yield two functions that read a generation: the client's, and aiohttp with its decoding."""
    session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"})
    ours = LlamaGenClient(KEY, plan=OFF, base_url=url, quota="memory", speed=FAST)
    async with session, ours as client:

        async def bare(id_: str) -> ComicGeneration:
            async with session.get(f"{url}/comics/generations/{id_}") as response:
                response.raise_for_status()
                return ComicGeneration.parse(await response.json())

        yield {"llamagen_async": client.comics.get, "aiohttp": bare}


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """Run `serve` in a process of its own; yield the base URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        await process.wait()


async def serve() -> None:
    """Answer every request on a free loopback port with a finished comic."""
    listening = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


class Canned(asyncio.Protocol):
    """A connection of a server that costs as little as possible."""

    def __init__(self) -> None:
        content = finished_comic()
        self._id = json.loads(content)["id"].encode()
        self._answer = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
            b"Content-Length: %d\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
            b"Cache-Control: private, no-store\r\nConnection: keep-alive\r\n\r\n%b"
        ) % (len(content), content)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer one request."""
        assert data.endswith(b"\r\n\r\n")  # one whole request: none has a body
        asked = data.split(b" ", 2)[1].rpartition(b"/")[2]
        assert len(asked) == len(self._id)  # the length of the answer stays the same
        self._transport.write(self._answer.replace(self._id, asked))


def finished_comic() -> bytes:
    """Return the sandbox's answer about a finished comic of four panels."""
    service = SandboxService(seed=7)
    headers = {"Authorization": f"Bearer {PAID_KEY}"}
    body = json.dumps({"prompt": "A superhero cat saves a city from giant mice"}).encode()
    created = service.handle(Call("POST", "/v1/comics/generations", headers, {}, body), 0.0)
    path = f"/v1/comics/generations/{json.loads(created.body)['id']}"
    return service.handle(Call("GET", path, headers), 3_600.0).body


# 2. Time for one decision


def decisions(*, quick: bool) -> list[Row]:
    number, repeats = (60, 1) if quick else (100, 3)
    few, many = 100, 20_000 if quick else 100_000
    costs: dict[int, list[float]] = {few: [], many: []}
    for _ in range(repeats):
        for targets, seen in costs.items():
            seen.append(run(deciding(targets, number)))
    slower = statistics.median(b / a for a, b in zip(costs[few], costs[many], strict=True))
    rows: list[Row] = [
        {"waited for": size, "us a decision": round(statistics.median(seen) * 1e6)}
        for size, seen in costs.items()
    ]
    rows[1][f"/ with {few}"] = round(slower, 2)
    rows[1] = bounded(rows[1], slower, most=3)
    return rows


async def deciding(targets: int, number: int) -> float:
    """Return the real seconds for each of `number` requests with so many poll targets."""
    transport = InstantTransport()
    new_ids = (f"cmc_{n:020x}" for n in itertools.count())

    async def wait_for_one_after_another() -> None:
        for id_ in new_ids:
            await client.comics.wait_for_completion(id_, timeout=LONG)

    async with LlamaGenClient(KEY, plan=BUSY, transport=transport) as client:
        tasks = [asyncio.create_task(wait_for_one_after_another()) for _ in range(targets)]
        await transport.sends(BUSY.rate.limit)  # first calls cost more
        gc.collect()
        gc.freeze()  # the collector leaves out what is there already
        begun = time.perf_counter()
        await transport.sends(number)
        took = time.perf_counter() - begun
        gc.unfreeze()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return took / number


class InstantTransport:
    """A transport that answers at once: every other generation is done when it is checked."""

    def __init__(self) -> None:
        self._left = 0
        self._enough = asyncio.Event()

    async def sends(self, number: int) -> None:
        """Return when `number` more requests were sent."""
        self._left = number
        self._enough.clear()
        await self._enough.wait()

    async def send(self, request: APIRequest) -> APIResponse:
        """Answer a status check."""
        self._left -= 1
        if self._left == 0:
            self._enough.set()
        status = "SUCCEEDED" if self._left % 2 else "PROCESSING"
        return APIResponse(200, {}, {"id": request.path.rpartition("/")[2], "status": status})

    async def aclose(self) -> None:
        """Do nothing: nothing is held."""


# 3. Memory of a waiting comic


def memory(*, quick: bool) -> list[Row]:
    number = 2_000 if quick else 20_000
    rows: list[Row] = []
    for how, env in {"allocated": {"PYTHONTRACEMALLOC": "1"}, "resident": {}}.items():
        bare, ours = (
            int(fresh([__file__, "--waiting", str(number), "--as", what], env))
            for what in ("task", "client")
        )
        row = {"bytes": how, "a bare task": bare, "wait_for_completion": ours}
        rows.append(bounded({**row, "beyond": ours - bare}, ours - bare, most=3 * 1024))
    return rows


async def waiting(number: int, what: str) -> int:
    """Return the bytes that each of `number` waiting tasks takes."""

    async def bare(future: asyncio.Future[None]) -> None:
        await future

    loop = asyncio.get_running_loop()
    ids = [f"cmc_{n:020x}" for n in range(number)]
    tasks: list[asyncio.Task[Any] | None] = [None] * number
    async with LlamaGenClient(KEY, plan=BUSY, transport=InstantTransport()) as client:
        wait = client.comics.wait_for_completion
        one = asyncio.create_task(wait("cmc_first", timeout=LONG))
        await one  # what only the first one makes is not counted
        gc.collect()
        before = bytes_in_use()
        for n, id_ in enumerate(ids):
            waits = bare(loop.create_future()) if what == "task" else wait(id_, timeout=LONG)
            tasks[n] = asyncio.create_task(waits)
        await asyncio.sleep(1)  # virtual: all have begun to wait, and there are no slots
        gc.collect()
        size = bytes_in_use() - before
        begun = [task for task in tasks if task is not None]
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
    return round(size / number)


def bytes_in_use() -> int:
    """Return the bytes that Python has allocated if those are traced, else the resident ones."""
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0]
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# 4. Import


def imports(*, quick: bool) -> list[Row]:
    repeats = 5 if quick else 25
    lines = {
        "import llamagen_async": "import llamagen_async",
        "import aiohttp": "import aiohttp",
        "the former, and a client made": "import llamagen_async as l; l.LlamaGenClient('key')",
    }
    times: dict[str, list[float]] = {name: [] for name in lines}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats + 1):
            for name, seen in times.items():
                # The processor's time does not depend on how busy the machine is.
                code = f"import time; t = time.process_time(); {lines[name]}; "
                code += "print(time.process_time() - t)"
                took = float(fresh(["-c", code], {"PYTHONPYCACHEPREFIX": folder}))
                if turn:  # the first one compiles
                    seen.append(took)
    ours, theirs, _ = times.values()
    slower = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    rows: list[Row] = [
        {"": name, "ms": round(statistics.median(seen) * 1e3, 1)} for name, seen in times.items()
    ]
    rows[0] = bounded({**rows[0], "/ aiohttp": round(slower, 2)}, slower, most=1.15)
    return rows


def fresh(arguments: list[str], env: dict[str, str]) -> str:
    """Run Python in a process of its own and return what it prints."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, **env},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    return done.stdout


def table(title: str, rows: list[Row]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    print_table(title, columns, [[row.get(column, "") for column in columns] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, rougher numbers")
    parser.add_argument("--only", choices=("requests", "decisions", "memory", "imports"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--waiting", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--as", dest="what", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    elif options.waiting:
        print(run(waiting(options.waiting, options.what)))
    else:
        measure(options.only, quick=options.quick)


def measure(only: str | None, *, quick: bool) -> None:
    parts: dict[str, tuple[str, Callable[[], list[Row]]]] = {
        "requests": (
            "1. Requests a second, limits off",
            lambda: asyncio.run(requests(quick=quick)),
        ),
        "decisions": ("2. Real time for one decision", lambda: decisions(quick=quick)),
        "memory": ("3. Memory of one that waits", lambda: memory(quick=quick)),
        "imports": ("4. Import in a fresh process", lambda: imports(quick=quick)),
    }
    result: dict[str, Any] = {}
    for name, (title, rows) in parts.items():
        if only in (None, name):
            result[name] = rows()
            table(title, result[name])
    if only is None:
        write_json("overhead", PACKAGES, result, quick=quick)


if __name__ == "__main__":
    main()
