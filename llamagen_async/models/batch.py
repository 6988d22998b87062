"""The stories of a batch."""

from __future__ import annotations

import enum
from pathlib import Path

import attrs

from llamagen_async.models.generation import AnyGeneration
from llamagen_async.requests import AnyRequest

__all__ = ["BatchItem", "BatchState"]


class BatchState(enum.StrEnum):
    """State of one story of a batch."""

    QUEUED = "queued"
    """Not sent, and nothing was spent. The next run with the same journal sends the story."""
    SENDING = "sending"
    """On its way."""
    RUNNING = "running"
    """Accepted; the server is drawing."""
    SUCCEEDED = "succeeded"
    """Done."""
    FAILED = "failed"
    """Ended without a comic: the server drew none, or does not accept the request."""
    UNCERTAIN = "uncertain"
    """Sent, and the answer was lost: it may have been accepted. Not sent again."""
    CANCELLED = "cancelled"
    """Cancelled by its user before it was sent: nothing was spent."""


@attrs.frozen
class BatchItem:
    """One story of a batch, once nothing more will happen to it in this run."""

    index: int
    """Position of the story in the input, from 0."""
    request: AnyRequest | None
    """The parsed request; `None` if the input is not a valid one."""
    state: BatchState
    """State at the end; `QUEUED` if nothing was sent."""
    generation: AnyGeneration | None = None
    """The comic or animation, as the server last described it; of a continuation or a redraw, the
    changed comic."""
    error: Exception | None = None
    """The reason for not having succeeded."""
    files: tuple[Path, ...] = ()
    """Pictures or the video on disk, if `out` was given."""
    key: str | None = None
    """Name of the story: the user's own, or the one that the journal has made of its content.
    `None` if there is no name of the user's and the story is in no journal."""
    given: object = attrs.field(default=None, hash=False)
    """The story as it was given, if it was refused as an invalid one."""

    def _repr_html_(self) -> str:
        """Return the comic, or the reason for having none, for notebooks."""
        from llamagen_async.models.html import item_html  # noqa: PLC0415  # only notebooks need it

        # A name that was made of the story's content says nothing to anybody.
        own = None if (self.key or "").startswith("content:") else self.key
        name = f"{self.index}" if own is None else f"{self.index} ({own})"
        one = self.generation
        # The method's name is Jupyter's.
        shown = "" if one is None else one._repr_html_()  # pyright: ignore[reportPrivateUsage]
        return item_html(f"Story {name}: {self.state}", self.error, shown, self.files)
