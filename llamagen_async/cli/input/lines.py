"""Lines of text out of bytes, whatever wrote them: any line ends, and Unicode with a mark of order.

Text is UTF-8, or what the mark of byte order at its beginning says: PowerShell's `>` writes UTF-16.
Without a mark nothing is guessed. What can't be decoded is left in its line as `UNREADABLE`, so
that the other lines can be used.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from llamagen_async.cli.exit_status import FAILED, CommandError

__all__ = ["UNREADABLE", "chunks_of", "text_lines", "unreadable"]

UNREADABLE: Final = "\ud800"
"""Stands for bytes that are no text. It is no character, so no text can have it."""
_CHUNK: Final = 1 << 16
"""Bytes that are asked for at a time."""
_LONGEST: Final = 2_000
"""Chunks of the longest line, at most: 125 MiB, for a picture or two as `data:` URLs."""
_MARK: Final = "\ufeff"
_ZIP: Final = "PK\x03\x04"
"""The beginning of a workbook's file."""
_ENCODINGS: Final = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
"""Encodings that are told by the mark of byte order, the longer marks first."""
_MARKS: Final = {_MARK.encode(encoding): encoding for encoding in _ENCODINGS}
# Not U+2028, form feed and their like, at which `str.splitlines` would cut a story in two.
_LINE_END: Final = re.compile("\r\n|\n|\r")

codecs.register_error(
    "llamagen-async.unreadable", lambda error: (UNREADABLE, getattr(error, "end", 0))
)


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a file as it arrives, if it is unbuffered."""
    while chunk := file.read(_CHUNK):
        yield chunk


def text_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield each line as soon as it is complete, without its end.

    Raises:
        CommandError: A line does not end.
    """
    parts: list[str] = []
    skips_newline = False  # after a CR that may be the first half of a line's end
    for piece in _decoded(chunks):
        text = piece.removeprefix("\n") if skips_newline and piece else piece
        if text:
            *lines, rest = _LINE_END.split(text)
            for line in lines:
                yield "".join((*parts, line))
                parts.clear()
            parts.append(rest)
            if len(parts) > _LONGEST:
                raise CommandError("a line does not end: this is no file of stories", FAILED)
        if piece:
            skips_newline = piece.endswith("\r")
    if any(parts):
        yield "".join(parts)


def unreadable(line: str) -> str | None:
    """Return why a line is no text, and what to do; `None` if it is."""
    if line.startswith(_ZIP):
        return "this is a workbook or another ZIP file: export the table as CSV"
    if UNREADABLE in line:
        return "the line is not UTF-8: save it as UTF-8 (or as UTF-16 with a byte order mark)"
    if "\0" in line:
        return "the line has NUL characters in it, as UTF-16 has: save it as UTF-8"
    return None


def _decoded(chunks: Iterable[bytes]) -> Iterator[str]:
    begin, decoder = b"", None
    for chunk in chunks:
        if decoder is not None:
            yield decoder.decode(chunk)
            continue
        begin += chunk
        if not any(len(begin) < len(mark) and mark.startswith(begin) for mark in _MARKS):
            decoder = _decoder_of(begin)
            yield decoder.decode(begin)
    if decoder is None:  # shorter than the longest mark
        decoder = _decoder_of(begin)
        yield decoder.decode(begin)
    yield decoder.decode(b"", final=True)


def _decoder_of(begin: bytes) -> codecs.IncrementalDecoder:
    found = (encoding for mark, encoding in _MARKS.items() if begin.startswith(mark))
    return codecs.getincrementaldecoder(next(found, "utf-8"))("llamagen-async.unreadable")
