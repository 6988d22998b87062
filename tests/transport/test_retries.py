"""Which requests are sent again, which never are, and which may have been paid for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditsError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.requests import ComicRequest
from llamagen_async.transport import as_uncertain, delays, is_retriable, retrying

READING = (RequestKind.STATUS, RequestKind.USAGE)
BILLED = (RequestKind.CREATE, RequestKind.CONTINUE, RequestKind.UPDATE)
UNSENT = APIConnectionError("refused", request_sent=False)
LOST = APIConnectionError("lost")
HICCUP = InvalidResponseError(200, None, "not JSON", "<html>")
TOO_LARGE = InvalidResponseError(200, None, "too large")
REDIRECT = InvalidResponseError(302, None, "redirect", "")
SERVER = ServerError(500, None, "x")
DEFINITE: list[LlamaGenError] = [
    APIError(409, None, "x"),
    AuthenticationError(401, None, "x"),
    BadRequestError(400, None, "x"),
    InsufficientCreditsError(429, None, "x"),
    InvalidRequestError("x", 1, "y"),
    NotFoundError(404, None, "x"),
    RateLimitError(429, None, "x"),
    REDIRECT,
]


@pytest.mark.parametrize("kind", READING)
@pytest.mark.parametrize("error", [UNSENT, LOST, APITimeoutError("x"), SERVER, HICCUP])
def test_reading_is_tried_again_after_what_may_pass(error: Exception, kind: RequestKind) -> None:
    assert is_retriable(error, kind)


@pytest.mark.parametrize("kind", RequestKind)
@pytest.mark.parametrize("error", [*DEFINITE, TOO_LARGE, ValueError()])
def test_nothing_is_tried_again_after_what_will_not_change(
    error: Exception, kind: RequestKind
) -> None:
    assert not is_retriable(error, kind)


@pytest.mark.parametrize("kind", [*BILLED, RequestKind.UPLOAD])
@pytest.mark.parametrize("error", [LOST, APITimeoutError("x"), SERVER, HICCUP])
def test_a_billed_request_that_may_have_arrived_is_never_tried_again(
    error: Exception, kind: RequestKind
) -> None:
    assert not is_retriable(error, kind)


@pytest.mark.parametrize("kind", RequestKind)
@pytest.mark.parametrize("error", [UNSENT, APITimeoutError("x", request_sent=False)])
def test_a_request_that_was_not_sent_may_always_be(error: Exception, kind: RequestKind) -> None:
    assert is_retriable(error, kind)


@pytest.mark.parametrize("kind", BILLED)
@pytest.mark.parametrize("error", [LOST, APITimeoutError("x"), SERVER, HICCUP, TOO_LARGE])
def test_a_billed_request_whose_answer_is_lost_is_uncertain(
    error: Exception, kind: RequestKind
) -> None:
    request = ComicRequest("a story")
    uncertain = as_uncertain(error, request, kind=kind)
    assert uncertain is not None
    assert uncertain.request is request
    assert uncertain.reason == str(error)


@pytest.mark.parametrize("error", [*DEFINITE, UNSENT, ValueError()])
def test_a_definite_answer_is_not_uncertain(error: Exception) -> None:
    assert as_uncertain(error, ComicRequest("a story")) is None


def test_a_request_that_is_not_billed_is_never_uncertain() -> None:
    assert as_uncertain(LOST, kind=RequestKind.STATUS) is None


@pytest.mark.parametrize("speed", [1.0, 50.0])
def test_delays_are_at_most_1_2_4_and_so_on_up_to_30_seconds_of_the_server(
    monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    drawn = list(itertools.islice(delays(speed), 8))
    assert drawn == pytest.approx([s / speed for s in (1, 2, 4, 8, 16, 30, 30, 30)])


def test_delays_are_drawn_from_zero_up_and_each_sequence_for_itself() -> None:
    """Clients that failed together must not come back together."""
    first, second = (list(itertools.islice(delays(), 20)) for _ in range(2))
    assert first != second
    for drawn in (first, second):
        bounds = (1, 2, 4, 8, 16, *[30] * 15)
        assert all(0 <= delay <= bound for delay, bound in zip(drawn, bounds, strict=True))
        assert len(set(drawn)) == 20


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let waits pass at once, and draw the upper end of each."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    return waited


def failing(*errors: Exception) -> tuple[Callable[[str], Awaitable[str]], list[str]]:
    calls: list[str] = []

    async def send(request: str) -> str:
        calls.append(request)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return request.upper()

    return send, calls


@pytest.mark.parametrize("speed", [1.0, 50.0])
async def test_waits_double_up_to_a_bound_and_scale_with_speed(
    waits: list[float], speed: float
) -> None:
    send, calls = failing(*[LOST] * 7)
    wrapped = retrying(send, kind=RequestKind.STATUS, max_retries=7, speed=speed)
    assert await wrapped("x") == "X"
    assert len(calls) == 8
    assert waits == pytest.approx([s / speed for s in (1, 2, 4, 8, 16, 30, 30)])


@pytest.mark.parametrize("retries", [0, 2])
async def test_the_last_error_is_raised_when_the_retries_are_used_up(
    waits: list[float], retries: int
) -> None:
    errors = [APIConnectionError(str(n)) for n in range(5)]
    send, calls = failing(*errors)
    with pytest.raises(APIConnectionError, match=str(retries)):
        await retrying(send, kind=RequestKind.STATUS, max_retries=retries)("x")
    assert len(calls) == retries + 1
    assert len(waits) == retries


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (RequestKind.CREATE, LOST),
        (RequestKind.STATUS, RateLimitError(429, None, "x", None, 3.0)),
        (RequestKind.STATUS, RuntimeError("a bug")),
        (RequestKind.STATUS, asyncio.CancelledError()),
    ],
)
async def test_what_is_not_retriable_is_raised_at_once(
    waits: list[float], kind: RequestKind, error: Exception
) -> None:
    send, calls = failing(error)
    with pytest.raises(type(error)) as caught:
        await retrying(send, kind=kind, max_retries=4)("x")
    assert caught.value is error
    assert len(calls) == 1
    assert waits == []


async def test_a_callable_object_can_be_wrapped() -> None:
    class Sender:
        async def __call__(self, *, number: int) -> int:
            return number + 1

    assert await retrying(Sender(), kind=RequestKind.USAGE, max_retries=1)(number=1) == 2
