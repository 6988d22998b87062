"""Types of queues, webhooks, simulations and web backends, as a user's type checker sees them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, assert_type

import taskiq
from starlette.requests import HTTPConnection

from llamagen_async import (
    Animation,
    BatchProgress,
    BatchState,
    ClientStats,
    ComicGeneration,
    ComicJob,
    ComicQueue,
    ComicRequest,
    LimitsSnapshot,
    LlamaGenClient,
    Plan,
    Redraw,
    Spending,
    VideoOptions,
    WebhookSignatureError,
)
from llamagen_async.plans import PlanName
from llamagen_async.sandbox import Fault, SandboxServer, SandboxService
from llamagen_async.simulation import run, simulated_client
from llamagen_async.taskiq import TaskiqQueue, register
from llamagen_async.telemetry import Telemetry
from llamagen_async.web import ComicsApp, create_app, get_client
from llamagen_async.webhooks import WebhookEvent, construct_event, sign, verify_signature


async def orders(client: LlamaGenClient) -> None:
    async with ComicQueue(client, journal="orders.db", out="comics/") as queue:
        assert_type(queue, ComicQueue)
        job = await queue.submit("a cat", key="order-42", urgent=True)
        assert_type(job, ComicJob)
        assert_type(job.state, BatchState)
        assert_type(job.expected_at, datetime | None)
        assert_type(job.position, int | None)
        assert_type(job.files, tuple[Path, ...])
        assert_type(queue.events(job), AsyncGenerator[ComicJob, None])
        async for event in queue.events("order-42", after=str(job.mark)):
            assert_type(event, ComicJob)
        assert_type(await queue.get("order-42"), ComicJob | None)
        assert_type(await queue.result(job), ComicGeneration | Animation)
        assert_type(await queue.cancel("order-42"), ComicJob)
        assert_type(await queue.resend(job), ComicJob)
        assert_type(await queue.list(BatchState.RUNNING, limit=5), Sequence[ComicJob])


async def keys(client: LlamaGenClient, name: PlanName) -> None:
    assert_type(client.with_key("key", plan=name), LlamaGenClient)
    client.with_key("key", plan="golden")  # type: ignore[arg-type]  # no plan's name
    LlamaGenClient("key", plan=Plan.parse("demo"), on_store_failure="raise")
    LlamaGenClient("key", on_store_failure="wait")  # type: ignore[arg-type]  # no such choice
    assert_type(await client.limits(), LimitsSnapshot)
    assert_type((await client.limits()).paused_for, float)
    stats = client.stats()
    assert_type(stats, ClientStats)
    assert_type(stats.requests, dict[str, int])
    assert_type(stats.requests_per_finished, float | None)


async def folders(client: LlamaGenClient) -> None:
    batch = client.comics.batch(["a cat"], out="out", journal="run.db", defaults={"preset": "x"})
    assert_type(batch.progress, BatchProgress)
    assert_type(batch.progress.total, int | None)
    assert_type(batch.progress.spending, Spending)
    redraw = await client.comics.redraw("out", "order-1", panel=1, prompt="it smiles")
    assert_type(redraw, Redraw)
    assert_type((redraw.file, redraw.kept), tuple[Path, Path | None])


def words() -> None:
    # Lists that the API may have made longer take any text; the others take their words alone.
    ComicRequest("x", size="640x640", preset="of-tomorrow", model="new", language="pt-BR")
    VideoOptions(aspect_ratio="21:9", resolution="8k")
    ComicRequest("x", upscale="2K")
    ComicRequest("x", upscale="8K")  # type: ignore[arg-type]  # not enlarged so much
    ComicRequest("x", fix_panel_num="4")  # type: ignore[arg-type]  # not a number
    ComicRequest(5)  # type: ignore[arg-type]  # not a story


def events(body: bytes, headers: dict[str, str]) -> None:
    try:
        event = construct_event(body, headers, "secret", tolerance=60)
    except WebhookSignatureError as error:
        assert_type(error.id, str | None)
        return
    assert_type(event, WebhookEvent)
    assert_type((event.id, event.type), tuple[str | None, str])
    assert_type(event.created, datetime | None)
    assert_type(verify_signature(body, headers, ["old", "new"]), Literal[True])
    assert_type(sign(body, b"secret"), dict[str, str])
    construct_event({"id": "x"}, headers, "secret")  # type: ignore[arg-type]  # parsed already


def backends(broker: taskiq.AsyncBroker, connection: HTTPConnection) -> None:
    app = create_app(journal="orders.db", out="comics/", authorize=lambda request: True)
    assert_type(app, ComicsApp)
    assert_type(app.client, LlamaGenClient)
    assert_type(get_client(connection), LlamaGenClient)
    assert_type(register(broker), TaskiqQueue)


async def tasks(comics: TaskiqQueue) -> None:
    async with comics:
        assert_type(await comics.submit("a cat", key="order-42"), ComicJob)
        async for event in comics.events("order-42"):
            assert_type(event, ComicJob)
        assert_type(await comics.result("order-42"), ComicGeneration | Animation)
        await comics.generate.kiq("a cat", key="order-42")


def simulations(telemetry: Telemetry) -> None:
    service = SandboxService(seed=7, algorithm="bucket", faults=[Fault("error", 503)])
    SandboxService(algorithm="none")  # type: ignore[arg-type]  # no such algorithm
    assert_type(SandboxServer(service, speed=60).url, str)

    async def main() -> Sequence[str]:
        async with simulated_client(service, plan="paid", telemetry=telemetry) as client:
            assert_type(client, LlamaGenClient)
            comic = await client.comics.create_and_wait("a cat")
            assert_type(comic._repr_html_(), str)  # pyright: ignore[reportPrivateUsage]  # Jupyter
            return comic.asset_urls

    assert_type(run(main()), Sequence[str])


def anything(comic: ComicGeneration) -> Any:
    return comic.raw["unknown"]
