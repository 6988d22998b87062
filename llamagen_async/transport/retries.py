"""Which failures may be tried again, and the waiting in between. Plain predicates and `backoff`.

A billed request (create, continue, update) is sent again only if no connection was made, so that
it provably did not arrive: the API has no idempotency key, and a lost answer cannot be looked up.
An upload is treated alike. Reading is safe to repeat, yet each attempt costs a place in the rate
limit: what will not change (4xx, redirects, an answer that is too large) is not asked for again.

`RateLimitError` is never retried here: the limiter decides when a key may send again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from llamagen_async.errors import (
    APIConnectionError,
    InvalidResponseError,
    LlamaGenError,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.transport.decoding import REDIRECT, SUCCESS

if TYPE_CHECKING:
    from llamagen_async.requests import ComicRequest

__all__ = ["as_uncertain", "is_retriable", "retrying"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_FIRST: Final = 1.0
"""Seconds: the upper end of the first wait; each further one is twice as long."""
_LONGEST: Final = 30.0
"""Seconds: the upper end of any wait."""
_READING: Final = frozenset({RequestKind.STATUS, RequestKind.USAGE})


def is_retriable(error: BaseException, kind: RequestKind) -> bool:
    """Decide whether a request of this kind may be sent again after `error`."""
    if isinstance(error, APIConnectionError):
        return kind in _READING or not error.request_sent
    if kind not in _READING:
        return False
    if isinstance(error, InvalidResponseError):
        # A 2xx that is not JSON is a hiccup of something in between; its text is in the body.
        # An answer that was too large was not read, and it will be as large the next time.
        return error.status in SUCCESS and isinstance(error.body, str)
    return isinstance(error, ServerError)


def retrying(
    send: Callable[_P, Awaitable[_R]], *, kind: RequestKind, max_retries: int, speed: float = 1.0
) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Wrap `send` so that it is called again after the failures that allow it.

    The waits are drawn by full jitter from 0 to 1, 2, 4 ... seconds, at most 30. They are
    `asyncio.sleep`, so they pass in virtual time.

    Args:
        send: What to call; it sends one request.
        kind: What the request does.
        max_retries: How many times it is called again, at most; 0 is never.
        speed: How many times faster than real time the server's clock runs.

    Returns:
        A coroutine function of the same arguments. It raises what the last call raised.
    """

    async def first(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await send(*args, **kwargs)
        except LlamaGenError as error:
            if max_retries < 1 or not is_retriable(error, kind):
                raise
            failed = [error]

        # backoff looks for a coroutine function; a callable object or a partial is not one.
        async def again() -> _R:
            if failed:
                raise failed.pop()  # the first attempt, as backoff counts
            return await send(*args, **kwargs)

        return await _backing_off(kind, max_retries, speed)(again)()

    return first


def _backing_off(
    kind: RequestKind, max_retries: int, speed: float
) -> Callable[[Callable[[], Awaitable[_R]]], Callable[[], Awaitable[_R]]]:
    # Nearly all requests succeed: neither the import nor the set-up is theirs to pay for.
    import backoff  # noqa: PLC0415

    return backoff.on_exception(
        backoff.expo,
        LlamaGenError,
        max_tries=max_retries + 1,
        giveup=lambda error: not is_retriable(error, kind),
        jitter=backoff.full_jitter,
        logger=None,
        factor=_FIRST / speed,
        max_value=_LONGEST / speed,
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
    return SubmissionUncertainError(request, str(error)) if uncertain else None
