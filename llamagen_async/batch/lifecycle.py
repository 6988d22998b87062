"""Takes the stories of a journal through their steps: sent, waited for, fetched, each written.

A batch and a queue have this in common. What to send when is not decided here: the dispatcher sees
all creates and checks. A create in flight is never abandoned for lack of interest: its id is money.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.batch import makers
from llamagen_async.batch.budget import Budget
from llamagen_async.batch.makers import ComicsPort
from llamagen_async.batch.outcomes import ORIGINS, concerns_all, is_final, may_be_accepted
from llamagen_async.batch.protocol import StoryStore
from llamagen_async.batch.replacing import fetch
from llamagen_async.batch.task import BatchTask, tell_left
from llamagen_async.errors import (
    ClientClosedError,
    GenerationFailedError,
    JournalError,
    LlamaGenError,
    SubmissionUncertainError,
)
from llamagen_async.models import AnyGeneration, BatchState, ComicGeneration
from llamagen_async.observing import JOB_KEY, about, logger_of
from llamagen_async.validation import checked_path, seconds

__all__ = ["GRACE", "READ_AHEAD", "ComicsPort", "Lifecycle"]

_logger = logger_of(__name__)

READ_AHEAD: Final = 64
"""Stories in memory that are not sent yet, at most: enough for the dispatcher to choose from."""
GRACE: Final = 5.0
"""Real seconds that creates in flight are given when a batch or a queue ends."""

QUEUED, SENDING, RUNNING = BatchState.QUEUED, BatchState.SENDING, BatchState.RUNNING
SUCCEEDED, FAILED, UNCERTAIN = BatchState.SUCCEEDED, BatchState.FAILED, BatchState.UNCERTAIN


class Lifecycle:
    """All stories of one journal that are being worked at.

    Args:
        journal: The journal in which each step is written; it is closed at the end.
        comics: The client's comics.
        out: A folder for the pictures; `None` fetches none.
        timeout: Seconds to wait for each comic's end, and then for its pictures.
        wait_for_quota: Wait for tomorrow's quota instead of giving a story back unsent.
        ended: Told of each story for which nothing more will happen by itself.
        followed: Called when a story has ended, to start those that have waited for it.
        changed: Told of each step before that.
        drawn: Told of a comic that runs, whenever there are more of its pictures.
        budget: The account of what the stories cost; one without a limit if not given.

    Raises:
        InvalidRequestError: `timeout` is no number of seconds.
    """

    def __init__(
        self,
        journal: StoryStore,
        comics: ComicsPort,
        *,
        out: str | os.PathLike[str] | None,
        timeout: float,
        wait_for_quota: bool,
        ended: Callable[[BatchTask], None],
        followed: Callable[[BatchTask], Awaitable[None]],
        changed: Callable[[BatchTask], None],
        drawn: Callable[[BatchTask], None] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.journal = journal
        self.comics = comics
        self.out: Path | None = None if out is None else checked_path("out", out)
        self.timeout: float = seconds("timeout", timeout)
        self.wait_for_quota = wait_for_quota
        self.ended = ended
        self.followed = followed
        self.changed = changed
        self.drawn = drawn
        self.budget: Budget = budget or Budget()
        self.tasks: dict[int, BatchTask] = {}
        """The stories in memory, by the number of their row."""
        self.halted: LlamaGenError | None = None
        """Why nothing more is sent."""
        self.stopped: bool = False
        """Whether nothing more is sent or waited for."""
        self._runners: set[asyncio.Task[None]] = set()
        self._has_warned = False
        self.ending: asyncio.Task[None] | None = None
        """The end of all stories, once it has begun, with the journal's."""

    @property
    def held_by(self) -> LlamaGenError | None:
        """Why nothing is sent for a while, such as missing credits or an outage of the server."""
        outage = self.comics.outage
        return self.halted or (None if outage is None else outage.error())

    def start(self, task: BatchTask) -> None:
        """Take a story to its end, in an asyncio task of its own."""
        self.tasks[task.row.id] = task
        steps, observer = _Steps(self, task, task.row.since).run, self.comics.observer
        task.runner = asyncio.create_task(task.observed(observer, steps) if observer else steps())
        self._runners.add(task.runner)
        task.runner.add_done_callback(self._runners.discard)

    def halt(self, error: LlamaGenError) -> None:
        """Send nothing more, and take back what waits for its turn: it would meet `error`, too."""
        self.halted = self.halted or error
        for task in self.tasks.values():
            task.recall(self.halted)

    async def join(self) -> None:
        """Wait for all stories that were started."""
        while self._runners:  # one that ends may start others
            await asyncio.wait(self._runners)

    async def stop(self, grace: float = GRACE) -> None:
        """Send nothing more and wait for nothing more; then the journal is closed.

        Creates in flight are given `grace` real seconds. Those that take longer go on and are
        recorded when they end; the journal stays open for them.
        """
        self.stopped = True
        for task in self.tasks.values():
            if task.runner is not None and not task.is_in_flight:
                task.runner.cancel()
        if self.ending is None:
            self.ending = asyncio.create_task(self._end())
        await asyncio.wait([self.ending], timeout=grace)
        if not (self.ending.done() or self._has_warned):
            self._has_warned = True
            number = sum(task.is_in_flight for task in self.tasks.values())
            teller = "journal" if self.journal.is_lasting else "log"
            _logger.warning("%d creates are still in flight; the %s will tell", number, teller)

    async def _end(self) -> None:
        try:
            await self.journal.give_back()
            await self.join()
        finally:
            if not self.journal.is_lasting:
                tell_left(self.tasks.values())
            await self.journal.aclose()


