"""`results.jsonl` and `index.html` of a journal, and of what the run knows beside it.

Any number of stories may be in the journal, so they are written as they are read; the page shows
the latest comics only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.evidence import journal_name
from llamagen_async.batch.journal.file_names import RESULTS
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.results.folder import INDEX
from llamagen_async.cli.results.gallery import render
from llamagen_async.cli.results.records import LISTED, Record, line_of
from llamagen_async.cli.results.turns import own_turn
from llamagen_async.cli.results.unrecorded import Unrecorded
from llamagen_async.cli.results.whole_file import atomic_writer
from llamagen_async.errors import InvalidRequestError, JournalError
from llamagen_async.models import BatchState
from llamagen_async.requests import RequestType

__all__ = ["Written", "write_results"]

_T = TypeVar("_T")

_COMICS: Final = 2_000
"""Comics that the page shows, at most: the latest."""
_OTHERS: Final = 500
"""Stories that the page shows, at most: of those that failed, run or are uncertain, and again of
those that were not sent."""
_AT_ONCE: Final = 256
"""Stories that the journal is asked for at the same time, so that they share a transaction."""


@attrs.define
class Written:
    """The content of the files that were written."""

    counts: Counter[BatchState] = attrs.field(factory=Counter[BatchState])
    running: list[str] = attrs.field(factory=list[str])
    """The ids of the first comics and animations that run."""
    uncertain: list[Record] = attrs.field(factory=list[Record])
    """The first stories that may have been accepted."""
    unfinished: list[Record] = attrs.field(factory=list[Record])
    """The stories of this run that had not ended when it was stopped."""
    shown: Sequence[Record] = ()
    """The stories on the page."""
    animations: set[str] = attrs.field(factory=set[str])
    """The ids among `running` that are animations'."""

    def add(self, record: Record) -> None:
        """Count one story."""
        self.counts[record.state] += 1
        if record.state is BatchState.RUNNING and len(self.running) < LISTED:
            self.running.append(record.id or "")
            if record.type == RequestType.ANIMATION:
                self.animations.add(record.id or "")
        if record.state is BatchState.UNCERTAIN and len(self.uncertain) < LISTED:
            self.uncertain.append(record)


class _Latest:
    """The latest stories of each kind, in the order in which they came."""

    def __init__(self) -> None:
        self._number = 0
        self._done: deque[tuple[int, Record]] = deque(maxlen=_COMICS)
        self._others: deque[tuple[int, Record]] = deque(maxlen=_OTHERS)
        self._unsent: deque[tuple[int, Record]] = deque(maxlen=_OTHERS)

    def add(self, record: Record) -> None:
        queues = {BatchState.SUCCEEDED: self._done, BatchState.QUEUED: self._unsent}
        queues.get(record.state, self._others).append((self._number, record))
        self._number += 1

    @property
    def records(self) -> list[Record]:
        numbered = [*self._done, *self._others, *self._unsent]
        return [record for _, record in sorted(numbered, key=lambda one: one[0])]


async def write_results(
    folder: Path,
    journal: Journal | None,
    unrecorded: Unrecorded,
    *,
    title: str,
    speed: float,
    began: datetime,
    keep_unsent: bool = False,
    facts: Sequence[tuple[str, str]] = (),
    durations: Mapping[str, float] | None = None,
) -> Written:
    """Write `results.jsonl` and `index.html`: every story of the journal, and all others.

    Args:
        folder: The folder of both files.
        journal: The journal, opened again after the run; `None` if it had none.
        unrecorded: The stories that the run could not hand to its journal.
        title: The page's heading.
        speed: How many times faster than real time the server's clock runs.
        began: The time at which the run began.
        keep_unsent: Whether unsent stories are taken into the journal: once an error has stopped
            all creates, a batch takes no more of them in, and stdin can't be read again.
        facts: Numbers for the top of the page.
        durations: How long comics took by their ids, if that is known better than by the journal.

    Raises:
        JournalError: The journal can't be read or written.
        OSError: The files can't be written.
    """
    written, latest = Written(), _Latest()
    records = (
        _of_unrecorded(unrecorded)
        if journal is None
        else _records(folder, journal, unrecorded, written, speed=speed, keep_unsent=keep_unsent)
    )
    name = _name_of(journal, folder)
    async with own_turn(folder):
        with atomic_writer(folder / RESULTS) as file:
            async for record in records:
                seconds = (durations or {}).get(record.id or "", record.seconds)
                one = attrs.evolve(record, seconds=seconds)
                file.write(line_of(one.to_json()))
                if _is_part_of_another(one):
                    continue
                latest.add(one)
                # What another journal has not sent is sent by another command.
                if one.state is not BatchState.QUEUED or one.journal in ("", name):
                    written.add(one)
            if journal is None:
                for record in _others(folder / RESULTS, ""):
                    if record.key is not None:  # it is another run's, which has a journal
                        file.write(line_of(record.to_json()))
        written.shown = latest.records
        page = render(written.shown, title=title, facts=facts, counts=written.counts, began=began)
        with atomic_writer(folder / INDEX) as file:
            file.write(page.encode("utf-8", errors="xmlcharrefreplace"))
    return written


