"""Reading CSV: a table whose first row names the columns, and a story in each further one.

Spreadsheets write it in many ways: with a mark of byte order, with semicolons or tabs between the
cells, with line ends inside quotes, with empty rows and columns at the end. All of these are read.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast

import attrs

from llamagen_async.cli.input.json_text import decoded
from llamagen_async.cli.input.lines import unreadable
from llamagen_async.requests.any_request import FIELDS, TEXTS

__all__ = ["TableRow", "column_of", "is_heading", "table_rows"]

_DELIMITERS: Final = ",;\t"
_LONGEST_CELL: Final = 1 << 27
"""Characters of the longest cell: as many as a line may have, for a picture as a `data:` URL."""
_MARK: Final = "\ufeff"
_FLAGS: Final = {"true": True, "false": False}
"""The flags as spreadsheets write them, in any case."""
_BESIDE: Final = {name: name for name in ("key", "type", "action", "of", "id")}
"""The columns that are no fields of a request."""
_KNOWN: Final = {**FIELDS, **_BESIDE}
"""The name in Python of each column that there may be."""
_LOOSE: Final = {spelling.lower(): name for spelling, name in _KNOWN.items()}
"""Names by spellings in small letters: people begin the titles of columns with a capital."""
_ALLOWED: Final = "the first row names the columns: fields of requests, key, type, of, id"


@attrs.frozen
class TableRow:
    """One row of a table."""

    line: int
    """The number of the line in which it begins, from 1."""
    fields: dict[str, Any] | None = attrs.field(default=None, hash=False)
    """The cells that are not empty, by the names of their columns; `None` if the row is wrong."""
    problem: str = ""
    """The reason why it is wrong."""
    columns: tuple[str, ...] = ()
    """The names of all columns' fields in Python; empty for one without a title."""


def is_heading(line: str) -> bool:
    """Whether a line is a table's first row: names of columns, several of them or the prompt's."""
    head = line.strip().strip(_MARK).strip()
    titles = head.split(max(_DELIMITERS, key=head.count))
    names = [_name_of(title.strip().strip('"').strip()) for title in titles]
    return all(names) and (len(names) > 1 or names == ["prompt"])


def table_rows(lines: Iterable[str]) -> Iterator[TableRow]:
    """Yield the rows below the first one, wrong ones too; if the first is wrong, only that one.

    Args:
        lines: The input, without line ends.
    """
    csv.field_size_limit(_LONGEST_CELL)
    remaining = iter(lines)
    begun = 0
    for head in remaining:
        begun += 1
        if head.strip().strip(_MARK).strip():
            break
    else:
        return
    head = head.removeprefix(_MARK)
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(_ended(head, remaining), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] | None = None
    while True:
        line = begun + reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield TableRow(line, problem=f"the row is not CSV: {error}")
            if columns is None:
                return
            continue
        if columns is None:
            titles = [cell.strip() for cell in cells]
            if problem := unreadable("".join(titles)) or _problem_of(titles):
                yield TableRow(line, problem=problem)
                return
            columns = tuple(map(_name_of, titles))
        elif any(cell.strip() for cell in cells):
            yield _row(line, cells, columns)


def column_of(field: str, columns: tuple[str, ...]) -> int | None:
    """Return the number of the column that a field stands in, from 1; `None` if it is in none."""
    name = _KNOWN.get(re.split(r"[.\[]", field)[0])
    return columns.index(name) + 1 if name in columns else None


def _row(line: int, cells: list[str], columns: tuple[str, ...]) -> TableRow:
    fields: dict[str, Any] = {}
    for number, cell in enumerate(cells, 1):
        if not cell.strip():
            continue
        if number > len(columns) or not columns[number - 1]:
            problem = f"column {number} has {_shown(cell)}, and no name in the first row"
            return TableRow(line, problem=problem)
        column = columns[number - 1]
        try:
            fields[column] = _value(cell, column)
        except ValueError as error:
            return TableRow(line, problem=f"column {number}, {column}: {error}")
    return TableRow(line, fields, columns=columns)


def _value(cell: str, name: str) -> object:
    """Return what a cell means: text as it is, and other fields as JSON.

    A whole number may have been written as 4.0: pandas does so for a column that has empty cells.

    Raises:
        ValueError: It begins as an object or a list of JSON does, and is none.
    """
    if name in _BESIDE or name in TEXTS:
        return cell
    text = cell.strip()
    if (flag := _FLAGS.get(text.lower())) is not None:
        return flag
    try:
        value = decoded(text)
    except json.JSONDecodeError as error:
        if text.startswith(("{", "[")):
            reason = f"{error.msg} at character {error.colno}"
            raise ValueError(f"got {_shown(cell)}, which is not JSON ({reason})") from None
    except RecursionError:
        pass
    except ValueError as error:
        if text.startswith(("{", "[")):
            raise ValueError(
                f"got {_shown(cell)}, which is not JSON that can be read: {error}"
            ) from None
    else:
        is_whole = isinstance(value, float) and value.is_integer()
        return int(cast("float", value)) if is_whole else value
    return cell


def _problem_of(titles: Sequence[str]) -> str:
    """Return what is wrong with the titles of the columns; nothing if they are in order."""
    names: dict[str, int] = {}
    for number, title in enumerate(titles, 1):
        name = _name_of(title)
        if title and not name:
            near = difflib.get_close_matches(title, _KNOWN, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" ({_ALLOWED})"
            return f"column {number}: there is no field {_shown(title)}{hint}"
        if name and name in names:
            return f"column {number}: column {names[name]} is {name}, too"
        names[name] = number
    return ""


def _name_of(title: str) -> str:
    """Return the name in Python of a column's field; nothing if there is none of that title."""
    return _KNOWN.get(title) or _LOOSE.get(title.lower().replace(" ", "_").replace("-", "_"), "")


def _ended(first: str, others: Iterator[str]) -> Iterator[str]:
    yield f"{first}\n"
    for line in others:
        yield f"{line}\n"


def _shown(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else f"{text[: length - 1]}…")
