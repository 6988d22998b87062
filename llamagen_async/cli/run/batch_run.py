"""Runs one batch for a command: reads the stories, watches, notes what becomes of each.

However it ends (done, Ctrl-C, a reader who has left, an error) it is known afterwards what became
of every story that was read. What is sent when is not decided here; the client does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.batch.journal.codec import RequestLike, fields_of
from llamagen_async.cli.errors import look, sentence
from llamagen_async.cli.input.stdin import in_thread, lines_of
from llamagen_async.cli.input.stories import Stories, Story, read_stories
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.records import NO_PICTURES, Record, prompt_of
from llamagen_async.cli.results.spool import Notes
from llamagen_async.cli.run.progress import Display
from llamagen_async.cli.run.tally import Tally
from llamagen_async.cli.run.tracking import Tracker
from llamagen_async.cli.run.uncertain import requests_counted
from llamagen_async.client import LlamaGenClient
from llamagen_async.comics import DEFAULT_TIMEOUT
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

__all__ = ["Session"]


class Session:
    """One batch from its first story to its last.

    Args:
        client: What sends; it is closed at the end.
        stories: What is to be generated.
        output: Where lines go.
        speed: How many times faster than real time the server's clock runs.
        folder: Where pictures go; `None` fetches none.
        timeout: Seconds to wait for each comic.
        wait_for_quota: Whether tomorrow's quota is waited for.
        journal: Where everything is written down; `None` keeps all records until the end.
        resend_uncertain: Whether uncertain stories of the journal are sent again.
        notes: What is known of the stories of the journal already.
        running: The generation ids of what runs already.
    """

    def __init__(
        self,
        client: LlamaGenClient,
        stories: Stories,
        output: Output,
        *,
        speed: float = 1.0,
        folder: Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        journal: Path | None = None,
        resend_uncertain: bool = False,
        notes: Notes | None = None,
        running: frozenset[str] = frozenset(),
    ) -> None:
        self.tally: Final = Tally()
        """How many stories are in which state, and why comics are missing."""
        self.notes: Final = notes or Notes()
        """What became of each story."""
        self.unfinished: Final[list[Record]] = []
        """What was in flight when it was stopped, if there is a journal."""
        self.interrupted = False
        """Whether it was stopped before its end."""
        self.requests_counted: int | None = None
        """How many requests the server has counted, if it could be asked about uncertain ones."""
        self._client = client
        self._stories = stories
        self._output = output
        self._speed = speed
        self._folder = folder
        self._wait_for_quota = wait_for_quota
        self._has_journal = journal is not None
        self._tracker = Tracker(running)
        self._read: int = 0
        self._seen: int = 0
        self._pending: dict[int, Story] = {}
        """Stories that were read and of which nothing is told yet: as many as are in flight."""
        self._run = datetime.now(UTC).isoformat(timespec="seconds")
        self._batch = client.comics.batch(
            _Checked(self) if stories.checked is not None else self._arriving(),
            out=folder,
            timeout=timeout,
            wait_for_quota=wait_for_quota,
            journal=journal,
            resend_uncertain=resend_uncertain,
        )

    @property
    def records(self) -> list[Record]:
        """What became of each story of a run without a journal, in the order of the input."""
        return list(self.notes.others())

    async def run(self) -> None:
        """Run it to its end. Cancelling it is an interrupt: it ends early and says so."""
        batch = self._batch
        display = Display(
            self._output,
            self._client,
            batch,
            self._tracker,
            self._titles,
            speed=self._speed,
            quotas=self._wait_for_quota,
        )
        # In a task of its own: an interrupt must not lose what has just ended and waits to be told.
        telling = asyncio.create_task(self._tell(display))
        try:
            async with display:
                await asyncio.wait((telling,))
            if self.tally.uncertain and not self.interrupted:
                self.requests_counted = await requests_counted(self._client)
        except asyncio.CancelledError:
            self.interrupted = True
        finally:
            try:
                await batch.aclose()
                await telling
            except JournalError:
                if not self.interrupted:  # a journal that is closed while it opens says so
                    raise
            finally:
                await self._client.aclose()
                await batch.aclose()  # creates that took longer are in the journal now
                self._tracker.look(batch.progress, display.now())
                self._fill()

    async def _tell(self, display: Display) -> None:
        """Note and print what becomes of each story, until the batch has ended."""
        batch = self._batch
        async for item in batch:
            self._tracker.look(batch.progress, display.now())
            self._ended(item, display)
            if self._output.broken and not self.interrupted:
                self.interrupted = True
                await batch.aclose()

    def _take(self, story: Story) -> Iterator[RequestLike]:
        """Yield what the batch is given of a story: nothing, if it is wrong."""
        self._seen += 1
        if story.request is None:
            self._keep_wrong(story)
        else:
            self._pending[self._read] = story
            self._read += 1
            yield story.given

    def checked(self) -> Iterator[RequestLike]:
        """Yield what the batch is given, as it is read."""
        for story in self._stories.checked or ():
            yield from self._take(story)

    @property
    def number(self) -> int:
        """How many stories there are, if that was known beforehand."""
        return len(self._stories.checked or ())

    async def _arriving(self) -> AsyncIterator[RequestLike]:
        """Yield requests as their lines arrive; a wrong line is a story that failed."""
        stories = self._stories
        assert stories.lines is not None
        read = read_stories(lines_of(stories.lines), name=stories.name, form=stories.format)
        async for story in in_thread(read):
            for given in self._take(story):
                yield given

    def _titles(self, index: int) -> str:
        story = self._pending.get(index)
        return prompt_of(story.request) if story else ""

    def _ended(self, item: BatchItem, display: Display) -> None:
        # What an earlier run left running comes after the input, and has no story in it.
        story = self._pending.pop(item.index, None) or Story(item.index, "", item.request)
        seconds = self._tracker.told(item.index)
        record = Record.of_item(item, folder=self._folder, seconds=seconds)
        if item.generation is None and _is_unspent(item.error):
            record = attrs.evolve(record, state=BatchState.QUEUED)
        kept = self._keep(story, record, item.error, in_journal=item.key is not None)
        is_old = kept.state is not BatchState.QUEUED and self.notes.is_old(item.key)
        display.ended(kept, is_news=not is_old)

    def _keep_wrong(self, story: Story) -> None:
        error = ValueError(f"{story.place}: {story.problem}")
        self._keep(story, Record(story.number, BatchState.FAILED), error, in_journal=False)
        self._output.complain(str(error))

    def _keep(
        self, story: Story, record: Record, error: Exception | None, *, in_journal: bool
    ) -> Record:
        reason = sentence(error, wait_with="--wait-for-quota", id_=record.id) if error else None
        if reason and record.id and record.state is BatchState.SUCCEEDED:
            again = f"{look(record.id, self._folder)} fetches them"
            reason = f"the comic is done, its pictures are not here ({reason}): {again}"
        kept = attrs.evolve(
            record,
            index=story.number,
            place=story.place,
            run=self._run,
            error=reason,
            error_type=type(error).__name__ if error else None,
            key=(record.key or story.key) if self._has_journal else None,
        )
        self.notes.add(kept, in_journal=in_journal and self._has_journal)
        self.tally.add(kept, error)
        self._output.emit(kept.to_json())
        return kept

    def _fill(self) -> None:
        """Note the stories that the batch did not come to tell about."""
        progress = self._batch.progress
        sending, running = frozenset(progress.sending), dict(progress.running)
        for index in sorted(self._pending.keys() | self._tracker.ids.keys()):
            story = self._pending.get(index) or Story(index, "", None)
            id_ = self._tracker.ids.get(index)
            if id_ is not None:
                # What runs no more was drawn, and its pictures were being fetched.
                state = BatchState.RUNNING if index in running else BatchState.SUCCEEDED
            elif index in sending:
                state = BatchState.UNCERTAIN
            else:
                state = BatchState.QUEUED
            record = Record(
                story.number,
                state,
                place=story.place,
                id=id_,
                prompt=prompt_of(story.request),
                request=fields_of(story.request) if story.request else {},
                run=self._run,
                error=NO_PICTURES if state is BatchState.SUCCEEDED else None,
                key=story.key,
            )
            if self._has_journal:
                self.unfinished.append(record)
            else:
                self.notes.add(attrs.evolve(record, key=None), in_journal=False)
            self.tally.add(record, None)
            self._output.emit(record.to_json())
        self.tally.add_unread(self.number - self._seen)


class _Checked:
    """The stories of a file, for a batch that wants to know how many there are."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __len__(self) -> int:
        return self._session.number

    def __iter__(self) -> Iterator[RequestLike]:
        return self._session.checked()


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