def _is_part_of_another(record: Record) -> bool:
    """Whether a story is a redraw by a command of its own, which its comic's picture shows."""
    is_redraw = record.type == RequestType.UPDATE_PANEL and not record.label
    return is_redraw and record.state is BatchState.SUCCEEDED


async def _of_unrecorded(unrecorded: Unrecorded) -> AsyncIterator[Record]:
    for record in sorted(unrecorded.records(), key=lambda record: record.index):
        yield record


async def _records(
    folder: Path,
    journal: Journal,
    unrecorded: Unrecorded,
    written: Written,
    *,
    speed: float,
    keep_unsent: bool,
) -> AsyncIterator[Record]:
    """Yield every story: of the journal, of earlier runs with other journals, and of none."""
    name = _name_of(journal, folder)
    async for row in journal.rows():
        passing = unrecorded.reason(row.key)
        try:
            record = Record.of_row(row, speed=speed, passing=passing, journal=name)
        except (ValueError, TypeError) as error:
            raise JournalError(f"the journal is damaged at {row.key!r} ({error!r})") from error
        if unrecorded.take_unfinished(row):
            written.unfinished.append(record)
        yield record
    async for record in _of_other_journals(folder / RESULTS, journal, name):
        yield record
    # Stories that were read last, and that the batch had no time to hand to the journal.
    late = [
        Record.of_story(one.number, one.label, one.story, BatchState.QUEUED)
        for _, one in sorted(unrecorded.reading.items())
    ]
    written.unfinished += late
    for some in _chunks(unrecorded.records()):
        for record in await _kept(journal, some) if keep_unsent else some:
            yield record
    if keep_unsent:
        for record in await _kept(journal, late):
            yield record


def _name_of(journal: Journal | None, folder: Path) -> str:
    return journal_name(journal.path, folder) if journal and journal.path else ""


async def _of_other_journals(path: Path, journal: Journal, name: str) -> AsyncIterator[Record]:
    """Yield what was written of other journals, and what was paid for and no journal knows."""
    for some in _chunks(_others(path, name)):
        known = await asyncio.gather(*(_is_known(journal, record, name) for record in some))
        for record, is_known in zip(some, known, strict=True):
            if not is_known:
                yield attrs.evolve(record, journal="") if record.journal == name else record


def _others(path: Path, name: str) -> Iterator[Record]:
    if not path.is_file():  # what is no file may never end
        return
    with path.open("rb") as lines:
        for record in filter(None, map(_record_of, lines)):
            is_paid = record.id is not None or record.state is BatchState.UNCERTAIN
            if is_paid or record.journal not in ("", name):
                yield record


async def _is_known(journal: Journal, record: Record, name: str) -> bool:
    if record.id and record.type in (RequestType.COMIC, RequestType.ANIMATION):
        return await journal.find(generation_id=record.id) is not None
    # The same story in another journal is another comic.
    is_ours = record.journal in ("", name) and record.key is not None
    return is_ours and await journal.find(key=record.key or "") is not None


async def _kept(journal: Journal, records: Sequence[Record]) -> list[Record]:
    """Take unsent stories into the journal, and return what is to be written of each."""
    return list(await asyncio.gather(*(_keep(journal, record) for record in records)))


async def _keep(journal: Journal, record: Record) -> Record:
    if record.state is not BatchState.QUEUED or not record.request:
        return record
    story = Story.parse(record.request, record.key, record.label, folder=Path())
    if record.digest:
        story = attrs.evolve(story, digest=bytes.fromhex(record.digest))
    # Another story may have its key, or the disk is full: it is written where it can be.
    with contextlib.suppress(InvalidRequestError, JournalError):
        row = await _add(journal, story, record.index)
        return attrs.evolve(record, key=row.key)
    return record


async def _add(journal: Journal, story: Story, position: int) -> Row:
    """Take a story in beside those of the same content that are in the journal already."""
    content = attrs.evolve(story, label="")
    row, is_new = await journal.add(content)
    while not is_new and story.key is None:
        row, is_new = await journal.add(content)
    row, _ = await journal.add(story, key=row.key, position=position)
    return row


def _record_of(line: bytes) -> Record | None:
    try:
        return Record.from_json(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    remaining = iter(items)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some
