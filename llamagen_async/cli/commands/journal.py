"""`llamagen-async journal`: the content of a batch's journal, and what it has cost."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.rows import Rows
from llamagen_async.batch.journal.schema import bound_to, counts_of, prepare, spent_in
from llamagen_async.batch.journal.story import own_key
from llamagen_async.cli.errors import describe_error
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, CommandError
from llamagen_async.cli.input.journal_file import journal_in, read_file
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.states import STATE_WORDS
from llamagen_async.cli.text import broken, columns, fitted, one_line, pluralize, shown_path
from llamagen_async.models import BatchState
from llamagen_async.prices import format_credits
from llamagen_async.requests import RequestType
from llamagen_async.sqlite_file import explain
from llamagen_async.validation import checked_path

__all__ = ["journal"]

_PAGE: Final = 500
"""Rows that are read at a time: a batch that writes meanwhile is never in the way for long."""
_DAMAGED: Final = "it is damaged; a copy of it, or results.jsonl beside it, may have what is lost"
_WIDEST: Final = 28
"""Columns of the longest id that the others are lined up with."""
_LEAST: Final = 12
"""Columns that a story has at least, however narrow the terminal is."""
_MARGIN: Final = 4
"""Columns before the reason for which a story is not done."""
_UNPRICED: Final = """
    SELECT count(*) FROM job WHERE credits IS NULL
    AND (generation_id IS NOT NULL OR state IN ('sending', 'uncertain'))
"""
_LONGEST_ID: Final = "SELECT coalesce(max(length(generation_id)), 0) FROM job"
_TITLES: Final = ("panelPrompt", "prompt", "promptUrl", "caption")
"""The fields that say in words what a story is about, the most precise one first."""
_FORMULA: Final = re.compile("(^|; *)(?=[-=+@\uff0d\uff1d\uff0b\uff20])")
"""The beginning of a cell that a spreadsheet takes for a formula, also if it parts cells at `;`."""


@attrs.frozen
class _Sums:
    """A journal as a whole."""

    counts: dict[BatchState, int]
    """The number of its stories in each state."""
    spent: float
    """Credits that they have cost, as far as is known."""
    unpriced: int
    """Stories that were sent, and whose price nobody knows."""
    base_url: str | None
    """The address of the server that drew them; `None` before the first was accepted."""
    longest_id: int
    """Characters of the longest id."""


def journal(*, place: str, form: str, states: tuple[str, ...], output: Output) -> int:
    """Show which stories a journal has, how far they have come, and what they have cost."""
    path = journal_in(checked_path("PATH", place))
    if not path.is_file():
        what = "a batch's folder, or the journal's own file"
        raise CommandError(f"there is no journal {shown_path(path)}: PATH is {what}")
    try:
        if not path.stat().st_size:
            raise CommandError(f"{shown_path(path)}: there is nothing in it", FAILED)
        sums = read_file(path, partial(_sums, path))
        wanted = tuple(map(BatchState, states)) or tuple(BatchState)
        if form == "csv" and not output.as_json:
            _export(_rows(path, wanted), output)
            return ALL_DONE
        id_width = max(2, min(sums.longest_id, _WIDEST))
        if any(sums.counts.get(state) for state in wanted):
            output.tell(f"{'state':<9} {'credits':>7}  {'id':<{id_width}}  story", is_prose=False)
        for row in _rows(path, wanted):
            if output.as_json:
                output.emit_json({**_facts(row), "request": row.fields})
            else:
                _show(row, output, id_width)
            if output.stdout_closed:
                return ALL_DONE
    except (sqlite3.Error, OSError) as error:
        raise CommandError(explain(shown_path(path), error, damaged=_DAMAGED), FAILED) from None
    except (ValueError, TypeError) as error:
        raise CommandError(f"{shown_path(path)}: {_DAMAGED} ({error})", FAILED) from None
    _sum_up(path, sums, output)
    return ALL_DONE


def _sums(path: Path, connection: sqlite3.Connection) -> _Sums:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if not mark:  # which `prepare` would make a journal of
        raise CommandError(f"{shown_path(path)}: it is no journal, but another database")
    prepare(path, connection)  # which refuses what is no journal, and another version's
    (unpriced,) = connection.execute(_UNPRICED).fetchone()
    (longest,) = connection.execute(_LONGEST_ID).fetchone()
    spent, bound = spent_in(connection), bound_to(connection)
    return _Sums(counts_of(connection), spent, unpriced, bound.get("base_url"), longest)


def _rows(path: Path, states: Sequence[BatchState]) -> Iterator[Row]:
    """Yield the stories in these states, oldest first."""
    marks = ", ".join("?" * len(states))
    where = f"WHERE state IN ({marks}) AND id > ? ORDER BY id LIMIT ?"
    last, rows = 0, Rows(path)
    while True:
        page = read_file(path, partial(rows.read, where, (*states, last, _PAGE)))
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1].id


def _facts(row: Row) -> dict[str, Any]:
    """Return what a journal knows of a story, as plain data."""
    request = row.fields
    error = row.error(None, row.generation)
    return {
        "key": row.key,
        "label": row.label,
        "type": row.type.value,
        "state": row.state.value,
        "id": row.generation_id,
        "credits": row.credits,
        "attempts": row.attempts,
        "queued_at": _utc(row.queued_at),
        "sent_at": _utc(row.sent_at),
        "accepted_at": _utc(row.accepted_at),
        "ended_at": _utc(row.ended_at),
        "prompt": next((str(request[name]) for name in _TITLES if request.get(name)), ""),
        "error": None if error is None else describe_error(error, id_=row.generation_id),
        "files": list(row.files),
    }


def _export(rows: Iterator[Row], output: Output) -> None:
    """Print the stories as a table for a spreadsheet, its titles first."""
    output.begin_csv()
    for number, row in enumerate(rows):
        facts = _facts(row)
        if not number:
            output.print(",".join(facts))
        output.print(_line_of(map(_cell, facts.values())))
        if output.stdout_closed:
            return


def _line_of(cells: Iterable[object]) -> str:
    """Return a row. LibreOffice parts cells at commas and at `;`, unless they are in quotes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="", quoting=csv.QUOTE_ALL).writerow(cells)
    return line.getvalue()


