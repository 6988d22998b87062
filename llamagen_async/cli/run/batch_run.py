"""One batch of a command, from its first story to its last.

However it ends (done, Ctrl-C, a reader who is gone, an error) it is known afterwards what became
of every story that was read. What is sent when is not decided here; the client does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from llamagen_async.batch.batch import Batch
from llamagen_async.batch.budget import Spending
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import RequestLike
from llamagen_async.cli.errors import describe_error, status_command
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.money import Money
from llamagen_async.cli.input.stories import InputStory, Stories
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.records import Record, prompt_of
from llamagen_async.cli.results.unrecorded import Unrecorded
from llamagen_async.cli.run.money import ask_usage
from llamagen_async.cli.run.progress import Display
from llamagen_async.cli.run.tally import Tally
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.errors import (
    APIConnectionError,
    AuthenticationError,
    ClientClosedError,
    InsufficientCreditsError,
    JournalError,
    PermissionDeniedError,
    RateLimitError,
)
from llamagen_async.models import BatchItem, BatchState
from llamagen_async.requests import RequestType

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["BatchRun"]

_DONE: Final = "comic is done, its pictures are"
_REJECTED: Final = ""
"""A prompt that no batch accepts: it stands for a line that is wrong, so that the stories after it
have the same positions in the journal as in the input."""


class BatchRun:
    """One batch from its first story to its last.

    Args:
        client: The client that sends; it is closed at the end.
        stories: The input.
        number: How many stories there are, if that is known beforehand.
        output: Where lines go.
        journal: The journal in which everything is written down; `None` keeps nothing of it, so
            that the results of all stories are in `unrecorded`.
        folder: The folder for the pictures; `None` fetches none.
        timeout: Seconds to wait for each comic.
        wait_for_quota: Whether tomorrow's quota is waited for.
        resend_uncertain: Whether uncertain stories of the journal are sent again.
        money: The options about money.
    """

    def __init__(
        self,
        client: LlamaGenClient,
        stories: Stories,
        output: Output,
        *,
        journal: Journal | None = None,
        number: int | None = None,
        folder: Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        resend_uncertain: bool = False,
        money: Money | None = None,
    ) -> None:
        money = money or Money()
        self.stories: Final = stories
        """The input."""
        self.began: Final = datetime.now(UTC)
        """The time at which it began."""
        self.tally: Final = Tally()
        """How many stories are in which state, and why comics are missing."""
        self.unrecorded: Final = Unrecorded()
        """The news that the journal does not keep."""
        self.interrupted: bool = False
        """Whether it was stopped before its end."""
        self.requests_counted: int | None = None
        """How many requests the server has counted, if it could be asked about uncertain ones."""
        self._client = client
        self._output = output
        self._folder = folder
        self._wait_for_quota = wait_for_quota
        self._read = 0
        self._ended: Counter[BatchState] = Counter()
        """The items that the batch has yielded, by state."""
        self._number = number
        self._has_journal = journal is not None
        self._batch = Batch(
            self._requests() if number is None else _Sized(self._requests(), number),
            client.comics,
            journal or Journal(None, client.account),
            out=folder,
            timeout=timeout,
            wait_for_quota=wait_for_quota,
            resend_uncertain=resend_uncertain,
            budget=money.budget,
            prices=money.prices,
        )

    @property
    def spending(self) -> Spending:
        """The credits that were spent, and what is left of the budget."""
        return self._batch.progress.spending

    async def run(self) -> None:
        """Run it to its end. Cancelling it is an interrupt: it ends early."""
        batch = self._batch
        display = Display(
            self._output,
            self._client,
            batch,
            self._title_of,
            quotas=self._wait_for_quota,
        )
        # In a task of its own: an interrupt must not lose an item that waits to be taken.
        reporting = asyncio.create_task(self._report(display))
        try:
            async with display:
                await asyncio.wait((reporting,))
            if self.tally.uncertain and not self.interrupted:
                usage = await ask_usage(self._client)
                self.requests_counted = usage.api_usage_count if usage else None
        except asyncio.CancelledError:
            self.interrupted = True
        finally:
            try:
                await batch.aclose()
                await reporting
            except JournalError:
                if not self.interrupted:  # a journal that is closed while it opens raises this
                    raise
            finally:
                await self._client.aclose()
                await batch.aclose()  # creates that took longer are in the journal now
                self._count_unfinished()

    async def _requests(self) -> AsyncIterator[RequestLike]:
        """Yield the input to the batch; a wrong line is a story that failed."""
        async for one in self.stories.read(self._batch.journal):
            self._read += 1
            if one.story is None:
                self._reject(one)
                yield _REJECTED
            else:
                self.unrecorded.reading[one.number] = one
                yield one.story

    async def _report(self, display: Display) -> None:
        """Record and print the result of each story, until the batch has ended."""
        async for item in self._batch:
            self._ended[item.state] += 1
            story = self.unrecorded.reading.pop(item.index, None)
            if story is not None or item.key is not None:  # a wrong line was reported when it came
                await self._report_one(item, story, display)
            if self._output.stdout_closed and not self.interrupted:
                self.interrupted = True
                await self._batch.aclose()

    async def _report_one(
        self, item: BatchItem, story: InputStory | None, display: Display
    ) -> None:
        row: Row | None = None
        in_journal = item.key is not None
        if item.key is not None:
            with contextlib.suppress(JournalError):  # it may be closed by now
                row = await self._batch.journal.get(item.key)
                if row is None or (story and story.story and story.story.digest != row.digest):
                    row, in_journal = None, False
        record = attrs.evolve(
            Record.of_item(item, folder=self._folder),
            label=story.label if story else row.label if row else "",
            key=item.key or (story.story.key if story and story.story else None),
        )
        if story is not None and story.story is not None:
            record = attrs.evolve(
                record,
                request=json.loads(story.story.text),
                digest="" if in_journal else story.story.digest.hex(),
            )
        if row is not None:
            with contextlib.suppress(ValueError):  # it is damaged, and the results are told of it
                record = record.timed(row, self._client.speed)
        if not self._has_journal:
            record = attrs.evolve(record, key=None)
        if item.generation is None and _is_unspent(item.error):
            record = attrs.evolve(record, state=BatchState.QUEUED)
        record = self._record(record, item.error, in_journal=in_journal)
        ended_before = row is not None and (row.ended_at or time.time()) < self.began.timestamp()
        is_old = ended_before and record.state is not BatchState.QUEUED
        display.ended(record, is_news=not is_old)

    def _reject(self, one: InputStory) -> None:
        error = CommandError(f"{one.label}: {one.problem}")
        record = Record(one.number, BatchState.FAILED, one.label, key=one.key, given=one.given)
        self._record(record, error, in_journal=False)
        self._output.error(str(error))

    def _record(self, record: Record, error: Exception | None, *, in_journal: bool) -> Record:
        """Count the result of a story, print it as JSON, and keep what the journal does not."""
        if error is not None:
            reason = describe_error(error, wait_with="--wait-for-quota", id_=record.id)
            if record.id and record.state is BatchState.SUCCEEDED:
                is_animation = record.type == RequestType.ANIMATION
                command = status_command(record.id, self._folder, is_animation=is_animation)
                those = "it" if is_animation else "them"
                what = "animation is done, its video is" if is_animation else _DONE
                reason = f"the {what} not here ({reason}): {command} fetches {those}"
            record = attrs.evolve(record, error=reason, error_type=type(error).__name__)
            if in_journal and record.key is not None:
                self.unrecorded.explain(record.key, (reason, type(error).__name__))
        if not (in_journal and self._has_journal):
            self.unrecorded.add(record)
        self.tally.add(record, error)
        self._output.emit_json(record.to_json())
        return record

    def _title_of(self, index: int) -> str:
        one = self.unrecorded.reading.get(index)
        return prompt_of(one.story.request) if one and one.story else ""

    def _count_unfinished(self) -> None:
        """Count the stories that the batch has not yielded."""
        progress, reading = self._batch.progress, self.unrecorded.reading
        running, sending = dict(progress.running), set(progress.sending)
        left = Counter(progress.counts) - self._ended
        counts = {
            BatchState.RUNNING: len(running),
            BatchState.UNCERTAIN: len(sending),
            # The pictures of these were being fetched.
            BatchState.SUCCEEDED: left[BatchState.SUCCEEDED],
            BatchState.FAILED: left[BatchState.FAILED],
        }
        waiting = len(reading.keys() - running.keys() - sending)
        waiting -= counts[BatchState.SUCCEEDED] + counts[BatchState.FAILED]
        unread = 0 if self._number is None else max(0, self._number - self._read)
        counts[BatchState.QUEUED] = max(0, waiting) + unread
        self.tally.add_unfinished(counts, running.values())
        if not self._has_journal:
            for index, one in sorted(reading.items()):
                state = BatchState.UNCERTAIN if index in sending else BatchState.QUEUED
                state = BatchState.RUNNING if index in running else state
                record = Record.of_story(one.number, one.label, one.story, state)
                self.unrecorded.add(attrs.evolve(record, id=running.get(index), key=None))
            reading.clear()


class _Sized(AsyncIterator[RequestLike]):
    """Requests whose number is known beforehand."""

    def __init__(self, requests: AsyncIterator[RequestLike], number: int) -> None:
        self._requests = requests
        self._number = number

    def __len__(self) -> int:
        return self._number

    async def __anext__(self) -> RequestLike:
        return await anext(self._requests)


def _is_unspent(error: Exception | None) -> bool:
    """Return whether a story provably was not accepted, through no fault of its own."""
    if isinstance(error, APIConnectionError):
        return not error.request_sent
    return isinstance(error, _UNSPENT)


_UNSPENT: Final = (
    AuthenticationError,
    ClientClosedError,
    InsufficientCreditsError,
    PermissionDeniedError,
    RateLimitError,
)
