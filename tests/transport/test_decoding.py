"""Every answer becomes a decoded answer or the right error, whatever the server writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from llamagen_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditsError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from llamagen_async.plans import DAY
from llamagen_async.transport import APIResponse, decode, error_for, parse_retry_after
from llamagen_async.transport.secret import Secret

NOW = datetime(2025, 1, 1, tzinfo=UTC)
UNIX = int(NOW.timestamp())
JSON = {"Content-Type": "application/json"}


def failed(status: int, body: object, headers: dict[str, str] | None = None) -> APIError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(APIError) as caught:
        decode(status, JSON if headers is None else headers, content, now=NOW)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


def test_a_successful_answer_is_decoded() -> None:
    answer = decode(201, JSON, b'\xef\xbb\xbf{"id": "c\xc3\xa9"}', now=NOW)
    assert answer == APIResponse(201, JSON, {"id": "cé"})
    assert "Content-Type" not in repr(answer)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, InsufficientCreditsError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, APIError),
        (422, BadRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (503, ServerError),
        (599, ServerError),
        (600, InvalidResponseError),
        (101, InvalidResponseError),
        (304, InvalidResponseError),
    ],
)
@pytest.mark.parametrize("body", [b'{"error": "x"}', b"", b"<html>", b"\xff\xfe", b"null", b"[1]"])
def test_each_status_has_its_error_whatever_the_body(
    status: int, error: type[APIError], body: bytes
) -> None:
    assert type(failed(status, body)) is error


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": "no such style"}, None, "no such style"),
        ({"error": "bad_style"}, "bad_style", "bad_style"),
        ({"error": "bad_style", "message": "no such style"}, "bad_style", "no such style"),
        ({"error": "Too Many Requests", "message": "wait"}, None, "wait"),
        ({"code": "E1", "msg": "m"}, "E1", "m"),
        ({"errorCode": 4001, "detail": "d"}, "4001", "d"),
        ({"error_code": "E3", "message": "m"}, "E3", "m"),
        ({"code": True, "message": "m"}, None, "m"),
        ({"error": {"code": "E4", "message": "inner"}}, "E4", "inner"),
        ({"error": {"errorCode": "E5", "msg": "inner"}, "message": "outer"}, "E5", "outer"),
        ({"error": {"error": "deep"}}, "deep", "deep"),
        ({"message": {"message": "m", "code": 7}}, "7", "m"),
        ({"message": ["a", "b", 3]}, None, "a; b"),
        (
            {"detail": [{"loc": ["body", "size"], "msg": "too big"}, {"msg": "odd"}, {}]},
            None,
            "body.size: too big; odd",
        ),
        ("just text", None, "just text"),
        ({}, None, "no reason given"),
        ([], None, "no reason given"),
        (None, None, "no reason given"),
        (b"Bad gateway", None, "Bad gateway"),
        (b"<html>Bad gateway</html>", None, "no reason given (application/json)"),
        (b"", None, "no reason given (empty)"),
    ],
)
def test_code_and_message_are_found_in_all_spellings(
    body: object, code: str | None, message: str
) -> None:
    error = failed(400, body)
    assert (error.code, error.message) == (code, message)


def test_the_decoded_body_is_kept() -> None:
    assert failed(400, {"a": [1]}).body == {"a": [1]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!doctype html><title>Welcome</title>",
        b'{"id": "c1", "sta',
        b"\xff{}",
        b"[" * 200_000,
        b"0" * 10_000 + b"x",
    ],
)
def test_a_success_that_is_not_json_is_an_invalid_response(content: bytes) -> None:
    error = failed(200, content, {"content-type": "text/html; charset=utf-8"})
    assert type(error) is InvalidResponseError
    assert isinstance(error.body, str)
    assert len(error.body) <= 200
    assert content.decode("utf-8", "replace").startswith(error.body)
    is_json = content.startswith((b"{", b"["))
    assert ("text/html" in error.message) is (bool(content) and not is_json)
    assert ("broken" in error.message) is is_json


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"id": "c1", "sta', "Unterminated string starting at at character 14"),
        (b'{"id": "c1", oops}', "enclosed in double quotes at character 14"),
        (b"[" + b"{}," * 300_000, "it has more than 200,000 parts"),
        (b'{"id": 1', "delimiter at character 9"),
    ],
)
def test_json_that_is_broken_shows_the_place(content: bytes, place: str) -> None:
    error = failed(200, content, {"content-type": "application/json"})
    assert error.message.startswith("the answer is JSON that is broken (")
    assert place in error.message


def test_an_error_shows_no_more_than_200_characters_of_text() -> None:
    error = failed(200, ("ä" * 1000).encode(), {})
    assert error.body == "ä" * 200
    assert "of no content type" in error.message


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://user:pw@other.example/v1/secret?key=secret", "https://other.example,"),
        ("/v1/secret", "another path"),
        (None, "got a redirect, which"),
    ],
)
def test_a_redirect_names_only_where_it_leads(location: str | None, shown: str) -> None:
    headers = {} if location is None else {"Location": location}
    error = failed(302, b"", headers)
    assert shown in error.message
    assert "secret" not in str(error)
    assert "pw" not in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "insufficient credits"},
        {"code": "INSUFFICIENT_CREDITS"},
        {"errorCode": "insufficientCredits", "message": "Too many requests"},
        {"error": {"code": "not_enough_credits"}},
        {"error": "Too Many Requests", "message": "Insufficient account balance"},
        {"message": "You are out of credits."},
        {"message": "You have run out of credits, please top up"},
        {"msg": "You do not have enough credits"},
        {"msg": "You don\u2019t have enough credits"},
        {"detail": "Your credit balance is too low"},
        {"detail": "You have 0 credits left"},
        {"detail": "No credits remaining"},
        {"detail": "Credits remaining: 0"},
        {"message": "You have used all of your credits"},
        {"message": "All credits have been used up"},
        {"message": "insufficient funds"},
        {"message": "Payment required"},
        b"Insufficient credits",
    ],
)
def test_a_429_that_lacks_credits_is_final(body: object) -> None:
    assert type(failed(429, body)) is InsufficientCreditsError


@pytest.mark.parametrize(
    "body",
    [
        {"error": "rate limit exceeded"},
        {"message": "Rate limit exceeded, upgrade for more credits per minute"},
        {"message": "Insufficient credits per minute"},
        {"message": "You have used all 10 credits/min"},
        {"message": "Too many requests. Buy more credits for a higher limit."},
        {"message": "Too many requests. If you are out of credits, top up."},
        {"message": "Rate limit exceeded. No credits were charged."},
        {"message": "Rate limit exceeded; 0 credits used"},
        {"message": "Slow down: 100 credits left, 4 requests per minute"},
        {"message": "Slow down: 1.0 credits left"},
        {"message": "You exceeded your current quota"},
        {"code": "RATE_LIMITED"},
        {"credits": 0},
        {},
        b"",
    ],
)
def test_a_429_that_merely_speaks_of_credits_is_a_rate_limit(body: object) -> None:
    assert type(failed(429, body)) is RateLimitError


def test_a_403_that_speaks_of_credits_stays_what_its_status_says() -> None:
    assert type(failed(403, {"error": "insufficient credits"})) is PermissionDeniedError


def test_the_rate_limit_error_carries_the_wait() -> None:
    error = error_for(429, {"retry-AFTER": "7"}, b"", now=NOW)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 7.0


def test_a_retry_after_date_is_measured_by_the_servers_own_clock() -> None:
    server = NOW + timedelta(hours=5)
    headers = CIMultiDict(
        {
            "Date": format_datetime(server, usegmt=True),
            "Retry-After": format_datetime(server + timedelta(seconds=30), usegmt=True),
        }
    )
    error = error_for(429, headers, b"", now=NOW)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 30.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("12", 12.0),
        (" 1.5 ", 1.5),
        (".5", 0.5),
        ("2.", 2.0),
        ("Wed, 01 Jan 2025 00:01:00 GMT", 60.0),
        ("Wed Jan  1 00:01:00 2025", 60.0),
        ("Wednesday, 01-Jan-25 00:01:00 GMT", 60.0),
        ("Tue, 31 Dec 2024 23:59:00 GMT", 0.0),
        ("-5", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("1e308", None),
        ("9" * 400, None),
        ("9" * 5000, None),
        ("86400", 86400.0),
        ("86401", None),
        ("100000", None),
        (UNIX + 30, 30.0),
        (f"{UNIX + 30}000", 30.0),
        (f"{UNIX + 30}.5", 30.5),
        (UNIX - 30, 0.0),
        (UNIX + 86400, 86400.0),
        (f"{UNIX + 86400}000", 86400.0),
        (UNIX + 86401, None),
        (f"{UNIX + 86401}000", None),
        (UNIX - 86401, None),
        ("Thu, 02 Jan 2025 00:00:00 GMT", 86400.0),
        ("Thu, 02 Jan 2025 00:00:01 GMT", None),
        ("Fri, 01 Jan 2100 00:00:00 GMT", None),
        ("5, 60", 60.0),
        ("60,5 , 7", 60.0),
        ("5, soon, 100000", 5.0),
        ("Wed, 01 Jan 2025 00:01:00 GMT, 30", 60.0),
        ("90, Wed Jan  1 00:01:00 2025", 90.0),
        ("5, Wed, 01 Jan 2025 00:01:00 GMT", 60.0),
        (", ,", None),
        ("soon", None),
        ("Wed, 99 Jan 2025 00:01:00 GMT", None),
        ("Wed, 01 Jan 99999 00:01:00 GMT", None),
        ("Mon, " + "1" * 100, None),
        ("", None),
        (None, None),
        ("\u0663", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    value: str | int | None, seconds: float | None
) -> None:
    """Seconds, dates and unix times up to a day are obeyed in full; more is not believed."""
    assert parse_retry_after(None if value is None else str(value), NOW) == seconds


def test_the_clock_is_asked_only_for_a_date() -> None:
    asked: list[datetime] = []

    def now() -> datetime:
        asked.append(NOW)
        return NOW

    assert parse_retry_after("3", now) == 3.0
    assert not asked
    assert parse_retry_after("Wed, 01 Jan 2025 00:01:00 GMT", now) == 60.0
    assert asked


@given(
    st.text()
    | st.from_regex(r"[0-9]{1,20}(\.[0-9]{0,9})?", fullmatch=True)
    | st.from_regex(r"(Mon|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d \S{1,5}")
    | st.integers().map(str)
    | st.floats().map(str)
    | st.integers(1, 9_000).map(lambda digits: "9" * digits)
)
@example("1e308")
def test_retry_after_is_bounded_and_never_raises(value: str) -> None:
    """Whatever text a server sends, the pause is at most a day, or nothing is known of it."""
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= DAY


@given(st.integers(0, 10**11).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_retry_after_reads_any_http_date(instant: datetime) -> None:
    seconds = parse_retry_after(format_datetime(instant, usegmt=True), NOW)
    wait = max(0.0, (instant - NOW).total_seconds())
    assert seconds == (wait if wait <= DAY else None)


@given(st.floats(-DAY, DAY), st.sampled_from([1, 1000]))
def test_a_unix_time_within_a_day_is_that_moment(ahead: float, unit: int) -> None:
    """In seconds or milliseconds, as precise as the number says."""
    seconds = parse_retry_after(f"{(UNIX + ahead) * unit:.6f}", NOW)
    assert seconds == pytest.approx(max(0.0, ahead), abs=1e-3) or abs(ahead) > DAY - 1e-3


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["error", "message", "msg", "detail", "code", "errors", "loc", "x"]),
            inner,
        )
    ),
)


@pytest.mark.once
@given(
    status=st.integers(0, 999),
    headers=st.dictionaries(
        st.sampled_from(["Retry-After", "date", "Content-Type", "LOCATION"]), st.text()
    ),
    content=st.binary() | _json.map(lambda value: json.dumps(value).encode()),
)
def test_decoding_ends_in_an_answer_or_an_api_error_and_nothing_else(
    status: int, headers: dict[str, str], content: bytes
) -> None:
    outcome: APIResponse | APIError
    try:
        outcome = decode(status, headers, content, now=NOW)
    except APIError as error:
        outcome = error
    assert outcome.status == status
    if isinstance(outcome, APIResponse):
        assert 200 <= status < 300
    else:
        assert str(outcome).isprintable()
        assert len(outcome.message) <= 500


KEY = "sk/live/CANARY-12345678"
IN_PHP = json.dumps({"message": KEY, "id": "c1"}).replace("/", "\\/").encode()


@pytest.mark.parametrize("status", [200, 302, 401, 429, 500])
@pytest.mark.parametrize(
    "content",
    [
        IN_PHP,
        json.dumps({"id": "c1", "apiKey": KEY, KEY: [{"x": f"key {KEY}"}]}).encode(),
        f"bad key {KEY}".encode(),
        ("x" * 190 + KEY).encode(),
        (" " * 3990 + KEY).encode(),
        json.dumps({"error": {"code": KEY, "message": KEY}, "id": "c1"}).encode("utf-16"),
        json.dumps({"id": "c1", "x": "y" * 60_000, "k": KEY}).encode(),
        json.dumps({"id": "c1", "x": "y" * 32_760 + KEY + "y" * 9000}).encode(),
        b"",
    ],
)
@pytest.mark.parametrize("is_billed", [True, False])
def test_a_key_that_the_server_repeats_is_in_nothing_that_is_kept(
    status: int, content: bytes, is_billed: bool
) -> None:
    """In whatever form, in a success or a failure, in the body or in any header."""
    headers = {
        "Content-Type": KEY,
        "Location": f"https://{KEY}@{KEY}/",
        "X-Request-Id": f"for {KEY}",
        KEY: "x",
        "Retry-After": KEY,
    }
    outcome: APIResponse | APIError
    try:
        outcome = decode(status, headers, content, now=NOW, secret=Secret(KEY), is_billed=is_billed)
    except APIError as error:
        outcome = error
        shown = [str(error), repr(error), repr(error.args), repr(vars(error))]
    else:
        shown = [repr(outcome.body)]
    assert "CANARY" not in "".join(shown)
    assert KEY[:7] not in "".join(shown)


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (b'{"id": "c1", "status": "SUCCEEDED", "outp', {"id": "c1"}),
        (b'{"id": "c1", "created', {"id": "c1"}),
        (b'{"id": "c1", "x": ' + b"[" * 90_000, {"id": "c1"}),
        (b'{"id": "c1", "x": [' + b"{}," * 300_000, {"id": "c1"}),
        (b'{"a": 1, "id": 17, oops', {"a": 1, "id": 17}),
    ],
)
def test_the_id_of_a_paid_comic_is_read_from_an_answer_that_is_cut(
    content: bytes, body: object
) -> None:
    """The status is not read, because the pictures may have been in the rest."""
    assert decode(200, JSON, content, now=NOW, is_billed=True).body == body
    # A status check is repeated: the whole answer is worth more than its beginning.
    assert isinstance(failed(200, content), InvalidResponseError)


def test_an_error_keeps_the_headers_within_bounds() -> None:
    headers = {"X-Request-Id": "req-1\x1b[2J", "Set-Cookie": "session=1", "X-Long": "y" * 9000}
    headers |= {f"X-{number}": "z" for number in range(1000)}
    error = failed(503, {"message": "down"}, headers)
    assert error.request_id == "req-1\\x1b[2J"
    assert "[request req-1\\x1b[2J]" in str(error)
    assert "set-cookie" not in error.headers
    assert len(error.headers) == 50
    assert max(map(len, error.headers.values())) == 300


@pytest.mark.parametrize("name", ["X-Request-ID", "request-id", "CF-Ray", "x-amzn-RequestId"])
def test_the_servers_name_for_the_exchange_is_found(name: str) -> None:
    assert failed(404, {}, {name: "r1"}).request_id == "r1"
    assert failed(302, b"", {name: "r1"}).request_id == "r1"
    assert failed(200, b"<html>", {name: "r1"}).request_id == "r1"
    assert failed(429, {}, {name: "r1"}).request_id == "r1"
    assert failed(400, {}, {}).request_id is None


@pytest.mark.parametrize(
    ("status", "parts"),
    [
        (400, ("no credits", "change the request")),
        (401, ("no credits", "check the API key")),
        (402, ("no credits", "buy credits", "waiting does not help")),
        (403, ("no credits", "plan")),
        (404, ("no credits", "check the id")),
        (409, ("one request", "no credits")),
        (422, ("no credits", "change the request")),
        (429, ("no credits", "wait")),
        (500, ("may have been accepted", "usage page")),
    ],
)
def test_an_error_says_what_was_spent_and_what_to_do(status: int, parts: tuple[str, ...]) -> None:
    error = failed(status, {"message": "m"})
    assert all(part in error.advice for part in parts)
    assert error.advice in str(error)
    assert error.advice not in error.summary


def test_texts_of_errors_are_short_however_long_the_answer_is() -> None:
    error = failed(400, {"code": "c" * 10**6, "message": "m\x1b[2J" * 10**6})
    assert len(str(error)) < 700
    assert "\x1b" not in str(error)
    assert len(json.dumps(error.body)) < 200_000
    assert len(repr(error)) < 700


@pytest.mark.timeout(60)
def test_a_retry_after_without_end_is_read_at_once() -> None:
    """A picture's host may send 64 KB; a search that goes back in blanks takes many seconds."""
    blanks, now = " " * 10**6, datetime.now(UTC)
    assert parse_retry_after(f"1{blanks}x", now) == 1.0
    assert parse_retry_after("7" + ", 8" * 10**6, now) == 8.0
