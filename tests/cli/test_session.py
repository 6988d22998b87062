"""A batch that ends early: what became of every story, exactly."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from llamagen_async import LlamaGenClient, Plan, RateLimit, RateLimitError
from llamagen_async.cli.output import Output
from llamagen_async.cli.session import Session
from llamagen_async.cli.stories import Stories, read_stories
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
            raise RateLimitError(429, None, "too many", retry_after=600.0)
        if prompt == "silent":
            self.silent.set()
            await asyncio.Event().wait()
        return APIResponse(200, {}, {"id": f"id-{prompt}", "status": "SUCCEEDED"})

    async def aclose(self) -> None:
        pass


def session_of(prompts: Sequence[str], network: Network, output: Output) -> Session:
    key = prompts[0]  # each test counts for itself
    client = LlamaGenClient(key, plan=PLAN, base_url="http://127.0.0.1:9", transport=network)
    lines = [prompt.encode() for prompt in prompts]
    stories = Stories("s", checked=tuple(read_stories(lines, name="s", form="txt")))
    return Session(client, stories, output)


async def test_an_interrupt_tells_which_story_is_uncertain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llamagen_async.client._GRACE", 0.05)
    network = Network()
    prompts = ("refused", "silent", "later")
    session = session_of(prompts, network, Output(as_json=False))
    running = asyncio.create_task(session.run())
    await network.silent.wait()
    await asyncio.sleep(0)
    running.cancel()
    await running
    assert session.interrupted
    # The oldest one without an answer is not the one that is on its way.
    assert [(record.prompt, record.state) for record in session.records] == [
        ("refused", BatchState.QUEUED),
        ("silent", BatchState.UNCERTAIN),
        ("later", BatchState.QUEUED),
    ]


async def test_what_ended_while_the_reader_left_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr("llamagen_async.cli.output._abandon_stdout", lambda: None)
    session = session_of(("one", "two", "three"), Network(), Output(as_json=True))
    await session.run()
    assert session.interrupted
    assert [record.state for record in session.records] == [
        BatchState.SUCCEEDED,
        BatchState.SUCCEEDED,
        BatchState.QUEUED,
    ]
