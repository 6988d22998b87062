"""Reading STORIES: lines in, checked requests with their places out.

Pure except for `open_stories`, which opens the file. Nothing is ever sent from here, and a story
that is wrong says where it stands: `stories.jsonl:7: prompt: got '', ...`.
"""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast

import attrs

from llamagen_async.cli.errors import CommandError
from llamagen_async.errors import InvalidRequestError
from llamagen_async.requests import ComicRequest

__all__ = ["Format", "Stories", "Story", "open_stories", "read_stories"]

Format = Literal["jsonl", "txt"]
"""How stories are written: request fields as JSON, or a prompt a line."""

_FORMATS: Final[dict[str, Format]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "txt"}
_ALLOWED: Final = ".jsonl (request fields), .txt (a prompt a line) or - (stdin)"
_STDIN: Final = "-"
_STDIN_NAME: Final = "stdin"
_BOM: Final = b"\xef\xbb\xbf"


@attrs.frozen
class Story:
    """One story of the input."""

    number: int
    """Its place among the stories, from 0."""
    place: str
    """Where it was written: file and line."""
    request: ComicRequest | None
    """What it asks for; `None` if it is wrong."""
    problem: str | None = None
    """What is wrong with it."""


@attrs.frozen
class Stories:
    """What is to be generated."""

    name: str
    """What the input is called."""
    checked: tuple[Story, ...] | None = None
    """All of them, if they could be read and checked beforehand."""
    lines: BinaryIO | None = attrs.field(default=None, repr=False)
    """Where they come from, if they have to be read as they arrive."""
    format: Format | None = None
    """How they are written; `None` lets the first line decide."""


def open_stories(given: str) -> Stories:
    """Open STORIES as it was typed. A regular file is read and checked to its end.

    Raises:
        CommandError: It can't be read, or something in it is wrong; says where.
    """
    if given == _STDIN:
        return Stories(_STDIN_NAME, lines=_stdin())
    path = Path(given)
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise CommandError(f"{given}: what is it? Allowed is {_ALLOWED}")
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            return Stories(given, lines=path.open("rb", buffering=0), format=form)
        with path.open("rb") as lines:
            stories = tuple(read_stories(lines, name=given, form=form))
    except OSError as error:
        raise CommandError(f"{given}: {error.strerror or error}") from None
    wrong = [story for story in stories if story.problem]
    if wrong:
        more = f" (and {len(wrong) - 1} more such lines)" if len(wrong) > 1 else ""
        raise CommandError(f"{wrong[0].place}: {wrong[0].problem}{more}; nothing was sent")
    if not stories:
        raise CommandError(f"{given}: there is no story in it")
    return Stories(given, checked=stories)


def read_stories(lines: Iterable[bytes], *, name: str, form: Format | None) -> Iterator[Story]:
    """Yield every story, wrong ones too, as their lines are read.

    Args:
        lines: The input; UTF-8, with or without a byte order mark, any line ends.
        name: What places begin with.
        form: How the stories are written. `None` lets the first one decide: one that begins
            with `{` is JSON, and then all have to be.
    """
    number = 0
    for line_number, line in enumerate(lines, 1):
        content = line.removeprefix(_BOM) if line_number == 1 else line
        place = f"{name}:{line_number}"
        try:
            text = content.decode("utf-8").strip()
        except UnicodeDecodeError:
            yield Story(number, place, None, "the line is not UTF-8")
            number += 1
            continue
        if text and form is None and not text.startswith("#"):
            form = "jsonl" if text.startswith("{") else "txt"
        if not text or (form != "jsonl" and text.startswith("#")):
            continue
        yield _story(number, place, text, form or "txt")
        number += 1


def _story(number: int, place: str, text: str, form: Format) -> Story:
    try:
        given = _decoded(text) if form == "jsonl" else text
        return Story(number, place, ComicRequest.parse(given))
    except InvalidRequestError as error:
        return Story(number, place, None, str(error))
    except (ValueError, RecursionError) as error:
        return Story(number, place, None, str(error))


def _decoded(text: str) -> str | dict[str, Any]:
    try:
        value: object = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.colno}"
        raise ValueError(f"the line is not JSON ({reason}): {_excerpt(text)}") from None
    except RecursionError:
        raise ValueError("the line is not JSON that can be read: it is nested too deep") from None
    if isinstance(value, str | dict):
        return cast("str | dict[str, Any]", value)
    raise ValueError(f"the line holds {_excerpt(text)}, allowed is an object of request fields")


def _no_constant(name: str) -> object:
    raise ValueError(f"the line is not JSON: there is no {name} in JSON")


def _excerpt(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _stdin() -> BinaryIO:
    """Return stdin without Python's own buffer, which a reader in a thread would keep locked."""
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (AttributeError, OSError, ValueError):
        raise CommandError("stdin is not open") from None
