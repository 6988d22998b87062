"""Many comics at once: what each story comes to, and what a batch leaves behind."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llamagen_async import (
    AuthenticationError,
    Batch,
    BatchItem,
    BatchProgress,
    BatchState,
    ComicRequest,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    LlamaGenClient,
    LlamaGenError,
    PermissionDeniedError,
    Plan,
    QuotaExhaustedError,
    RateLimit,
    RateLimitError,
    ServerError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.sandbox import DEMO_KEY, EMPTY_KEY
from llamagen_async.simulation import run
from tests.support.scripted import Network, Sent, left_over, minute, now

ROOMY = Plan("roomy", limits=RateLimit(1_000, per=60))
FATAL: list[LlamaGenError] = [
    AuthenticationError(401, None, "the key is not valid"),
    InsufficientCreditsError(402, None, "no credits"),
    PermissionDeniedError(403, None, "not for you"),
    InsufficientCreditsError(429, "insufficient_credits", "no credits"),
]


def roomy(seconds: float = 60.0, **settings: Any) -> Network:
    """A network whose limit is never in the way."""
    return Network(minute(seconds, plans={"the-key": ROOMY}), key="the-key", **settings)


def named(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(number)]


async def collect(client: LlamaGenClient, stories: Any, **settings: Any) -> list[BatchItem]:
    return [item async for item in client.comics.batch(stories, **settings)]


async def read_into(items: list[BatchItem], batch: Batch) -> None:
    """Keep what came before an error, too."""
    async for item in batch:
        items.append(item)  # noqa: PERF401


def states(items: list[BatchItem]) -> dict[BatchState, int]:
    return dict(Counter(item.state for item in items))


# --- what each story comes to -------------------------------------------------------------------


def test_items_come_in_order_of_completion() -> None:
    """Who is done first is told first; the index says which story it was."""
    slow = {"s0": 900.0}
    network = roomy(
        body=lambda _sent, body: (
            {**body, "status": "PROCESSING"}
            if body["prompt"] in slow and now() < slow[body["prompt"]]
            else body
        )
    )

    async def main() -> None:
        async with network.client(ROOMY) as client:
            items = await collect(client, named("s", 4))
            assert sorted(item.index for item in items) == [0, 1, 2, 3]
            assert items[-1].index == 0
            assert [item.request for item in items] == [
                ComicRequest(f"s{item.index}") for item in items
            ]
            assert all(item.generation and item.generation.succeeded for item in items)

    run(main())


def test_stories_are_given_in_any_form() -> None:
    """Prompts, requests and mappings in either spelling may stand side by side."""
    network = roomy()
    stories = ["a", ComicRequest("b", fix_panel_num=2), {"prompt": "c", "fixPanelNum": 3}]

    async def main() -> None:
        async with network.client(ROOMY) as client:
            items = await collect(client, stories)
            assert states(items) == {BatchState.SUCCEEDED: 3}

    run(main())
    assert network.stories == {"a": 1, "b": 1, "c": 1}


def test_one_failure_is_one_items_error() -> None:
    """A comic that fails, is lost or never ends does not concern the others."""

    def after(sent: Sent) -> Exception | None:
        return ServerError(500, None, "x") if sent.prompt == "lost" else None

    def body(_sent: Sent, answer: Any) -> Any:
        word = {"fails": "FAILED", "hangs": "PROCESSING"}.get(answer["prompt"])
        return {**answer, "status": word} if word else answer

    network = roomy(after=after, body=body)

    async def main() -> None:
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

    run(main())
    assert network.stories == {"fails": 1, "lost": 1, "hangs": 1, "good": 1}


def test_a_refused_story_failed_and_cost_nothing() -> None:
    """A story that the server does not accept is that item's failure."""
    network = roomy(
        before=lambda sent: InvalidRequestError("prompt", 1, "2") if sent.prompt == "bad" else None
    )

    async def main() -> None:
        async with network.client(ROOMY) as client:
            items = await collect(client, ["bad", "good"])
            assert [(item.index, item.state) for item in items] == [
                (0, BatchState.FAILED),
                (1, BatchState.SUCCEEDED),
            ]
            assert items[0].generation is None

    run(main())


