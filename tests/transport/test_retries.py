"""Which requests are sent again, which never are, and which may have been paid for."""

from __future__ import annotations

import itertools

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
from llamagen_async.transport import as_uncertain, delays, is_retriable, may_pass

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


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 511, 520, 599])
def test_a_picture_may_come_after_what_passes(status: int) -> None:
    assert may_pass(APIError(status, None, "x"))
    assert may_pass(LOST)
    assert may_pass(UNSENT)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 402, 403, 404, 410, 418, 451, 501, 505])
def test_a_picture_does_not_come_after_what_lasts(status: int) -> None:
    assert not may_pass(APIError(status, None, "x"))
    assert not may_pass(APIConnectionError("certificate verify failed", retriable=False))
    assert not may_pass(InvalidRequestError("url", "x", "y"))
