"""The meaning of an answer: status, headers and bytes in, a decoded answer or its error out.

No I/O, and no clock but the one that is passed in. Nothing here decides whether to send again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, NoReturn, cast

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
from llamagen_async.transport.credits import lacks_credits
from llamagen_async.transport.message import APIResponse

__all__ = [
    "REDIRECT",
    "SERVER_FAILURE",
    "SUCCESS",
    "clean_text",
    "decode",
    "error_for",
    "header",
    "parse_http_date",
    "parse_retry_after",
]

Now = datetime | Callable[[], datetime]
"""The time that an HTTP date is measured against, with its zone, or a function that returns it."""

SUCCESS: Final = range(200, 300)
REDIRECT: Final = range(300, 400)
SERVER_FAILURE: Final = range(500, 600)
_FAILURE: Final = range(400, 600)

_SHOWN: Final = 200
"""Characters that an error keeps of a text that is not JSON."""
_MESSAGE: Final = 300
"""Characters that a message keeps of the server's own words."""
_LONGEST_DATE: Final = 64
_BY_STATUS: Final[dict[int, type[APIError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: BadRequestError,
}
_RATE_LIMIT_PREFIXES: Final = ("ratelimit-", "x-ratelimit-", "x-rate-limit-")
_RATE_LIMIT_FIELD: Final = r"(?:^|[;,\s])(limit|remaining|r|q)\s*=\s*(\d{1,9})(?![\d.])"
_CODES: Final = ("code", "errorCode", "error_code")
_MESSAGES: Final = ("message", "msg", "detail", "error_description", "error", "errors")


def decode(status: int, headers: Mapping[str, str], content: bytes, *, now: Now) -> APIResponse:
    """Decode one answer.

    Args:
        status: The HTTP status.
        headers: The answer's headers, in any case.
        content: The whole body, decompressed.
        now: The time that a `Retry-After` date is measured against if there is no `Date` header.

    Returns:
        A 2xx answer with its JSON.

    Raises:
        APIError: The class that belongs to the status; `InvalidResponseError` for a 2xx that is
            not JSON and for redirects, which are never followed because the key would travel.
    """
    if status in SUCCESS:
        rate_limit: tuple[int | None, int | None] = (None, None)
        for name in headers:
            if "limit" in name.lower():
                rate_limit = _rate_limit(headers)
                break
        try:
            body = _loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            pass  # raised below, so that no error hangs on another one
        else:
            return APIResponse(status, headers, body, rate_limit)
        raise InvalidResponseError(
            status,
            None,
            f"the answer is not JSON but {_kind(headers, content)}; "
            "check that the base URL is the API's",
            _beginning(content),
        )
    raise error_for(status, headers, content, now=now)


def error_for(status: int, headers: Mapping[str, str], content: bytes, *, now: Now) -> APIError:
    """Make the error that belongs to an answer which is no success (arguments as in `decode`)."""
    if status not in _FAILURE:
        location = header(headers, "Location")
        where = f" to {_origin(location)}" if location else ""
        what = (
            f"a redirect{where}, which is not followed" if status in REDIRECT else "no final answer"
        )
        return InvalidResponseError(
            status, None, f"got {what}; check the base URL", _beginning(content)
        )
    body: object
    try:
        body = _loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        body = text = _beginning(content)
        # A plain sentence is worth repeating, a page of HTML is not.
        given = "" if "<" in text else clean_text(text)
        code, message = None, given or f"no reason given ({_kind(headers, content)})"
    else:
        code, message = _code(body), _message(body) or "no reason given"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        if lacks_credits(_texts(body)):
            return InsufficientCreditsError(status, code, message, body)
        retry_after = parse_retry_after(
            header(headers, "Retry-After"), _server_time(headers) or now
        )
        return RateLimitError(status, code, message, body, retry_after)
    error = _BY_STATUS.get(status, ServerError if status in SERVER_FAILURE else APIError)
    return error(status, code, message, body)


def _rate_limit(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the limit that the headers speak of, and how many requests are left of it.

    Whether the API sends any is not documented. Where they come they have one of these spellings:
    `RateLimit-Limit` and `RateLimit-Remaining`, the same with `X-` before it, or one `RateLimit`
    with `limit=10, remaining=3` or `"minute";r=3` in it (IETF drafts of different ages).
    """
    known = {name.lower(): value for name, value in headers.items()}
    for prefix in _RATE_LIMIT_PREFIXES:
        left = _leading_number(known.get(f"{prefix}remaining"))
        if left is not None:
            return _leading_number(known.get(f"{prefix}limit")), left
    fields: dict[str, int] = {}
    for name in ("ratelimit", "ratelimit-policy"):
        for field, value in re.findall(_RATE_LIMIT_FIELD, known.get(name, "").lower()):
            fields.setdefault(field, int(value))
    left = fields.get("remaining", fields.get("r"))
    return (None if left is None else fields.get("limit", fields.get("q"))), left


def _leading_number(value: str | None) -> int | None:
    found = re.match(r"\s*(\d{1,9})\s*(?:$|[,;])", value or "")
    return int(found[1]) if found else None


def parse_retry_after(value: str | None, now: Now) -> float | None:
    """Read `Retry-After`: seconds (whole or decimal), an HTTP date, or a unix time.

    A number that is too large for a wait is taken for a unix time, in seconds or milliseconds, if
    that is within a day from now: some servers send one.

    Returns:
        Seconds from `now`, never negative; `None` if there is nothing to read, or if it is more
        than a day: no window of the API is longer.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text):
        seconds = float(text)
        if seconds <= DAY:
            return seconds
        from_now = (now() if callable(now) else now).timestamp()
        waits = [seconds - from_now, seconds / 1000 - from_now]
        return next((max(0.0, wait) for wait in waits if abs(wait) <= DAY), None)
    instant = parse_http_date(text)
    if instant is None:
        return None
    wait = (instant - (now() if callable(now) else now)).total_seconds()
    return max(0.0, wait) if wait <= DAY else None


def parse_http_date(text: str | None) -> datetime | None:
    """Read an HTTP date; `None` if there is nothing to read."""
    # The library's parser takes nearly anything for a date; an HTTP date starts with its weekday.
    if not text or len(text) > _LONGEST_DATE or not re.match(r"[A-Za-z]{3,9},? ", text):
        return None
    try:
        instant = parsedate_to_datetime(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def header(headers: Mapping[str, str], name: str) -> str | None:
    """Return a header whatever its case, also from a plain mapping; `None` if it is missing."""
    value = headers.get(name)
    if value is None:
        wanted = name.lower()
        value = next((text for key, text in headers.items() if key.lower() == wanted), None)
    return value


def clean_text(text: str, limit: int = _MESSAGE) -> str:
    """Return a foreign text as fit for a message: one line, no control characters, trimmed."""
    # Cut first: cleaning a megabyte would hold up the event loop.
    text = " ".join(text[: 4 * limit].split())
    escaped = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
    return escaped if len(escaped) <= limit else f"{escaped[: limit - 1]}…"


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_loads: Final = json.JSONDecoder(parse_constant=_refuse).decode


def _beginning(content: bytes) -> str:
    # UTF-8 has at most four bytes a character; cutting first keeps this cheap for large answers.
    return content[: 4 * _SHOWN].decode("utf-8", "replace")[:_SHOWN]


def _kind(headers: Mapping[str, str], content: bytes) -> str:
    if not content:
        return "empty"
    return clean_text(header(headers, "Content-Type") or "of no content type", 80)


def _origin(location: str) -> str:
    # Only the host: a redirect's path and query may repeat what the request held.
    match = re.match(r"(?i)(https?://)(?:[^/?#]*@)?([^/?#@]+)", location)
    return clean_text("".join(match.groups()), 80) if match else "another path"


def _server_time(headers: Mapping[str, str]) -> datetime | None:
    """Return the time on the server's own clock: its dates are measured against that."""
    return parse_http_date(header(headers, "Date"))


def _objects(body: object) -> Iterator[Mapping[str, Any]]:
    """Yield the objects that may describe an error: the body, and what is nested in it."""
    if isinstance(body, Mapping):
        outer = cast("Mapping[str, Any]", body)
        yield outer
        for name in ("error", "detail", "message", "data"):
            inner = outer.get(name)
            if isinstance(inner, Mapping):
                yield cast("Mapping[str, Any]", inner)


def _code(body: object) -> str | None:
    for part in _objects(body):
        for name in _CODES:
            value = part.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
                return clean_text(str(value), 80)
    # {"error": "rate_limit_exceeded", "message": "..."}: a single word beside a message is a code.
    for part in _objects(body):
        word = part.get("error")
        if isinstance(word, str) and re.fullmatch(r"[\w.-]{1,80}", word):
            return clean_text(word, 80)
    return None


def _message(body: object) -> str | None:
    if isinstance(body, str):
        return clean_text(body) or None
    for part in (*_nested_first(body),):
        for name in _MESSAGES:
            if text := _words(part.get(name)):
                return clean_text(text)
    return None


def _nested_first(body: object) -> list[Mapping[str, Any]]:
    outer, *inner = [*_objects(body)] or [{}]
    return [outer, *inner] if isinstance(outer.get("message"), str) else [*inner, outer]


def _words(value: object) -> str:
    """Return a text, or a list of problems such as validators return, as one line."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        items = cast("list[object]", value)[:3]
        return "; ".join(filter(None, (_problem(item) for item in items)))
    return ""


def _problem(item: object) -> str:
    if not isinstance(item, Mapping):
        return item if isinstance(item, str) else ""
    fields = cast("Mapping[str, Any]", item)
    text = next((fields[n] for n in ("msg", "message") if isinstance(fields.get(n), str)), "")
    place = fields.get("loc")
    where = ".".join(map(str, cast("list[object]", place))) if isinstance(place, list) else ""
    return f"{where}: {text}" if where and text else text


def _texts(body: object) -> Iterator[str]:
    """Yield everything that may say what a 429 is about."""
    if isinstance(body, str):
        yield body
    for part in _objects(body):
        for name in (*_CODES, *_MESSAGES, "type", "title", "reason"):
            if text := _words(part.get(name)):
                yield text
