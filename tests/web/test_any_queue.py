"""Jobs of any queue as the routes tell them: their ends, repeated questions, and failures."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import attrs
import httpx
import pytest

from llamagen_async import (
    BatchState,
    ComicGeneration,
    ComicRequest,
    GenerationFailedError,
    JournalError,
    LlamaGenClient,
    LlamaGenError,
)
from llamagen_async.batch.events import ComicJob
from llamagen_async.batch.protocol import JobQueue
from llamagen_async.web import create_app
from llamagen_async.web.service import ComicService
from llamagen_async.webhooks import WebhookEvent, sign
from tests.support.web import BORDERS, SECRET, asgi_client, backend

NOW = datetime.now(UTC)
JOB = ComicJob("k", BatchState.SUCCEEDED, 1, NOW, NOW, ComicRequest("a"), files=(Path("a.png"),))


class One:
    """A queue with one job, which a test may change."""

    held_by = None

    def __init__(self, job: ComicJob) -> None:
        self.job = job
        self.fails_by: LlamaGenError | None = None

    async def start(self) -> None:
        pass

    async def aclose(self, grace: float = 0.0) -> None:
        pass

    async def get(self, key: str) -> ComicJob | None:
        await self.waiting()
        return self.job if key == self.job.key else None

    async def waiting(self) -> int:
        if self.fails_by is not None:
            raise self.fails_by
        return 0

    async def events(self, key: str, *, after: str | None = None) -> AsyncGenerator[ComicJob, None]:
        yield attrs.evolve(self.job, key=key, error=None)


@asynccontextmanager
async def routes_of(queue: One, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with LlamaGenClient("sk-llamagen-x", plan="paid", quota="memory") as client:
        app = create_app(client, queue=cast("JobQueue", queue), **settings)
        async with app.lifespan(), asgi_client(app) as http:
            yield http


FAILED = GenerationFailedError(ComicGeneration.parse({"id": "cmc_1", "status": "FAILED"}))
OTHER = LlamaGenError("no")


@pytest.mark.parametrize(
    ("state", "error", "status"),
    [
        (BatchState.SUCCEEDED, None, 204),
        (BatchState.FAILED, FAILED, 204),
        (BatchState.CANCELLED, OTHER, 204),
        (BatchState.UNCERTAIN, OTHER, 204),
        # Nobody waits for these any more, until somebody asks for them.
        (BatchState.RUNNING, OTHER, 200),
        (BatchState.SUCCEEDED, OTHER, 200),
    ],
)
async def test_whoever_has_seen_the_end_need_not_come_back(
    state: BatchState, error: Exception | None, status: int
) -> None:
    """A browser whose stream ends without a word asks again every few seconds, for ever."""
    job = attrs.evolve(JOB, state=state, error=error)
    async with routes_of(One(job)) as http:
        seen = {"Last-Event-ID": str(job.mark)}
        assert (await http.get("comics/k/events", headers=seen)).status_code == status


async def test_a_key_that_has_another_job_after_days_is_told_anew() -> None:
    """Redis forgets a job a day after its end at the soonest, and then its key is free."""
    queue = One(attrs.evolve(JOB, at=NOW - timedelta(hours=23)))
    async with routes_of(queue) as http:
        assert (await http.get("comics/k")).json()["prompt"] == "a"
        queue.job = attrs.evolve(JOB, state=BatchState.QUEUED, request=ComicRequest("b"), files=())
        told = (await http.get("comics/k")).json()
    assert (told["state"], told["prompt"]) == ("queued", "b")


async def test_a_long_story_is_not_kept_in_memory() -> None:
    """A thousand of them would take a gigabyte."""
    queue = One(attrs.evolve(JOB, request=ComicRequest("x" * 30_000)))
    async with routes_of(queue) as http:
        await http.get("comics/k")
        queue.fails_by = JournalError("it was asked")
        assert (await http.get("comics/k")).status_code == 503


async def test_whom_nobody_has_allowed_is_told_no_path_and_no_host() -> None:
    """The log has it, and so has the answer to a visitor who was allowed."""
    queue = One(JOB)
    queue.fails_by = JournalError("/srv/shop/orders.db: no connection to 10.1.2.3")
    async with routes_of(queue, authorize=lambda request: "token" in request.headers) as http:
        for headers in ({}, {"token": "x"}):
            answer = await http.get("readyz", headers=headers)
            assert answer.status_code == 503
            assert "shop" not in answer.text
            assert "10.1.2.3" not in answer.text
        answer = await http.get("comics/k", headers={"token": "x"})
        assert "/srv/shop/orders.db" in answer.json()["detail"]


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.webp", "image/webp"),
        ("a.jpg", "image/jpeg"),
        ("a.mkv", "video/x-matroska"),
        ("a.bin", "application/octet-stream"),
    ],
)
async def test_a_picture_has_its_type_wherever_the_server_runs(
    border: str, name: str, media_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python knows no WebP before 3.13 but from files of the system, which containers lack."""
    for guess in ("starlette.responses.guess_type", "mimetypes.MimeTypes.guess_type"):
        monkeypatch.setattr(guess, lambda *_arguments: (None, None))
    file = tmp_path / name
    file.write_bytes(b"x")
    queue = One(attrs.evolve(JOB, files=(file,)))
    async with backend(border, tmp_path, journal=None, out=None, queue=queue) as shop:
        answer = await shop.http.get("comics/k/pictures/0")
        assert (answer.status_code, answer.content) == (200, b"x")
        assert answer.headers["content-type"] == media_type


@pytest.mark.parametrize(
    "failure", [JournalError("full"), RuntimeError(), asyncio.CancelledError()]
)
async def test_an_event_that_could_not_be_handled_is_new_when_it_comes_again(
    failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was in its way; else it would be lost, and answered as if it were not."""
    body = json.dumps({"id": "evt", "type": "comic.generation.updated", "data": {"id": "c"}})
    async with routes_of(One(JOB), webhook_secret=SECRET) as http:

        async def fails(_self: ComicService, _event: WebhookEvent) -> None:
            raise failure

        with monkeypatch.context() as patch:
            patch.setattr(ComicService, "deliver", fails)
            with contextlib.suppress(type(failure)):
                await http.post("webhooks", content=body, headers=sign(body, SECRET))
        came: list[str | None] = []

        async def handles(_self: ComicService, event: WebhookEvent) -> None:
            came.append(event.id)

        monkeypatch.setattr(ComicService, "deliver", handles)
        for _ in range(2):
            answer = await http.post("webhooks", content=body, headers=sign(body, SECRET))
            assert answer.status_code == 204
        assert came == ["evt"]
