"""Many comics at once: fan-out, and results in order of completion.

The input is read only as far as there is something to do with it. One comic's failure is that
item's `error`; an error that concerns all of them stops new creates and collects what was
started. Each step of a story is written to a journal, and a batch that is run again with the same
journal goes on where the last one ended.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Mapping,
    Sized,
)
from pathlib import Path
from typing import Final, Self, cast

import attrs

from llamagen_async.batch.budget import Budget
from llamagen_async.batch.folder import check_writable
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import RequestLike, Story, given_key
from llamagen_async.batch.lifecycle import READ_AHEAD, Lifecycle
from llamagen_async.batch.makers import ComicsPort
from llamagen_async.batch.order import ChangeOrder
from llamagen_async.batch.progress import BatchProgress
from llamagen_async.batch.readers import Items
from llamagen_async.batch.task import BatchTask
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.errors import InvalidRequestError, JournalError
from llamagen_async.models import BatchItem, BatchState
from llamagen_async.observing import about, logger_of
from llamagen_async.prices import PriceList, Prices, checked_credits
from llamagen_async.requests import AnyRequest, BatchStory
from llamagen_async.requests.defaults import Defaults

__all__ = ["Batch", "BatchProgress"]

_logger = logger_of(__name__)

_MOST_UNTAKEN: Final = 1_000
"""Items that nobody has taken yet, at most, before the input is read further: they are small."""


class Batch(AsyncIterable[BatchItem]):
    """Many comics at once; `async for item in batch` runs it.

    Leaving the loop early stops the batch, unless the batch is kept to go on with: what was not
    sent stays unsent, and comics that are being drawn go on at the server; `progress.running`
    and the journal name them. Several tasks may take items of one batch. To cancel the wait for an
    item stops the batch, too, and who waits for the next one gets a `ClientClosedError`.
    """

    def __init__(
        self,
        requests: Iterable[RequestLike] | AsyncIterable[RequestLike],
        comics: ComicsPort,
        journal: Journal,
        *,
        out: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        resend_uncertain: bool = False,
        budget: float | None = None,
        prices: PriceList | None = None,
        defaults: Defaults | None = None,
    ) -> None:
        if isinstance(requests, str | bytes | Mapping | AnyRequest | BatchStory) or not isinstance(
            requests, Iterable | AsyncIterable
        ):
            raise InvalidRequestError(
                "requests", cast("object", requests), "a list or generator of requests"
            )
        self.journal: Final = journal
        """The journal of the batch; it is open while the batch is iterated over."""
        self._run = _BatchRun(
            requests,
            comics,
            self.journal,
            out=out,
            timeout=timeout,
            wait_for_quota=wait_for_quota,
            resend_uncertain=resend_uncertain,
            budget=Budget(
                None if budget is None else checked_credits("budget", budget), Prices.parse(prices)
            ),
            defaults=defaults,
        )
        # The run knows neither this object nor the iterator: who drops both ends it at once.
        self._results = Items(self._run.results())

    @property
    def progress(self) -> BatchProgress:
        """How far the batch has come."""
        return self._run.progress

    def __aiter__(self) -> AsyncIterator[BatchItem]:
        return self._results

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop: send nothing more and wait for nothing more.

        Creates in flight are given a few seconds, so that the journal has their ids.
        """
        await self._run.stop()


