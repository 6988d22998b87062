"""Sending that is cancelled while the answer comes: what has come is enough, or it is not."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import logging
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from llamagen_async import (
    ClientClosedError,
    ComicGeneration,
    InsufficientCreditsError,
    LlamaGenClient,
    LlamaGenError,
    Plan,
    RateLimitError,
    SubmissionUncertainError,
)
from llamagen_async.transport import (
    AnsweredCancelledError,
    APIRequest,
    APIResponse,
    HTTPTransport,
    UnsentCancelledError,
)
from tests.support.exchange import CREATE, KEY, STATUS
from tests.support.scripted import left_over
from tests.support.wired import Piece, Request, WiredConnector, packed

pytestmark = pytest.mark.virtual_time

URL = "https://api.invalid"
_numbers = itertools.count()
LONG = {"x": "y" * 5_000}
COMIC = json.dumps({"id": "c1", "status": "PROCESSING", **LONG}).encode()
NAMED = b'{"id": "c1", "status": "PROC'
UNNAMED = b'{"id": "c'
REFUSAL = json.dumps({"message": "no", **LONG}).encode()


def answering(
    content: bytes, *, status: int = 200, length: int = 9_999, packing: str = "identity"
) -> Any:
    """Return what answers a request with the beginning of a body, and then keeps silent."""

    def serve(_: Request) -> Iterator[Piece]:
        head, _body = packed(status, {"Content-Encoding": packing}, b"")
        head = head.replace(b"Content-Length: 0", f"Content-Length: {length}".encode())
        yield Piece(1.0, head)
        yield Piece(1.0, content)

    return serve


async def cancelled(serve: Any, request: APIRequest, after: float) -> asyncio.CancelledError:
    """Cancel a request so many seconds after it was sent; return what that ended with."""
    async with aiohttp.ClientSession(connector=WiredConnector(serve)) as session:
        sending = asyncio.create_task(HTTPTransport(URL, KEY, session=session).send(request))
        await asyncio.sleep(after)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await sending
    assert sending.cancelled()
    assert not isinstance(caught.value, UnsentCancelledError)
    return caught.value


@pytest.mark.parametrize(
    "serve",
    [
        answering(NAMED),
        answering(COMIC[:-1]),
        answering(COMIC, length=len(COMIC) + 1),
        answering(gzip.compress(COMIC)[:-9], packing="gzip"),
    ],
    ids=["as far as the id", "all but the end", "whole", "packed"],
)
async def test_what_was_paid_for_is_known_as_soon_as_its_id_has_come(serve: Any) -> None:
    error = await cancelled(serve, CREATE, 3.0)
    assert isinstance(error, AnsweredCancelledError)
    assert isinstance(error.outcome, APIResponse)
    assert isinstance(error.outcome.body, dict)
    assert error.outcome.body["id"] == "c1"


@pytest.mark.parametrize(
    ("status", "kind"), [(402, InsufficientCreditsError), (429, RateLimitError)]
)
async def test_a_refusal_is_known_as_soon_as_its_head_has_come(
    status: int, kind: type[Exception]
) -> None:
    for content, after in ((REFUSAL, 1.5), (REFUSAL[:20], 3.0)):
        error = await cancelled(answering(content, status=status), CREATE, after)
        assert isinstance(error, AnsweredCancelledError)
        assert isinstance(error.outcome, kind)


@pytest.mark.parametrize(
    ("serve", "request_", "after"),
    [
        (answering(COMIC), CREATE, 0.5),
        (answering(COMIC), CREATE, 1.5),
        (answering(UNNAMED), CREATE, 3.0),
        (answering(NAMED), STATUS, 3.0),
        (answering(COMIC), STATUS, 3.0),
    ],
    ids=["nothing", "a head", "half an id", "a check as far as the id", "a whole check"],
)
async def test_what_says_nothing_of_a_payment_is_only_cancelled(
    serve: Any, request_: APIRequest, after: float
) -> None:
    error = await cancelled(serve, request_, after)
    assert type(error) is asyncio.CancelledError


class Owner:
    """An owner that takes notes."""

    since = None

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def before_send(self) -> None: ...

    async def not_sent(self) -> None:
        self.steps.append("not sent")

    async def accepted(self, answer: ComicGeneration) -> None:
        await asyncio.sleep(1)  # it is written down
        self.steps.append(f"accepted {answer.id}")

    def held_up(self, error: LlamaGenError) -> None:
        raise AssertionError(error)

    async def written(self) -> None: ...

    def abandoned(self, outcome: object) -> None:
        self.steps.append(f"abandoned {type(outcome).__name__}")


async def closed(serve: Any, owner: Owner, *, leaves: bool) -> Any:
    """Close a client in the middle of the answer to a create; return what its caller got."""
    async with aiohttp.ClientSession(connector=WiredConnector(serve)) as session:
        url = f"https://closing-{next(_numbers)}.invalid"  # each with limits of its own
        client = LlamaGenClient(KEY, base_url=url, session=session, plan=Plan.PAID, quota="memory")
        creating = asyncio.create_task(client.comics.create("a cat", hooks=owner))
        await asyncio.sleep(4)
        if leaves:
            creating.cancel()
        await client.aclose()
        (outcome,) = await asyncio.gather(creating, return_exceptions=True)
    assert not left_over()
    return outcome


async def test_a_client_that_closes_in_the_middle_of_an_answer_keeps_its_id() -> None:
    owner = Owner()
    outcome = await closed(answering(NAMED), owner, leaves=False)
    assert isinstance(outcome, ComicGeneration)
    assert outcome.id == "c1"
    assert owner.steps == ["accepted c1"]


async def test_an_id_that_comes_when_its_caller_has_left_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    owner = Owner()
    outcome = await closed(answering(NAMED), owner, leaves=True)
    assert isinstance(outcome, asyncio.CancelledError)
    assert owner.steps == ["accepted c1", "abandoned ComicGeneration"]
    assert "c1 goes on" in caplog.text


async def test_a_client_that_closes_in_the_middle_of_a_refusal_says_that() -> None:
    owner = Owner()
    outcome = await closed(answering(REFUSAL, status=402), owner, leaves=False)
    assert isinstance(outcome, InsufficientCreditsError)
    owner_of_429 = Owner()
    outcome = await closed(answering(REFUSAL, status=429), owner_of_429, leaves=False)
    assert isinstance(outcome, RateLimitError)
    assert owner_of_429.steps == ["not sent"]


async def test_a_client_that_closes_before_the_id_has_come_does_not_know() -> None:
    owner = Owner()
    outcome = await closed(answering(UNNAMED), owner, leaves=False)
    assert isinstance(outcome, SubmissionUncertainError)
    assert not isinstance(outcome, ClientClosedError)
    assert owner.steps == []
