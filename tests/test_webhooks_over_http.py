"""The sandbox sends events to a backend over HTTP; the backend verifies and delivers them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from llamagen_async import ClientClosedError, LlamaGenClient, Plan, WebhookSignatureError
from llamagen_async.sandbox import PAID_KEY, Durations, Fault, SandboxServer, Webhook
from llamagen_async.webhooks import ReplayGuard, construct_event
from tests.support.cli import COMMAND, environment
from tests.support.sandbox import ROOMY, roomy_service

ROOT = Path(__file__).parent.parent
SECRET = "whsec_test"
SPEED = 600.0
"""The speed of the sandbox's clock: a comic of a minute takes a tenth of a second."""


class Backend:
    """A web application with an endpoint for events, as its author would write it."""

    def __init__(self) -> None:
        self.client: LlamaGenClient | None = None
        self.answers: list[int] = []
        self.url = ""
        self._guard = ReplayGuard()

    async def handle(self, request: web.Request) -> web.Response:
        try:
            event = construct_event(await request.read(), request.headers, SECRET)
        except WebhookSignatureError:
            self.answers.append(400)
            return web.Response(status=400)
        assert self.client is not None
        if self._guard.claim(event):
            try:
                self.client.deliver(event)
            except ClientClosedError:
                self._guard.release(event)
                return web.Response(status=503)
        self.answers.append(204)
        return web.Response(status=204)


def expect_long_comics(client: LlamaGenClient) -> None:
    """Let a client know of comics that take so long that no announcement is overdue here.

    A few comics of a minute do not change that, however slow this machine is.
    """
    for _ in range(30):
        client._core.open().scheduler.forecasts.observe((), 5_000.0, 5_010.0)


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    one = Backend()
    app = web.Application()
    app.router.add_post("/events", one.handle)
    async with TestServer(app) as server:
        one.url = str(server.make_url("/events"))
        yield one


@pytest.mark.parametrize(("data", "each"), [("result", 0), ("status", 1)])
async def test_a_backend_waits_for_comics_without_polling(
    backend: Backend, data: Any, each: int
) -> None:
    """Four comics: no status check if events carry the result, exactly one for each if not."""
    service = roomy_service(faults=[Fault("event-forged"), Fault("event-doubled")])
    webhook = Webhook(backend.url, SECRET, data)
    async with (
        SandboxServer(service, speed=SPEED, webhook=webhook) as server,
        LlamaGenClient(
            PAID_KEY,
            plan=ROOMY,
            base_url=server.url,
            speed=server.speed,
            quota="memory",
            webhooks=True,
        ) as client,
    ):
        backend.client = client
        expect_long_comics(client)
        comics = await asyncio.gather(*(client.comics.create(f"{number}") for number in range(4)))
        done = await asyncio.gather(
            *(client.comics.wait_for_completion(comic.id, timeout=90_000) for comic in comics)
        )
        assert all(len(comic.asset_urls) == 5 for comic in done)
        assert client.stats().requests == {"create": 4, **({"status": 4} if each else {})}
    assert backend.answers.count(400) >= 8


async def test_the_backend_of_the_documentation_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program as printed, started with the sandbox that it is shown with."""
    text = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "backend"}
    exec(compile(program, "webhooks.md", "exec"), names)
    service = roomy_service(durations=Durations.constant(20))
    webhook = Webhook(f"http://127.0.0.1:{unused_port()}/events", SECRET)
    async with SandboxServer(service, speed=SPEED, webhook=webhook) as server:
        for name, value in {
            "LLAMAGEN_WEBHOOK_SECRET": SECRET,
            "LLAMAGEN_API_KEY": PAID_KEY,
            "LLAMAGEN_API_URL": server.url,
            "LLAMAGEN_PLAN": "paid",
            "LLAMAGEN_SPEED": str(SPEED),
        }.items():
            monkeypatch.setenv(name, value)
        async with (
            TestServer(names["app"], port=int(webhook.url.split(":")[2].split("/")[0])) as backend,
            aiohttp.ClientSession() as session,
            session.get(backend.make_url("/comic?prompt=a%20cat")) as answer,
        ):
            assert answer.status == 200
            assert len((await answer.json())["pictures"]) == 5
        counts = service.stats(server.now())["webhooks"]
    assert counts["accepted"] >= 2


async def test_an_endpoint_that_is_not_there_is_no_matter(backend: Backend) -> None:
    """The sandbox goes on, and so does the wait."""
    service = roomy_service(durations=Durations.constant(20))
    webhook = Webhook("http://127.0.0.1:9/", SECRET)
    async with SandboxServer(service, speed=SPEED, webhook=webhook) as server:
        key = {"Authorization": f"Bearer {PAID_KEY}"}
        async with aiohttp.ClientSession(headers=key) as session:
            body = {"prompt": "a cat"}
            async with session.post(f"{server.url}/comics/generations", json=body) as response:
                assert response.status == 200
            while not service.stats(0.0)["webhooks"].get("refused"):  # noqa: ASYNC110  # no event
                await asyncio.sleep(0)


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to one process")
async def test_the_sandbox_of_the_command_line_sends_events(
    backend: Backend, tmp_path: Path
) -> None:
    """A process of its own sends them, and says at its end what became of them."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "sandbox",
        "--speed",
        "300",
        "--webhook",
        backend.url,
        "--webhook-data",
        "result",
        "--fault",
        "event-forged",
        "--fault",
        "event-doubled:rate=0.5",
        "--json",
        cwd=tmp_path,
        env=environment(LLAMAGEN_WEBHOOK_SECRET=SECRET),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        said = json.loads(await process.stdout.readline())
        async with LlamaGenClient(
            PAID_KEY,
            plan=Plan.PAID,
            base_url=said["url"],
            speed=300,
            quota="memory",
            webhooks=True,
        ) as client:
            backend.client = client
            expect_long_comics(client)
            comic = await client.comics.create_and_wait("A cat", timeout=9_000)
            assert len(comic.asset_urls) == 5
            assert client.stats().requests == {"create": 1}
        process.send_signal(signal.SIGINT)
        stats = json.loads(await process.stdout.readline())
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert stats["webhooks"]["accepted"] >= 3
    assert stats["webhooks"]["refused"] == 3
    assert backend.answers.count(400) == 3
