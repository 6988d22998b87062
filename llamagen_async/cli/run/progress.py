"""What a batch looks like while it runs: live on a terminal, lines otherwise.

It only looks: at `Batch.progress`, at the client's limits, and at the clock. It never sends
anything, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llamagen_async.batch import Batch
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.records import Record
from llamagen_async.cli.run.estimate import Outlook, requests_each, time_left
from llamagen_async.cli.run.tracking import Tracker
from llamagen_async.cli.text import clock_time, counted, lasting, one_line, shortened
from llamagen_async.client import LlamaGenClient
from llamagen_async.models import BatchState
from llamagen_async.ratelimit import LimitsSnapshot

__all__ = ["STATE_WORDS", "Display", "record_line"]

STATE_WORDS: Final = {
    BatchState.QUEUED: "not sent",
    BatchState.SENDING: "sending",
    BatchState.RUNNING: "running",
    BatchState.SUCCEEDED: "done",
    BatchState.FAILED: "failed",
    BatchState.UNCERTAIN: "uncertain",
}
"""What people read for a state at the end of a run."""

_COLOURS: Final = {"done": "green", "failed": "red", "uncertain": "red", "running": "yellow"}
_TICK: Final = 0.05
"""Real seconds between two looks: how exactly the comics' times are known."""
_REFRESH: Final = 2
"""Looks per redraw of the live display."""
_SILENCE: Final = 30.0
"""Real seconds without a line after which plain output says where things stand."""
_UNSENT: Final = 20
"""Stories that are not sent of which each has a line."""
_ROWS: Final = 6
"""Running comics that are listed one by one."""


class Display:
    """Shows a batch for as long as it is entered.

    Args:
        output: Where lines go.
        client: Whose limits are shown.
        batch: What is shown.
        tracker: What was seen of its comics; told more with every look.
        title_of: Returns what the story with that place in the batch is called.
        speed: How many times faster than real time the server's clock runs.
        quotas: Whether the batch waits for tomorrow's quota.
    """

    def __init__(
        self,
        output: Output,
        client: LlamaGenClient,
        batch: Batch,
        tracker: Tracker,
        title_of: Callable[[int], str],
        *,
        speed: float,
        quotas: bool,
    ) -> None:
        self._output = output
        self._client = client
        self._batch = batch
        self._tracker = tracker
        self._title_of = title_of
        self._speed = speed
        self._quotas = quotas
        self._live: Live | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._began = self._spoke = self.now()
        self._said = 0
        self._unsent = 0

    def now(self) -> float:
        """Return the seconds of the server's clock; the origin means nothing."""
        return asyncio.get_running_loop().time() * self._speed

    async def __aenter__(self) -> Self:
        if self._output.terminal is not None:
            self._live = Live(
                console=self._output.terminal,
                auto_refresh=False,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        if self._live is not None:
            self._live.stop()

    def ended(self, record: Record, *, is_news: bool = True) -> None:
        """Say what became of a story, if it is news: what had ended before is only counted."""
        progress = self._batch.progress
        self._said += 1
        self._unsent += record.state is BatchState.QUEUED
        if not is_news or self._unsent > _UNSENT:
            return
        total = progress.total or "?"
        colour = self._output.as_json or sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if colour else None
        line = record_line(record, number=f"{self._said:>4}/{total}", width=width)
        self._output.say(line)
        self._spoke = self.now()

    async def _tick(self) -> None:
        looks = 0
        while True:
            self._tracker.look(self._batch.progress, self.now())
            if self._live is not None:
                if looks % _REFRESH == 0:
                    self._live.update(self._picture(await self._client.limits()), refresh=True)
            elif self.now() - self._spoke > _SILENCE * self._speed:
                self._spoke = self.now()
                self._output.say(self._status_line(await self._client.limits()))
            looks += 1
            await asyncio.sleep(_TICK)

    def _left(self, limits: LimitsSnapshot) -> float:
        progress, now = self._batch.progress, self.now()
        ages = [self._tracker.age(index, now) for index, _ in progress.running]
        unread = (progress.total or 0) - sum(progress.counts.values())
        queued = self._counted(BatchState.QUEUED) + max(0, unread)
        each = requests_each(self._client.plan, self._client.stats(), running=len(ages))
        outlook = Outlook(queued, ages, self._tracker.typical, each)
        return time_left(outlook, limits, quotas=self._quotas)

    def _status_line(self, limits: LimitsSnapshot) -> str:
        parts = [
            f"{self._counted(state)} {word}"
            for state, word in _LIVE_WORDS.items()
            if self._counted(state)
        ]
        return f"  ...  {', '.join(parts)}; {_next_slot(limits)}; {self._left_words(limits)}"

    def _counted(self, state: BatchState) -> int:
        """Return how many are in a state now; what was given back unsent waits no more."""
        number = self._batch.progress.counts.get(state, 0)
        return number - self._unsent if state is BatchState.QUEUED else number

    def _left_words(self, limits: LimitsSnapshot) -> str:
        left = self._left(limits)
        more = " or more" if self._batch.progress.total is None else ""
        return f"about {lasting(left)}{more} left"

    def _picture(self, limits: LimitsSnapshot) -> RenderableType:
        progress, now = self._batch.progress, self.now()
        total = progress.total or sum(progress.counts.values())
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(1, total), completed=progress.done, width=32),
            Text(f"{progress.done} of {total if progress.total else f'{total}+'}", "bold"),
            Text(f"{clock_time(now - self._began)}, {self._left_words(limits)}", "dim"),
        )
        rows: list[RenderableType] = [Text(), bar, self._counts(), self._slots(limits)]
        if progress.running:
            rows.append(self._running(progress.running, now))
        return Group(*rows)

    def _counts(self) -> Text:
        text = Text()
        for state, word in _LIVE_WORDS.items():
            number = self._counted(state)
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
        text.append(f"   {counted(stats.total, 'request')}, {stats.refused} refused", "dim")
        return text

    def _running(self, running: tuple[tuple[int, str], ...], now: float) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for index, id_ in running[:_ROWS]:
            age = self._tracker.age(index, now)
            title = shortened(self._title_of(index), 60)
            table.add_row(Text(lasting(age), "yellow"), Text(one_line(id_), "dim"), Text(title))
        if len(running) > _ROWS:
            table.add_row("", "", Text(f"and {len(running) - _ROWS} more", "dim"))
        return table