class _BatchRun:
    """The run of a batch: reads the input, starts its stories and hands out what became of them."""

    def __init__(
        self,
        requests: Iterable[RequestLike] | AsyncIterable[RequestLike],
        comics: ComicsPort,
        journal: Journal,
        *,
        out: str | os.PathLike[str] | None,
        timeout: float,
        wait_for_quota: bool,
        resend_uncertain: bool,
        budget: Budget,
        defaults: Defaults | None,
    ) -> None:
        self._requests = requests
        self._journal = journal
        self._out = None if out is None else Path(out)
        self._resend_uncertain = resend_uncertain
        self._defaults = defaults
        self._lifecycle = Lifecycle(
            journal,
            comics,
            out=out,
            timeout=timeout,
            wait_for_quota=wait_for_quota,
            ended=self._ended,
            followed=self._follow,
            changed=self._changed,
            budget=budget,
        )
        self._order = ChangeOrder(self._journal, self._lifecycle)
        self._total = len(requests) if isinstance(requests, Sized) else None
        self._finished: Counter[BatchState] = Counter()
        """Items handed out, by state."""
        self._leftover_running: dict[int, None] = {}
        """Rows that were running when the journal was opened, and are not in the input so far."""
        self._items: asyncio.Queue[BatchItem | None] = asyncio.Queue()
        self._read_ahead = asyncio.Semaphore(READ_AHEAD)
        self._consumed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def progress(self) -> BatchProgress:
        """How far the batch has come."""
        counts = self._finished.copy()
        counts[BatchState.QUEUED] += self._order.size
        running: list[tuple[int, str]] = []
        sending: list[int] = []
        for task in self._lifecycle.tasks.values():
            counts[task.state] += len(task.positions)
            if task.state in (BatchState.SENDING, BatchState.UNCERTAIN):
                sending += task.positions
            elif task.state is BatchState.RUNNING and task.generation is not None:
                running += ((position, task.generation.id) for position in task.positions)
        return BatchProgress(
            self._total,
            +counts,
            tuple(sorted(running)),
            tuple(sorted(sending)),
            self._finished.total(),
            self._lifecycle.comics.outage,
            self._lifecycle.budget.spending,
        )

    async def results(self) -> AsyncGenerator[BatchItem, None]:
        """Run the batch and yield its items."""
        if self._stopped:
            return
        is_left = True
        try:
            if self._out is not None:
                await asyncio.to_thread(check_writable, self._out)
            await self._journal.open()
            self._lifecycle.budget.begin(self._journal.spent)
            self._reader = asyncio.create_task(self._read())
            while (item := await self._items.get()) is not None:
                self._consumed.set()
                yield item
            is_left = False
            if not self._stopped:
                await self._reader
        finally:
            try:
                await self.stop()
            finally:
                if is_left and not self._journal.is_lasting:
                    self._tell_left()

    async def stop(self) -> None:
        """End what is left to do, and let whoever waits for an item go."""
        self._stopped = True
        try:
            if self._reader is not None:
                self._reader.cancel()
                if self._reader is not asyncio.current_task():  # the input may end its own batch
                    await asyncio.gather(self._reader, return_exceptions=True)
        finally:
            self._items.put_nowait(None)
            await self._lifecycle.stop()

    def _tell_left(self) -> None:
        """Log the ids of items that nobody has taken, and nobody will."""
        items = [self._items.get_nowait() for _ in range(self._items.qsize())]
        ids = [item.generation.id for item in items if item and item.generation]
        for id_ in dict.fromkeys(ids):
            text = "the batch was left, and it has no journal: comic %s is paid for"
            _logger.warning(text, id_, extra=about(generation_id=id_))

    async def _read(self) -> None:
        """Take up each story, as far as the read-ahead goes; then wait for all."""
        number = 0
        try:
            # What was paid for is collected at once, wherever it comes in the input.
            async for row in self._journal.rows(BatchState.RUNNING):
                self._leftover_running[row.id] = None
                await self._start(BatchTask.of(row))
            async for given in _each(self._requests):
                await self._take(number, given)
                number += 1
                await self._wait_for_consumer()
            self._total = number
        finally:
            try:
                if not self._stopped:
                    await self._add_leftovers(number)
            finally:
                if not self._stopped:
                    await self._finish()
                self._items.put_nowait(None)

    async def _take(self, position: int, given: RequestLike) -> None:
        """Take up one story of the input."""
        try:
            story = Story.parse(given, defaults=self._defaults)
        except InvalidRequestError as error:
            item = BatchItem(position, None, BatchState.FAILED, error=error, key=given_key(given))
            self._deliver(attrs.evolve(item, given=given))
            return
        item = BatchItem(position, story.request, BatchState.QUEUED, key=story.key)
        try:
            task = await self._task_of(story, position)
        except InvalidRequestError as error:
            self._deliver(attrs.evolve(item, state=BatchState.FAILED, error=error))
            return
        except JournalError as error:
            self._lifecycle.halt(error)
            task = None
        if task is None:
            self._deliver(attrs.evolve(item, error=self._lifecycle.halted))
            return
        if self._order.add_position(task.row, position):
            return
        task.positions.append(position)
        if task.runner is None and await self._admit(task):
            if task.state is BatchState.QUEUED:
                await self._read_ahead.acquire()
                task.is_waiting = True
            self._lifecycle.start(task)

    async def _task_of(self, story: Story, position: int) -> BatchTask | None:
        """Take a story up as the journal has it; `None` if it is new and nothing is sent."""
        if self._lifecycle.halted is None:
            row, _ = await self._journal.add(story, position=position, edit=True)
        else:
            found = await self._journal.seek(story, edit=True)
            if found is None:
                return None
            row = found
        self._leftover_running.pop(row.id, None)
        known = self._lifecycle.tasks.get(row.id)
        if known is not None:
            return known
        if row.state is BatchState.UNCERTAIN and self._resend_uncertain:
            row = await self._journal.change(
                row, BatchState.QUEUED, origins=(BatchState.UNCERTAIN,)
            )
        if row.state is BatchState.QUEUED:
            task = BatchTask(row, row.state, story.request)  # nothing else is known of it
        else:
            task = BatchTask.of(row, story.request)
        task.ephemeral = story.key is None and not self._journal.is_lasting
        return task

    async def _add_leftovers(self, number: int) -> None:
        """Give what was paid for by an earlier run a position after the input's last."""
        for position, id_ in enumerate(self._leftover_running, number):
            task = self._lifecycle.tasks.get(id_)
            if task is None:
                task = BatchTask.of(await self._journal.at(id_))
                await self._start(task)
            task.positions.append(position)

    async def _admit(self, task: BatchTask) -> bool:
        """Return whether a story may be started now; if not, it is started by another's end."""
        try:
            return await self._order.admit(task)
        except JournalError as error:
            self._lifecycle.halt(error)
            return True

    async def _start(self, task: BatchTask) -> None:
        """Start a story that was sent by an earlier run."""
        await self._order.admit(task)
        self._lifecycle.start(task)

    async def _follow(self, task: BatchTask) -> None:
        """Start the changes that have waited for a story."""
        for one in await self._order.released_by(task):
            self._lifecycle.start(one)

    async def _finish(self) -> None:
        """Wait for all stories; those that wait for one that does not come end, too."""
        await self._lifecycle.join()
        try:
            while self._order:
                for task in await self._order.leftover():
                    self._lifecycle.start(task)
                await self._lifecycle.join()
        except JournalError as error:
            for position in self._order.forget():
                self._deliver(BatchItem(position, None, BatchState.QUEUED, error=error))

    async def _wait_for_consumer(self) -> None:
        """Wait while too many items wait to be taken: the input may be longer than the memory."""
        while self._items.qsize() > _MOST_UNTAKEN:
            self._consumed.clear()
            await self._consumed.wait()

    def _changed(self, task: BatchTask) -> None:
        """Let the next story in if this one has left the queue."""
        if task.state is not BatchState.QUEUED:
            self._release(task)

    def _release(self, task: BatchTask) -> None:
        if task.is_waiting:
            task.is_waiting = False
            self._read_ahead.release()

    def _ended(self, task: BatchTask) -> None:
        self._release(task)
        for position in task.positions:
            self._deliver(
                BatchItem(
                    position,
                    task.request,
                    task.state,
                    task.generation,
                    task.error,
                    task.files,
                    key=task.row.key,
                )
            )

    def _deliver(self, item: BatchItem) -> None:
        self._finished[item.state] += 1
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
