"""Takes the stories of a journal through their lives: sent, waited for, fetched, each step written.

What a batch and a queue have in common. What to send when is not decided here: the dispatcher sees
all creates and checks. A create that is on its way is never abandoned for lack of interest: its id
is money.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, cast

from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.task import Entry, Hands
from llamagen_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    JournalError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    SubmissionUncertainError,
)
from llamagen_async.models import BatchState, ComicGeneration

__all__ = ["GRACE", "READ_AHEAD", "Work"]

_logger = logging.getLogger(__name__)

READ_AHEAD: Final = 64
"""Stories in memory that are not sent yet, at most: enough for the dispatcher to choose from."""

GRACE: Final = 5.0
"""Real seconds that creates on their way are given when a batch or a queue ends."""

QUEUED, SENDING, RUNNING = BatchState.QUEUED, BatchState.SENDING, BatchState.RUNNING
SUCCEEDED, FAILED, UNCERTAIN = BatchState.SUCCEEDED, BatchState.FAILED, BatchState.UNCERTAIN

_CONCERNS_ALL: Final = (
    AuthenticationError,
    InsufficientCreditsError,
    JournalError,
    PermissionDeniedError,
)
"""Errors of one create that every other create would meet, too."""

_REFUSALS: Final = frozenset({409, 410, 413, 414, 415, 431, 451})
"""What a server says of one request's content, beside 400 and 422: the next run would hear it
again."""

_EXPIRED: Final = (NotFoundError, PermissionDeniedError)
"""What a picture's host says when the picture's URL is too old."""


class Work:
    """The stories of one journal that are being worked at.

    Args:
        journal: Where everything is written; it is closed when the work has ended.
        hands: What sends, waits and fetches.
        ended: Told of each story for which nothing more will happen by itself.
        changed: Told of each step before that.
    """

    def __init__(
        self,
        journal: Journal,
        hands: Hands,
        *,
        ended: Callable[[Entry], None],
        changed: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.entries: dict[int, Entry] = {}
        """What is in memory, by the journal's number."""
        self.halted: LlamaGenError | None = None
        """Why nothing more is sent."""
        self._journal = journal
        self._hands = hands
        self._ended = ended
        self._changed = changed
        self._stopped = False
        self._told = False
        self._ending: asyncio.Task[None] | None = None

    def begin(self, entry: Entry) -> None:
        """Take a story to its end, in a task of its own."""
        self.entries[entry.row.id] = entry
        entry.task = asyncio.create_task(self._live(entry))

    def halt(self, error: LlamaGenError) -> None:
        """Send nothing more, and take back what waits for its turn: it would meet `error`, too."""
        self.halted = self.halted or error
        for entry in self.entries.values():
            waits = entry.state is QUEUED and not entry.on_its_way
            if waits and entry.submission is not None:
                entry.submission.cancel()

    def resume(self) -> None:
        """Send again."""
        self.halted = None

    async def stop(self, grace: float = GRACE) -> None:
        """Send nothing more and wait for nothing more; then the journal is closed.

        Creates that are on their way are given `grace` real seconds. Those that take longer go on
        and are recorded when they end; the journal stays open for them.
        """
        self._stopped = True
        for entry in self.entries.values():
            if entry.task is not None and not entry.on_its_way:
                entry.task.cancel()
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.wait([self._ending], timeout=grace)
        if not (self._ending.done() or self._told):
            self._told = True
            number = sum(entry.on_its_way for entry in self.entries.values())
            _logger.warning("%d creates are still on their way; the journal will tell", number)

    async def _end(self) -> None:
        try:
            tasks = [entry.task for entry in self.entries.values() if entry.task is not None]
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await self._journal.aclose()

    async def _live(self, entry: Entry) -> None:
        """Take one story to its end and report it."""
        try:
            await self._carry(entry)
        except Exception as error:
            _logger.exception("a mistake of this package: %s", _news(entry))
            entry.error = error  # whoever waits for it must hear of it
        finally:
            entry.leave_queue()
        if self._stopped:
            return  # it stays in memory, so that it can be told where it stood
        entry.error = entry.error or entry.trouble
        if entry.is_passing:
            await self._journal.forget(entry.row)
        del self.entries[entry.row.id]
        self._ended(entry)

    async def _carry(self, entry: Entry) -> None:
        try:
            if entry.state is FAILED and entry.row.state is QUEUED:
                await self._record(entry, error=entry.error)  # it is no valid request any more
            if entry.state is QUEUED:
                await self._submit(entry)
            if entry.state is RUNNING and not self._stopped:
                await self._collect(entry)
            if entry.state is SUCCEEDED and not self._stopped:
                await self._fetch(entry)
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to this story
            await self._fail(entry, error)

    async def _submit(self, entry: Entry) -> None:
        if self.halted is not None:
            raise self.halted
        assert entry.request is not None
        entry.submission = asyncio.ensure_future(
            self._hands.create(
                entry.request,
                urgent=entry.row.urgent,
                sending=partial(self._sending, entry),
                unsent=partial(self._unsent, entry),
                accepted=partial(self._accepted, entry),
            )
        )
        try:
            await entry.submission
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.halted is None or (task is not None and task.cancelling()):
                raise
            raise self.halted from None
        except _CONCERNS_ALL as error:
            self.halt(error)
            raise

    async def _sending(self, entry: Entry) -> None:
        """Write the intent; if that fails, or nothing is to be sent any more, raise."""
        entry.on_its_way = True
        try:
            row = await self._journal.change(entry.row, SENDING, origins=_ORIGINS[SENDING])
        except JournalError:
            entry.on_its_way = False
            raise
        entry.row = row
        if row.state is not SENDING:
            entry.on_its_way = False
            raise JournalError(f"the journal already has {row.key!r} as {row.state}")
        if self._stopped or self.halted is not None:
            await self._take_back(entry)
            raise self.halted or ClientClosedError("the batch was left before it was sent")
        entry.state = SENDING
        entry.leave_queue()
        self._changed(entry)

    async def _unsent(self, entry: Entry) -> None:
        """Write that it has to wait again."""
        await self._take_back(entry)
        if (self._stopped or self.halted is not None) and entry.submission is not None:
            entry.submission.cancel()

    async def _accepted(self, entry: Entry, comic: ComicGeneration) -> None:
        """Write the id."""
        entry.state, entry.generation = RUNNING, comic
        await self._record(entry, generation=comic)
        entry.on_its_way = False
        self._changed(entry)

    async def _take_back(self, entry: Entry) -> None:
        """Write that it was not sent after all."""
        entry.state = QUEUED
        await self._record(entry)
        entry.on_its_way = False
        self._changed(entry)

    async def _collect(self, entry: Entry) -> None:
        comic = entry.generation
        assert comic is not None
        if not comic.succeeded:
            comic = await self._hands.wait(comic.id)
        entry.state, entry.generation = SUCCEEDED, comic
        if await self._record(entry, generation=comic):
            entry.trouble = None  # nothing is missing any more

    async def _fetch(self, entry: Entry) -> None:
        comic, out = entry.generation, self._hands.out
        if out is None or comic is None:
            return
        if names := entry.row.files:
            there: bool = await asyncio.to_thread(_all_there, out, names)
            if there:
                entry.files = tuple(out / name for name in names)
                return
        try:
            files = await self._hands.save(comic)
        except _EXPIRED:
            if not entry.restored:
                raise
            entry.generation = comic = await self._hands.wait(comic.id)
            files = await self._hands.save(comic)
        entry.files = tuple(files)
        relative = [file.relative_to(out).as_posix() for file in files]
        await self._record(entry, generation=comic, files=relative)

    async def _fail(self, entry: Entry, error: Exception) -> None:
        """Decide what an error means for a story, and write that."""
        entry.error = error
        unsent = entry.state in (QUEUED, SENDING)
        if isinstance(error, GenerationFailedError):
            entry.generation = cast("ComicGeneration", error.generation)
            entry.state = FAILED
            await self._record(entry, generation=entry.generation, error=error)
        elif unsent and isinstance(error, SubmissionUncertainError):
            await self._lose(entry, error)
        elif unsent and _is_refusal(error):
            entry.state = FAILED
            await self._record(entry, error=error)
        elif entry.state is SENDING and not isinstance(error, LlamaGenError):
            reason = f"it ended in {type(error).__name__}"
            await self._lose(entry, SubmissionUncertainError(entry.request, reason))
        elif unsent and entry.on_its_way:
            await self._take_back(entry)
        entry.on_its_way = False

    async def _lose(self, entry: Entry, error: SubmissionUncertainError) -> None:
        entry.state = UNCERTAIN
        await self._record(entry, error=error)
        if entry.row.state is RUNNING:
            entry.state = entry.row.state  # its id had come when its answer was given up

    async def _record(
        self,
        entry: Entry,
        *,
        generation: ComicGeneration | None = None,
        error: Exception | None = None,
        files: Sequence[str] | None = None,
    ) -> bool:
        """Write where a story stands now; if that fails, go on and say so."""
        state = entry.state
        try:
            entry.row = await self._journal.change(
                entry.row,
                state,
                origins=_ORIGINS[state],
                generation=generation,
                error=error,
                files=files,
            )
        except JournalError as trouble:
            entry.trouble = trouble
            # Somebody may have to pay for what is only in this line.
            _logger.exception("not in the journal: %s", _news(entry))
            return False
        return True


_ORIGINS: Final[dict[BatchState, tuple[BatchState, ...]]] = {
    QUEUED: (SENDING,),
    SENDING: (QUEUED, SENDING),
    UNCERTAIN: (QUEUED, SENDING),
    # What the server has said is worth more than what was feared.
    RUNNING: tuple(BatchState),
    SUCCEEDED: tuple(BatchState),
    FAILED: tuple(BatchState),
}
"""Where a story may have stood before each state. News that could not be written leave gaps."""


def _is_refusal(error: Exception) -> bool:
    """Whether the server, or this package, will never accept this very request."""
    if isinstance(error, BadRequestError | InvalidRequestError):
        return True
    return isinstance(error, APIError) and error.status in _REFUSALS


def _news(entry: Entry) -> str:
    id_ = f" as generation {entry.generation.id}" if entry.generation else ""
    return f"{entry.row.key} is {entry.state}{id_}"


def _all_there(out: Path, names: Sequence[str]) -> bool:
    return all((out / name).is_file() for name in names)
