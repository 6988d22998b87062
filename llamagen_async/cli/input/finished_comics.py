"""The comics of a journal that have succeeded, and what else is in it, read as `journal_file` does.

Each comic is found once, however many continuations and redraws of it are in the journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.rows import Rows
from llamagen_async.batch.journal.schema import prepare
from llamagen_async.batch.journal.targets import NEWEST
from llamagen_async.cli.exit_status import FAILED, CommandError
from llamagen_async.cli.input.journal_file import read_file
from llamagen_async.cli.results.states import STATE_WORDS
from llamagen_async.cli.text import one_line, shown_path
from llamagen_async.downloads.media_types import safe_stem
from llamagen_async.models import BatchState
from llamagen_async.requests import RequestType
from llamagen_async.sqlite_file import explain

__all__ = ["FinishedComic", "Unfinished", "finished_comics"]

_PAGE: Final = 500
"""Rows that are read at a time: a batch that writes meanwhile is never in the way for long."""
_DAMAGED: Final = "it is damaged; a copy of it may have what is lost"
_FACTS: Final = """
    SELECT id, key, type, state, generation_id, target FROM job WHERE id > ? ORDER BY id LIMIT ?
"""
_NAMED: Final = """
    SELECT id, state, generation_id FROM job WHERE key = :name
    UNION ALL SELECT * FROM (
        SELECT id, state, generation_id FROM job WHERE generation_id = :name
        ORDER BY state != 'succeeded', id LIMIT 1
    ) LIMIT 1
"""
"""Selects the story of a key, or else of a comic's id."""
_NAMES: Final = """
    SELECT key FROM job WHERE key NOT LIKE 'content:%'
    UNION SELECT generation_id FROM job WHERE generation_id IS NOT NULL LIMIT 5000
"""
"""Selects the names that may be meant by one that there is not."""
_TYPES: Final = frozenset(RequestType)
_MADE_OF_CONTENT: Final = "content:"
"""The beginning of a key that is nobody's word."""


@attrs.frozen
class FinishedComic:
    """One comic that has succeeded."""

    id: str
    """The comic's id."""
    key: str | None
    """The key of its story; `None` if the user gave none."""
    stem: str
    """The name of files made of it, without extension: no other comic of the journal has it."""
    first: Row = attrs.field(repr=False)
    """The story that the comic was first seen in."""
    newest: Row = attrs.field(repr=False)
    """The story that says how the comic was last seen: itself, or a change of it."""

    @property
    def name(self) -> str:
        """The comic's name for people, on one line."""
        return one_line(self.key or self.id)


@attrs.frozen
class Unfinished:
    """A story of the journal that is no comic that has succeeded."""

    id: str | None
    """The id of its generation, once it was accepted."""
    key: str | None
    """The story's key; `None` if the user gave none."""
    reason: str
    """The reason why there is nothing to be made of it."""

    @property
    def name(self) -> str:
        """The story's name for people, on one line."""
        return one_line(self.key or self.id or "a story without a key")


def finished_comics(path: Path, names: Sequence[str] = ()) -> Iterator[FinishedComic | Unfinished]:
    """Return the comics of a journal, and what is none, in the order of the stories.

    Args:
        path: The journal's file, which exists.
        names: Keys and ids of those that are wanted; if there are none, all are.

    Raises:
        CommandError: The file can't be read, or there is no such story or comic.
    """
    with _told(path):
        wanted = read_file(path, partial(_wanted, path, names))
    return _found(path, wanted if names else None)


@attrs.frozen
class _Wanted:
    """The stories and comics that were named."""

    rows: set[int] = attrs.field(factory=set[int])
    """Stories that are no comic that has succeeded."""
    comics: set[str] = attrs.field(factory=set[str])
    """The ids of comics that have succeeded."""


def _wanted(path: Path, names: Sequence[str], connection: sqlite3.Connection) -> _Wanted:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if not mark:  # which `prepare` would make a journal of
        raise CommandError(f"{shown_path(path)}: it is no journal, but another database")
    prepare(path, connection)  # which refuses what is no journal, and another version's
    wanted = _Wanted()
    for name in names:
        row: Any = None
        if _is_text(name):
            row = connection.execute(_NAMED, {"name": name}).fetchone()
        if row is None:
            raise CommandError(_unknown(name, connection))
        id_, state, generation_id = row
        if state == BatchState.SUCCEEDED and generation_id is not None:
            wanted.comics.add(generation_id)
        else:
            wanted.rows.add(id_)
    return wanted


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unknown(name: str, connection: sqlite3.Connection) -> str:
    import difflib  # noqa: PLC0415  # only for what is typed wrong

    known = [str(one) for (one,) in connection.execute(_NAMES)]
    near = [repr(one) for one in difflib.get_close_matches(name, known, n=2)]
    hint = f"did you mean {' or '.join(near)}?" if near else "`llamagen-async journal` lists them"
    return f"KEY: the journal has no story and no comic {name!r}; {hint}"


def _found(path: Path, wanted: _Wanted | None) -> Iterator[FinishedComic | Unfinished]:
    rows, seen = Rows(path), set[str]()
    stems = _Stems()
    for id_, key, type_, state, comic, target in _facts(path):
        own = None if key.startswith(_MADE_OF_CONTENT) else key
        if state != BatchState.SUCCEEDED or comic is None:
            if wanted is None or id_ in wanted.rows:
                is_without = (comic or target) in seen
                without = "; its comic is as it was before" if is_without else ""
                yield Unfinished(
                    comic, own, f"it is not done ({STATE_WORDS[BatchState(state)]}){without}"
                )
            continue
        if comic in seen:  # a change of it
            continue
        seen.add(comic)
        is_wanted = wanted is None or comic in wanted.comics
        if type_ == RequestType.ANIMATION:
            if is_wanted:
                yield Unfinished(comic, own, "it is an animation: a video has no panels")
            continue
        stem = stems.of(own or comic)
        if not is_wanted:
            continue
        with _told(path):
            (first,) = read_file(path, partial(rows.read, "WHERE id = ?", (id_,)))
            names = {"generation_id": comic, "also": None}
            newest = read_file(path, partial(rows.read, NEWEST, names))
        yield FinishedComic(comic, own, stem, first, newest[0] if newest else first)


def _facts(path: Path) -> Iterator[tuple[Any, ...]]:
    last = 0
    while True:
        with _told(path):
            page = read_file(path, partial(_facts_after, last))
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1][0]


def _facts_after(last: int, connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    page = connection.execute(_FACTS, (last, _PAGE)).fetchall()
    for _, key, type_, state, comic, target in page:
        is_text = isinstance(key, str) and all(
            one is None or isinstance(one, str) for one in (comic, target)
        )
        if not is_text or type_ not in _TYPES or state not in STATE_WORDS:
            raise ValueError(f"{key!r} is not as it was written")
    return page


class _Stems:
    """Names of files, each given once; a disk that ignores case is thought of."""

    def __init__(self) -> None:
        self._taken = set[str]()

    def of(self, text: str) -> str:
        """Return the first name that is free; in the same order it is the same each time."""
        stem = name = safe_stem(text)
        number = 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return name


@contextmanager
def _told(path: Path) -> Generator[None]:
    """Have it told in a line if a journal can't be read."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise CommandError(explain(shown_path(path), error, damaged=_DAMAGED), FAILED) from None
    except ValueError as error:
        raise CommandError(f"{shown_path(path)}: {_DAMAGED} ({error})", FAILED) from None
