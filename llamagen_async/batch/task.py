"""One story while it is in memory, and the hands that send, wait for and fetch it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from llamagen_async.batch.journal.rows import AccountId, Row
from llamagen_async.errors import InvalidRequestError, JournalError
from llamagen_async.models import BatchState, ComicGeneration
from llamagen_async.requests import ComicRequest

__all__ = ["Create", "Entry", "Hands"]


class Create(Protocol):
    """Submits one request."""

    def __call__(
        self,
        request: ComicRequest,
        *,
        urgent: bool,
        sending: Callable[[], Awaitable[None]],
        unsent: Callable[[], Awaitable[None]],
        accepted: Callable[[ComicGeneration], Awaitable[None]],
    ) -> Awaitable[ComicGeneration]:
        """Return the accepted generation.

        Awaits `sending` right before sending, `unsent` when it has to wait again, and `accepted`
        once it is accepted.
        """
        ...


@attrs.frozen
class Hands:
    """What stories are sent, waited for and fetched with; `client.comics` gives it."""

    origin: AccountId
    """The key and the server."""
    speed: float
    """How many times faster than real time the server's clock runs."""
    create: Create
    """Submits one request."""
    wait: Callable[[str], Awaitable[ComicGeneration]]
    """Returns the generation of an id when it has succeeded."""
    save: Callable[[ComicGeneration], Awaitable[Sequence[Path]]]
    """Fetches the pictures of a generation into `out`."""
    out: Path | None
    """Where pictures go; `None` fetches none."""


@attrs.define(eq=False)
class Entry:
    """One story while it is in memory."""

    row: Row
    """What the journal has of it."""
    state: BatchState
    """Where it stands: ahead of the journal only while the journal is being written."""
    request: ComicRequest | None = None
    generation: ComicGeneration | None = None
    error: Exception | None = None
    """Why it did not succeed, or what went wrong all the same."""
    files: tuple[Path, ...] = ()
    places: list[int] = attrs.field(factory=list[int])
    """Where it is in the input of a batch; nowhere, if it is only in the journal."""
    leave_queue: Callable[[], None] = attrs.field(default=lambda: None)
    """To be called once it no longer waits for its turn; may be called again."""
    on_its_way: bool = False
    """From just before its intent is written until it is known what became of it."""
    restored: bool = False
    """Whether its end was seen by an earlier run."""
    is_passing: bool = False
    """Whether nobody will ask the journal for it once it has ended."""
    task: asyncio.Task[None] | None = None
    submission: asyncio.Future[ComicGeneration] | None = None
    trouble: JournalError | None = None
    """Why the journal does not have the last news."""

    @classmethod
    def of(cls, row: Row) -> Entry:
        """Take up a story where the journal has it."""
        entry = cls(row, row.state)
        try:
            # Who knows the id does not depend on whether this version still allows the request.
            try:
                entry.request = row.request
            except InvalidRequestError as error:
                if row.state is BatchState.QUEUED:
                    entry.state, entry.error = BatchState.FAILED, error
            entry.generation = row.generation
            entry.error = entry.error or row.error(entry.request, entry.generation)
        except (ValueError, RecursionError) as error:
            raise JournalError(f"the journal is damaged at {row.key!r} ({error!r})") from error
        entry.restored = row.state in (BatchState.SUCCEEDED, BatchState.FAILED)
        return entry
