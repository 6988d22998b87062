"""`results.jsonl` and `index.html` of a journal: what it knows and what this run knows.

Any number of stories may be in the journal, so they are written as they are read; the page shows
the latest comics only.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.batch.journal import codec as batch_stories
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.rows import Row
from llamagen_async.cli.results.files import appearing, write_atomic
from llamagen_async.cli.results.gallery import INDEX, render
from llamagen_async.cli.results.records import RESULTS, Record, line_of
from llamagen_async.cli.results.spool import EarlierResults, Notes
from llamagen_async.cli.run.tally import LISTED
from llamagen_async.errors import InvalidRequestError, JournalError
from llamagen_async.models import BatchState

__all__ = ["Written", "settle", "write_all", "write_results"]

_COMICS: Final = 2_000
"""Comics that the page shows, at most: the latest."""
_OTHERS: Final = 500
"""Stories that the page shows of those that failed, run or are uncertain, and of those not sent."""
_AT_ONCE: Final = 256


@attrs.define
class Written:
    """What was written."""

    counts: Counter[BatchState] = attrs.field(factory=Counter[BatchState])
    running: list[str] = attrs.field(factory=list[str])
    """The ids of the first ones that run."""
    uncertain: list[Record] = attrs.field(factory=list[Record])
    """The first ones that may have been accepted."""


class _Latest:
    """The latest stories of each kind, in the order in which they came."""

    def __init__(self) -> None:
        self._number = 0
        self._done: deque[tuple[int, Record]] = deque(maxlen=_COMICS)
        self._others: deque[tuple[int, Record]] = deque(maxlen=_OTHERS)
        self._unsent: deque[tuple[int, Record]] = deque(maxlen=_OTHERS)

    def add(self, record: Record) -> None:
        kinds = {BatchState.SUCCEEDED: self._done, BatchState.QUEUED: self._unsent}
        kinds.get(record.state, self._others).append((self._number, record))
        self._number += 1

    @property
    def records(self) -> list[Record]:
        numbered = [*self._done, *self._others, *self._unsent]
        return [record for _, record in sorted(numbered, key=lambda one: one[0])]


async def write_results(folder: Path, journal: Journal, notes: Notes, *, title: str) -> Written:
    """Write `results.jsonl` and `index.html`: every story of the journal, and what else is known.

    Raises:
        JournalError: The journal can't be read.
        OSError: They can't be written.
    """
    written, latest = Written(), _Latest()
    with appearing(folder / RESULTS) as file, closing(EarlierResults(folder)) as earlier:
        async for record in _everything(journal, notes, earlier):
            file.write(line_of(record.to_json()))
            latest.add(record)
            written.counts[record.state] += 1
            if record.state is BatchState.RUNNING and len(written.running) < LISTED:
                written.running.append(record.id or "")
            if record.state is BatchState.UNCERTAIN and len(written.uncertain) < LISTED:
                written.uncertain.append(record)
    page = render(latest.records, title=title, counts=written.counts)
    write_atomic(folder / INDEX, page.encode("utf-8", errors="xmlcharrefreplace"))
    return written


def write_all(
    folder: Path, records: Sequence[Record], *, title: str, facts: Sequence[tuple[str, str]] = ()
) -> None:
    """Write `results.jsonl` and `index.html` of a run that has no journal.

    Raises:
        OSError: They can't be written.
    """
    write_atomic(folder / RESULTS, b"".join(line_of(record.to_json()) for record in records))
    page = render(records, title=title, facts=facts)
    write_atomic(folder / INDEX, page.encode("utf-8", errors="xmlcharrefreplace"))


async def settle(
    journal: Journal, notes: Notes, unfinished: Sequence[Record], *, keep_unsent: bool
) -> None:
    """Find the stories in the journal of which the batch did not tell.

    Args:
        journal: The journal, open again.
        notes: What is known of stories.
        unfinished: What was in flight when the batch was stopped.
        keep_unsent: Whether stories that are not in the journal are taken into it: once something
            stops all creates, a batch takes no more of them in, and stdin can't be read again.

    Raises:
        JournalError: They could not be recorded.
    """
    others = (one for one in notes.others() if one.state is BatchState.QUEUED and one.request)
    remaining = iter(_chained(unfinished, others if keep_unsent else ()))
    find = journal.add if keep_unsent else journal.seek
    while some := list(islice(remaining, _AT_ONCE)):
        await asyncio.gather(*(_find(find, notes, one) for one in some))
    if keep_unsent:
        notes.drop_unsent()


async def _find(
    find: Callable[[batch_stories.Story], Awaitable[tuple[Row, bool] | Row | None]],
    notes: Notes,
    record: Record,
) -> None:
    if not record.request:
        return
    given = {**record.request, **({"key": record.key} if record.key else {})}
    try:
        found = await find(batch_stories.Story.parse(given))
    except InvalidRequestError:
        return  # another story has its key
    row = found[0] if isinstance(found, tuple) else found
    if row is not None:
        notes.add(attrs.evolve(record, key=row.key), in_journal=True)


async def _everything(
    journal: Journal, notes: Notes, earlier: EarlierResults
) -> AsyncIterator[Record]:
    async for row in journal.rows():
        before = earlier.take(row.key, row.generation_id)
        try:
            record = Record.of_row(row, note=notes.of(row.key), earlier=before)
        except ValueError as error:
            raise JournalError(f"the journal is damaged at {row.key!r} ({error!r})") from error
        yield record
    for other in _chained(earlier.left(), notes.others()):
        yield other


def _chained(*parts: Iterable[Record]) -> Iterable[Record]:
    for part in parts:
        yield from part
