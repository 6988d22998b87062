"""The meaning of errors for a story and for the others, and which state may follow which."""

from __future__ import annotations

from typing import Final

from llamagen_async.batch.task import BatchTask
from llamagen_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditsError,
    InvalidRequestError,
    JournalError,
    NotFoundError,
    PermissionDeniedError,
)
from llamagen_async.models import BatchState
from llamagen_async.requests import RequestType

__all__ = ["ORIGINS", "concerns_all", "is_final", "may_be_accepted"]

_CONCERNS_ALL: Final = (
    AuthenticationError,
    InsufficientCreditsError,
    JournalError,
    PermissionDeniedError,
)
"""Errors of one create that every other create would meet, too."""

_CONTENT_REFUSED: Final = frozenset({409, 410, 413, 414, 415, 431, 451})
"""Statuses beside 400 and 422 with which a server refuses one request's content: the next run
would get the same answer."""

ORIGINS: Final[dict[BatchState, tuple[BatchState, ...]]] = {
    BatchState.QUEUED: (BatchState.SENDING,),
    BatchState.SENDING: (BatchState.QUEUED, BatchState.SENDING),
    BatchState.UNCERTAIN: (BatchState.QUEUED, BatchState.SENDING),
    # What the server has said is worth more than what was feared.
    BatchState.RUNNING: tuple(BatchState),
    BatchState.SUCCEEDED: tuple(BatchState),
    BatchState.FAILED: tuple(BatchState),
}
"""The states that a row may have had before each state. Steps that could not be written leave
gaps."""


def concerns_all(error: Exception) -> bool:
    """Whether every other story that is sent would meet the same error."""
    return isinstance(error, _CONCERNS_ALL) or not getattr(error, "retriable", True)


def may_be_accepted(task: BatchTask) -> bool:
    """Whether a story that was submitted was accepted, or nobody knows that it was not."""
    unsent = (BatchState.QUEUED, BatchState.FAILED, BatchState.CANCELLED)
    return task.generation is not None or task.state not in unsent


def is_final(error: Exception, type_: RequestType) -> bool:
    """Whether the server, or this package, will never accept this very request.

    Args:
        error: What came of it.
        type_: The type of the request.
    """
    if isinstance(error, BadRequestError | InvalidRequestError):
        return True
    if isinstance(error, NotFoundError):
        return type_.is_change  # there is no such comic
    return isinstance(error, APIError) and error.status in _CONTENT_REFUSED
