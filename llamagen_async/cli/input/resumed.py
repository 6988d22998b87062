"""What a journal holds before a batch begins: for its first words, and as input of its own."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Final, cast

import attrs

from llamagen_async.batch.journal import codec as batch_stories
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.rows import Row
from llamagen_async.cli.input.stories import Stories, Story
from llamagen_async.cli.results.spool import Notes
from llamagen_async.client import LlamaGenClient
from llamagen_async.comics import DEFAULT_TIMEOUT
from llamagen_async.errors import InvalidRequestError
from llamagen_async.models import BatchState
from llamagen_async.requests import ComicRequest

__all__ = ["Spool", "Stock", "open_journal", "take_stock"]

_AT_ONCE: Final = 256
"""Stories that are looked up at the same time."""
_ENDED: Final = (BatchState.SUCCEEDED, BatchState.FAILED)


@attrs.frozen
class Stock:
    """What a journal holds before a batch begins."""

    counts: Counter[BatchState] = attrs.field(factory=Counter[BatchState])
    """The stories of the input by state, and all that run."""
    to_send: int | None = None
    """Stories that will be sent; `None` if the input is not known yet."""
    running: frozenset[str] = frozenset()
    """The generation ids of what runs."""
    is_new: bool = True
    """Whether there is nothing in the journal."""

    def words(self) -> str:
        """Return it in words: `7 done, 3 running, 10 to send`."""
        said = {word: self.counts[state] for state, word in _WORDS.items()}
        if self.to_send is not None:
            said["to send"] = self.to_send
        return ", ".join(
            f"{number} {word}" for word, number in said.items() if number or word not in _RARE
        )


_WORDS: Final = {
    BatchState.SUCCEEDED: "done",
    BatchState.FAILED: "failed",
    BatchState.UNCERTAIN: "uncertain",
    BatchState.RUNNING: "running",
}
_RARE: Final = ("failed", "uncertain")


class Spool:
    """A copy of all stories of a journal, in a temporary file: they are the input then."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        self._number = 0

    def add(self, row: Row) -> None:
        """Take in one story."""
        line = {"key": row.key, "request": row.request_text}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._number += 1

    def close(self) -> None:
        """Forget them."""
        self._file.close()

    def __len__(self) -> int:
        return self._number

    def __contains__(self, story: object) -> bool:
        return any(story == one for one in self)

    def __iter__(self) -> Iterator[Story]:
        self._file.seek(0)
        for number, line in enumerate(self._file):
            kept = cast("dict[str, str]", json.loads(line))
            try:
                request = ComicRequest.parse(json.loads(kept["request"]))
            except InvalidRequestError as error:
                yield Story(number, f"key {kept['key']}", None, str(error))
            else:
                yield Story(number, "", request, key=kept["key"])


@asynccontextmanager
async def open_journal(path: Path, client: LlamaGenClient) -> AsyncGenerator[Journal, None]:
    """Own a journal while no batch works with it.

    Raises:
        JournalError: It can't be opened, or somebody else works with it.
    """
    hands = client.comics.hands(out=None, timeout=DEFAULT_TIMEOUT, wait_for_quota=False)
    journal = Journal(path, hands.origin)
    try:
        await journal.open()
        yield journal
    finally:
        await journal.aclose()


async def take_stock(
    journal: Journal, stories: Stories | None, notes: Notes, spool: Spool, *, resend: bool
) -> tuple[Stock, Stories]:
    """Look at what a journal holds, and note which stories have ended.

    Args:
        journal: The journal, open.
        stories: The input; `None` if that is the journal itself.
        notes: What is told which stories have ended.
        spool: What takes in the journal's stories, if they are the input.
        resend: Whether uncertain ones are sent again.

    Returns:
        What was found, and the input.
    """
    everything = await journal.counts()
    total = sum(everything.values())
    counts: Counter[BatchState] = Counter()
    given = None if stories is None else stories.checked
    async for row in journal.rows() if given is None else _known(journal, given, total):
        counts[row.state] += 1
        if row.state in _ENDED:
            notes.had_ended(row.key)
        if stories is None:
            spool.add(row)
    new = 0 if given is None else len(given) - counts.total()
    counts[BatchState.RUNNING] = everything.get(BatchState.RUNNING, 0)
    running = [row.generation_id async for row in journal.rows(BatchState.RUNNING)]
    known = stories is None or stories.checked is not None
    again = counts.pop(BatchState.UNCERTAIN, 0) if resend else 0
    stock = Stock(
        counts,
        new + counts[BatchState.QUEUED] + again if known else None,
        frozenset(filter(None, running)),
        not total,
    )
    return stock, stories or Stories("the journal", checked=spool)


async def _known(journal: Journal, stories: Collection[Story], total: int) -> AsyncIterator[Row]:
    """Yield what the journal has of these stories, until it has no more of them than `total`."""
    remaining = iter(stories)
    while total > 0 and (some := list(islice(remaining, _AT_ONCE))):
        wanted = (journal.seek(batch_stories.Story.parse(one.given)) for one in some)
        for row in await asyncio.gather(*wanted, return_exceptions=True):
            if isinstance(row, InvalidRequestError):
                continue  # another story has its key: it will fail alone
            if isinstance(row, BaseException):
                raise row
            if row is not None:
                total -= 1
                yield row
