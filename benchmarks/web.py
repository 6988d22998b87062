"""The web application's cost, beside a bare Starlette route in the same run.

    python benchmarks/web.py [--quick]

1. GET of a finished comic, against a Starlette route that returns the same JSON: called as ASGI
   applications, so that nothing but the two counts, and over sockets by uvicorn.
2. Readers of server-sent events on one worker, a process of its own: its memory, the time to the
   first event, and how long after the first reader the others hear of a comic's end.

The first has a bound that the project has set itself; the second is reported, with events that were
lost. Prints tables, writes `benchmarks/results/web.json`, asserts nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvicorn
from _report import is_quick, print_table, write_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from llamagen_async import LlamaGenClient, Plan, RateLimit
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from llamagen_async.web import create_app

PACKAGES: Final = ("llamagen-async", "starlette", "uvicorn", "sse-starlette")
MOST: Final = 2.0
"""How many times the bare route's time a finished comic may take (the project's own bound)."""
ROUNDS: Final = 7
"""Rounds of which the median counts; the two applications take turns in each."""
COMICS: Final = 10
"""Comics that the readers follow."""
OFF: Final = Plan("off", limits=RateLimit(10_000, per=60), metered=())

Row = dict[str, Any]
Ask = Callable[[], Awaitable[None]]


async def seconds_for(ask: Ask, number: int) -> float:
    started = time.perf_counter()
    for _ in range(number):
        await ask()
    return (time.perf_counter() - started) / number


def asgi(app: Any, path: str) -> Ask:
    """Return a function that calls an application as a server does."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: object) -> None:
        pass

    async def ask() -> None:
        await app(dict(scope), receive, send)

    return ask


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """The URL of an application, served by uvicorn in this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # asyncio does so only for sockets that it has made; without it each answer waits for 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(app, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def finished_comic(folder: Path, *, number: int) -> list[Row]:
    """Measure the GET of a finished comic against a bare route."""
    service = SandboxService(durations=Durations.constant(1))
    async with (
        SandboxServer(service, speed=100) as sandbox,
        LlamaGenClient(
            PAID_KEY, plan="paid", base_url=sandbox.url, speed=100, quota="memory"
        ) as client,
    ):
        comics = create_app(client, out=folder / "out")
        async with comics.lifespan():
            await comics.queue.result(await comics.queue.submit("A cat", key="k"))
            async with (
                listening(comics) as url,
                aiohttp.ClientSession() as http,
                http.get(f"{url}/comics/k") as answer,
            ):
                facts = await answer.json()

            async def bare(_request: Request) -> JSONResponse:
                return JSONResponse(facts)

            plain = Starlette(routes=[Route("/comics/{key}", bare)])
            rows = [
                await compared(
                    "called as ASGI", asgi(comics, "/comics/k"), asgi(plain, "/comics/k"), number
                )
            ]
            async with (
                listening(comics) as ours,
                listening(plain) as theirs,
                aiohttp.ClientSession() as http,
            ):

                def get(url: str) -> Ask:
                    async def ask() -> None:
                        async with http.get(f"{url}/comics/k") as answer:
                            await answer.read()

                    return ask

                rows.append(await compared("over a socket", get(ours), get(theirs), number // 5))
    return rows


async def compared(what: str, ours: Ask, theirs: Ask, number: int) -> Row:
    rounds = [
        (await seconds_for(ours, number), await seconds_for(theirs, number)) for _ in range(ROUNDS)
    ]
    mine, bare = (statistics.median(one[n] for one in rounds) * 1e6 for n in (0, 1))
    ratio = statistics.median(one[0] / one[1] for one in rounds)
    held = "yes" if ratio <= MOST else "NO"
    return {"how": what, "comic_us": mine, "bare_us": bare, "ratio": ratio, "held": held}


@asynccontextmanager
async def worker(sandbox: SandboxServer, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """One worker as users run it: its process and its address."""
    env = {
        **os.environ,
        "LLAMAGEN_API_KEY": PAID_KEY,
        "LLAMAGEN_API_URL": sandbox.url,
        "LLAMAGEN_PLAN": "paid",
        "LLAMAGEN_METERED": "create",
        "LLAMAGEN_SPEED": f"{sandbox.speed:g}",
        "LLAMAGEN_QUOTA": "memory",
        "LLAMAGEN_OUT": str(folder / "worker"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "llamagen_async.web:app", "--port", "0"),
        "--no-access-log",
        env=env,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        while found := await process.stderr.readline():
            if address := re.search(rb"running on (http://\S+)", found):
                yield process.pid, address[1].decode()
                break
        else:
            raise RuntimeError("uvicorn did not start")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def memory_of(pid: int) -> float | None:
    """Return the MB of memory of a process, where the system tells it in a file."""
    status = Path("/proc", str(pid), "status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
    return None if found is None else int(found[1]) / 1024


async def read(http: aiohttp.ClientSession, url: str, begun: asyncio.Semaphore) -> Row:
    """Follow a comic to its end; return what came, and when."""
    asked, first, ids, kinds = time.perf_counter(), 0.0, [], []
    async with http.get(url) as answer:
        async for raw in answer.content:
            name, _, value = raw.decode().strip().partition(": ")
            if name == "id":
                ids.append(value)
            elif name == "event":
                kinds.append(value)
                if not first:
                    first = time.perf_counter() - asked
                    begun.release()
    return {"url": url, "first": first, "ids": ids, "kinds": kinds, "end": time.perf_counter()}


async def readers(folder: Path, *, number: int) -> Row:
    """Let many follow a few comics on one worker."""
    # All of them are there before the first comic is done, after 20 to 60 real seconds.
    speed = 75 if number < 1_000 else 25
    service = SandboxService(durations=Durations.constant(1_500), plans={PAID_KEY: OFF})
    begun = asyncio.Semaphore(0)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        SandboxServer(service, speed=speed) as sandbox,
        worker(sandbox, folder) as (pid, url),
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
    ):
        links = []
        for n in range(COMICS):
            body = {"prompt": f"Story {n}", "fix_panel_num": 1}
            async with http.post(f"{url}/comics", json=body) as answer:
                links.append(url + (await answer.json())["links"]["events"])
        before = memory_of(pid)
        reading = [asyncio.create_task(read(http, links[n % COMICS], begun)) for n in range(number)]
        for _ in range(number):
            await begun.acquire()
        after = memory_of(pid)
        results = await asyncio.gather(*reading)
    ends: dict[str, float] = {}
    for one in results:
        ends[one["url"]] = min(ends.get(one["url"], one["end"]), one["end"])
    late = sorted(one["end"] - ends[one["url"]] for one in results)
    # A reader that came when all was over is told of the end alone.
    lost = sum(
        one["kinds"] != ["done"] and not {"running", "done"} <= {*one["kinds"]} for one in results
    )
    doubled = sum(len(one["ids"]) != len(set(one["ids"])) for one in results)
    firsts = sorted(one["first"] for one in results)
    growth = None if after is None or before is None else (after - before) * 1024 / number
    return {
        "readers": number,
        "memory_mb": after,
        "kb_a_reader": growth,
        "first_event_ms_median": firsts[number // 2] * 1e3,
        "first_event_ms_most": firsts[-1] * 1e3,
        "end_ms_median": late[number // 2] * 1e3,
        "end_ms_most": late[-1] * 1e3,
        "lost": lost,
        "doubled": doubled,
    }


def more_files() -> None:
    """Let this process and its children have as many open connections as the system allows."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # not on Windows

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def main() -> None:
    quick = is_quick(__doc__)
    more_files()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = await finished_comic(folder, number=500 if quick else 5_000)
        counts = (100,) if quick else (100, 1_000)
        followed = [await readers(folder / f"{n}", number=n) for n in counts]
    print_table(
        "GET of a finished comic, microseconds (median of 7 rounds)",
        ["how", "comic", "bare route", "ratio", f"at most {MOST:g}"],
        [[row["how"], row["comic_us"], row["bare_us"], row["ratio"], row["held"]] for row in rows],
    )
    print_table(
        f"Readers of {COMICS} comics on one worker",
        ["readers", "MB", "KB each", "first, ms", "most", "end, ms", "most", "lost", "doubled"],
        [list(row.values()) for row in followed],
        "'first' is from the request to the first event; 'end' is how long after the first reader",
        "of the same comic a reader hears of its end.",
    )
    write_json("web", PACKAGES, {"finished": rows, "readers": followed}, quick=quick)


if __name__ == "__main__":
    asyncio.run(main())
