"""Which requests are sent again, which never are, and which may have been paid for."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

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
from llamagen_async.transport import (
    as_uncertain,
    asked_wait,
    delays,
    is_outage,
    is_retriable,
    is_told,
    may_pass,
    retry_span,
    says_later,
)

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


@pytest.mark.parametrize("status", [444, 460, 499])
def test_a_billed_request_that_a_gateway_has_given_up_is_uncertain(status: int) -> None:
    """Such an answer says that the client was gone, and not that the server refused."""
    given_up = APIError(status, None, "client closed request")
    for kind in BILLED:
        assert as_uncertain(given_up, kind=kind) is not None
        assert not is_retriable(given_up, kind)
    assert is_outage(given_up)  # else each story of a batch would end so
    assert may_pass(given_up)


def test_a_request_that_is_not_billed_is_never_uncertain() -> None:
    assert as_uncertain(LOST, kind=RequestKind.STATUS) is None


@pytest.mark.parametrize("speed", [1.0, 50.0])
def test_delays_are_at_most_1_2_4_and_so_on_up_to_30_seconds_of_the_server(
    monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    drawn = list(itertools.islice(delays(speed), 8))
    assert drawn == pytest.approx([s / speed for s in (1, 2, 4, 8, 16, 30, 30, 30)])
    assert list(itertools.islice(delays(), 3)) == [1, 2, 4], "real time, if nothing is said"


def test_delays_are_drawn_from_zero_up_and_each_sequence_for_itself() -> None:
    """Clients that failed together must not come back together."""
    first, second = (list(itertools.islice(delays(), 20)) for _ in range(2))
    assert first != second
    for drawn in (first, second):
        bounds = (1, 2, 4, 8, 16, *[30] * 15)
        assert all(0 <= delay <= bound for delay, bound in zip(drawn, bounds, strict=True))
        assert len(set(drawn)) == 20


@pytest.mark.parametrize("status", [408, 421, 423, 425, 429, 500, 502, 503, 504, 511, 520, 599])
def test_a_picture_may_come_after_what_passes(status: int) -> None:
    assert may_pass(APIError(status, None, "x"))
    assert may_pass(LOST)
    assert may_pass(UNSENT)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 402, 403, 404, 410, 418, 451, 501, 505])
def test_a_picture_does_not_come_after_what_lasts(status: int) -> None:
    assert not may_pass(APIError(status, None, "x"))
    assert not may_pass(APIConnectionError("certificate verify failed", retriable=False))
    assert not may_pass(InvalidRequestError("url", "x", "y"))


@pytest.mark.parametrize("status", [500, 502, 503, 520])
def test_a_server_that_says_it_failed_did_most_probably_nothing(status: int) -> None:
    assert is_told(ServerError(status, None, "x"))


@pytest.mark.parametrize(
    "error", [ServerError(504, None, "x"), ServerError(524, None, "x"), LOST, HICCUP, *DEFINITE]
)
def test_a_gateway_that_handed_the_request_on_does_not_say_that_it_failed(error: Exception) -> None:
    assert not is_told(error)


@pytest.mark.parametrize(
    ("header", "wait"), [("7", 7.0), ("0", 0.0), ("soon", 0.0), ("999999", 0.0), (None, 0.0)]
)
def test_a_failing_servers_retry_after_is_read(header: str | None, wait: float) -> None:
    headers = {} if header is None else {"retry-after": header}
    assert asked_wait(ServerError(503, None, "x", headers=headers)) == wait


def test_a_failing_server_may_name_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    wait = asked_wait(ServerError(503, None, "x", headers={"retry-after": soon}))
    assert 3600 < wait <= 7200


def test_what_is_no_failure_of_the_server_asks_for_no_wait() -> None:
    assert asked_wait(RateLimitError(429, None, "x", headers={"retry-after": "7"})) == 0.0
    assert asked_wait(LOST) == 0.0


def test_so_many_retries_take_at_most_the_sum_of_their_longest_delays() -> None:
    spans = [retry_span(retries) for retries in range(8)]
    assert spans == [0, 1, 3, 7, 15, 31, 61, 91]


@pytest.mark.parametrize("error", [UNSENT, LOST, SERVER, HICCUP, TOO_LARGE, REDIRECT])
def test_an_outage_is_a_server_that_is_not_met_or_does_not_work(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        APIConnectionError("untrusted", retriable=False),
        *(one for one in DEFINITE if one is not REDIRECT),
        ValueError(),
    ],
)
def test_an_answer_about_the_request_is_no_outage(error: Exception) -> None:
    assert not is_outage(error)


@pytest.mark.parametrize("status", [408, 421, 423, 425, 444, 460, 499])
def test_a_proxy_that_asks_for_the_same_request_again_gets_reads_again(status: int) -> None:
    later = APIError(status, None, "x")
    assert says_later(later)
    assert is_retriable(later, RequestKind.STATUS)
    assert not is_retriable(later, RequestKind.CREATE)


def test_a_lost_answer_takes_no_advice_to_ask_again_with_it() -> None:
    failure = ServerError(503, None, "busy", advice="try once more")
    uncertain = str(as_uncertain(failure))
    assert "busy" in uncertain
    assert "try once more" not in uncertain


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("made comic cmc_1\x1b[2J, thanks", "not JSON; it begins with made comic cmc_1"),
        ("<html><body>cmc_1</body></html>", None),
        ("", None),
        ({"id": 5}, None),
    ],
)
def test_an_answer_that_can_not_be_read_is_shown_since_an_id_may_be_in_it(
    body: object, said: str | None
) -> None:
    uncertain = str(as_uncertain(InvalidResponseError(200, None, "not JSON", body)))
    assert "not JSON" in uncertain
    assert "begins with" not in uncertain if said is None else said in uncertain
    assert "\x1b" not in uncertain


@pytest.mark.parametrize(
    ("kind", "is_known"), [(RequestKind.CREATE, False), (RequestKind.CONTINUE, True)]
)
def test_a_redirect_to_a_comic_may_be_a_create_that_is_done(
    kind: RequestKind, is_known: bool
) -> None:
    """A change has that address before, wherever the comic has moved."""
    headers = {"location": "/v1/comics/generations/cmc_1"}
    redirect = InvalidResponseError(307, None, "a redirect", headers=headers)
    assert (as_uncertain(redirect, kind=kind) is None) == is_known