@attrs.frozen
class _Steps:
    """The steps of one story, each written to the journal; told of its submission's, too."""

    lifecycle: Lifecycle
    task: BatchTask
    since: float | None
    """Time of the event loop's clock since which the story waits, if it waited elsewhere before."""

    async def run(self) -> None:
        """Take the story to its end and report it."""
        lifecycle, task = self.lifecycle, self.task
        JOB_KEY.set(task.row.key)
        try:
            try:
                await self._advance()
            except Exception as error:  # noqa: BLE001  # whatever it is belongs to this story
                await self._fail(error)
            except asyncio.CancelledError:
                if lifecycle.stopped or not task.was_dropped():
                    raise
        except Exception as error:
            _logger.exception("a mistake of this package: %s", task.where, extra=task.known)
            task.error = error  # whoever waits for it must hear of it
        finally:
            lifecycle.budget.settle(task.row.id, is_spent=may_be_accepted(task))
        if lifecycle.stopped:
            return  # it stays in memory, so that its last state can be told
        task.error = task.error or task.journal_error
        if task.ephemeral:
            await lifecycle.journal.forget(task.row)
        elif task.row.worker and not task.is_elsewhere:
            await lifecycle.journal.let_go(task.row, task.error)
        del lifecycle.tasks[task.row.id]
        lifecycle.ended(task)
        if lifecycle.journal.has_changes:
            await self._follow()

    async def _advance(self) -> None:
        lifecycle, task = self.lifecycle, self.task
        if task.state is FAILED and task.row.state is QUEUED:
            await self._record(error=task.error)  # this version does not allow it any more
        if task.state is QUEUED:
            await self._submit()
        if task.state is RUNNING and not lifecycle.stopped:
            await self._collect()
        if task.state is SUCCEEDED and not lifecycle.stopped:
            await self._fetch()

    async def _follow(self) -> None:
        """Start the stories that have waited for this one."""
        try:
            await self.lifecycle.followed(self.task)
        except LlamaGenError as error:
            self.lifecycle.halt(error)

    async def _submit(self) -> None:
        lifecycle, task = self.lifecycle, self.task
        if (reason := lifecycle.halted or task.held_by) is not None:
            raise reason
        await lifecycle.budget.reserve(task.row.id, task.request)
        if lifecycle.halted is not None:
            raise lifecycle.halted
        comics, waits, task.is_submitted = lifecycle.comics, lifecycle.wait_for_quota, True
        try:
            try:
                await makers.submit(
                    comics,
                    await makers.completed(comics, lifecycle.journal, task, wait_for_quota=waits),
                    task.row.target,
                    urgent=task.row.urgent,
                    wait_for_quota=waits,
                    hooks=self,
                )
            finally:
                task.is_submitted = False
        except asyncio.CancelledError:
            # Recalling cancels once; a second cancellation is somebody else's, and goes on.
            if task.recalled_by is None or task.runner is None or task.runner.uncancel():
                raise
            raise task.recalled_by from None
        except LlamaGenError as error:
            if concerns_all(error):
                lifecycle.halt(error)
            raise

    async def before_send(self) -> None:
        """Write the intent; if that fails, or nothing is to be sent any more, raise."""
        lifecycle, task = self.lifecycle, self.task
        price = lifecycle.budget.sent(task.row.id)
        task.is_in_flight = True
        try:
            row = await lifecycle.journal.change(
                task.row, SENDING, origins=ORIGINS[SENDING], credits_=price
            )
        except JournalError:
            task.is_in_flight = False
            raise
        task.row = row
        if row.state is BatchState.CANCELLED:
            task.is_in_flight, task.state = False, row.state
            raise LlamaGenError(f"{row.key!r} was cancelled; nothing was sent")
        if row.state is not SENDING or row.worker != lifecycle.journal.worker:
            task.is_in_flight, task.is_elsewhere = False, lifecycle.journal.worker is not None
            kind = LlamaGenError if task.is_elsewhere else JournalError
            raise kind(f"the journal already has {row.key!r} as {row.state}")
        if lifecycle.stopped or lifecycle.halted is not None:
            await self._take_back()
            raise lifecycle.halted or ClientClosedError("the batch was left before it was sent")
        task.state, task.error = SENDING, None
        lifecycle.changed(task)

    async def not_sent(self) -> None:
        """Write that the story waits again; then leave the queue if nothing more is sent."""
        lifecycle, task = self.lifecycle, self.task
        await self._take_back()
        if lifecycle.halted is not None:
            task.recall(lifecycle.halted)
        elif lifecycle.stopped and task.runner is not None:
            task.runner.cancel()

    def held_up(self, error: LlamaGenError) -> None:
        """Say why the story waits."""
        self.task.error = error
        self.lifecycle.changed(self.task)

    async def accepted(self, answer: AnyGeneration) -> None:
        """Write the id."""
        task = self.task
        task.state, task.generation = RUNNING, answer
        await self._record(generation=answer)
        task.is_in_flight = False
        self.lifecycle.changed(task)

    def abandoned(self, outcome: object) -> None:
        """Say what became of a create whose caller was gone: its id may be nowhere else."""
        may_be_made = isinstance(outcome, AnyGeneration | SubmissionUncertainError)
        if self.task.is_elsewhere or not may_be_made:
            return
        news = self.task.where if isinstance(outcome, AnyGeneration) else outcome
        what, key = "left while %s was in flight: %s", self.task.row.key
        _logger.warning(what, key, news, extra=about(outcome, job_key=key))

    async def written(self) -> None:
        """Wait for the end of all stories if they were stopped, else of this one."""
        last = self.lifecycle.ending or self.task.runner
        if last is not None:
            await asyncio.wait([last])

    async def _take_back(self) -> None:
        """Write that the request was not sent after all."""
        lifecycle, task = self.lifecycle, self.task
        task.state = QUEUED
        lifecycle.budget.not_sent(task.row.id)
        await self._record()
        task.is_in_flight = False
        lifecycle.changed(task)

    async def _collect(self) -> None:
        lifecycle, task, generation = self.lifecycle, self.task, self.task.generation
        assert generation is not None
        # The answer to a change may speak of the comic as it was.
        if not generation.succeeded or task.row.type.is_change:
            comics, journal = lifecycle.comics, lifecycle.journal
            timeout, told = lifecycle.timeout, self._progress
            generation = await makers.wait(comics, journal, task, timeout=timeout, progress=told)
        task.state, task.generation = SUCCEEDED, generation
        if await self._record(generation=generation):
            task.journal_error = None  # nothing is missing any more

    def _progress(self, generation: ComicGeneration) -> None:
        """Tell of a comic's pictures as they are drawn; the journal needs only its end."""
        if self.lifecycle.drawn is not None and self.task.shows_more(generation):
            self.lifecycle.drawn(self.task)

    async def _fetch(self) -> None:
        lifecycle, out = self.lifecycle, self.lifecycle.out
        if out is None:
            return
        comics, journal = lifecycle.comics, lifecycle.journal
        fetched = await fetch(comics, journal, self.task, out, timeout=lifecycle.timeout)
        if fetched is not None:
            relative = [file.relative_to(out).as_posix() for file in self.task.files]
            await self._record(generation=fetched, files=relative)

    async def _fail(self, error: Exception) -> None:
        """Decide what an error means for the story, and write that."""
        task = self.task
        task.error = error
        unsent = task.state in (QUEUED, SENDING)
        if isinstance(error, GenerationFailedError):
            task.generation = error.generation
            task.state = FAILED
            await self._record(generation=task.generation, error=error)
        elif isinstance(error, SubmissionUncertainError):
            await self._lose(error)
        elif unsent and is_final(error, task.row.type):
            task.state = FAILED
            await self._record(error=error)
        elif task.state is SENDING and not isinstance(error, LlamaGenError):
            reason = f"it ended in {type(error).__name__}"
            await self._lose(SubmissionUncertainError(task.request, reason))
        elif unsent and task.is_in_flight:
            await self._take_back()
        task.is_in_flight = False

    async def _lose(self, error: SubmissionUncertainError) -> None:
        """Write that nobody knows whether the request was accepted."""
        task = self.task
        task.state = UNCERTAIN
        await self._record(error=error)
        if task.row.state is RUNNING:
            task.state = task.row.state  # its id had come when its answer was given up
        task.generation = task.row.generation  # none, if the one that came is another story's

    async def _record(
        self,
        *,
        generation: AnyGeneration | None = None,
        error: Exception | None = None,
        files: Sequence[str] | None = None,
    ) -> bool:
        """Write how far the story has come; if that fails, go on and say so."""
        task, budget = self.task, self.lifecycle.budget
        # With its files it may be as later stories have left it, which are charged apart.
        charged = None if files else budget.charge(task.row, task.request, generation)
        try:
            task.row = await self.lifecycle.journal.change(
                task.row,
                task.state,
                origins=ORIGINS[task.state],
                generation=generation,
                error=error,
                files=files,
                credits_=charged,
            )
        except JournalError as journal_error:
            task.journal_error = journal_error
            # Somebody may have to pay for what is only in this line.
            _logger.exception("not in the journal: %s", task.where, extra=task.known)
            return False
        return True
