"""Reading STORIES: lines in, checked and labelled stories out.

A file is read line by line, first to check it to its end, then to send it. Nothing is ever sent
from here, and an error names the line that is wrong: `stories.jsonl:7: prompt: got '', ...`.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import attrs

from llamagen_async.batch.journal.story import RequestLike, Story, given_key
from llamagen_async.cli.exit_status import FAILED, CommandError
from llamagen_async.cli.input.cast import StoryContext
from llamagen_async.cli.input.changed_keys import ChangedKeys
from llamagen_async.cli.input.formats import ALLOWED, FORMATS, Format, format_of_first
from llamagen_async.cli.input.json_text import decoded
from llamagen_async.cli.input.lines import chunks_of, text_lines, unreadable
from llamagen_async.cli.input.tables import column_of, is_heading, table_rows
from llamagen_async.cli.text import shown_path
from llamagen_async.errors import InvalidRequestError, JournalError
from llamagen_async.prices import Charge
from llamagen_async.requests.defaults import Defaults
from llamagen_async.requests.files import paths_of
from llamagen_async.validation import checked_path

if TYPE_CHECKING:
    from llamagen_async.batch.journal.journal import Journal

__all__ = ["Format", "InputStory", "Stories", "StoryFile", "open_stories", "read_stories"]

_STDIN: Final = "-"
_STDIN_NAME: Final = "stdin"
_MARK: Final = "\ufeff"
"""The mark of byte order; files that were joined have it in their midst."""


@attrs.frozen
class InputStory:
    """One story of the input, right or wrong."""

    number: int
    """The story's position among the stories, from 0."""
    label: str
    """The file and line in which the story stands."""
    story: Story | None
    """The checked story; `None` if it is wrong."""
    problem: str | None = None
    """The reason why it is wrong."""
    key: str | None = None
    """The user's own name for a story that is wrong, if it has a good one."""
    given: object = attrs.field(default=None, hash=False)
    """The fields of a story that is wrong, or its line as text."""


class StoryFile:
    """A file of stories that was checked to its end; iterating over it reads it again.

    Args:
        path: The file.
        form: How the stories are written.
        cast: What all stories have in common.

    Raises:
        CommandError: A line in it is wrong; the message names the line.
        OSError: It can't be read.
    """

    def __init__(self, path: Path, form: Format, cast: Defaults | None = None) -> None:
        self._path = path
        self._context = StoryContext(path.parent, cast)
        self._form: Final[Format] = form
        self._fingerprint: tuple[int, ...] | None = None
        self._number = 0
        self.charges: Final[Counter[Charge]] = Counter()
        """The number of stories for each thing that is charged for."""
        self.files: Final[Counter[Path]] = Counter()
        """The number of stories that need each file that is to be uploaded."""
        self.changed: Final = ChangedKeys()
        """The keys of stories whose comics are changed."""
        problem, wrong = "", 0
        for story in self:
            self._number += 1
            if story.story is not None:
                self.charges[Charge.of(story.story.request)] += 1
                self.files.update(paths_of(story.story.request))
                self.changed.add(story.label, story.story)
            if story.problem:
                wrong += 1
                problem = problem or f"{story.label}: {story.problem}"
        if wrong:
            more = f" (and {wrong - 1} more such lines)" if wrong > 1 else ""
            raise CommandError(f"{problem}{more}; nothing was sent")
        if not self._number:
            raise CommandError(f"{shown_path(path)}: there is no story in it")
        if self.changed.labels:
            for story in self:  # once more: a key may stand anywhere
                if story.story is not None:
                    self.changed.find(story.story)
            self.changed.check_circles()

    def __len__(self) -> int:
        return self._number

    def __contains__(self, story: object) -> bool:
        return any(story == one for one in self)

    def __iter__(self) -> Iterator[InputStory]:
        name = shown_path(self._path)
        with self._path.open("rb") as file:
            fingerprint = _fingerprint(file)
            self._fingerprint = self._fingerprint or fingerprint
            lines = text_lines(chunks_of(file))
            for story in read_stories(lines, name=name, form=self._form, context=self._context):
                # Only the content that was checked may be sent.
                if _fingerprint(file) != self._fingerprint:
                    raise CommandError(
                        f"{name} was changed while it was read; the same command again "
                        "goes on where this stopped",
                        FAILED,
                    )
                yield story


@attrs.frozen
class Stories:
    """The input of a run: a checked file, lines that arrive, or else the journal itself."""

    name: str
    """The name of the input in messages."""
    checked: Collection[InputStory] | None = None
    """All stories, if they could be read and checked beforehand; not all in memory."""
    lines: BinaryIO | None = attrs.field(default=None, repr=False)
    """The source of the stories, if they have to be read as they arrive."""
    format: Format | None = None
    """How they are written; `None` lets the first line decide."""
    context: StoryContext = attrs.field(factory=StoryContext, repr=False)
    """The folder and the cast with which stories are read as they come."""

    @property
    def is_journal(self) -> bool:
        """Whether the journal itself is the input."""
        return self.checked is None and self.lines is None

    async def read(self, journal: Journal) -> AsyncIterator[InputStory]:
        """Yield every story, wrong ones too; `journal` is open."""
        if self.checked is not None:
            for story in self.checked:
                yield story
        elif self.lines is not None:
            from llamagen_async.cli.input.stdin import iterate_in_thread  # noqa: PLC0415

            lines = text_lines(_arriving(self.lines, self.name))
            stories = read_stories(lines, name=self.name, form=self.format, context=self.context)
            async for story in iterate_in_thread(stories):
                yield story
        else:
            async for story in _stories_of(journal):
                yield story


