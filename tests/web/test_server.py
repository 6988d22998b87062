"""Real servers: the routes under uvicorn, the command `serve`, and how both end."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from llamagen_async.sandbox import PAID_KEY, SandboxServer
from llamagen_async.web import create_app
from tests.support.cli import COMMAND, environment, needs_posix
from tests.support.web import events_in, fast_sandbox, sandbox_client, served

pytestmark = pytest.mark.once


@asynccontextmanager
async def serving(
    server: SandboxServer, folder: Path, *argv: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The command `serve` in a process of its own, and its address."""
    env = environment(
        LLAMAGEN_API_KEY=PAID_KEY,
        LLAMAGEN_API_URL=server.url,
        LLAMAGEN_PLAN="paid",
        LLAMAGEN_SPEED=f"{server.speed:g}",
        LLAMAGEN_QUOTA=f"sqlite:///{folder / 'quota.db'}",
    )
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("serve", "--port", "0", "--json", *argv),
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        yield process, str(json.loads(line)["url"]) if line else ""
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def order(http: httpx.AsyncClient, key: str) -> None:
    headers = {"Idempotency-Key": key}
    body = {"prompt": f"story {key}", "fix_panel_num": 1}
    assert (await http.post("/comics", json=body, headers=headers)).status_code == 202


async def lines_of(http: httpx.AsyncClient, path: str, started: asyncio.Event) -> str:
    """Follow a comic to the end of the stream; `started` is set by the first event."""
    text = ""
    async with http.stream("GET", path) as answer:
        async for chunk in answer.aiter_text():
            text += chunk
            if "data:" in text:
                started.set()
    return text


async def test_uvicorn_ends_in_order_with_readers_connected(tmp_path: Path) -> None:
    """Nobody is cut off: streams end with the time after which to come back."""
    async with fast_sandbox(seconds=6_000) as server, sandbox_client(server) as client:
        app, started = create_app(client, out=tmp_path), asyncio.Event()
        async with served(app) as url, httpx.AsyncClient(base_url=url) as http:
            await order(http, "k")
            following = asyncio.create_task(lines_of(http, "/comics/k/events", started))
            await started.wait()
            app.service.draining.set()
            events = events_in(await following)
        assert events[-1] == {"retry": "1000"}
        assert events[-2]["id"]


async def test_a_reader_that_disconnects_ends_its_stream_alone(tmp_path: Path) -> None:
    async with fast_sandbox() as server, sandbox_client(server) as client:
        app = create_app(client, out=tmp_path)
        async with served(app) as url, httpx.AsyncClient(base_url=url) as http:
            await order(http, "k")
            async with http.stream("GET", "/comics/k/events") as answer:
                async for _ in answer.aiter_text():
                    break
            text = (await http.get("/comics/k/events")).text
            assert events_in(text)[-1]["event"] == "done"


@needs_posix
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
async def test_serve_ends_in_order_and_the_next_one_goes_on(tmp_path: Path, number: str) -> None:
    """Each order becomes one comic, and every reader hears of its end."""
    keys = [f"k{n}" for n in range(11)]
    async with fast_sandbox(seconds=100) as server:
        async with serving(server, tmp_path) as (process, url):
            async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                for key in keys:
                    await order(http, key)
                started = asyncio.Event()
                reading = asyncio.create_task(lines_of(http, "/comics/k10/events", started))
                await started.wait()
                process.send_signal(getattr(signal, number))
                seen = events_in(await reading)
            assert await process.wait() == 0
            assert process.stderr is not None
            assert b"Traceback" not in await process.stderr.read()
        async with (
            serving(server, tmp_path) as (_, url),
            httpx.AsyncClient(base_url=url, timeout=30) as http,
        ):
            last = [one["id"] for one in seen if "id" in one][-1]
            answer = await http.get("/comics/k10/events", headers={"Last-Event-ID": last})
            if answer.status_code == 200:
                rest = [one for one in events_in(answer.text) if "id" in one]
                assert rest[-1]["event"] == "done"
                assert last not in [one["id"] for one in rest]
            for key in keys:
                await http.get(f"/comics/{key}/events")
            comics: Any = (await http.get("/comics")).json()["comics"]
            assert {one["state"] for one in comics} == {"succeeded"}
        stats = server.service.stats(server.now())
    assert len(stats["generations"]) == len(keys)
    assert stats["keys"][PAID_KEY]["refused"] == 0
