"""A batch of many comics: the state in which each story ends, and errors that concern all."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    AuthenticationError,
    BatchItem,
    BatchProgress,
    BatchState,
    ComicRequest,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    LlamaGenError,
    PermissionDeniedError,
    Plan,
    RateLimit,
    RateLimitError,
    ServerError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.sandbox import EMPTY_KEY
from tests.support.batches import collect, read_into, roomy
from tests.support.machine import ROOMY, named, states
from tests.support.scripted import Network, Sent, left_over, minute, now

pytestmark = pytest.mark.virtual_time


FATAL: list[LlamaGenError] = [
    AuthenticationError(401, None, "the key is not valid"),
    InsufficientCreditsError(402, None, "no credits"),
    PermissionDeniedError(403, None, "not for you"),
    InsufficientCreditsError(429, "insufficient_credits", "no credits"),
]


async def test_items_come_in_order_of_completion() -> None:
    """The story that is done first comes first; the index says which story it was."""
    slow = {"s0": 900.0}
    network = roomy(
        body=lambda _sent, body: (
            {**body, "status": "PROCESSING"}
            if body["prompt"] in slow and now() < slow[body["prompt"]]
            else body
        )
    )

    async with network.client(ROOMY) as client:
        items = await collect(client, named(4))
        assert sorted(item.index for item in items) == [0, 1, 2, 3]
        assert items[-1].index == 0
        assert [item.request for item in items] == [
            ComicRequest(f"s{item.index}") for item in items
        ]
        assert all(item.generation and item.generation.succeeded for item in items)


async def test_stories_are_given_in_any_form() -> None:
    """Prompts, requests and mappings in either spelling may stand side by side."""
    network = roomy()
    stories = ["a", ComicRequest("b", fix_panel_num=2), {"prompt": "c", "fixPanelNum": 3}]

    async with network.client(ROOMY) as client:
        items = await collect(client, stories)
        assert states(items) == {BatchState.SUCCEEDED: 3}
    assert network.stories == {"a": 1, "b": 1, "c": 1}


async def test_one_failure_is_one_items_error() -> None:
    """A comic that fails, is lost or never ends does not concern the others."""

    def after(sent: Sent) -> Exception | None:
        return ServerError(500, None, "x") if sent.prompt == "lost" else None

    def body(_sent: Sent, answer: Any) -> Any:
        word = {"fails": "FAILED", "hangs": "PROCESSING"}.get(answer["prompt"])
        return {**answer, "status": word} if word else answer

    network = roomy(after=after, body=body)

    async with network.client(ROOMY) as client:
        items = await collect(client, ["fails", "lost", "hangs", "good"], timeout=600)
        by_index = {item.index: item for item in items}
        fails, lost, hangs, good = (by_index[index] for index in range(4))
        assert fails.state is BatchState.FAILED
        assert isinstance(fails.error, GenerationFailedError)
        assert fails.generation is fails.error.generation
        assert lost.state is BatchState.UNCERTAIN
        assert isinstance(lost.error, SubmissionUncertainError)
        assert lost.error.request == ComicRequest("lost")
        assert hangs.state is BatchState.RUNNING
        assert isinstance(hangs.error, WaitTimeoutError)
        assert hangs.generation is not None
        assert hangs.generation.id == hangs.error.id
        assert (good.state, good.error) == (BatchState.SUCCEEDED, None)
    assert network.stories == {"fails": 1, "lost": 1, "hangs": 1, "good": 1}


async def test_a_refused_story_failed_and_cost_nothing() -> None:
    """A story that the server does not accept is that item's failure."""
    network = roomy(
        before=lambda sent: InvalidRequestError("prompt", 1, "2") if sent.prompt == "bad" else None
    )

    async with network.client(ROOMY) as client:
        items = await collect(client, ["bad", "good"])
        assert [(item.index, item.state) for item in items] == [
            (0, BatchState.FAILED),
            (1, BatchState.SUCCEEDED),
        ]
        assert items[0].generation is None


@pytest.mark.parametrize("bad", ["", None, 3, {"prompt": "x", "size": "1x1"}, {"story": "x"}, []])
async def test_what_is_no_request_is_an_item_without_one(bad: Any) -> None:
    """Bad input is told with its index, nothing is sent for it, and the others go on."""
    network = roomy()

    async with network.client(ROOMY) as client:
        first, second = await collect(client, [bad, "good"])
        assert (first.index, first.state, first.request) == (0, BatchState.FAILED, None)
        assert isinstance(first.error, InvalidRequestError)
        assert second.state is BatchState.SUCCEEDED
    assert network.stories == {"good": 1}