@pytest.mark.parametrize("bad", ["", None, 3, {"prompt": "x", "size": "1x1"}, {"story": "x"}, []])
def test_what_is_no_request_is_an_item_without_one(bad: Any) -> None:
    """Bad input is told with its index, nothing is sent for it, and the others go on."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            first, second = await collect(client, [bad, "good"])
            assert (first.index, first.state, first.request) == (0, BatchState.FAILED, None)
            assert isinstance(first.error, InvalidRequestError)
            assert second.state is BatchState.SUCCEEDED

    run(main())
    assert network.stories == {"good": 1}


@pytest.mark.parametrize("given_as", ["a story", {"prompt": "a story"}, ComicRequest("a story")])
def test_one_story_is_no_batch(given_as: Any) -> None:
    """A bare prompt would be read letter by letter, and every letter would be paid for."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            with pytest.raises(InvalidRequestError):
                await collect(client, given_as)

    run(main())
    assert not network.sent


@pytest.mark.parametrize("empty", [[], (), iter([])])
def test_an_empty_batch_ends_at_once(empty: Any) -> None:
    """No story, no request, no item."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            batch = client.comics.batch(empty)
            assert [item async for item in batch] == []
            assert batch.progress == BatchProgress(total=0, counts=Counter(), running=())
            assert now() == 0
            assert not left_over()

    run(main())
    assert not network.sent


@pytest.mark.parametrize("timeout", [0, -1, "soon", None, True])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    """A bad setting is refused before the batch starts."""

    async def main() -> None:
        async with roomy().client(ROOMY) as client:
            with pytest.raises(InvalidRequestError, match=r"^timeout"):
                client.comics.batch(["a"], timeout=timeout)

    run(main())


def test_two_hundred_stories() -> None:
    """A long batch on the paid plan finishes every story, each accepted once, none refused."""
    network = Network(latency=(0.0, 1.0))

    async def main() -> float:
        async with network.client() as client:
            items = await collect(client, (f"s{n}" for n in range(200)))
            assert states(items) == {BatchState.SUCCEEDED: 200}
            assert {item.index for item in items} == set(range(200))
            return now()

    took = run(main())
    assert network.refused == 0
    assert set(network.stories.values()) == {1}
    # Two requests for each comic at ten a minute are 40 minutes.
    assert took < 60 * 60


# --- errors that concern all --------------------------------------------------------------------


@pytest.mark.parametrize("error", FATAL, ids=lambda error: f"{error.status}")
def test_an_error_that_concerns_all_stops_creating_and_collects_the_rest(
    error: LlamaGenError,
) -> None:
    """What was started is delivered, what was not sent comes back unsent with the error."""
    plan = Plan("two", limits=RateLimit(6, per=60))
    network = Network(
        minute(plans={"the-key": plan}),
        key="the-key",
        before=lambda sent: error if sent.kind == "create" and sent.n >= 5 else None,
    )

    async def main() -> None:
        async with network.client(plan) as client:
            items = await collect(client, named("s", 100))
            # The one that met the error cost nothing either, and can be sent another day.
            assert states(items) == {BatchState.SUCCEEDED: 5, BatchState.QUEUED: 95}
            stopped = [item for item in items if item.state is not BatchState.SUCCEEDED]
            assert all(item.error is error for item in stopped)
            assert not left_over()

    run(main())
    assert len(network.creates) == 6


def test_a_key_without_credits_sends_hardly_anything() -> None:
    """The first answer is enough to stop; those already on their way are all that is spent."""
    network = Network(minute(), key=EMPTY_KEY, latency=1.0)

    async def main() -> None:
        async with network.client() as client:
            items = await collect(client, named("s", 40))
            assert len(items) == 40
            assert all(isinstance(item.error, InsufficientCreditsError) for item in items)

    run(main())
    assert len(network.sent) <= 10


def test_a_refused_create_is_not_sent_after_an_error_that_concerns_all() -> None:
    """A create that a 429 put back into the queue is taken back, too."""

    def after(sent: Sent) -> Exception | None:
        if sent.kind != "create" or sent.n > 1:
            return None
        return RateLimitError(429, None, "x", None, 30.0) if sent.n == 0 else FATAL[0]

    network = roomy(after=after, latency=1.0)

    async def main() -> None:
        async with network.client(ROOMY) as client:
            await collect(client, ["a", "b"])

    run(main())
    assert len(network.creates) == 2


# --- how far it reads ---------------------------------------------------------------------------


class Source:
    """Stories that note how far they were read and whether they were closed."""

    def __init__(self, number: int, *, error: Exception | None = None) -> None:
        self.read = 0
        self.closed = False
        self._number = number
        self._error = error

    def plain(self) -> Iterator[str]:
        try:
            while self.read < self._number:
                self.read += 1
                yield f"s{self.read - 1}"
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True

    async def awaited(self) -> AsyncIterator[str]:
        try:
            while self.read < self._number:
                self.read += 1
                await asyncio.sleep(0.01)
                yield f"s{self.read - 1}"
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True

    def stories(self, form: str) -> Any:
        return self.plain() if form == "plain" else self.awaited()


FORMS = pytest.mark.parametrize("form", ["plain", "awaited"])


@FORMS
def test_input_is_read_only_as_far_as_needed(form: str) -> None:
    """A list of a million stories is not in memory: 64 wait, the rest is not read."""
    network = Network()
    source = Source(1_000_000)

    async def main() -> None:
        async with network.client() as client, client.comics.batch(source.stories(form)) as batch:
            async for _item in batch:
                assert source.read <= len(network.creates) + 65
                assert batch.progress.total is None
                break

    run(main())
    assert source.read < 100


def test_input_is_not_read_faster_than_items_are_taken() -> None:
    """Stories that need no waiting, such as bad ones, do not pile up in memory either."""
    read = 0

    def bad() -> Iterator[str]:
        nonlocal read
        while read < 5_000:
            read += 1
            yield ""

    async def main() -> None:
        async with roomy().client(ROOMY) as client:
            number = 0
            async for _item in client.comics.batch(bad()):
                number += 1
                await asyncio.sleep(0.01)
                assert read <= number + 1_001
            assert number == 5_000

    run(main())


@FORMS
def test_a_source_that_fails_ends_the_batch_after_what_was_started(form: str) -> None:
    """What had been read is delivered; then the source's own error comes out."""
    network = roomy()
    source = Source(3, error=OSError("the file is gone"))

    async def main() -> None:
        items: list[BatchItem] = []
        async with network.client(ROOMY) as client:
            batch = client.comics.batch(source.stories(form))
            with pytest.raises(OSError, match="the file is gone"):
                await read_into(items, batch)
            assert states(items) == {BatchState.SUCCEEDED: 3}
            assert not left_over()

    run(main())


