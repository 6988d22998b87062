"""The report of one request that has ended, for whoever keeps metrics."""

from __future__ import annotations

import asyncio

import attrs

from llamagen_async.plans import RequestKind
from llamagen_async.transport import as_uncertain

__all__ = ["RequestReport", "outcome_of"]


@attrs.frozen
class RequestReport:
    """The outcome of one request, for metrics."""

    kind: RequestKind
    """The kind of the request."""
    outcome: str
    """`answered`, `refused` (429), `uncertain` (billed, and its answer was lost), `failed`, or
    `not sent` (no connection was made)."""
    waited: float
    """Seconds from being asked for to being sent, by the server's clock."""
    took: float
    """Seconds from being sent to its end, by the server's clock."""


def outcome_of(failure: BaseException, kind: RequestKind) -> str:
    """Return the outcome of a request that was sent and failed, unless it was refused."""
    is_lost = as_uncertain(failure, kind=kind) or isinstance(failure, asyncio.CancelledError)
    return "uncertain" if is_lost and kind.is_billed else "failed"
