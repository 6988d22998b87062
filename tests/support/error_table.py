"""The table of errors that the README and the documentation show, read from the docstrings.

`python -m tests.support.error_table` writes it into both.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from llamagen_async import errors
from llamagen_async.validation import LlamaGenError

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "docs/reference/errors.md"]
MARKS = ("<!-- errors -->\n", "<!-- end of errors -->\n")


def classes() -> list[type[LlamaGenError]]:
    """Return all errors below the root, in the order of `llamagen_async.errors`."""
    found = [one for one in vars(errors).values() if inspect.isclass(one)]
    ours = [one for one in found if issubclass(one, LlamaGenError) and one is not LlamaGenError]
    return sorted(ours, key=lambda one: (one.__name__ != "InvalidRequestError", _line(one)))


def row(error: type[LlamaGenError]) -> str:
    """Return one row; a docstring without its two sections is an error."""
    text = inspect.getdoc(error) or ""
    cells = [f"`{error.__name__}`", " ".join(text.partition("\n\n")[0].split())]
    for section in ("Spent", "What to do"):
        found = re.search(rf"^{section}:\n((?:    .*(?:\n|$))+)", text, flags=re.MULTILINE)
        assert found, f"the docstring of {error.__name__} does not say: {section}"
        cells.append(" ".join(found[1].split()))
    return f"| {' | '.join(cells)} |\n"


def table() -> str:
    """Return the table in Markdown."""
    head = "| Error | What happened | Was anything spent? | What to do |\n|---|---|---|---|\n"
    return head + "".join(map(row, classes()))


def shown_in(text: str) -> str:
    """Return the table that a document shows between its marks."""
    begin, end = MARKS
    return text.partition(begin)[2].partition(end)[0]


def _line(error: type[LlamaGenError]) -> int:
    return inspect.getsourcelines(error)[1]


if __name__ == "__main__":
    for file in FILES:
        document = file.read_text(encoding="utf-8")
        file.write_text(document.replace(shown_in(document), table()), encoding="utf-8")