# --- progress -----------------------------------------------------------------------------------


def test_progress_tells_where_every_story_stands() -> None:
    """Queued, running and done add up, and what runs is named."""
    plan = Plan("three", limits=RateLimit(3, per=60))
    network = Network(minute(200.0, plans={"the-key": plan}), key="the-key")

    async def main() -> None:
        async with network.client(plan) as client:
            batch = client.comics.batch(named("s", 5))
            assert (batch.progress.total, batch.progress.done) == (5, 0)
            task = asyncio.ensure_future(anext(aiter(batch)))
            await asyncio.sleep(1)
            progress = batch.progress
            assert progress.counts == {BatchState.RUNNING: 3, BatchState.QUEUED: 2}
            assert [index for index, _ in progress.running] == [0, 1, 2]
            assert [id_ for _, id_ in progress.running] == [
                one["id"] for one in network.service.stats(0)["generations"]
            ]
            await task
            assert 1 <= batch.progress.done < 5
            rest = [item async for item in batch]
            assert len(rest) == 4
            assert batch.progress == BatchProgress(5, {BatchState.SUCCEEDED: 5}, (), done=5)
            assert batch.progress.done == 5

    run(main())


def test_done_counts_all_for_which_nothing_more_will_happen() -> None:
    """Stories that came back unsent or were not waited for any longer are over, too."""
    network = Network(minute(), key=DEMO_KEY)

    async def main() -> None:
        async with network.client("demo") as client:
            batch = client.comics.batch(named("s", 10))
            items = [item async for item in batch]
            assert sum(isinstance(item.error, QuotaExhaustedError) for item in items) == 3
            assert batch.progress.done == 10

    run(main())