@pytest.mark.parametrize("given_as", ["a story", {"prompt": "a story"}, ComicRequest("a story")])
async def test_one_story_is_no_batch(given_as: Any) -> None:
    """A bare prompt would be read letter by letter, and every letter would be paid for."""
    network = roomy()

    async with network.client(ROOMY) as client:
        with pytest.raises(InvalidRequestError):
            await collect(client, given_as)
    assert not network.sent


@pytest.mark.parametrize("empty", [[], (), iter([])])
async def test_an_empty_batch_ends_at_once(empty: Any) -> None:
    """No story, no request, no item."""
    network = roomy()

    async with network.client(ROOMY) as client:
        batch = client.comics.batch(empty)
        assert [item async for item in batch] == []
        assert batch.progress == BatchProgress(total=0, counts=Counter(), running=())
        assert now() == 0
        assert not left_over()
    assert not network.sent


@pytest.mark.parametrize("timeout", [0, -1, "soon", None, True])
async def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    """A bad setting is refused before the batch starts."""

    async with roomy().client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match=r"^timeout"):
            client.comics.batch(["a"], timeout=timeout)


@pytest.mark.once
async def test_two_hundred_stories() -> None:
    """A long batch on the paid plan finishes every story, each accepted once, none refused."""
    network = Network(latency=(0.0, 1.0))

    async with network.client() as client:
        items = await collect(client, (f"s{n}" for n in range(200)))
        assert states(items) == {BatchState.SUCCEEDED: 200}
        assert {item.index for item in items} == set(range(200))
        took = now()
    assert network.refused == 0
    assert set(network.stories.values()) == {1}
    # Two requests for each comic at ten a minute are 40 minutes.
    assert took < 60 * 60


@pytest.mark.parametrize("error", FATAL, ids=lambda error: f"{error.status}")
async def test_an_error_that_concerns_all_stops_creating_and_collects_the_rest(
    error: LlamaGenError,
) -> None:
    """Comics that were started are delivered, unsent stories come back with the error."""
    plan = Plan("two", limits=RateLimit(6, per=60))
    network = Network(
        minute(plans={"the-key": plan}),
        key="the-key",
        before=lambda sent: error if sent.kind == "create" and sent.n >= 5 else None,
    )

    async with network.client(plan) as client:
        items = await collect(client, named(100))
        # The one that met the error cost nothing either, and can be sent another day.
        assert states(items) == {BatchState.SUCCEEDED: 5, BatchState.QUEUED: 95}
        stopped = [item for item in items if item.state is not BatchState.SUCCEEDED]
        assert all(item.error is error for item in stopped)
        assert not left_over()
    assert len(network.creates) == 6


async def test_a_setting_with_which_nothing_can_be_sent_is_tried_hardly_ever() -> None:
    """A certificate that is not accepted would be met with every story, and costs no slot."""
    error = APIConnectionError("its certificate", request_sent=False, retriable=False)
    network = roomy(before=lambda _sent: error)
    async with network.client(ROOMY) as client:
        items = await collect(client, named(100))
    assert states(items) == {BatchState.QUEUED: 100}
    assert all(item.error is error for item in items)
    assert len(network.creates) <= 3


async def test_a_key_without_credits_sends_hardly_anything() -> None:
    """The first answer is enough to stop; those already on their way are all that is spent."""
    network = Network(minute(), key=EMPTY_KEY, latency=1.0)

    async with network.client() as client:
        items = await collect(client, named(40))
        assert len(items) == 40
        assert all(isinstance(item.error, InsufficientCreditsError) for item in items)
    assert len(network.sent) <= 10


async def test_a_refused_create_is_not_sent_after_an_error_that_concerns_all() -> None:
    """A create that a 429 put back into the queue is taken back, too."""

    def after(sent: Sent) -> Exception | None:
        if sent.kind != "create" or sent.n > 1:
            return None
        return RateLimitError(429, None, "x", None, 30.0) if sent.n == 0 else FATAL[0]

    network = roomy(after=after, latency=1.0)

    async with network.client(ROOMY) as client:
        await collect(client, ["a", "b"])
    assert len(network.creates) == 2


async def test_an_error_that_is_not_ours_is_not_swallowed() -> None:
    """A mistake in a transport of the user's own comes out, or is told with its story."""
    network = roomy(before=lambda sent: KeyError("oops") if sent.prompt == "s1" else None)

    async with network.client(ROOMY) as client:
        items: list[BatchItem] = []
        raised: list[BaseException] = []
        try:
            await read_into(items, client.comics.batch(named(3)))
        except KeyError as error:
            raised.append(error)
        told = [item.index for item in items if isinstance(item.error, KeyError)]
        assert raised or told == [1]
        assert not left_over()
    gc.collect()
