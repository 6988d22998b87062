"""The meaning of a failure for a submission: whether it may have been accepted, and who is told."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    ClientClosedError,
    RateLimitError,
    SubmissionUncertainError,
)
from llamagen_async.models.places import fields_of
from llamagen_async.observing import JOB_KEY, about, logger_of
from llamagen_async.plans import RequestKind
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import (
    REDIRECT,
    UnsentCancelledError,
    accepted_id,
    as_uncertain,
    is_outage,
)

__all__ = ["fail", "has_not_left", "interrupted", "provably_not_accepted"]

_logger = logger_of(__name__)

_THERE: Final = frozenset(
    ("PENDING", "QUEUED", "LOADING", "PROCESSING", "SUCCEEDED", "PROCESSED", "COMPLETED")
)
"""Status words of a generation that are no words for an error."""


def fail(submission: Submission[Any], error: Exception) -> None:
    """Tell the caller of a submission what went wrong, or its owner if the caller is gone."""
    kind = submission.request.kind
    uncertain: SubmissionUncertainError | None
    why = str(error)
    if isinstance(error, SubmissionUncertainError):
        uncertain, why = error, error.reason  # whoever sent it was interrupted
    elif (uncertain := as_uncertain(error, submission.story, kind=kind)) is not None:
        uncertain.__cause__ = error
        uncertain.id = submission.request.generation_id or _named_id(submission, error)
    elif kind.is_billed and isinstance(error, APIError) and (id_ := _shown_id(error)):
        error = error.about(id_)
    if not submission.future.done():
        submission.future.set_exception(uncertain or error)
        return
    if uncertain is not None:
        reason = uncertain.naming_id(why)
        text = "cancelled, and its answer was lost: %s may be accepted (%s)"
        key = submission.context.get(JOB_KEY)
        known = about(error, generation_id=uncertain.id, job_key=key)
        _logger.warning(text, kind, reason, extra=known)
    if submission.hooks is not None:
        submission.hooks.abandoned(uncertain or error)


def _named_id(submission: Submission[Any], error: Exception) -> str | None:
    """Return the id of the generation that a failure is answered with, if it is: it may be paid."""
    if not isinstance(error, APIError):
        return None
    has_state = isinstance(fields_of(error.body).get("status"), str)
    if not has_state and error.status not in REDIRECT:
        return None  # an error may have an id of its own
    is_create = submission.request.kind is RequestKind.CREATE
    return accepted_id(error.body, error.headers.get("location") if is_create else None)


def _shown_id(refusal: APIError) -> str | None:
    """Return the id of the generation that a refusal shows, such as one that is drawn already."""
    is_there = str(fields_of(refusal.body).get("status")).upper() in _THERE
    return accepted_id(refusal.body, None) if is_there else None


def has_not_left(error: BaseException) -> bool:
    """Whether nothing of a request has left this machine."""
    if isinstance(error, APIConnectionError):
        return not error.request_sent
    return isinstance(error, UnsentCancelledError)


def provably_not_accepted(error: Exception, kind: RequestKind = RequestKind.CREATE) -> bool:
    """Whether the server has most certainly not accepted what ended so."""
    is_refused = isinstance(error, RateLimitError)
    is_certain = is_outage(error) and as_uncertain(error, kind=kind) is None
    return is_refused or is_certain or has_not_left(error)


def interrupted(submission: Submission[Any], error: asyncio.CancelledError) -> Exception:
    """Return the error for a submission whose sending was cancelled, since its client closes."""
    if has_not_left(error):
        return ClientClosedError("the client was closed; nothing was sent")
    reason = "the client was closed before the answer came"
    if submission.request.kind.is_billed:
        uncertain = SubmissionUncertainError(submission.story, reason)
        uncertain.id = submission.request.generation_id
        return uncertain
    return ClientClosedError(reason)