_ALWAYS: Final = (
    BatchState.QUEUED,
    BatchState.RUNNING,
    BatchState.SUCCEEDED,
    BatchState.FAILED,
)
_LIVE_WORDS: Final = {**STATE_WORDS, BatchState.QUEUED: "queued"}


def record_line(record: Record, *, number: str, width: int | None = None) -> str:
    """Return a line about what became of a story.

    Args:
        record: What became of it.
        number: What the line begins with.
        width: The columns of the terminal that it is for; `None` if it is for none.
    """
    word = STATE_WORDS[record.state]
    facts = [record.place, record.id or "", "" if record.error else _effort(record)]
    begin = f"{number}  {word:<9} "
    middle = "".join(f"{one_line(fact)}  " for fact in facts if fact)
    if record.error is not None:
        end = record.error  # never cut: it says what to do
    else:
        room = _TITLE if width is None else width - len(begin) - len(middle) - 1
        end = shortened(record.prompt, max(8, room))
    if width is not None:
        begin = begin.replace(word, click.style(word, fg=_COLOURS.get(word)), 1)
    return f"{begin}{middle}{end}"


_TITLE: Final = 48
"""Characters of a story's title in a line that is for no terminal."""


def _effort(record: Record) -> str:
    took = record.seconds if record.state is BatchState.SUCCEEDED else None
    pictures = counted(len(record.files), "picture") if record.files else ""
    return ", ".join(filter(None, (pictures, "" if took is None else lasting(took))))


def _next_slot(limits: LimitsSnapshot) -> str:
    if limits.paused_for > 0:
        return f"paused by the server, {lasting(limits.paused_for)} more"
    wait = limits.next_free_in
    return "a slot is free" if wait <= 0 else f"next free slot in {lasting(wait)}"
