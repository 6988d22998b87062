"""Answers that are not this request's, and requests that end before they leave."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest

from llamagen_async import (
    BatchState,
    ClientClosedError,
    ComicGeneration,
    InvalidResponseError,
    LlamaGenError,
    RequestKind,
)
from llamagen_async.scheduling import RequestReport
from llamagen_async.transport import APIRequest, APIResponse, UnsentCancelledError
from tests.support.batches import collect, roomy
from tests.support.scheduling import TWO, network_of
from tests.support.scripted import Network, Sent, left_over, minute, now

pytestmark = pytest.mark.virtual_time

OTHER = {"id": "somebody-elses", "status": "SUCCEEDED", "output": "https://cdn.example/x.png"}


def mixed_up(times: int) -> Any:
    """Answer the first status checks with another comic's end."""

    def body(sent: Sent, answer: Any) -> Any:
        return OTHER if sent.kind is RequestKind.STATUS and sent.n < times else answer

    return body


@pytest.mark.parametrize("times", [1, 3])
async def test_a_wait_goes_on_after_an_answer_about_another_comic(times: int) -> None:
    """Another comic's end ends no wait; the next answer about the right one does."""
    network = Network(minute(), body=mixed_up(times))
    async with network.client() as client:
        comic = await client.comics.create("a")
        done = await client.comics.wait_for_completion(comic.id)
    assert (done.id, done.succeeded) == (comic.id, True)
    assert len(network.checks) > times


async def test_an_answer_about_another_comic_is_no_news_of_that_one() -> None:
    """An answer that was sent to somebody else ends nobody's wait."""
    network = Network(minute())
    async with network.client() as client:
        first, second = await client.comics.create("a"), await client.comics.create("b")
        network._body = lambda sent, body: (
            {**OTHER, "id": first.id if sent.target == second.id else second.id}
            if sent.kind is RequestKind.STATUS and now() < 30
            else body
        )
        waits = [client.comics.wait_for_completion(one.id) for one in (first, second)]
        done = await asyncio.gather(*waits)
        assert now() >= 60
    assert [one.id for one in done] == [first.id, second.id]


async def test_reading_a_comic_is_tried_again_and_then_tells_both_ids() -> None:
    """The error names the id that was asked for and the one that came."""
    network = Network(minute(), body=mixed_up(1))
    async with network.client(max_retries=1) as client:
        comic = await client.comics.create("a")
        assert (await client.comics.get(comic.id)).id == comic.id
        network._body = mixed_up(100)
        with pytest.raises(InvalidResponseError, match=rf"somebody-elses.*{comic.id}"):
            await client.comics.get(comic.id)


async def test_one_page_may_have_an_id_of_its_own() -> None:
    """The answer about a part of a comic is taken as it is."""
    network = Network(minute(), body=mixed_up(1))
    async with network.client() as client:
        comic = await client.comics.create("a")
        assert (await client.comics.get(comic.id, page=0)).id == "somebody-elses"


async def test_a_batch_keeps_its_own_comic() -> None:
    """The item has the comic that was paid for."""
    network = roomy(body=mixed_up(2))
    async with network.client() as client:
        (item,) = await collect(client, ["a"])
    assert item.state is BatchState.SUCCEEDED
    assert item.generation is not None
    assert item.generation.id != "somebody-elses"


class BlackHole(Network):
    """A network to which no connection is ever made."""

    async def send(self, request: APIRequest) -> APIResponse:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise UnsentCancelledError from None
        raise AssertionError("nothing sets it")


@attrs.define
class Owner:
    """An owner that only takes notes."""

    steps: list[str] = attrs.field(factory=list[str])

    since = None

    async def before_send(self) -> None:
        self.steps.append("before_send")

    async def not_sent(self) -> None:
        self.steps.append("not_sent")

    async def accepted(self, answer: ComicGeneration) -> None:
        self.steps.append("accepted")

    def held_up(self, error: LlamaGenError) -> None:
        raise AssertionError(error)

    async def written(self) -> None: ...

    def abandoned(self, outcome: object) -> None:
        self.steps.append("abandoned")


async def test_closing_before_anything_has_left_is_certain() -> None:
    """A create that still waited for its connection was not accepted, and spends no slot."""
    reports: list[RequestReport] = []
    network = BlackHole(network_of(TWO).service)
    client = network.client(TWO, on_request=reports.append)
    creating = asyncio.create_task(client.comics.create("a", hooks=Owner()))
    await asyncio.sleep(1)
    await client.aclose()
    with pytest.raises(ClientClosedError, match="nothing was sent"):
        await creating
    assert [report.outcome for report in reports] == ["not sent"]
    assert client.stats().total == 0
    assert not left_over()


async def test_leaving_a_batch_before_anything_has_left_makes_nothing_uncertain() -> None:
    """The stories are given back as not sent."""
    network = BlackHole(roomy().service, key="the-key")
    client = network.client()
    batch = asyncio.create_task(collect(client, ["a", "b"]))
    await asyncio.sleep(1)
    await client.aclose()
    items = await batch
    assert [item.state for item in items] == [BatchState.QUEUED] * 2
    assert all(isinstance(item.error, ClientClosedError) for item in items)
