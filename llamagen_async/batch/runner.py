"""Many comics at once: fan-out, and results in order of completion.

The input is read only as far as there is something to do with it. One comic's failure is that
item's `error`; an error that concerns all of them stops new creates and collects what was
started. What to send when is not decided here: the dispatcher sees all creates and checks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
    Sized,
)
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, cast

import attrs

from llamagen_async.errors import (
    AuthenticationError,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    LlamaGenError,
    PermissionDeniedError,
    SubmissionUncertainError,
)
from llamagen_async.models import BatchItem, BatchState, ComicGeneration
from llamagen_async.requests import ComicRequest

__all__ = ["Batch", "BatchProgress", "Create", "Given"]

Given = str | ComicRequest | Mapping[str, Any]
"""What one story of a batch may be given as."""

_READ_AHEAD: Final = 64
"""Stories that are read and not sent yet, at most: enough for the dispatcher to choose from."""

_CONCERNS_ALL: Final = (AuthenticationError, InsufficientCreditsError, PermissionDeniedError)
"""Errors of one create that every other create would meet, too."""


class Create(Protocol):
    """Submits one request."""

    def __call__(
        self,
        request: ComicRequest,
        sending: Callable[[], Awaitable[None]],
        unsent: Callable[[], Awaitable[None]],
        accepted: Callable[[ComicGeneration], Awaitable[None]],
    ) -> Awaitable[ComicGeneration]:
        """Return the accepted generation.

        Calls back right before sending, when it has to wait again, and once it is accepted.
        """
        ...


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
    """Index of each story whose create is on its way: whether it arrives is not known yet."""
    done: int = 0
    """Stories for which nothing more will happen in this run, those not sent included."""


@attrs.define(eq=False)
class _Entry:
    """One story on its way through the batch."""

    index: int
    request: ComicRequest | None = None
    state: BatchState = BatchState.QUEUED
    generation: ComicGeneration | None = None
    task: asyncio.Task[None] | None = None
    submission: asyncio.Future[ComicGeneration] | None = None

    def item(self, error: Exception | None = None, files: Sequence[Path] = ()) -> BatchItem:
        return BatchItem(self.index, self.request, self.state, self.generation, error, tuple(files))


class Batch(AsyncIterable[BatchItem]):
    """Many comics on their way; `async for item in batch` runs it.

    Leaving the loop early stops the batch, unless the batch is kept to go on with: what was not
    sent stays unsent, and comics that are being drawn go on at the server; `progress.running`
    names them.
    """

    def __init__(
        self,
        requests: Iterable[Given] | AsyncIterable[Given],
        *,
        create: Create,
        wait: Callable[[ComicGeneration], Awaitable[ComicGeneration]],
        save: Callable[[ComicGeneration], Awaitable[Sequence[Path]]],
    ) -> None:
        if isinstance(requests, str | bytes | Mapping | ComicRequest) or not isinstance(
            requests, Iterable | AsyncIterable
        ):
            raise InvalidRequestError(
                "requests", cast("object", requests), "a list or generator of requests"
            )
        self._run = _Run(requests, create, wait, save)
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
        """Stop: send nothing more and wait for nothing more. No task is left."""
        await self._run.stop()


class _Run:
    """What a batch does."""

    def __init__(
        self,
        requests: Iterable[Given] | AsyncIterable[Given],
        create: Create,
        wait: Callable[[ComicGeneration], Awaitable[ComicGeneration]],
        save: Callable[[ComicGeneration], Awaitable[Sequence[Path]]],
    ) -> None:
        self._requests = requests
        self._create = create
        self._wait = wait
        self._save = save
        self._total = len(requests) if isinstance(requests, Sized) else None
        self._ended: Counter[BatchState] = Counter()
        self._entries: dict[int, _Entry] = {}
        self._items: asyncio.Queue[BatchItem | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_READ_AHEAD)
        self._fatal: LlamaGenError | None = None
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def progress(self) -> BatchProgress:
        """Where the batch stands now."""
        entries = self._entries.values()
        running = (
            (entry.index, entry.generation.id)
            for entry in entries
            if entry.state is BatchState.RUNNING and entry.generation is not None
        )
        counts = self._ended + Counter(entry.state for entry in entries)
        sending = (entry.index for entry in entries if entry.state is BatchState.SENDING)
        return BatchProgress(
            self._total, counts, tuple(running), tuple(sending), self._ended.total()
        )

    async def results(self) -> AsyncGenerator[BatchItem, None]:
        """Run the batch and yield its items."""
        if self._stopped:
            return
        self._reader = asyncio.create_task(self._read())
        try:
            while (item := await self._items.get()) is not None:
                yield item
            if not self._stopped:
                await self._reader
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Cancel what is left to do, and let whoever waits for an item go."""
        self._stopped = True
        working = (entry.task for entry in self._entries.values())
        tasks = [task for task in (self._reader, *working) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._items.put_nowait(None)

    async def _read(self) -> None:
        """Start a task for each story, as far as the read-ahead goes; then wait for all."""
        number = 0
        try:
            async for given in _each(self._requests):
                await self._room.acquire()
                entry = self._entries[number] = _Entry(number)
                number += 1
                entry.task = asyncio.create_task(self._work(entry, given))
            self._total = number
        finally:
            working = [entry.task for entry in self._entries.values() if entry.task]
            if working:
                await asyncio.wait(working)
            self._items.put_nowait(None)

    async def _work(self, entry: _Entry, given: Given) -> None:
        """Take one story to its end and report it."""
        leave_queue = _once(self._room.release)
        try:
            item = await self._outcome(entry, given, leave_queue)
        finally:
            leave_queue()
        del self._entries[entry.index]
        self._ended[item.state] += 1
        self._items.put_nowait(item)

    async def _outcome(
        self, entry: _Entry, given: Given, leave_queue: Callable[[], None]
    ) -> BatchItem:
        try:
            entry.request = ComicRequest.parse(given)
        except InvalidRequestError as error:
            entry.state = BatchState.FAILED
            return entry.item(error)
        try:
            comic = await self._submit(entry, entry.request, leave_queue)
            entry.generation = comic if comic.succeeded else await self._wait(comic)
            entry.state = BatchState.SUCCEEDED
            return entry.item(files=await self._save(entry.generation))
        except SubmissionUncertainError as error:
            entry.state = BatchState.UNCERTAIN
            return entry.item(error)
        except GenerationFailedError as error:
            entry.state = BatchState.FAILED
            entry.generation = cast("ComicGeneration", error.generation)
            return entry.item(error)
        except (LlamaGenError, OSError) as error:
            if entry.state is BatchState.SENDING:
                entry.state = BatchState.FAILED
            return entry.item(error)
        except Exception as error:  # noqa: BLE001  # whatever it is must not end the batch
            if entry.state is BatchState.SENDING:
                entry.state = BatchState.UNCERTAIN
            return entry.item(error)

    async def _submit(
        self, entry: _Entry, request: ComicRequest, leave_queue: Callable[[], None]
    ) -> ComicGeneration:
        async def sending() -> None:
            entry.state = BatchState.SENDING
            leave_queue()

        async def unsent() -> None:
            entry.state = BatchState.QUEUED

        async def accepted(comic: ComicGeneration) -> None:
            entry.state, entry.generation = BatchState.RUNNING, comic

        if self._fatal is not None:
            raise self._fatal
        entry.submission = asyncio.ensure_future(self._create(request, sending, unsent, accepted))
        try:
            return await entry.submission
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._fatal is None or (task is not None and task.cancelling()):
                raise
            raise self._fatal from None
        except _CONCERNS_ALL as error:
            self._stop_creating(error)
            raise

    def _stop_creating(self, error: LlamaGenError) -> None:
        """Take back what has not been sent: it would meet the same error."""
        self._fatal = self._fatal or error
        for entry in self._entries.values():
            if entry.state is BatchState.QUEUED and entry.submission is not None:
                entry.submission.cancel()


async def _each(
    requests: Iterable[Given] | AsyncIterable[Given],
) -> AsyncIterator[Given]:
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
