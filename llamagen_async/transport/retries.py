"""Retries: which failures may be tried again, and after which delay. All of it is here.

A billed request (create, continue, update) is sent again only if no connection was made, so that
it provably did not arrive: the API has no idempotency key, and a lost answer cannot be looked up.
An upload is treated alike. Reading is safe to repeat, yet each attempt costs a slot: what will not
change (4xx, redirects, an answer that is too large) is not asked for again.

`RateLimitError` is never retried here: the limiter decides when a key may send again. The hosts of
pictures have no limiter: see `may_pass`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    InvalidResponseError,
    LlamaGenError,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.transport.decoding import REDIRECT, SERVER_FAILURE, SUCCESS

if TYPE_CHECKING:
    from llamagen_async.requests import ComicRequest

__all__ = ["as_uncertain", "delays", "is_retriable", "may_pass"]

_FIRST: Final = 1.0
"""Seconds at most before the first retry; the bound doubles with each further one."""
_LONGEST: Final = 30.0
"""Seconds at most before any retry: an outage is noticed to be over within half a minute."""
_READING: Final = frozenset({RequestKind.STATUS, RequestKind.USAGE})
_PASSING: Final = frozenset({408, 425, 429})
"""Statuses of a 4xx that say: not now."""
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
    return isinstance(error, ServerError)


def delays(speed: float = 1.0) -> Iterator[float]:
    """Yield the seconds of the event loop to wait before each retry, without end.

    They are drawn by full jitter from 0 to 1, 2, 4 ... seconds of the server's clock, at most 30.

    Args:
        speed: How many times faster than real time the server's clock runs.
    """
    # Nearly all requests succeed: the import is not theirs to pay for.
    import backoff  # noqa: PLC0415

    bounds = backoff.expo(factor=_FIRST / speed, max_value=_LONGEST / speed)
    next(bounds)  # backoff's generators begin with a yield of nothing
    return map(backoff.full_jitter, bounds)


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
    request: ComicRequest | None = None,
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
        it did not arrive, or the server refused it (4xx, also 429) or redirected it (3xx).
    """
    if not kind.is_billed:
        return None
    if isinstance(error, APIConnectionError):
        uncertain = error.request_sent
    elif isinstance(error, InvalidResponseError):
        uncertain = error.status not in REDIRECT
    else:
        uncertain = isinstance(error, ServerError)
    if not uncertain:
        return None
    reason = error.summary if isinstance(error, APIError) else str(error)
    return SubmissionUncertainError(request, reason)
