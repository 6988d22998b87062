"""Retries: which failures may be tried again, and after which delay. All of it is here.

A billed request (create, continue, update) is sent again only if no connection was made, so that
it provably did not arrive: the API has no idempotency key, and a lost answer cannot be looked up.
An upload is treated alike. Reading is safe to repeat, yet each attempt costs a slot: what will not
change (4xx, redirects, an answer that is too large) is not asked for again.

`RateLimitError` is never retried here: the limiter decides when a key may send again. The hosts of
pictures have no limiter: see `may_pass`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    InvalidResponseError,
    LlamaGenError,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async.foreign import clean_text
from llamagen_async.plans import RequestKind
from llamagen_async.transport.accepted import may_be_done
from llamagen_async.transport.decoding import (
    REDIRECT,
    SERVER_FAILURE,
    SUCCESS,
    parse_retry_after,
)

if TYPE_CHECKING:
    from llamagen_async.requests import AnyRequest

__all__ = [
    "as_uncertain",
    "asked_wait",
    "bounds",
    "delays",
    "is_outage",
    "is_retriable",
    "is_told",
    "may_pass",
    "retry_span",
    "says_later",
]

_FIRST: Final = 1.0
"""Seconds at most before the first retry; the bound doubles with each further one."""
_LONGEST: Final = 30.0
"""Seconds at most before any retry: an outage is noticed to be over within half a minute."""
_READING: Final = frozenset({RequestKind.STATUS, RequestKind.USAGE})
_GIVEN_UP: Final = frozenset({444, 460, 499})
"""Statuses of a 4xx with which a gateway says that it took the client to be gone: it may have
handed the request on (those of nginx, of AWS's balancers, and of gateways to gRPC)."""
_LATER: Final = frozenset({408, 421, 423, 425}) | _GIVEN_UP
"""Statuses of a 4xx that say: once more, on another connection, or when nobody else works on it
(RFC 9110, RFC 4918, RFC 8470)."""
_PASSING: Final = _LATER | {429}
"""Statuses of a 4xx that say: not now."""
_HANDED_ON: Final = frozenset({504, 524})
"""Statuses of a 5xx with which a gateway says that the server's answer did not come in time (RFC
9110; 524 is Cloudflare's)."""
_PAGE: Final = r"(?i)<(?:!doctype|html|head|body)\b"
"""The beginning of a page of HTML, which is no use in a message."""
_LASTING: Final = frozenset({501, 505})
"""Statuses of a 5xx that say: never."""


def is_retriable(error: BaseException, kind: RequestKind) -> bool:
    """Decide whether a request of this kind may be sent again after `error`."""
    if isinstance(error, APIConnectionError):
        return error.retriable and (kind in _READING or not error.request_sent)
    if kind not in _READING:
        return False
    if isinstance(error, InvalidResponseError):
        # A 2xx that is not JSON, or about something else, comes from something in between. An
        # answer that was too large was not read, and it will be as large the next time.
        return error.status in SUCCESS and error.body is not None
    return isinstance(error, ServerError) or says_later(error)


def is_outage(error: BaseException) -> bool:
    """Whether a request met no server, or one that does not work: whoever waits holds that out.

    What the server says of the request itself (4xx) is an answer; a redirect, a page of HTML or
    an answer without end is none.
    """
    if isinstance(error, APIConnectionError):
        return error.retriable
    return isinstance(error, InvalidResponseError | ServerError) or _is_given_up(error)


def is_told(error: BaseException) -> bool:
    """Whether the server itself says that it failed, and so most probably did nothing.

    A gateway's timeout says that the request was handed on.
    """
    return isinstance(error, ServerError) and error.status not in _HANDED_ON


def asked_wait(error: BaseException) -> float:
    """Return the seconds for which a server that fails asks to wait; 0 if it does not say."""
    if not isinstance(error, ServerError):
        return 0.0
    return parse_retry_after(error.headers.get("retry-after"), datetime.now(UTC)) or 0.0


def bounds(first: float, longest: float) -> Iterator[float]:
    """Yield waits that double from `first` to `longest`, without end."""
    # Nearly all requests succeed: the import is not theirs to pay for.
    import backoff  # noqa: PLC0415

    waits = backoff.expo(factor=first, max_value=longest)
    next(waits)  # backoff's generators begin with a yield of nothing
    return waits


def delays(speed: float = 1.0, *, longest: float = _LONGEST) -> Iterator[float]:
    """Yield the seconds of the event loop to wait before each retry, without end.

    They are drawn by full jitter from 0 to 1, 2, 4 ... seconds of the server's clock.

    Args:
        speed: How many times faster than real time the server's clock runs.
        longest: Seconds of the server's clock at most.
    """
    import backoff  # noqa: PLC0415  # as in `bounds`

    return map(backoff.full_jitter, bounds(_FIRST / speed, longest / speed))


def retry_span(max_retries: int) -> float:
    """Return the seconds of the server's clock that so many retries take at most."""
    return sum(itertools.islice(bounds(_FIRST, _LONGEST), max_retries))


def says_later(error: BaseException) -> bool:
    """Whether the server asks for the same request once more, as proxies do (408, 421)."""
    return isinstance(error, APIError) and error.status in _LATER


def _is_given_up(error: BaseException) -> bool:
    return isinstance(error, APIError) and error.status in _GIVEN_UP


def may_pass(error: LlamaGenError) -> bool:
    """Decide whether a picture that ended in `error` may come later.

    Pictures cost no slot and no credits, so whatever may be over later is held out for as long as
    the caller has given: lost connections, a busy host (429), and a host that fails.
    """
    if isinstance(error, APIConnectionError):
        return error.retriable
    return isinstance(error, APIError) and (
        error.status in _PASSING
        or (error.status in SERVER_FAILURE and error.status not in _LASTING)
    )


def as_uncertain(
    error: BaseException,
    request: AnyRequest | None = None,
    *,
    kind: RequestKind = RequestKind.CREATE,
) -> SubmissionUncertainError | None:
    """Say whether a billed request may have been accepted although it ended in `error`.

    Args:
        error: What sending it raised.
        request: What was submitted, for whoever catches the result.
        kind: What it does; for a kind that is not billed the answer is always `None`.

    Returns:
        The error to raise instead (`raise ... from error`), or `None` if the outcome is certain:
        it did not arrive, or the server refused it (4xx, also 429) or sent it elsewhere (3xx). A
        4xx by which a gateway has given it up is no refusal.
    """
    if not kind.is_billed:
        return None
    if isinstance(error, APIConnectionError):
        uncertain = error.request_sent
    elif isinstance(error, InvalidResponseError):
        uncertain = error.status not in REDIRECT or may_be_done(error, kind)
    else:
        uncertain = _is_given_up(error) or isinstance(error, ServerError)
    if not uncertain:
        return None
    reason = error.summary if isinstance(error, APIError) else str(error)
    text = error.body if isinstance(error, InvalidResponseError) else None
    if isinstance(text, str) and text and not re.search(_PAGE, text):
        reason += f"; it begins with {clean_text(text)}"  # an id may be in it
    return SubmissionUncertainError(request, reason)