def open_stories(given: str, cast: Defaults | None = None, form: Format | None = None) -> Stories:
    """Open STORIES as it was typed. A regular file is read and checked to its end.

    Args:
        given: The file as it was typed.
        cast: What all stories have in common.
        form: How they are written; what the file's name says if not given.

    Raises:
        CommandError: It can't be read, or a line in it is wrong; the message names the line.
    """
    if given == _STDIN:
        return Stories(_STDIN_NAME, None, _stdin(), form, StoryContext(cast=cast))
    path, name, said = checked_path("STORIES", given), shown_path(given), form
    form = form or FORMATS.get(path.suffix.lower())
    if form is None:
        raise CommandError(
            f"{name}: its format is unknown; allowed is {ALLOWED}, or say it with --format"
        )
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            context = StoryContext(cast=cast)
            return Stories(name, None, path.open("rb", buffering=0), form, context)
        if form == "txt" and said is None:
            _check_prompts(path, name)
        return Stories(name, checked=StoryFile(path, form, cast))
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror or error}") from None


def read_stories(
    lines: Iterable[str],
    *,
    name: str,
    form: Format | None,
    context: StoryContext | None = None,
) -> Iterator[InputStory]:
    """Yield every story, wrong ones too, as their lines are read.

    Args:
        lines: The input, without line ends.
        name: The beginning of each label.
        form: How the stories are written. `None` lets the first line decide: one that begins
            as JSON does is JSON, and then all have to be; one that has names of columns and nothing
            else is the first of a table, because nobody wants a comic of that.
        context: What they are read with.

    Raises:
        CommandError: No format was said, and the first line is in none that is read.
    """
    reading = context or StoryContext()
    if form is None:
        begin, lines = _begin(lines)
        form = "csv" if is_heading(begin) else None
    if form == "csv":
        yield from _stories_in_table(lines, name, reading)
        return
    number = 0
    for line_number, line in enumerate(lines, 1):
        text, label = line.strip().strip(_MARK).strip(), f"{name}:{line_number}"
        if problem := unreadable(text):
            yield InputStory(number, label, None, problem, given=text)
            number += 1
            continue
        if text and form is None and not text.startswith("#"):
            form = format_of_first(text, label, is_text=False)
        if not text or (form != "jsonl" and text.startswith("#")):
            continue
        try:
            given = _decoded(text) if form == "jsonl" else text
        except ValueError as error:
            yield InputStory(number, label, None, str(error), given=text)
        else:
            yield _story(number, label, given, reading)
        number += 1


def _check_prompts(path: Path, name: str) -> None:
    """Make sure that the first line of a file of prompts is one.

    Raises:
        CommandError: It is not.
    """
    with path.open("rb") as file:
        for number, line in enumerate(text_lines(chunks_of(file)), 1):
            text = line.strip().strip(_MARK).strip()
            if text and not text.startswith("#"):
                format_of_first(text, f"{name}:{number}", is_text=True)
                return


def _begin(lines: Iterable[str]) -> tuple[str, Iterable[str]]:
    """Return the first line that is not empty, and all lines."""
    remaining, read = iter(lines), list[str]()
    for line in remaining:
        read.append(line)
        if line.strip().strip(_MARK).strip():
            return line, chain(read, remaining)
    return "", read


async def _stories_of(journal: Journal) -> AsyncIterator[InputStory]:
    """Yield every story of a journal."""
    number = 0
    async for row in journal.rows():
        try:
            yield InputStory(number, row.label, row.story)
        except InvalidRequestError as error:  # an older version allowed it
            yield InputStory(number, row.label or f"key {row.key}", None, str(error))
        except (ValueError, RecursionError) as error:
            raise JournalError(f"the journal is damaged at {row.key!r} ({error!r})") from error
        number += 1


def _stories_in_table(
    lines: Iterable[str], name: str, context: StoryContext
) -> Iterator[InputStory]:
    for number, row in enumerate(table_rows(lines)):
        label, fields = f"{name}:{row.line}", row.fields
        texts = [one for one in fields.values() if isinstance(one, str)] if fields else []
        if problem := row.problem or unreadable("".join(texts)):
            yield InputStory(number, label, None, problem, given_key(fields), fields)
        else:
            yield _story(number, label, fields, context, row.columns)


def _story(
    number: int, label: str, given: object, context: StoryContext, columns: tuple[str, ...] = ()
) -> InputStory:
    """Check a story as it was given; `columns` are those of its table, if it stands in one."""
    try:
        return InputStory(number, label, context.story(cast("RequestLike", given), label))
    except (InvalidRequestError, ValueError, RecursionError) as error:
        field = error.field if isinstance(error, InvalidRequestError) else ""
        column = column_of(field, columns)
        where = f"column {column}, " if column else ""
        return InputStory(number, label, None, f"{where}{error}", given_key(given), given)


def _decoded(text: str) -> str | dict[str, Any]:
    try:
        value = decoded(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.colno}"
        raise ValueError(f"the line is not JSON ({reason}): {_excerpt(text)}") from None
    except RecursionError:
        raise ValueError("the line is not JSON that can be read: it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"the line is not JSON: {error}") from None
    if isinstance(value, str | dict):
        return cast("str | dict[str, Any]", value)
    raise ValueError(f"the line holds {_excerpt(text)}, allowed is an object of request fields")


def _excerpt(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _fingerprint(file: BinaryIO) -> tuple[int, ...]:
    """Return numbers that change when a file does."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _arriving(source: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the bytes of stdin or a pipe as they arrive, then close it."""
    try:
        with source:
            yield from chunks_of(source)
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror or error}", FAILED) from None


def _stdin() -> BinaryIO:
    """Return stdin without Python's own buffer, which a reader in a thread would keep locked."""
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (AttributeError, OSError, ValueError):
        raise CommandError("stdin is not open") from None
