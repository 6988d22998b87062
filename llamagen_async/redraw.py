"""One panel of a journal's comic drawn again: paid once, and that picture replaced, no other.

A redraw is a story of the journal like any other, so its intent is written before it is sent and
its end is waited for, whatever ended the program meanwhile. Its name is made of its content: the
same redraw asked for again is the same one, unless another is asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import attrs

from llamagen_async.batch.budget import Budget, Spending
from llamagen_async.batch.finding import find_story
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story, content_key
from llamagen_async.batch.lifecycle import Lifecycle
from llamagen_async.batch.makers import ComicsPort, newest
from llamagen_async.batch.task import BatchTask
from llamagen_async.downloads.download import panel_name
from llamagen_async.downloads.media_types import safe_stem
from llamagen_async.downloads.versions import older_versions
from llamagen_async.errors import InvalidRequestError, LlamaGenError, SubmissionUncertainError
from llamagen_async.models import BatchState, ComicGeneration
from llamagen_async.prices import PriceList, Prices, checked_credits
from llamagen_async.requests import BatchStory, RequestType, UpdateRequest
from llamagen_async.validation import check_flags, checked_path, seconds

__all__ = ["JOURNAL", "Redraw", "RedrawOptions", "journal_in", "redraw_panel"]

JOURNAL: Final = "journal.db"
"""The journal's name in the folder of the pictures, unless the user has given another one."""


@attrs.frozen
class Redraw:
    """One panel that was drawn again."""

    comic: ComicGeneration
    """The comic with the new picture."""
    file: Path
    """The new picture, under the name that the old one had."""
    kept: Path | None
    """The picture before, under its new name; `None` if there was none on disk."""
    is_new: bool
    """Whether this call has paid for it; if not, an earlier one has."""
    spending: Spending = attrs.field(factory=Spending, kw_only=True)
    """The credits that this call has spent, and all runs with this journal."""


@attrs.frozen
class RedrawOptions:
    """Options of a redraw: whether it is sent, for how much, and for how long it is waited for."""

    again: bool = False
    """Draw it once more, although the same redraw was done before; it is paid for again."""
    resend_uncertain: bool = False
    """Send one again of which nobody knows whether it was accepted; it may be paid for twice."""
    timeout: float = 1800.0
    """Seconds to wait for its end, once it was accepted, and then for its picture."""
    wait_for_quota: bool = False
    """Wait for tomorrow's quota instead of raising."""
    budget: float | None = None
    """The most credits that all runs with this journal may spend; `None` is any number."""
    prices: Prices = attrs.field(factory=Prices)
    """Prices, as far as they are known."""

    @classmethod
    def checked(
        cls, *, budget: float | None, prices: PriceList | None, timeout: float, **flags: bool
    ) -> Self:
        """Return options as a caller has given them.

        Raises:
            InvalidRequestError: One of them is not allowed.
        """
        check_flags(**flags)
        if budget is not None:
            budget = checked_credits("budget", budget)
        timeout = seconds("timeout", timeout)
        return cls(budget=budget, prices=Prices.parse(prices), timeout=timeout, **flags)


async def journal_in(out: Path, journal: str | os.PathLike[str] | None) -> Path:
    """Return the journal of a folder of pictures, which has to be there.

    Raises:
        InvalidRequestError: There is none.
    """
    path = out / JOURNAL if journal is None else checked_path("journal", journal)
    if not await asyncio.to_thread(path.is_file):
        raise InvalidRequestError("journal", str(path), "the journal of a batch")
    return path


