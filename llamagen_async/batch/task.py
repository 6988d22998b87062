"""One story while a batch or a queue works at it. Its steps are in `lifecycle`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.errors import InvalidRequestError, JournalError, LlamaGenError
from llamagen_async.models import AnyGeneration, BatchState, ComicGeneration
from llamagen_async.observing import Observer, about, logger_of
from llamagen_async.requests import AnyRequest

__all__ = ["BatchTask", "tell_left"]

_logger = logger_of(__name__)


@attrs.define(eq=False)
class BatchTask:
    """One story while it is in memory."""

    row: Row
    """The story as the journal has it."""
    state: BatchState
    """How far the story has come: ahead of the journal only while the journal is being written."""
    request: AnyRequest | None = None
    """The request; `None` if this version does not allow it any more."""
    generation: AnyGeneration | None = None
    """The server's last answer about the comic or animation."""
    error: Exception | None = None
    """Why the story did not succeed, or what went wrong all the same."""
    files: tuple[Path, ...] = ()
    """The pictures or the video on disk."""
    positions: list[int] = attrs.field(factory=list[int])
    """The story's numbers in the input of a batch; none, if it is only in the journal."""
    is_waiting: bool = False
    """Whether the story counts among those that wait in memory to be sent."""
    is_submitted: bool = False
    """Whether the create was called and has not returned."""
    is_in_flight: bool = False
    """Whether the request may be at the server: from just before its intent is written until it is
    known what became of it."""
    held_by: LlamaGenError | None = None
    """The reason for not sending it: its comic is not there, or another change is in the way."""
    is_resumed: bool = False
    """Whether an earlier run has sent it and not seen its end."""
    ephemeral: bool = False
    """Whether the row may go once the story has ended, as nobody will ask the journal for it."""
    runner: asyncio.Task[None] | None = None
    """The task that takes the story through its steps."""
    recalled_by: LlamaGenError | None = None
    """The error for which the submission was cancelled, as it would meet the same one."""
    is_elsewhere: bool = False
    """Whether another worker of a shared journal has it."""
    journal_error: JournalError | None = None
    """Why the journal does not have the last step."""

    def recall(self, error: LlamaGenError | None) -> None:
        """Cancel the submission if it is still waiting: it would meet that error, too."""
        is_waiting = self.is_submitted and self.state is BatchState.QUEUED and not self.is_in_flight
        if is_waiting and self.recalled_by is None and self.runner is not None:
            self.recalled_by = error
            self.runner.cancel()

    def drop(self) -> None:
        """Do nothing more: another worker of the journal has the story."""
        if self.runner is not None and not (self.is_in_flight or self.is_elsewhere):
            self.is_elsewhere = True
            self.runner.cancel()

    def was_dropped(self) -> bool:
        """Whether the runner was cancelled by `drop`, which it takes note of by this."""
        return self.is_elsewhere and self.runner is not None and not self.runner.uncancel()

    def shows_more(self, generation: ComicGeneration) -> bool:
        """Take a comic as it is now, if that has more pictures; return whether it has."""
        known = self.generation
        if known is None or set(generation.asset_urls) <= set(known.asset_urls):
            return False
        self.generation = generation
        return True

    @property
    def where(self) -> str:
        """The story's key, its state and its generation's id, for the log."""
        id_ = f" as generation {self.generation.id}" if self.generation else ""
        return f"{self.row.key} is {self.state}{id_}"

    async def observed(
        self, observer: Observer, steps: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Take the story through its steps, while an observer is told of it as a job."""
        with observer.operation("job", job_key=self.row.key) as operation:
            await steps()
            if self.is_elsewhere:
                return  # whoever has it tells of its end
            id_ = self.generation.id if self.generation else None
            operation.tell(generation_id=id_, outcome=self.state.value, error=self.error)

    @property
    def known(self) -> dict[str, str]:
        """The story's key, id and error, as attributes of a log record."""
        id_ = self.generation.id if self.generation else None
        return about(self.error, generation_id=id_, job_key=self.row.key)

    @classmethod
    def of(cls, row: Row, request: AnyRequest | None = None) -> BatchTask:
        """Take a story up where the journal has it.

        Args:
            row: The story.
            request: Its request, if that has been read already.

        Raises:
            JournalError: The row is damaged.
        """
        task = cls(row, row.state, request)
        try:
            # To collect a comic whose id is known, its request need not be allowed any more.
            try:
                task.request = request or row.request
            except InvalidRequestError as error:
                if row.state is BatchState.QUEUED:
                    task.state, task.error = BatchState.FAILED, error
            task.generation = row.generation
            task.error = task.error or row.error(task.request, task.generation)
            row.check(task.generation)
        except (ValueError, TypeError, RecursionError) as error:
            raise JournalError(f"the journal is damaged at {row.key!r} ({error!r})") from error
        task.is_resumed = row.state is BatchState.RUNNING
        return task


def tell_left(tasks: Iterable[BatchTask]) -> None:
    """Log each story that is or may be paid for, as nobody can ask for it later."""
    for task in tasks:
        if task.generation is not None or task.state in (BatchState.SENDING, BatchState.UNCERTAIN):
            reason = f" ({task.error})" if task.state is BatchState.UNCERTAIN else ""
            text = "a story was left, and it has no journal: %s%s"
            _logger.warning(text, task.where, reason, extra=task.known)
