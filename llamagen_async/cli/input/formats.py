"""How stories are written: what a file's name says, and what its first line looks like."""

from __future__ import annotations

import re
from typing import Final, Literal

from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.tables import is_heading
from llamagen_async.requests.any_request import FIELDS

__all__ = ["ALLOWED", "FORMATS", "Format", "format_of_first"]

Format = Literal["jsonl", "csv", "txt"]
"""The ways to write stories: request fields as JSON, a table of them, or a prompt a line."""

FORMATS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "txt",
}
"""The formats by the ends of files' names."""
ALLOWED: Final = (
    ".jsonl (request fields), .csv (a table of them), .txt (a prompt a line), - (stdin)"
)
"""The files that STORIES may be, in words."""
_BEGINS_JSON: Final = re.compile(r'[\[{]$|\{\s*"|\[\s*[\[{"\]]')
"""The beginning of JSON, also if it is broken or goes on in the next line; not `[Noir] A cat`."""
_BEGINS_YAML: Final = re.compile(r"- +(\w+):(?: |$)")
"""The beginning of a list of objects in YAML."""
_BESIDE: Final = ("key", "type")
"""Names that a story has beside a request's fields."""


def format_of_first(line: str, label: str, *, is_text: bool) -> Format:
    """Return the format of stories by the first of them, which no format was said for.

    Args:
        line: The line.
        label: Where it stands.
        is_text: Whether a file's name says that each line is a prompt.

    Raises:
        CommandError: Nobody wants a comic of these words, and each line would be paid for.
    """
    found = _BEGINS_YAML.match(line)
    if is_heading(line):
        _refuse(label, "a table", "--format csv reads one")
    if found and (found[1] in FIELDS or found[1] in _BESIDE):
        _refuse(label, "YAML", "write it as JSON or as a table")
    if _BEGINS_JSON.match(line) and is_text:
        _refuse(label, "JSON", "--format jsonl reads an object a line")
    return "jsonl" if line.startswith("{") or _BEGINS_JSON.match(line) else "txt"


def _refuse(label: str, kind: str, instead: str) -> None:
    raise CommandError(
        f"{label}: it looks like {kind}, not like a prompt: {instead}; --format txt takes each "
        "line for a prompt all the same; nothing was sent"
    )
