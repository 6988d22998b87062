"""Spans: each is in the trace of whoever has asked, whatever is shared in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from llamagen_async import (
    APIConnectionError,
    GenerationFailedError,
    ServerError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.sandbox import Durations, SandboxService
from tests.support.scheduling import ONE, TWO, network_of, refusal
from tests.support.scripted import ROOMY, Network, Sent, minute
from tests.support.telemetry import Recording

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def seen() -> Recording:
    return Recording()


def observed(seen: Recording, network: Network) -> Network:
    network.telemetry = seen.telemetry
    return network


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_each_request_is_in_its_own_callers_trace(seen: Recording) -> None:
    """Eight callers share the slots, the queue, the poller and one client."""
    network = observed(seen, network_of(TWO))

    async def backend(name: str) -> None:
        with seen.tracer.start_as_current_span(name):
            await client.comics.create_and_wait(name, timeout=9_000)

    names = [f"caller {n}" for n in range(8)]
    async with network.client(TWO) as client:
        await asyncio.gather(*map(backend, names))
    generations = network.service.stats(0)["generations"]
    of_story = {one["prompt"]: one["id"] for one in generations}
    traces = {seen.one(name).context.trace_id: name for name in names}
    requests = [*seen.named("POST"), *seen.named("GET")]
    assert len(requests) == len(network.sent)
    for span in requests:
        name = traces[span.context.trace_id]
        kind = "create" if span.name == "POST" else "wait"
        around = [f"llamagen {kind}", "llamagen create_and_wait", name]
        assert seen.above(span) == around
        if span.name == "GET":
            assert attributes(span)["llamagen.generation.id"] == of_story[name]
    waits = {traces[span.context.trace_id] for span in seen.named("llamagen wait")}
    assert waits == set(names)


async def test_a_shared_check_is_the_first_waiters_and_linked_to_the_others(
    seen: Recording,
) -> None:
    network = observed(seen, Network(minute(600.0)))

    async def wait(name: str, timeout: float) -> None:
        with seen.tracer.start_as_current_span(name):
            await client.comics.wait_for_completion(comic.id, timeout=timeout)

    async with network.client() as client:
        comic = await client.comics.create("a")
        ann = asyncio.create_task(wait("ann", 300.0))
        bob = asyncio.create_task(wait("bob", 1_000.0))
        with pytest.raises(WaitTimeoutError):
            await ann
        await bob
    checks = seen.named("GET")
    owners = [seen.above(span)[-1] for span in checks]
    assert owners == sorted(owners)
    assert set(owners) == {"ann", "bob"}
    waits = {seen.above(span)[0]: span.context for span in seen.named("llamagen wait")}
    for span, owner in zip(checks, owners, strict=True):
        others = [waits["bob"]] if owner == "ann" else []
        assert [link.context for link in span.links] == others


async def test_a_wait_goes_on_with_the_create_of_another_trace(seen: Recording) -> None:
    """A backend creates in one request and waits in another."""
    network = observed(seen, Network(minute()))
    async with network.client() as client:
        comic = await client.comics.create("a")
        await client.comics.wait_for_completion(comic.id)
    create, wait = seen.one("llamagen create"), seen.one("llamagen wait")
    assert create.context.trace_id != wait.context.trace_id
    assert [link.context for link in wait.links] == [create.context]
    assert attributes(create)["llamagen.generation.id"] == comic.id
    assert attributes(wait)["llamagen.generation.id"] == comic.id
    assert attributes(wait)["llamagen.operation.state"] == "succeeded"


async def test_the_wait_for_a_slot_is_seen(seen: Recording) -> None:
    network = observed(seen, network_of(ONE))
    async with network.client(ONE) as client:
        await asyncio.gather(*(client.comics.create(name) for name in "abc"))
    for name in ("POST", "llamagen create"):
        waited = [attributes(span)["llamagen.slot.wait_time"] for span in seen.named(name)]
        assert sorted(waited) == pytest.approx([0.0, 60.0, 120.0], abs=0.1)
    spans = seen.named("llamagen create")
    assert {span.kind for span in spans} == {SpanKind.INTERNAL}
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}


async def test_a_request_that_is_sent_again_has_a_span_for_each_attempt(seen: Recording) -> None:
    unreachable = APIConnectionError("no route to host", request_sent=False)
    errors = {0: refusal(1.0), 1: unreachable}
    network = observed(seen, Network(before=lambda sent: errors.get(sent.n)))
    async with network.client() as client:
        await client.comics.create("a")
    first, second, third = seen.named("POST")
    assert "http.request.resend_count" not in attributes(first)
    assert attributes(second)["http.request.resend_count"] == 1
    assert attributes(third)["http.request.resend_count"] == 2
    assert attributes(first)["http.response.status_code"] == 429
    assert attributes(first)["error.type"] == "429"
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description is None
    assert attributes(second)["error.type"] == "APIConnectionError"
    assert "http.response.status_code" not in attributes(second)
    assert "no route to host" in (second.status.description or "")
    assert attributes(third)["http.response.status_code"] == 200
    assert third.status.status_code is StatusCode.UNSET
    create = seen.one("llamagen create").context
    assert [span.parent for span in (first, second, third)] == [create] * 3


async def test_a_check_is_no_repetition_of_the_one_before(seen: Recording) -> None:
    network = observed(seen, Network(minute(300.0)))
    async with network.client() as client:
        comic = await client.comics.create("a")
        await client.comics.wait_for_completion(comic.id)
    assert len(seen.named("GET")) > 1
    assert not any("http.request.resend_count" in attributes(one) for one in seen.named("GET"))


async def test_a_lost_answer_is_seen_as_uncertain(seen: Recording) -> None:
    lost = APIConnectionError("the line went dead", request_sent=True)
    network = observed(seen, Network(after=lambda sent: lost))
    async with network.client() as client:
        with pytest.raises(SubmissionUncertainError):
            await client.comics.create("a")
    create = seen.one("llamagen create")
    assert attributes(create)["error.type"] == "SubmissionUncertainError"
    assert create.status.status_code is StatusCode.ERROR
    assert attributes(seen.one("POST"))["error.type"] == "APIConnectionError"


async def test_a_comic_that_fails_ends_its_wait_in_an_error(seen: Recording) -> None:
    service = SandboxService(durations=Durations.constant(20), failure_rate=1.0)
    network = observed(seen, Network(service))
    async with network.client() as client:
        with pytest.raises(GenerationFailedError) as failed:
            await client.comics.create_and_wait("a")
    wait = seen.one("llamagen wait")
    assert attributes(wait)["error.type"] == "GenerationFailedError"
    assert attributes(wait)["llamagen.generation.id"] == failed.value.id
    assert {span.status.status_code for span in seen.named("GET")} == {StatusCode.UNSET}


async def test_reads_uploads_and_usage_are_operations(seen: Recording) -> None:
    network = observed(seen, Network(minute()))
    async with network.client() as client:
        comic = await client.comics.create("a")
        await asyncio.gather(client.comics.get(comic.id), client.comics.get(comic.id))
        await client.comics.usage()
        await client.comics.upload(b"\x89PNG\r\n\x1a\n", "a.png")
    assert len(seen.named("llamagen get")) == 2
    around = [seen.above(span) for span in [*seen.named("POST"), *seen.named("GET")]]
    names = [["llamagen create"], ["llamagen upload"], ["llamagen get"], ["llamagen usage"]]
    assert sorted(around) == sorted(names)


async def test_a_request_that_nobody_asked_for_is_in_no_trace(seen: Recording) -> None:
    """A probe during an outage is nobody's, whoever waits for the server."""

    def away(sent: Sent) -> Exception | None:
        return ServerError(503, None, "away") if sent.at < 60 else None

    network = observed(seen, network_of(ROOMY, before=away))
    async with network.client(ROOMY) as client:
        with seen.tracer.start_as_current_span("ann"):
            creating = [client.comics.create_and_wait(f"s{n}", timeout=600) for n in range(5)]
            await asyncio.gather(*creating, return_exceptions=True)
    probes = [
        span
        for span in seen.named("GET")
        if attributes(span)["llamagen.request.kind"] == RequestKind.USAGE
    ]
    assert probes
    assert [span.parent for span in probes] == [None] * len(probes)


async def test_a_caller_who_leaves_ends_the_operation(seen: Recording) -> None:
    network = observed(seen, Network(minute(600.0)))
    async with network.client() as client:
        task = asyncio.create_task(client.comics.create_and_wait("a"))
        await asyncio.sleep(30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    wait = seen.one("llamagen wait")
    assert attributes(wait)["error.type"] == "CancelledError"


async def test_spans_are_also_without_a_span_of_the_application(seen: Recording) -> None:
    network = observed(seen, Network(minute()))
    async with network.client() as client:
        await client.comics.create_and_wait("a")
    assert len({span.context.trace_id for span in seen.spans}) == 1
