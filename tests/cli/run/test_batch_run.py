"""A batch that ends early: the result of every story is recorded."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import LlamaGenClient, Plan, RateLimit, RateLimitError
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from llamagen_async.batch.lifecycle import Lifecycle
from llamagen_async.cli.input.stories import InputStory, Stories, read_stories
from llamagen_async.cli.output import Output
from llamagen_async.cli.run.batch_run import BatchRun
from llamagen_async.models import BatchState
from llamagen_async.transport import APIRequest, APIResponse

PLAN = Plan("of the test", limits=RateLimit(2, per=60))


class Network:
    """A transport on which a story's text says what becomes of it."""

    def __init__(self) -> None:
        self.silent = asyncio.Event()

    async def send(self, request: APIRequest) -> APIResponse:
        fields: Any = request.json
        prompt = fields["prompt"]
        if prompt == "refused":
            await self.silent.wait()
            raise RateLimitError(429, None, "too many", retry_after=600.0)
        if prompt == "silent":
            self.silent.set()
            await asyncio.Event().wait()
        return APIResponse(200, {}, {"id": f"id-{prompt}", "status": "SUCCEEDED"})

    async def aclose(self) -> None:
        pass


def run_of(
    prompts: Sequence[str], network: Network, output: Output, journal: Path | None = None
) -> BatchRun:
    key = prompts[0]  # each test counts for itself
    client = LlamaGenClient(key, plan=PLAN, base_url="http://127.0.0.1:9", transport=network)
    stories = Stories("s", checked=tuple(read_stories(prompts, name="s", form="txt")))
    opened = None if journal is None else Journal(journal, client.account)
    return BatchRun(client, stories, output, journal=opened, number=len(prompts))


async def test_after_an_interrupt_only_the_create_in_flight_is_uncertain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llamagen_async.client._GRACE", 0.05)
    monkeypatch.setattr(Lifecycle.stop, "__defaults__", (0.05,))
    network = Network()
    prompts = ("refused", "silent", "later")
    batch_run = run_of(prompts, network, Output(as_json=False))
    running = asyncio.create_task(batch_run.run())
    await network.silent.wait()
    for _ in range(5):  # the refusal is told
        await asyncio.sleep(0)
    running.cancel()
    await running
    assert batch_run.interrupted
    # The oldest one without an answer is not the one that is on its way.
    assert [(record.prompt, record.state) for record in batch_run.unrecorded.records()] == [
        ("refused", BatchState.QUEUED),
        ("silent", BatchState.UNCERTAIN),
        ("later", BatchState.QUEUED),
    ]


async def test_stories_that_ended_while_stdout_was_closed_are_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    batch_run = run_of(("one", "two", "three"), Network(), Output(as_json=True))
    await batch_run.run()
    assert batch_run.interrupted
    assert [record.state for record in batch_run.unrecorded.records()] == [
        BatchState.SUCCEEDED,
        BatchState.SUCCEEDED,
        BatchState.QUEUED,
    ]


class Endless:
    """A file of very many stories, which counts how many of them are read."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.read = 0

    def __len__(self) -> int:
        return self.number

    def __contains__(self, story: object) -> bool:
        return False

    def __iter__(self) -> Iterator[InputStory]:
        for number in range(self.number):
            self.read += 1
            yield InputStory(number, f"s:{number}", Story.parse(f"story {number}"))


async def test_a_long_file_is_read_only_as_far_as_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ending(Network):
        number = 0

        async def send(self, request: APIRequest) -> APIResponse:
            self.number += 1
            if self.number == 100:
                enough.set()
            id_ = {"id": f"id-{self.number}", "status": "SUCCEEDED"}
            return APIResponse(200, {}, id_)

    enough = asyncio.Event()
    plan = Plan("of the test", limits=RateLimit(100, per=60))
    client = LlamaGenClient("endless", plan=plan, base_url="http://127.0.0.1:9", transport=Ending())
    stories = Endless(1_000_000)
    output = Output(as_json=False)
    batch_run = BatchRun(
        client,
        Stories("s", checked=stories),
        output,
        journal=Journal(tmp_path / "journal.db", client.account),
        number=len(stories),
    )
    running = asyncio.create_task(batch_run.run())
    await enough.wait()
    running.cancel()
    await running
    assert batch_run.interrupted
    assert stories.read < 100 + 200
    assert len(batch_run.unrecorded.reading) < 200
    assert batch_run.tally.total == 1_000_000
    assert "1/1000000  done" in capsys.readouterr().out
