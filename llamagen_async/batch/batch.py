"""Many comics at once: fan-out, and results in order of completion.

The input is read only as far as there is something to do with it. One comic's failure is that
item's `error`; an error that concerns all of them stops new creates and collects what was
started. What happens to each story is written to a journal, and a batch that is run again with
the same journal goes on where the last one ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sized,
)
from types import TracebackType
from typing import Final, Self, cast

import attrs

from llamagen_async.batch.journal.codec import RequestLike, Story
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.lifecycle import READ_AHEAD, Work
from llamagen_async.batch.task import Entry, Hands
from llamagen_async.errors import InvalidRequestError, JournalError
from llamagen_async.models import BatchItem, BatchState
from llamagen_async.requests import ComicRequest

__all__ = ["Batch", "BatchProgress"]

_UNDELIVERED: Final = 1_000
"""Items that nobody has taken yet, at most, before the input is read further."""


@attrs.frozen
class BatchProgress:
    """Where a batch stands."""

    total: int | None
    """Stories in all, if the input has a length or has been read to its end."""
    counts: Mapping[BatchState, int]
    """Stories read so far, by state."""
    running: tuple[tuple[int, str], ...]
    """Index and generation id of each comic that the server is drawing."""
    sending: tuple[int, ...] = ()
    """Index of each story whose create is on its way: whether it arrives is not known yet, or, if
    the batch was ended meanwhile, will not be known."""
    done: int = 0
    """Stories for which nothing more will happen in this run, those not sent included."""


class Batch(AsyncIterable[BatchItem]):
    """Many comics on their way; `async for item in batch` runs it.

    Leaving the loop early stops the batch, unless the batch is kept to go on with: what was not
    sent stays unsent, and comics that are being drawn go on at the server; `progress.running`
    and the journal name them.
    """

    def __init__(
        self,
        requests: Iterable[RequestLike] | AsyncIterable[RequestLike],
        hands: Hands,
        *,
        journal: str | os.PathLike[str] | None = None,
        resend_uncertain: bool = False,
    ) -> None:
        if isinstance(requests, str | bytes | Mapping | ComicRequest) or not isinstance(
            requests, Iterable | AsyncIterable
        ):
            raise InvalidRequestError(
                "requests", cast("object", requests), "a list or generator of requests"
            )
        self._run = _Run(requests, hands, Journal(journal, hands.origin), resend_uncertain)
        # The run knows neither this object nor the iterator: who drops both ends it at once.
        self._results = self._run.results()

    @property
    def progress(self) -> BatchProgress:
        """Where the batch stands now."""
        return self._run.progress

    def __aiter__(self) -> AsyncIterator[BatchItem]:
        return self._results

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop: send nothing more and wait for nothing more.

        Creates that are on their way are given a few seconds, so that the journal has their ids.
        """
        await self._run.stop()


