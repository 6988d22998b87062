"""The content of a journal before a batch begins, for the first lines that are printed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.errors import FAILED, CommandError
from llamagen_async.cli.input.stories import InputStory, Stories, StoryFile
from llamagen_async.client import LlamaGenClient
from llamagen_async.errors import InvalidRequestError, JournalError
from llamagen_async.models import BatchState
from llamagen_async.prices import Charge
from llamagen_async.requests.differences import differences

__all__ = ["JournalSummary", "open_journal", "summarize_journal"]

_AT_ONCE: Final = 256
"""Stories that are asked for at the same time, so that they share a transaction."""


@attrs.frozen
class JournalSummary:
    """The stories of the input as a journal has them, before a batch begins."""

    counts: Counter[BatchState] = attrs.field(factory=Counter[BatchState])
    """The stories of the input by state, and all that run."""
    total: int | None = None
    """Stories of the input; `None` if they are not known yet."""
    to_send: int | None = None
    """Stories of these that will be sent."""
    is_new: bool = True
    """Whether there is nothing in the journal."""
    charges: Counter[Charge] = attrs.field(factory=Counter[Charge])
    """Charges of the stories that will be sent, as far as they are known."""
    others: int = 0
    """Stories that were sent with another cast than the one that is given now."""
    example: str = ""
    """The fields that differ in the first of these."""

    def __str__(self) -> str:
        """Return the counts in words: `7 done, 3 running, 10 to send`."""
        numbers = {word: self.counts[state] for state, word in _WORDS.items()}
        if self.to_send is not None:
            numbers["to send"] = self.to_send
        return ", ".join(
            f"{number} {word}" for word, number in numbers.items() if number or word not in _RARE
        )


_WORDS: Final = {
    BatchState.SUCCEEDED: "done",
    BatchState.FAILED: "failed",
    BatchState.UNCERTAIN: "uncertain",
    BatchState.CANCELLED: "cancelled",
    BatchState.RUNNING: "running",
}
_RARE: Final = ("failed", "uncertain", "cancelled")
"""States that are only mentioned if there is such a story."""


@asynccontextmanager
async def open_journal(
    path: Path | None, client: LlamaGenClient, *, folder: Path, start_over: bool
) -> AsyncGenerator[Journal, None]:
    """Open the journal of a run, from before its first story until its results are written.

    Args:
        path: The journal's file; `None` is one that has nothing in it and leaves nothing.
        client: The client that sends.
        folder: The folder of the pictures, in which there may be results of earlier runs.
        start_over: Go on with a journal that does not know what the files beside it know.

    Raises:
        CommandError: It can't be opened, another process works with it, or it is not the right one.
    """
    journal = Journal(path, client.account, out=folder, start_over=start_over)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(journal)
        except JournalError as error:
            message = str(error).replace("start_over=True", "--start-over")
            raise CommandError(message, FAILED) from None
        yield journal


async def summarize_journal(journal: Journal, stories: Stories, *, resend: bool) -> JournalSummary:
    """Count the stories of the input that a journal has, by state.

    Args:
        journal: The journal, open.
        stories: The input.
        resend: Whether uncertain stories are sent again.

    Raises:
        CommandError: A story changes another one's comic, and there is no such story.
    """
    if isinstance(stories.checked, StoryFile):
        await stories.checked.changed.check_journal(journal)
    everything = Counter(await journal.counts())
    recorded = everything.total()
    counts, total = everything.copy(), recorded if stories.is_journal else None
    sent = {BatchState.QUEUED, *([BatchState.UNCERTAIN] if resend else [])}
    charges: Counter[Charge] = Counter()
    edited, others, example = 0, 0, ""
    if stories.checked is not None:
        total, counts = len(stories.checked), Counter[BatchState]()
        charges = _charges_of(stories.checked)
        async for story, row in _known(journal, stories.checked, recorded):
            if row is None or row.state not in sent:
                charges[Charge.of(story.request)] -= 1
            if row is None:
                edited += 1
                continue
            counts[row.state] += 1
            if row.state is not BatchState.QUEUED and row.request_text != story.text:
                others += 1
                example = example or _difference(row, story)
    elif stories.is_journal:
        async for row in journal.rows(*sent):
            with suppress(InvalidRequestError):  # this version does not allow it any more
                charges[Charge.of(row.request)] += 1
    new = 0 if total is None else total - counts.total() - edited
    counts[BatchState.RUNNING] = everything[BatchState.RUNNING]
    again = counts.pop(BatchState.UNCERTAIN, 0) if resend else 0
    to_send = None if total is None else new + counts[BatchState.QUEUED] + again
    return JournalSummary(counts, total, to_send, not recorded, charges, others, example)


def _difference(row: Row, story: Story) -> str:
    """Return what is another one now than when a story was sent."""
    with suppress(InvalidRequestError, ValueError):
        return "; ".join(differences(row.request, story.request))
    return ""


def _charges_of(stories: Iterable[InputStory]) -> Counter[Charge]:
    """Return what stories are charged for, all of them."""
    if isinstance(stories, StoryFile):
        return stories.charges.copy()
    return Counter(Charge.of(one.story.request) for one in stories if one.story is not None)


async def _known(
    journal: Journal, stories: Collection[InputStory], recorded: int
) -> AsyncIterator[tuple[Story, Row | None]]:
    """Yield those of these stories that the journal has, until all `recorded` ones were found.

    Of one that was edited it has another one under the same key: that is none of them, and the
    edited one will fail alone.
    """
    remaining = (one.story for one in stories if one.story is not None)
    while recorded > 0 and (some := list(islice(remaining, _AT_ONCE))):
        rows = await asyncio.gather(*map(journal.seek, some), return_exceptions=True)
        for story, row in zip(some, rows, strict=True):
            if isinstance(row, InvalidRequestError):
                yield story, None
            elif isinstance(row, BaseException):
                raise row
            elif row is not None:
                recorded -= 1
                yield story, row
