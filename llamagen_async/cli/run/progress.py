"""Progress of a batch while it runs: live on a terminal, lines otherwise.

It is made of `Batch.progress`, the client's limits and the clock. Nothing is sent from here, and
nothing waits for the display.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Self

import attrs
import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llamagen_async.batch.batch import Batch
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.records import Record
from llamagen_async.cli.results.states import STATE_WORDS
from llamagen_async.cli.text import (
    clock_time,
    columns,
    fitted,
    format_duration,
    one_line,
    pluralize,
    shortened,
)
from llamagen_async.models import BatchState
from llamagen_async.ratelimit import LimitsSnapshot
from llamagen_async.scheduling import Outage
from llamagen_async.scheduling.outlook import TYPICAL, Outlook, requests_each, time_left

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["Display", "record_line"]

_COLOURS: Final = {"done": "green", "failed": "red", "uncertain": "red", "running": "yellow"}
_TICK: Final = 0.05
"""Real seconds between two updates; the ages of running comics are known to one update."""
_REDRAW: Final = 2
"""Updates per redraw of the live display."""
_SILENCE: Final = 30.0
"""Real seconds without a line after which plain output prints where the batch stands."""
_ROWS: Final = 6
"""Running comics that are listed one by one, at most."""
_LEAST: Final = 8
"""Columns that a title has on any terminal."""
_LIVE_TITLE: Final = 60
"""Columns of a title in the live display, at most."""
_ENOUGH: Final = 3
"""Comics that must have ended before their durations decide what is typical."""
_RECENT: Final = 500
"""Comics whose durations decide what is typical, at most."""


class Display:
    """Shows a batch for as long as it is entered.

    Args:
        output: Where lines go.
        client: The client whose limits are shown.
        batch: The batch that is shown.
        title_of: Returns the title of the story with that position in the batch.
        quotas: Whether the batch waits for tomorrow's quota.
    """

    def __init__(
        self,
        output: Output,
        client: LlamaGenClient,
        batch: Batch,
        title_of: Callable[[int], str],
        *,
        quotas: bool,
    ) -> None:
        self._output = output
        self._client = client
        self._batch = batch
        self._title_of = title_of
        self._speed = client.speed
        self._quotas = quotas
        self._live: Live | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._began = self._printed_at = self._now()
        self._first_seen: dict[int, float] = {}
        """When each running comic was first seen running."""
        self._durations: deque[float] = deque(maxlen=_RECENT)
        self._told = 0
        self._unsent = 0

    async def __aenter__(self) -> Self:
        if self._output.screen is not None:
            self._live = Live(
                console=self._output.screen,
                auto_refresh=False,
                transient=True,
                redirect_stdout=self._output.has_terminal,
            )
            # What is printed meanwhile goes through rich, which would break what is to be pasted.
            self._live.console.soft_wrap = True
            self._live.start()
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        if self._live is not None:
            self._live.stop()
            self._live.console.soft_wrap = False

    def ended(self, record: Record, *, is_news: bool = True) -> None:
        """Print the result of a story, if it is news: what had ended before is only counted.

        Of stories that were not sent one reason concerns them all, and the summary has it once.
        """
        progress = self._batch.progress
        self._told += record.state is not BatchState.QUEUED
        self._unsent += record.state is BatchState.QUEUED
        if is_news and record.seconds is not None:
            self._durations.append(record.seconds)
        if not is_news or record.state is BatchState.QUEUED:
            return
        total = progress.total or "?"
        on_screen = self._output.as_json or self._output.has_terminal
        width = shutil.get_terminal_size().columns if on_screen else None
        number, colours = f"{self._told:>4}/{total}", self._output.has_colours
        line = record_line(record, number=number, width=width, colours=colours)
        self._output.tell(line, is_prose=False)
        self._printed_at = self._now()

    def _now(self) -> float:
        """Return the seconds of the server's clock, from any origin."""
        return asyncio.get_running_loop().time() * self._speed

    async def _tick(self) -> None:
        updates = 0
        while True:
            running, now = dict(self._batch.progress.running), self._now()
            self._first_seen = {one: self._first_seen.get(one, now) for one in running}
            if self._live is not None:
                if updates % _REDRAW == 0:
                    self._live.update(self._picture(await self._client.limits()), refresh=True)
            elif self._now() - self._printed_at > _SILENCE * self._speed:
                self._printed_at = self._now()
                self._output.tell(self._status_line(await self._client.limits()))
            updates += 1
            await asyncio.sleep(_TICK)

    def _left(self, limits: LimitsSnapshot) -> float:
        progress, now = self._batch.progress, self._now()
        ages = [self._age(index, now) for index, _ in progress.running]
        unread = (progress.total or 0) - sum(progress.counts.values())
        queued = self._number_of(BatchState.QUEUED) + max(0, unread)
        each = requests_each(self._client.plan, self._client.stats(), running=len(ages))
        measured = len(self._durations) >= _ENOUGH
        typical = statistics.median(self._durations) if measured else TYPICAL
        outlook = Outlook(queued, ages, typical, each)
        return time_left(outlook, limits, quotas=self._quotas)

    def _age(self, index: int, now: float) -> float:
        """Return how long a comic has been running, as far as was seen."""
        return now - self._first_seen.get(index, now)

    def _status_line(self, limits: LimitsSnapshot) -> str:
        parts = [
            f"{self._number_of(state)} {word}"
            for state, word in _LIVE_WORDS.items()
            if self._number_of(state)
        ]
        outage = self._batch.progress.outage
        ahead = f"{_next_slot(limits)}; {self._left_words(limits)}"
        return f"  ...  {', '.join(parts)}; {_outage_words(outage) if outage else ahead}"

    def _number_of(self, state: BatchState) -> int:
        """Return how many stories are in a state; those that were given back unsent do not wait."""
        number = self._batch.progress.counts.get(state, 0)
        return number - self._unsent if state is BatchState.QUEUED else number

    def _left_words(self, limits: LimitsSnapshot) -> str:
        left = self._left(limits)
        more = " or more" if self._batch.progress.total is None else ""
        return f"about {format_duration(left)}{more} left"

    def _picture(self, limits: LimitsSnapshot) -> RenderableType:
        progress, now = self._batch.progress, self._now()
        total = progress.total or sum(progress.counts.values())
        progress_line = Table.grid(padding=(0, 1))
        progress_line.add_row(
            ProgressBar(total=max(1, total), completed=progress.done, width=32),
            Text(f"{progress.done} of {total if progress.total else f'{total}+'}", "bold"),
            Text(f"{clock_time(now - self._began)}, {self._left_words(limits)}", "dim"),
        )
        rows: list[RenderableType] = [Text(), progress_line, self._counts(), self._slots(limits)]
        if progress.outage is not None:
            rows.append(Text(_outage_words(progress.outage), "yellow"))
        if progress.running:
            rows.append(self._running(progress.running, now))
        return _Folded(Group(*rows))

    def _counts(self) -> Text:
        text = Text()
        for state, word in _LIVE_WORDS.items():
            number = self._number_of(state)
            if number or state in _ALWAYS:
                style = _COLOURS.get(word, "") if number else "dim"
                text.append(f"{number} {word}", style)
                text.append("   ")
        if self._unsent:
            text.append(f"{self._unsent} not sent", "yellow")
        return text

    def _slots(self, limits: LimitsSnapshot) -> Text:
        text = Text(_next_slot(limits), "yellow" if limits.paused_for else "")
        for window in limits.windows:
            text.append(f"   {window.used} of {window.limit} used", "dim")
        stats = self._client.stats()
        text.append(f"   {pluralize(stats.total, 'request')}, {stats.refused} refused", "dim")
        return text

    @property
    def _columns(self) -> int:
        """Columns of the live display."""
        return 0 if self._live is None else self._live.console.width

    def _running(self, running: tuple[tuple[int, str], ...], now: float) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        ages = [format_duration(self._age(index, now)) for index, _ in running[:_ROWS]]
        ids = [one_line(id_) for _, id_ in running[:_ROWS]]
        # rich would take the room from the age: on a narrow terminal it is the title that goes.
        taken = max(map(len, ages), default=0) + max(map(columns, ids), default=0) + 2
        room = max(_LEAST, min(_LIVE_TITLE, self._columns - taken))
        for (index, _), age, id_ in zip(running, ages, ids, strict=False):
            title = fitted(self._title_of(index), room)
            table.add_row(Text(age, "yellow"), Text(id_, "dim"), Text(title))
        if len(running) > _ROWS:
            table.add_row("", "", Text(f"and {len(running) - _ROWS} more", "dim"))
        return table