def test_the_total_is_known_when_the_input_has_been_read() -> None:
    """A generator has no length; at its end there is one."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            batch = client.comics.batch(Source(3).plain())
            assert batch.progress.total is None
            async for _item in batch:
                assert batch.progress.total == 3

    run(main())


# --- leaving early ------------------------------------------------------------------------------


async def settle() -> None:
    """Let what is on its way out go."""
    for _ in range(20):
        await asyncio.sleep(0)


@FORMS
def test_leaving_the_block_stops_the_batch(form: str) -> None:
    """After `async with` no task is left, nothing more is sent, and the source is closed."""
    network = Network(minute(30.0))
    source = Source(50)

    async def main() -> None:
        async with network.client() as client:
            async with client.comics.batch(source.stories(form)) as batch:
                async for _item in batch:
                    break
            assert batch.progress.running
            await settle()
            sent = len(network.sent)
            assert source.closed
            await asyncio.sleep(600)
            assert len(network.sent) == sent
            assert not left_over()

    run(main())


def test_breaking_out_of_the_loop_stops_the_batch() -> None:
    """A plain `break` is enough: nothing more is created, without the garbage collector's help."""
    network = Network(minute(30.0))

    async def main() -> None:
        async with network.client() as client:
            async for _item in client.comics.batch(named("s", 50)):
                break
            await settle()
            sent = len(network.creates)
            await asyncio.sleep(600)
            assert len(network.creates) == sent
            assert not left_over()

    gc.collect()
    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_closing_is_fine_at_any_time() -> None:
    """Before the first item, after the last, and twice."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            batch = client.comics.batch(["a"])
            await batch.aclose()
            assert [item async for item in batch] == []
            batch = client.comics.batch(["b"])
            aiter(batch)
            await batch.aclose()
            batch = client.comics.batch(["c"])
            assert len([item async for item in batch]) == 1
            assert [item async for item in batch] == []
            await batch.aclose()
            await batch.aclose()
            assert not left_over()

    run(main())
    assert network.stories == {"c": 1}


def test_another_task_may_close_the_batch() -> None:
    """A program that shuts down closes the batch under the loop that reads it."""
    network = roomy(600.0)

    async def main() -> None:
        async with network.client(ROOMY) as client:
            batch = client.comics.batch(named("s", 3))

            async def read() -> int:
                return len([item async for item in batch])

            reading = asyncio.create_task(read())
            await asyncio.sleep(5)
            await batch.aclose()
            assert await reading == 0
            assert not left_over()

    run(main())


@pytest.mark.parametrize("when", [0.0, 0.5, 45.0, 200.0])
def test_a_cancelled_batch_leaves_nothing(when: float) -> None:
    """Whoever reads the batch may be cancelled at any time: no task, no slot, no create is left."""
    network = Network(minute(), latency=1.0)

    async def main() -> None:
        async with network.client() as client:
            reading = asyncio.create_task(collect(client, named("s", 40)))
            await asyncio.sleep(when)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert reading.cancelled()
            await asyncio.sleep(10)
            assert (await client.limits()).in_flight == 0
            sent = len(network.sent)
            await asyncio.sleep(600)
            assert len(network.sent) == sent
            assert not left_over()

    run(main())


def test_closing_the_client_ends_its_batches() -> None:
    """Every story of a batch whose client closes is told; nothing hangs."""
    network = Network(minute(600.0))

    async def main() -> None:
        client = network.client()
        reading = asyncio.create_task(collect(client, named("s", 15)))
        await asyncio.sleep(70)
        await client.aclose()
        items = await reading
        assert now() < 75
        assert len(items) == 15
        assert all(item.error is not None for item in items)
        assert states(items) == {BatchState.RUNNING: 15} or BatchState.QUEUED in states(items)

    run(main())


# --- what nobody expected -----------------------------------------------------------------------


def test_an_error_that_is_not_ours_is_not_swallowed() -> None:
    """A mistake in a transport of the user's own comes out, or is told with its story."""
    network = roomy(before=lambda sent: KeyError("oops") if sent.prompt == "s1" else None)

    async def main() -> None:
        async with network.client(ROOMY) as client:
            items: list[BatchItem] = []
            raised: list[BaseException] = []
            try:
                await read_into(items, client.comics.batch(named("s", 3)))
            except KeyError as error:
                raised.append(error)
            told = [item.index for item in items if isinstance(item.error, KeyError)]
            assert raised or told == [1]
            assert not left_over()

    run(main())
    gc.collect()
