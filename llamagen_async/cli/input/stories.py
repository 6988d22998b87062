"""Reading STORIES: lines in, checked requests with their places out.

A file is read twice, a line at a time: once to check it to its end, and once to send. Nothing is
ever sent from here, and a story that is wrong says where it stands:
`stories.jsonl:7: prompt: got '', ...`.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast

import attrs

from llamagen_async.batch.journal.codec import RequestLike, checked_key, fields_of
from llamagen_async.cli.errors import FAILED, CommandError
from llamagen_async.errors import InvalidRequestError
from llamagen_async.requests import ComicRequest

__all__ = ["Format", "Stories", "Story", "StoryFile", "open_stories", "read_stories"]

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
    key: str | None = None
    """The user's own name for it."""

    @property
    def given(self) -> RequestLike:
        """What a batch is given."""
        assert self.request is not None
        if self.key is None:
            return self.request
        return {**fields_of(self.request), "key": self.key}


class StoryFile:
    """A file of stories that was checked to its end; iterating over it reads it again.

    Args:
        path: The file.
        form: How the stories are written.

    Raises:
        CommandError: Something in it is wrong; says where.
        OSError: It can't be read.
    """

    def __init__(self, path: Path, form: Format) -> None:
        self._path = path
        self._form: Final[Format] = form
        self._mark: tuple[int, ...] | None = None
        self._number = 0
        problem, wrong = "", 0
        for story in self:
            self._number += 1
            if story.problem:
                wrong += 1
                problem = problem or f"{story.place}: {story.problem}"
        if wrong:
            more = f" (and {wrong - 1} more such lines)" if wrong > 1 else ""
            raise CommandError(f"{problem}{more}; nothing was sent")
        if not self._number:
            raise CommandError(f"{path}: there is no story in it")

    def __len__(self) -> int:
        return self._number

    def __contains__(self, story: object) -> bool:
        return any(story == one for one in self)

    def __iter__(self) -> Iterator[Story]:
        with self._path.open("rb") as lines:
            mark = _mark(lines)
            self._mark = self._mark or mark
            for story in read_stories(lines, name=str(self._path), form=self._form):
                # What is sent is what was checked.
                if _mark(lines) != self._mark:
                    raise CommandError(
                        f"{self._path} was changed while it was read; the same command again "
                        "goes on where this stopped",
                        FAILED,
                    )
                yield story


@attrs.frozen
class Stories:
    """What is to be generated."""

    name: str
    """What the input is called."""
    checked: Collection[Story] | None = None
    """All of them, if they could be read and checked beforehand; not all in memory."""
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
        return Stories(given, checked=StoryFile(path, form))
    except OSError as error:
        raise CommandError(f"{given}: {error.strerror or error}") from None


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
        key = given.pop("key", None) if isinstance(given, dict) else None
        name = None if key is None else checked_key(key)
        return Story(number, place, ComicRequest.parse(given), key=name)
    except (InvalidRequestError, ValueError, RecursionError) as error:
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


def _mark(file: BinaryIO) -> tuple[int, ...]:
    """Return what changes when a file does."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _stdin() -> BinaryIO:
    """Return stdin without Python's own buffer, which a reader in a thread would keep locked."""
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (AttributeError, OSError, ValueError):
        raise CommandError("stdin is not open") from None
