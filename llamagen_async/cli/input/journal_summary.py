"""The content of a journal before a batch begins, for the first lines that are printed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.opening import verify_missing
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.exit_status import FAILED, CommandError
from llamagen_async.cli.input.stories import InputStory, Stories, StoryFile
from llamagen_async.cli.text import pluralize
from llamagen_async.errors import InvalidRequestError, JournalError
from llamagen_async.models import BatchState
from llamagen_async.prices import COMICS, Charge, ChargeKind, Prices, listed
from llamagen_async.requests.differences import differences
from llamagen_async.requests.files import paths_of
from llamagen_async.uploads import missing_uploads

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

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
    uploads: int = 0
    """Files of these stories that are uploaded before, as far as they are known."""
    others: int = 0
    """Stories that were sent with another cast than the one that is given now."""
    example: str = ""
    """The fields that differ in the first of these."""

    def wanted(self, number: int | None = None) -> str:
        """Return what is to be sent, in words: `3 comics, 1 redraw`, or `2 stories` of these.

        Args:
            number: How many of them are meant; all if not given.
        """
        estimate = Prices().estimate(self.charges)
        others: Mapping[ChargeKind, int] = {
            kind: n for kind, n in estimate.numbers.items() if kind not in COMICS
        }
        comics = [pluralize(estimate.comics, "comic")] if estimate.comics or not others else []
        number = self.to_send if number is None else number
        if not others:
            return pluralize(number or 0, "comic")
        if number != estimate.requests:
            return pluralize(number or 0, "story")
        return ", ".join([*comics, listed(others)])

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
    path: Path, client: LlamaGenClient, *, folder: Path, start_over: bool, is_missing: bool = False
) -> AsyncGenerator[Journal, None]:
    """Open the journal of a run, from before its first story until its results are written.

    Args:
        path: The journal's file.
        client: The client that sends.
        folder: The folder of the pictures, in which there may be results of earlier runs.
        start_over: Go on with a journal that does not know what the files beside it know.
        is_missing: Whether there is no file, and none is to be made: an empty journal stands for
            it.

    Raises:
        CommandError: It can't be opened, another process works with it, or it is not the right one.
    """
    account = client.account
    journal = Journal(None if is_missing else path, account, out=folder, start_over=start_over)
    missing = partial(verify_missing, path, account, [folder], start_over=start_over)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(journal)
            if is_missing:
                await journal.ask(missing)
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
    files: Counter[Path] = Counter()
    edited, others, example = 0, 0, ""
    if stories.checked is not None:
        total, counts = len(stories.checked), Counter[BatchState]()
        charges, files = _charges_of(stories.checked)
        async for story, row in _known(journal, stories.checked, recorded):
            if row is None or row.state not in sent:
                charges[Charge.of(story.request)] -= 1
                files.subtract(paths_of(story.request))
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
                files.update(paths_of(row.request))
    new = 0 if total is None else total - counts.total() - edited
    counts[BatchState.RUNNING] = everything[BatchState.RUNNING]
    again = counts.pop(BatchState.UNCERTAIN, 0) if resend else 0
    to_send = None if total is None else new + counts[BatchState.QUEUED] + again
    uploads = await missing_uploads([path for path, n in files.items() if n > 0], journal)
    return JournalSummary(counts, total, to_send, not recorded, charges, uploads, others, example)


def _difference(row: Row, story: Story) -> str:
    """Return what is another one now than when a story was sent."""
    with suppress(InvalidRequestError, ValueError):
        return "; ".join(differences(row.request, story.request))
    return ""


def _charges_of(stories: Iterable[InputStory]) -> tuple[Counter[Charge], Counter[Path]]:
    """Return what stories are charged for, and how many of them need each file, all of them."""
    if isinstance(stories, StoryFile):
        return stories.charges.copy(), stories.files.copy()
    requests = [one.story.request for one in stories if one.story is not None]
    return Counter(map(Charge.of, requests)), Counter(chain.from_iterable(map(paths_of, requests)))


async def _known(
    journal: Journal, stories: Collection[InputStory], recorded: int
) -> AsyncIterator[tuple[Story, Row | None]]:
    """Yield those of these stories that the journal has, until all `recorded` ones were found.

    Of one that was edited it has another one under the same key: that is none of them, and the
    edited one will fail alone.
    """
    remaining = (one.story for one in stories if one.story is not None)
    while recorded > 0 and (some := list(islice(remaining, _AT_ONCE))):
        rows = await asyncio.gather(
            *(journal.seek(one, edit=True) for one in some), return_exceptions=True
        )
        for story, row in zip(some, rows, strict=True):
            if isinstance(row, InvalidRequestError):
                yield story, None
            elif isinstance(row, BaseException):
                raise row
            elif row is not None:
                recorded -= 1
                yield story, row
