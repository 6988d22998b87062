"""Progress of a batch at one moment, as plain data."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from llamagen_async.batch.budget import Spending
from llamagen_async.models import BatchState
from llamagen_async.scheduling.circuit import Outage

__all__ = ["BatchProgress"]


@attrs.frozen
class BatchProgress:
    """How far a batch has come."""

    total: int | None
    """Stories in all, if the input has a length or has been read to its end."""
    counts: Mapping[BatchState, int] = attrs.field(hash=False)
    """Stories read so far, by state."""
    running: tuple[tuple[int, str], ...]
    """Index and generation id of each comic that the server is drawing."""
    sending: tuple[int, ...] = ()
    """Index of each story whose create is in flight: whether it arrives is not known yet, or, if
    the batch was ended meanwhile, will not be known."""
    done: int = 0
    """Stories for which nothing more will happen in this run, those not sent included."""
    outage: Outage | None = None
    """The outage of the server that the batch is holding out; `str` says since when and why."""
    spending: Spending = attrs.field(factory=Spending)
    """The credits that were spent, and what is left of the budget."""