def _cell(value: object) -> object:
    """Return what a spreadsheet shows as it stands: text from elsewhere is no formula."""
    if isinstance(value, list):
        value = "; ".join(cast("list[str]", value))
    if isinstance(value, float):
        return f"{value:.12g}"
    return _FORMULA.sub(r"\1'", one_line(value)) if isinstance(value, str) else value


def _show(row: Row, output: Output, id_width: int) -> None:
    """Print a story on one line, and below it why it is not done."""
    facts = _facts(row)
    credits_ = "-" if row.credits is None else f"{row.credits:,.12g}"
    id_ = one_line(row.generation_id or "-")
    begin = f"{STATE_WORDS[row.state]:<9} {credits_:>7}  {id_:<{id_width}}  "
    name = "  ".join(filter(None, (_name(row), facts["prompt"]))) or facts["type"]
    output.print(f"{begin}{fitted(name, max(_LEAST, output.width - columns(begin)))}")
    if facts["error"]:
        for line in broken(facts["error"], output.width - _MARGIN):
            output.print(f"{'':{_MARGIN}}{line}")


def _name(row: Row) -> str:
    """Return what its user calls a story: its key, its line, or the panel that `redraw` was for."""
    panel = row.fields.get("panel") if row.type is RequestType.UPDATE_PANEL else None
    redraw = "" if panel is None else f"redraw of panel {panel}"
    return own_key(row.key) or row.label or redraw


def _sum_up(path: Path, sums: _Sums, output: Output) -> None:
    number = sum(sums.counts.values())
    output.emit_json(
        {
            "journal": str(path),
            "stories": number,
            "states": {state.value: n for state, n in sums.counts.items()},
            "credits": sums.spent,
            "unpriced": sums.unpriced,
            "base_url": sums.base_url,
        }
    )
    if output.as_json:
        return
    words = [f"{n} {word}" for state, word in STATE_WORDS.items() if (n := sums.counts.get(state))]
    output.print(f"{pluralize(number, 'story')}: {', '.join(words) or 'none yet'}.", is_prose=True)
    cost = f"Spent so far: {format_credits(sums.spent)}"
    if sums.unpriced:
        cost += f", and what {pluralize(sums.unpriced, 'story')} cost that has no known price"
    output.print(f"{cost}.", is_prose=True)


def _utc(when: float | None) -> str | None:
    if when is None:
        return None
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
