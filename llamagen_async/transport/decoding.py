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
from typing import Any, Final, cast

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
from llamagen_async.foreign import LONGEST_TEXT, beginning_of, bounded, clean_text
from llamagen_async.models.reading import mapping_of
from llamagen_async.plans import DAY
from llamagen_async.transport.accepted import accepted_id
from llamagen_async.transport.content import json_of, place_of, remains_of, text_of
from llamagen_async.transport.credits import lacks_credits
from llamagen_async.transport.message import APIResponse
from llamagen_async.transport.rate_limit_headers import rate_limit_of
from llamagen_async.transport.secret import Secret

__all__ = [
    "REDIRECT",
    "SERVER_FAILURE",
    "SUCCESS",
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
_WITHOUT_CONTENT: Final = (202, 204)
"""The statuses that need no content: accepted, and done (RFC 9110). A change is known by them."""
_FAILURE: Final = range(400, 600)

_SHOWN: Final = 200
"""Characters that an error keeps of a text that is not JSON."""
_LONGEST_DATE: Final = 64
_NEXT_WAIT: Final = r"\s*,\s*(?=[A-Za-z]{3,9}(?:,| [A-Za-z])|[0-9.]+\s*(?:,|$))"
"""The comma between two values of `Retry-After`; dates have commas of their own."""
_MOST_HEADERS: Final = 50
"""Headers that an error keeps; the API sends about ten, a network in front of it as many."""
_LONGEST_HEADER: Final = 300
"""Characters that an error keeps of a header."""
_REQUEST_IDS: Final = (
    *("x-request-id", "request-id", "x-llama-request-id", "x-correlation-id", "x-trace-id"),
    *("x-amzn-requestid", "x-vercel-id", "cf-ray"),
)
"""Headers in which servers and networks name an exchange. Which of them the API sends is not
documented."""
_BY_STATUS: Final[dict[int, type[APIError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: BadRequestError,
}
_REFUSED: Final = "one request of the rate limits was used, and no credits"
_ADVICE: Final[dict[type[APIError], str]] = {
    BadRequestError: f"{_REFUSED}: change the request",
    AuthenticationError: f"{_REFUSED}: check the API key",
    InsufficientCreditsError: f"{_REFUSED}: buy credits, waiting does not help",
    PermissionDeniedError: f"{_REFUSED}: check the API key and what its plan allows",
    NotFoundError: f"{_REFUSED}: check the id, and that it belongs to this API key",
    RateLimitError: "no credits were used: wait before sending more with this API key",
    ServerError: (
        "one request of the rate limits was used; if it was one that costs credits, it may have "
        "been accepted: compare the usage page before sending it again"
    ),
}
"""The cost of an error of each class, and the cure."""
_CODES: Final = ("code", "errorCode", "error_code")
_MESSAGES: Final = (
    *("message", "msg", "errorMessage", "detail", "error_description", "error", "errors"),
    *("reason", "description"),
)


def decode(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    now: Now,
    secret: Secret | None = None,
    is_billed: bool = False,
) -> APIResponse:
    """Decode one answer.

    Args:
        status: The HTTP status.
        headers: The answer's headers, in any case.
        content: The body, unpacked.
        now: The time that a `Retry-After` date is measured against if there is no `Date` header.
        secret: The key, which is taken out of everything that is returned or raised.
        is_billed: Whether the request was billed: then an answer that is cut or broken is read as
            far as the id, and one that only leads to a generation is about that one.

    Returns:
        A 2xx answer with its JSON.

    Raises:
        APIError: The class that belongs to the status; `InvalidResponseError` for a 2xx that is
            not JSON and for redirects, which are never followed because the key would travel.
    """
    if status not in SUCCESS:
        raise error_for(status, headers, content, now=now, secret=secret)
    rate_limit: tuple[int | None, int | None] = (None, None)
    for name in headers:
        if "limit" in name.lower():
            rate_limit = rate_limit_of(headers)
            break
    location = header(headers, "Location") if is_billed else None
    if not content and not location and status in _WITHOUT_CONTENT:
        content = b"{}"
    text = text_of(content, header(headers, "Content-Type"))
    body: Any
    problem = None
    try:
        body = json_of(text)
    except ValueError as error:  # another one is raised below, so that none hangs on this one
        problem = place_of(error)
        body = remains_of(text) if is_billed else {}
    if location and accepted_id(body, None) is None and (id_ := accepted_id(None, location)):
        body = {**mapping_of(body), "id": id_ if secret is None else secret.removed_from(id_)}
    if body or problem is None:
        return APIResponse(status, headers, _without(secret, body, text), rate_limit)
    kept = _kept_headers(headers, secret)
    raise InvalidResponseError(
        status,
        None,
        _unreadable(text, kept, content, problem),
        _beginning(text, secret),
        _request_id(kept),
        kept,
    )


def error_for(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    now: Now,
    secret: Secret | None = None,
) -> APIError:
    """Make the error that belongs to an answer which is no success (arguments as in `decode`)."""
    kept = _kept_headers(headers, secret)
    request_id = _request_id(kept)
    text = text_of(content, kept.get("content-type"))
    body: Any
    begin: str | None = None
    try:
        body = _without(secret, json_of(text), text)
    except ValueError:
        body = begin = _beginning(text, secret)
    if status not in _FAILURE:
        location = kept.get("location")
        where = f" to {_origin(location)}" if location else ""
        what = (
            f"a redirect{where}, which is not followed" if status in REDIRECT else "no final answer"
        )
        message = f"got {what}; check the base URL"
        return InvalidResponseError(status, None, message, body, request_id, kept)
    if begin is not None:
        # A plain sentence is worth repeating, a page of HTML is not.
        given = "" if "<" in begin else clean_text(begin)
        code, message = None, given or f"no reason given ({_kind(kept, content)})"
    else:
        instead = f", but {beginning_of(body)}" if body else ""
        code, message = _code(body), _message(body) or f"no reason given{instead}"
    kind = _BY_STATUS.get(status, ServerError if status in SERVER_FAILURE else APIError)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        if not lacks_credits(_texts(body)):
            wait = parse_retry_after(kept.get("retry-after"), _server_time(headers) or now)
            return RateLimitError(
                status,
                code,
                message,
                body,
                retry_after=wait,
                request_id=request_id,
                headers=kept,
                advice=_ADVICE[RateLimitError],
            )
        kind = InsufficientCreditsError
    return kind(status, code, message, body, request_id, kept, _ADVICE.get(kind, _REFUSED))


def parse_retry_after(value: str | None, now: Now) -> float | None:
    """Read `Retry-After`: seconds (whole or decimal), an HTTP date, or a unix time.

    A number that is too large for a wait is taken for a unix time, in seconds or milliseconds, if
    that is within a day from now: some servers send one.

    Of several, such as those of a server and of a network in front of it, the longest one counts.

    Returns:
        Seconds from `now`, never negative; `None` if there is nothing to read, or if it is more
        than a day: no window of the API is longer.
    """
    text, *others = re.split(_NEXT_WAIT, (value or "")[:_LONGEST_HEADER].strip())
    if others:
        each = [parse_retry_after(one, now) for one in (text, *others)]
        return max((wait for wait in each if wait is not None), default=None)
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


def _without(secret: Secret | None, body: Any, text: str) -> Any:
    """Return what is kept of a decoded body, without the key.

    Args:
        secret: The key, if there is one.
        body: What was decoded, with a spare.
        text: What it was decoded from.
    """
    is_large = len(text) > LONGEST_TEXT
    if is_large:  # only a part of it is kept: to search that takes less
        text = json.dumps(body, ensure_ascii=False)
    if secret is not None and secret.may_be_in(text):
        body = secret.removed_from(body)
    return bounded(body) if is_large else body


def _unreadable(text: str, headers: Mapping[str, str], content: bytes, problem: str) -> str:
    """Return in words why an answer can't be read, and where."""
    if text.lstrip().startswith(("{", "[")):
        return f"the answer is JSON that is broken ({problem})"
    kind = _kind(headers, content)
    return f"the answer is not JSON but {kind}; check that the base URL is the API's"


def _beginning(text: str, secret: Secret | None) -> str:
    # Searched for the key before it is cut: a part of the key would not be found.
    text = text[: 20 * _SHOWN]
    return (text if secret is None else secret.removed_from(text))[:_SHOWN]


def _kept_headers(headers: Mapping[str, str], secret: Secret | None) -> dict[str, str]:
    """Return what an error keeps of the headers: no cookies, and no key."""
    kept: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() in ("set-cookie", "set-cookie2"):
            continue
        if secret is not None:
            name, value = secret.removed_from(name), secret.removed_from(value)  # noqa: PLW2901
        name = clean_text(name.lower(), _LONGEST_HEADER)  # noqa: PLW2901
        if name == "retry-after" and name in kept:
            value = f"{kept[name]}, {value}"  # noqa: PLW2901
        kept[name] = clean_text(value, _LONGEST_HEADER)
        if len(kept) == _MOST_HEADERS:
            break
    return kept


def _request_id(headers: Mapping[str, str]) -> str | None:
    return next((headers[name][:100] for name in _REQUEST_IDS if headers.get(name)), None)


def _kind(headers: Mapping[str, str], content: bytes) -> str:
    if not content:
        return "empty"
    return clean_text(headers.get("content-type") or "of no content type", 80)


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