@attrs.frozen
class _Folded:
    """The live display, within the terminal's columns, also where printed lines are not."""

    drawn: RenderableType
    """The parts of the display."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.drawn, options.update(no_wrap=False, overflow="fold"))


_ALWAYS: Final = (
    BatchState.QUEUED,
    BatchState.RUNNING,
    BatchState.SUCCEEDED,
    BatchState.FAILED,
)
_LIVE_WORDS: Final = {**STATE_WORDS, BatchState.QUEUED: "queued"}


def record_line(
    record: Record, *, number: str, width: int | None = None, colours: bool = False
) -> str:
    """Return a line about the result of a story.

    Args:
        record: The result.
        number: The beginning of the line.
        width: The columns of the terminal that the line is for; `None` if it is for none.
        colours: Whether it may have colours.
    """
    word = STATE_WORDS[record.state]
    id_ = record.id or ""
    facts = [record.name, id_, "" if record.error else _effort(record)]
    begin = f"{number}  {word:<9} "
    middle = _joined(facts)
    if record.error is not None:
        end = record.error  # never cut, because it says what to do
    else:
        if width is not None and width - len(begin) - columns(middle) - 1 < _SHORT_TITLE:
            middle = _joined([id_ or record.name])  # the title says more than the rest
        if width is None:
            end = shortened(record.prompt, _TITLE)
        else:
            end = fitted(record.prompt, max(_LEAST, width - len(begin) - columns(middle) - 1))
    if colours:
        begin = begin.replace(word, click.style(word, fg=_COLOURS.get(word)), 1)
    return f"{begin}{middle}{end}"


_TITLE: Final = 48
"""Characters of a story's title in a line that is for no terminal."""


_SHORT_TITLE: Final = 16
"""Characters of a story's title for which other facts about it make room."""


def _joined(facts: Iterable[str]) -> str:
    return "".join(f"{one_line(fact)}  " for fact in facts if fact)


def _effort(record: Record) -> str:
    took = record.seconds if record.state is BatchState.SUCCEEDED else None
    pictures = pluralize(len(record.files), "picture") if record.files else ""
    return ", ".join(filter(None, (pictures, "" if took is None else format_duration(took))))


def _outage_words(outage: Outage) -> str:
    return f"{one_line(str(outage))}; waiting"


def _next_slot(limits: LimitsSnapshot) -> str:
    if limits.paused_for > 0:
        return f"paused by the server, {format_duration(limits.paused_for)} more"
    wait = limits.next_free_in
    return "a slot is free" if wait <= 0 else f"next free slot in {format_duration(wait)}"