async def redraw_panel(
    comics: ComicsPort,
    journal: Journal,
    out: Path,
    name: str,
    request: UpdateRequest,
    options: RedrawOptions,
    *,
    changed: Callable[[BatchTask], None] | None = None,
) -> Redraw:
    """Have one panel of a comic drawn again, and its picture replaced.

    Args:
        comics: The client's comics.
        journal: The journal that knows the comic, open.
        out: The folder of its pictures.
        name: What the story is called; see `find_story`.
        request: The redraw.
        options: Whether it is sent again.
        changed: Told of the redraw as it is found, and of each step before its end.

    Raises:
        InvalidRequestError: There is no such story or panel; nothing was sent.
        BudgetReachedError: The budget does not pay for it; nothing was sent.
        LlamaGenError: It was not sent, or its end was not seen.
    """
    comic = await _comic_of(journal, name)
    _check_panel(comic, request)
    request = attrs.evolve(request, page=request.page or 0)  # which is the same
    budget = Budget(options.budget, options.prices)
    budget.begin(journal.spent)
    lifecycle = Lifecycle(
        journal,
        comics,
        out=out,
        timeout=options.timeout,
        wait_for_quota=options.wait_for_quota,
        ended=_ignore,
        followed=_follow,
        changed=changed or _ignore,
        budget=budget,
    )
    row: Row | None = None
    lost: LlamaGenError | None = None
    try:
        row, is_new, lost = await _row_of(
            journal, Story.parse(BatchStory(request, id=comic.id)), options
        )
        # One at a time: a comic that is being changed can't be changed.
        async for other in journal.rows(BatchState.RUNNING):
            if other.target == comic.id and other.id != row.id:
                lifecycle.start(BatchTask.of(other))
                await lifecycle.join()
        task = BatchTask.of(row)
        lifecycle.changed(task)
        lifecycle.start(task)
        await lifecycle.join()
        return attrs.evolve(_result(task, request, out, is_new=is_new), spending=budget.spending)
    finally:
        await lifecycle.stop()
        now = None if row is None else await journal.get(row.key)
        if now is not None and now.state is BatchState.QUEUED:
            if lost is None:
                # It was not paid for, and no other command is to send it by itself.
                await journal.forget(now)
            else:  # what was sent before may have been paid for all the same
                origins = (BatchState.QUEUED,)
                await journal.change(now, BatchState.UNCERTAIN, origins=origins, error=lost)


async def _comic_of(journal: Journal, name: str) -> ComicGeneration:
    """Return the comic of a story as it is now."""
    row = await find_story(journal, name)
    if row.type is RequestType.ANIMATION:
        raise InvalidRequestError("key", name, "a comic's; this is an animation's")
    comic = BatchTask.of(row).generation
    if not isinstance(comic, ComicGeneration):
        allowed = f"a story that is done; this one is {row.state}, and has no comic"
        raise InvalidRequestError("key", name, allowed)
    latest = await newest(journal, comic)
    if not isinstance(latest, ComicGeneration) or not latest.succeeded:
        allowed = f"a story that is done; this one is {row.state} ({comic.id})"
        raise InvalidRequestError("key", name, allowed)
    return latest


def _check_panel(comic: ComicGeneration, request: UpdateRequest) -> None:
    """Check that there is such a panel, as far as the journal knows the comic."""
    if not comic.pages:
        return
    page = request.page or 0
    if page >= len(comic.pages):
        last = len(comic.pages) - 1
        raise InvalidRequestError("page", page, f"0 to {last}: the pages of {comic.id}")
    panels = comic.pages[page].panels
    if request.panel >= len(panels):
        allowed = f"0 to {len(panels) - 1}: the panels on page {page} of {comic.id}"
        raise InvalidRequestError("panel", request.panel, allowed)


async def _row_of(
    journal: Journal, story: Story, options: RedrawOptions
) -> tuple[Row, bool, LlamaGenError | None]:
    """Return the row of a redraw that is to be worked at, and whether this call pays for it.

    Also how an earlier one was lost, if this one is sent again on request.
    """
    number, last = 1, None
    while (row := await journal.get(content_key(story, number))) is not None:
        number, last = number + 1, row
    if last is None or ((last.state is BatchState.FAILED or options.again) and _ended(last)):
        row, _ = await journal.add(story, key=content_key(story, number), urgent=True)
        return row, True, None
    if last.state is BatchState.UNCERTAIN:
        error = last.error(None, None)
        error = error or SubmissionUncertainError(story.request, "an earlier run was ended")
        if not options.resend_uncertain:
            raise error
        origins = (BatchState.UNCERTAIN,)
        return await journal.change(last, BatchState.QUEUED, origins=origins), True, error
    return last, last.state is BatchState.QUEUED, None


def _ended(row: Row) -> bool:
    return row.state in (BatchState.SUCCEEDED, BatchState.FAILED)


def _result(task: BatchTask, request: UpdateRequest, out: Path, *, is_new: bool) -> Redraw:
    if task.error is not None:
        raise task.error
    comic = task.generation
    if not isinstance(comic, ComicGeneration) or not task.files:
        raise LlamaGenError(f"the redraw is {task.state}, and has no picture")
    stem = safe_stem(panel_name(comic.id, request.page or 0, request.panel))
    file = next((file for file in task.files if file.stem == stem), out / stem)
    older = older_versions(file)
    return Redraw(comic, file, older[-1] if older else None, is_new)


def _ignore(_task: BatchTask) -> None:
    """Take no note: the outcome is read from the task at the end."""


async def _follow(_task: BatchTask) -> None:
    """Start nothing: no other story waits for this one."""
