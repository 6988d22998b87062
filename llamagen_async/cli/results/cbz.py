"""A comic as a `.cbz`: its pictures as they are, in reading order, and what readers show of it.

The same comic gives the same bytes. ComicInfo.xml is that of the ComicRack schema, version 2.0
(https://anansi-project.github.io/docs/comicinfo/schemas/v2.0), its elements in the schema's order.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import BinaryIO, Final
from xml.etree import ElementTree

from llamagen_async.cli.results.book import Book, NotMadeError
from llamagen_async.cli.text import shown_path
from llamagen_async.downloads.media_types import HEAD, PICTURES, VIDEOS, extension_of
from llamagen_async.downloads.wholeness import is_whole

__all__ = ["comic_info", "write_cbz"]

_BEGINNING: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that an archive can have."""
_PLAIN: Final = 0o100644 << 16
"""A plain file that its owner may write and all may read, as an archive says it."""
_UNIX: Final = 3
"""The number by which an archive says so."""


def write_cbz(book: Book, file: BinaryIO) -> None:
    """Write a comic as an archive of pictures.

    Args:
        book: The comic.
        file: The archive, empty.

    Raises:
        NotMadeError: A picture is broken, or none.
        OSError: The archive can't be written.
    """
    width = max(3, len(str(len(book.pictures))))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = book.mark
        archive.writestr(_entry("ComicInfo.xml"), comic_info(book))
        for number, path in enumerate(book.pictures, 1):
            with _opened(path) as picture:
                extension = _extension(path, picture)
                entry = _entry(f"{number:0{width}}{extension}")
                entry.file_size = os.fstat(picture.fileno()).st_size
                with archive.open(entry, "w") as copy:
                    shutil.copyfileobj(picture, copy, 1 << 20)


def comic_info(book: Book) -> bytes:
    """Return what comic readers show of a comic, as ComicInfo.xml."""
    root = ElementTree.Element("ComicInfo")
    # All text in a book is on one line, and without the characters that XML does not allow.
    facts = {
        "Title": book.title,
        "Summary": "\n".join(book.captions) or book.prompt,
        "PageCount": str(len(book.pictures)),
        "LanguageISO": book.language,
    }
    for name, text in facts.items():
        if text:
            ElementTree.SubElement(root, name).text = text
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _BEGINNING)
    entry.create_system, entry.external_attr = _UNIX, _PLAIN
    return entry


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or error
        raise NotMadeError(f"{shown_path(path)} can't be read: {reason}") from None


def _extension(path: Path, picture: BinaryIO) -> str:
    """Return the extension of a picture by its content, which has to be whole."""
    extension = extension_of(None, picture.read(HEAD))
    if extension in VIDEOS:
        raise NotMadeError(f"{shown_path(path)} is a video")
    if extension not in PICTURES:
        raise NotMadeError(f"{shown_path(path)} is no picture")

    def piece(at: int, length: int) -> bytes:
        picture.seek(at)
        return picture.read(length)

    if not is_whole(extension, picture.seek(0, 2), piece):
        raise NotMadeError(f"{shown_path(path)} is broken: its end is missing")
    picture.seek(0)
    return extension