class _Run:
    """What a batch does."""

    def __init__(
        self,
        requests: Iterable[RequestLike] | AsyncIterable[RequestLike],
        hands: Hands,
        journal: Journal,
        resend_uncertain: bool,  # noqa: FBT001  # handed on
    ) -> None:
        self._requests = requests
        self._journal = journal
        self._resend_uncertain = resend_uncertain
        self._work = Work(journal, hands, ended=self._ended)
        self._total = len(requests) if isinstance(requests, Sized) else None
        self._over: Counter[BatchState] = Counter()
        self._unasked: dict[int, None] = {}
        """What was running when the journal was opened, and has not come in the input so far."""
        self._items: asyncio.Queue[BatchItem | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(READ_AHEAD)
        self._taken = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def progress(self) -> BatchProgress:
        """Where the batch stands now."""
        counts = self._over.copy()
        running: list[tuple[int, str]] = []
        sending: list[int] = []
        for entry in self._work.entries.values():
            counts[entry.state] += len(entry.places)
            if entry.state in (BatchState.SENDING, BatchState.UNCERTAIN):
                sending += entry.places
            elif entry.state is BatchState.RUNNING and entry.generation is not None:
                running += ((place, entry.generation.id) for place in entry.places)
        return BatchProgress(
            self._total, +counts, tuple(sorted(running)), tuple(sorted(sending)), self._over.total()
        )

    async def results(self) -> AsyncGenerator[BatchItem, None]:
        """Run the batch and yield its items."""
        if self._stopped:
            return
        try:
            await self._journal.open()
            self._reader = asyncio.create_task(self._read())
            while (item := await self._items.get()) is not None:
                self._taken.set()
                yield item
            if not self._stopped:
                await self._reader
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End what is left to do, and let whoever waits for an item go."""
        self._stopped = True
        try:
            if self._reader is not None:
                self._reader.cancel()
                await asyncio.gather(self._reader, return_exceptions=True)
        finally:
            self._items.put_nowait(None)
            await self._work.stop()

    async def _read(self) -> None:
        """Take up each story, as far as the read-ahead goes; then wait for all."""
        number = 0
        try:
            # What was paid for is collected at once, wherever it comes in the input.
            async for row in self._journal.rows(BatchState.RUNNING):
                self._unasked[row.id] = None
                self._work.begin(Entry.of(row))
            async for given in _each(self._requests):
                await self._take(number, given)
                number += 1
                await self._delivered()
            self._total = number
        finally:
            try:
                if not self._stopped:
                    await self._tell_unasked(number)
            finally:
                if not self._stopped:
                    await self._settle()
                self._items.put_nowait(None)

    async def _take(self, place: int, given: RequestLike) -> None:
        """Take up one story of the input."""
        try:
            story = Story.parse(given)
        except InvalidRequestError as error:
            self._deliver(BatchItem(place, None, BatchState.FAILED, error=error))
            return
        item = BatchItem(place, story.request, BatchState.QUEUED)
        try:
            entry = await self._known(story)
        except InvalidRequestError as error:
            self._deliver(attrs.evolve(item, state=BatchState.FAILED, error=error))
            return
        except JournalError as error:
            self._work.halt(error)
            entry = None
        if entry is None:
            self._deliver(attrs.evolve(item, error=self._work.halted))
            return
        entry.places.append(place)
        if entry.task is None:
            if entry.state is BatchState.QUEUED:
                await self._room.acquire()
                entry.leave_queue = _once(self._room.release)
            self._work.begin(entry)

    async def _known(self, story: Story) -> Entry | None:
        """Return the story as the journal has it; `None` if it is new and nothing is sent."""
        if self._work.halted is None:
            row, _ = await self._journal.add(story)
        else:
            found = await self._journal.seek(story)
            if found is None:
                return None
            row = found
        self._unasked.pop(row.id, None)
        entry = self._work.entries.get(row.id)
        if entry is not None:
            return entry
        if row.state is BatchState.UNCERTAIN and self._resend_uncertain:
            row = await self._journal.change(
                row, BatchState.QUEUED, origins=(BatchState.UNCERTAIN,)
            )
        entry = Entry.of(row)
        entry.is_passing = story.key is None and not self._journal.is_lasting
        return entry

    async def _tell_unasked(self, number: int) -> None:
        """Give what was paid for by an earlier run a place after the input's last."""
        for place, id_ in enumerate(self._unasked, number):
            entry = self._work.entries.get(id_)
            if entry is None:
                row = await self._journal.at(id_)
                entry = Entry.of(row)
                self._work.begin(entry)
            entry.places.append(place)

    async def _settle(self) -> None:
        tasks = [entry.task for entry in self._work.entries.values() if entry.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    async def _delivered(self) -> None:
        """Wait while too many items wait to be taken: the input may be longer than the memory."""
        while self._items.qsize() > _UNDELIVERED:
            self._taken.clear()
            await self._taken.wait()

    def _ended(self, entry: Entry) -> None:
        for place in entry.places:
            self._deliver(
                BatchItem(
                    place,
                    entry.request,
                    entry.state,
                    entry.generation,
                    entry.error,
                    entry.files,
                    key=entry.row.key,
                )
            )

    def _deliver(self, item: BatchItem) -> None:
        self._over[item.state] += 1
        self._items.put_nowait(item)


async def _each(
    requests: Iterable[RequestLike] | AsyncIterable[RequestLike],
) -> AsyncIterator[RequestLike]:
    if isinstance(requests, AsyncIterable):
        async for given in requests:
            yield given
    else:
        for given in requests:
            yield given


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls `call` the first time only."""
    stack = contextlib.ExitStack()
    stack.callback(call)
    return stack.close
