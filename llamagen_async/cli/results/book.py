"""A comic as something to read from its first panel to its last, whatever file it is put into.

Nothing here needs more than the standard library, and nothing is written.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final, cast

import attrs

from llamagen_async.cli.input.finished_comics import FinishedComic
from llamagen_async.cli.text import one_line, shortened, shown_path
from llamagen_async.models import ComicGeneration

__all__ = ["Book", "NotMadeError", "book_of", "check_place"]

_TITLES: Final = ("prompt", "panelPrompt", "caption", "promptUrl")
"""The fields that say in words what a comic is about."""
_LONGEST_TITLE: Final = 80
"""Characters of a title: a story may be as long as a book."""
_LANGUAGE: Final = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*")
_MARK: Final = b"llamagen-async export "
_ENDS: Final = 1024
"""Bytes at the beginning and at the end of a file in which its mark is."""


class NotMadeError(Exception):
    """The reason, in words, for which no file is made of a comic."""


@attrs.frozen
class Book:
    """A comic with its pictures on disk."""

    id: str
    """The comic's id."""
    title: str
    """The beginning of its prompt, on one line."""
    pages: tuple[tuple[Path, ...], ...]
    """The picture of each panel, in reading order, page by page."""
    captions: tuple[str, ...] = ()
    """The captions that there are, in reading order, each on one line."""
    prompt: str = ""
    """All of its prompt, on one line."""
    language: str | None = None
    """The code of its captions' language, if it is known."""

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The pictures of all panels, in reading order."""
        return tuple(picture for page in self.pages for picture in page)

    @property
    def mark(self) -> bytes:
        """The text by which a file that was made of the comic is recognised: plain ASCII."""
        # Of the id no more than that: it may be of any characters.
        return (
            _MARK
            + hashlib.sha256(self.id.encode("utf-8", "surrogatepass")).hexdigest()[:16].encode()
        )


def book_of(comic: FinishedComic, folder: Path) -> Book:
    """Return a comic of a journal with its pictures.

    Args:
        comic: The comic.
        folder: The folder of the batch's pictures.

    Raises:
        NotMadeError: A picture of it is missing.
        ValueError, TypeError: The journal is damaged.
    """
    generation = comic.newest.generation
    if not isinstance(generation, ComicGeneration):
        raise NotMadeError("the journal has no answer about it")
    request = comic.first.fields
    prompt = next((str(request[one]) for one in _TITLES if request.get(one)), "")
    prompt = one_line(prompt or generation.prompt or "")
    language = request.get("language")
    is_code = isinstance(language, str) and _LANGUAGE.fullmatch(language)
    captions = (one_line(panel.caption or "") for page in generation.pages for panel in page.panels)
    return Book(
        comic.id,
        shortened(prompt or comic.name, _LONGEST_TITLE),
        _pages(generation, comic, folder),
        captions=tuple(filter(None, captions)),
        prompt=prompt,
        language=cast("str", language) if is_code else None,
    )


def check_place(path: Path, book: Book) -> None:
    """Make sure that nothing else stands where the file of a comic is to stand.

    Raises:
        NotMadeError: Something does that was not made of this comic.
    """
    if not os.path.lexists(path):
        return
    there = b""
    if path.is_file():  # what is no file may never end
        with path.open("rb") as file:
            there = file.read(_ENDS)
            file.seek(max(0, path.stat().st_size - _ENDS))
            there += file.read(_ENDS)
    if book.mark in there:
        return
    what = "is another comic's" if _MARK in there else "was not made by llamagen-async export"
    raise NotMadeError(f"{shown_path(path)} {what}: move it away, or choose another --out")


def _pages(
    generation: ComicGeneration, comic: FinishedComic, folder: Path
) -> tuple[tuple[Path, ...], ...]:
    urls = generation.asset_urls
    if not urls:
        raise NotMadeError("it has no pictures")
    if comic.newest.files_text is None:
        raise NotMadeError("its pictures are not here: the same batch again fetches them")
    files = dict(zip(urls, comic.newest.files, strict=False))
    pages = [
        tuple(
            _picture(panel.asset_url, files, folder, f"panel {number} of page {place}")
            for number, panel in enumerate(page.panels, 1)
        )
        for place, page in enumerate(generation.pages, 1)
    ]
    pages = [page for page in pages if page]
    # A comic of which there is the whole alone.
    return tuple(pages) or ((_picture(generation.output, files, folder, "the comic"),),)


def _picture(url: str | None, files: dict[str, str], folder: Path, place: str) -> Path:
    if url is None or url not in files:
        raise NotMadeError(f"{place} has no picture")
    path = folder / files[url]
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except OSError:
        is_file = False
    if not is_file:
        raise NotMadeError(f"{shown_path(path)} is missing ({place})")
    return path
