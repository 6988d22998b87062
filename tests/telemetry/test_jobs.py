"""Stories of a batch and jobs of a queue: a span for each, from its beginning to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from llamagen_async import ComicQueue, ServerError
from tests.support.machine import Machine
from tests.support.scripted import Sent
from tests.support.telemetry import Recording

pytestmark = pytest.mark.virtual_time

STATE = "llamagen.job.state"


def machine_of(tmp_path: Path, seen: Recording, **settings: Any) -> Machine:
    machine = Machine(tmp_path, **settings)
    machine.telemetry = seen.telemetry
    return machine


async def test_each_item_of_a_batch_has_a_span_with_its_key_and_its_id(tmp_path: Path) -> None:
    seen = Recording()
    machine = machine_of(tmp_path, seen)
    stories = [{"key": name, "prompt": name} for name in ("one", "two")]
    with seen.tracer.start_as_current_span("the application"):
        items = await machine.batch(stories)
    ids = {item.key: item.generation.id for item in items if item.generation}
    jobs = seen.named("llamagen job")
    told = [dict(span.attributes or {}) for span in jobs]
    assert {one["llamagen.job.key"]: one["llamagen.generation.id"] for one in told} == ids
    assert {one[STATE] for one in told} == {"succeeded"}
    assert [seen.above(span) for span in jobs] == [["the application"]] * 2
    for name, kind in [("POST", "create"), ("GET", "wait")]:
        for span in seen.named(name):
            key = (span.attributes or {})["llamagen.job.key"]
            assert key in ids
            around = [f"llamagen {kind}", "llamagen job", "the application"]
            assert seen.above(span) == around
    assert seen.values("llamagen.jobs", STATE) == {"succeeded": 2}


async def test_a_story_without_an_end_says_why(tmp_path: Path) -> None:
    seen = Recording()

    def before(sent: Sent) -> Exception | None:
        return ServerError(502, None, "bad gateway") if sent.prompt == "lost" else None

    machine = machine_of(tmp_path, seen, before=before)
    await machine.batch(["lost"])
    job = seen.one("llamagen job")
    assert (job.attributes or {})[STATE] == "uncertain"
    assert (job.attributes or {})["error.type"] == "SubmissionUncertainError"
    assert job.status.status_code is StatusCode.ERROR
    assert seen.values("llamagen.jobs", STATE) == {"uncertain": 1}


async def test_a_job_of_a_queue_is_in_the_trace_of_its_submission(tmp_path: Path) -> None:
    seen = Recording()
    machine = machine_of(tmp_path, seen)

    async def backend(name: str) -> None:
        with seen.tracer.start_as_current_span(name):
            await queue.result(await queue.submit(name, key=name))

    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        await asyncio.gather(*map(backend, ["ann", "bob"]))
    for name in ("llamagen job", "POST", "GET"):
        spans = seen.named(name)
        assert spans
        for span in spans:
            assert seen.above(span)[-1] == (span.attributes or {})["llamagen.job.key"]


async def test_a_batch_that_is_left_leaves_no_span_open(tmp_path: Path) -> None:
    seen = Recording()
    machine = machine_of(tmp_path, seen)
    await machine.batch([f"s{n}" for n in range(4)], leave_after=1)
    begun = {link for span in seen.spans if (link := span.context.span_id)}
    parents = {span.parent.span_id for span in seen.spans if span.parent}
    assert parents <= begun
    assert len(seen.named("llamagen job")) == 4
