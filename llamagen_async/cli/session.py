"""Runs one batch for a command: reads the stories, watches, records what becomes of each.

However it ends (done, Ctrl-C, a reader who has left, an error) every story has a record
afterwards. What is sent when is not decided here; the client does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.cli.arriving import in_thread, lines_of
from llamagen_async.cli.errors import look, sentence
from llamagen_async.cli.output import Output
from llamagen_async.cli.progress import Display
from llamagen_async.cli.records import Record, fields_of, prompt_of
from llamagen_async.cli.stories import Stories, Story, read_stories
from llamagen_async.cli.tracking import Tracker
from llamagen_async.client import LlamaGenClient
from llamagen_async.comics import DEFAULT_TIMEOUT
from llamagen_async.errors import (
    APIConnectionError,
    AuthenticationError,
    ClientClosedError,
    InsufficientCreditsError,
    PermissionDeniedError,
    RateLimitError,
)
from llamagen_async.models import BatchItem, BatchState
from llamagen_async.requests import ComicRequest

__all__ = ["Session"]


class Session:
    """One batch from its first story to its last record.

    Args:
        client: What sends; it is closed at the end.
        stories: What is to be generated.
        output: Where lines go.
        speed: How many times faster than real time the server's clock runs.
        folder: Where pictures go; `None` fetches none.
        timeout: Seconds to wait for each comic.
        wait_for_quota: Whether tomorrow's quota is waited for.
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
    ) -> None:
        self.errors: Final[dict[int, Exception]] = {}
        """What each story failed of, by number."""
        self.interrupted = False
        """Whether it was stopped before its end."""
        self._client = client
        self._stories = stories
        self._output = output
        self._speed = speed
        self._folder = folder
        self._wait_for_quota = wait_for_quota
        self._tracker = Tracker()
        self._given: list[Story] = []
        self._records: dict[int, Record] = {}
        self._run = datetime.now(UTC).isoformat(timespec="seconds")
        self._batch = client.comics.batch(
            self._checked() if stories.checked is not None else self._arriving(),
            out=folder,
            timeout=timeout,
            wait_for_quota=wait_for_quota,
        )

    @property
    def records(self) -> list[Record]:
        """What became of each story, in the order of the input."""
        return [self._records[number] for number in sorted(self._records)]

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
        except asyncio.CancelledError:
            self.interrupted = True
        finally:
            try:
                await batch.aclose()
                await telling
            finally:
                await self._client.aclose()
                self._tracker.look(batch.progress, display.now())
                self._fill()

    async def _tell(self, display: Display) -> None:
        """Record and print what becomes of each story, until the batch has ended."""
        batch = self._batch
        async for item in batch:
            self._tracker.look(batch.progress, display.now())
            self._ended(item, display)
            if self._output.broken and not self.interrupted:
                self.interrupted = True
                await batch.aclose()

    def _checked(self) -> list[ComicRequest]:
        self._given = list(self._stories.checked or ())
        return [story.request for story in self._given if story.request is not None]

    async def _arriving(self) -> AsyncIterator[ComicRequest]:
        """Yield requests as their lines arrive; a wrong line is a story that failed."""
        stories = self._stories
        assert stories.lines is not None
        read = read_stories(lines_of(stories.lines), name=stories.name, form=stories.format)
        async for story in in_thread(read):
            if story.request is None:
                self._keep_wrong(story)
            else:
                self._given.append(story)
                yield story.request

    def _titles(self, index: int) -> str:
        return prompt_of(self._given[index].request) if index < len(self._given) else ""

    def _ended(self, item: BatchItem, display: Display) -> None:
        story = self._given[item.index]
        record = Record.of_item(item, folder=self._folder, seconds=self._tracker.took(item.index))
        if item.generation is None and _is_unspent(item.error):
            record = attrs.evolve(record, state=BatchState.QUEUED)
        if item.error is not None:
            self.errors[story.number] = item.error
        self._keep(story, record, item.error)
        kept = self._records[story.number]
        self._output.emit(kept.to_json())
        display.ended(kept)

    def _keep_wrong(self, story: Story) -> None:
        error = ValueError(f"{story.place}: {story.problem}")
        record = Record(story.number, BatchState.FAILED)
        self.errors[story.number] = error
        self._keep(story, record, error)
        self._output.emit(self._records[story.number].to_json())
        self._output.complain(str(error))

    def _keep(self, story: Story, record: Record, error: Exception | None) -> None:
        reason = sentence(error, wait_with="--wait-for-quota", id_=record.id) if error else None
        if reason and record.id and record.state is BatchState.SUCCEEDED:
            again = f"{look(record.id, self._folder)} fetches them"
            reason = f"the comic is done, its pictures are not here ({reason}): {again}"
        self._records[story.number] = attrs.evolve(
            record,
            index=story.number,
            place=story.place,
            run=self._run,
            error=reason,
            error_type=type(error).__name__ if error else None,
        )

    def _fill(self) -> None:
        """Record the stories that the batch did not come to tell about."""
        sending = frozenset(self._batch.progress.sending)
        for index, story in enumerate(self._given):
            if story.number in self._records:
                continue
            id_ = self._tracker.ids.get(index)
            if id_ is not None:
                state = BatchState.RUNNING
            elif index in sending:
                state = BatchState.UNCERTAIN
            else:
                state = BatchState.QUEUED
            record = Record(
                story.number,
                state,
                id=id_,
                prompt=prompt_of(story.request),
                request=fields_of(story.request),
            )
            self._keep(story, record, None)
            self._output.emit(self._records[story.number].to_json())


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
