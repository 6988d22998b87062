"""Whether a picture or video can be whole, as far as its own bytes show that. No I/O.

That is asked where nothing but the end of a connection says that a file has ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["is_whole"]

_ENDS: Final = 512
"""Last bytes in which the mark of a picture's end is looked for: some programs add a few."""
_ISO: Final = (".avif", ".heic", ".heif", ".mov", ".mp4")
"""The kinds that are made of boxes (ISO/IEC 14496-12)."""
_MATROSKA: Final = (".mkv", ".webm")
_MOST_BOXES: Final = 20_000
"""Boxes of a file that are looked at: a video in fragments has two for each second."""
_TYPE: Final = rb"[ -~\xa9]{4}"
"""The form of a box's name."""
_INDEX: Final = (b"moov", b"meta", b"moof")
"""The boxes without one of which no picture or video of these kinds can be shown."""
_SEGMENT: Final = b"\x18\x53\x80\x67"
"""The id of the element that holds a video (RFC 9559)."""

Piece = Callable[[int, int], bytes]
"""Returns bytes of a file: from where, and how many at most."""


def is_whole(extension: str, size: int, piece: Piece) -> bool:
    """Whether a file can be whole.

    Args:
        extension: Its extension, as `extension_of` gave it.
        size: Its bytes.
        piece: Returns some of them.
    """
    last = piece(max(0, size - _ENDS), _ENDS)
    if extension == ".png":
        return b"IEND\xaeB`\x82" in last
    if extension == ".jpg":
        return b"\xff\xd9" in last
    if extension == ".gif":
        return last.rstrip(b"\0").endswith(b";")
    if extension in (".webp", ".avi"):
        return size >= int.from_bytes(piece(4, 4), "little") + 8
    if extension == ".bmp":
        return size >= int.from_bytes(piece(2, 4), "little")
    if extension in _ISO:
        return _has_whole_boxes(size, piece)
    return extension not in _MATROSKA or _has_whole_segment(size, piece)


def _has_whole_boxes(size: int, piece: Piece) -> bool:
    """Whether boxes go on to the end of a file, and one of them tells what is in the others."""
    at, has_index = 0, False
    for _ in range(_MOST_BOXES):
        head = piece(at, 16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        has_index = has_index or head[4:8] in _INDEX
        if length < len(head[:8]) or not re.fullmatch(_TYPE, head[4:8]):
            break  # it goes on to the end of the file, or is no box
        at += length
        if at >= size:
            return at == size and has_index
    return has_index


def _has_whole_segment(size: int, piece: Piece) -> bool:
    at, length = _content_of(4, piece)
    at += length
    if piece(at, 4) != _SEGMENT:
        return True
    at, length = _content_of(at + 4, piece)
    return length < 0 or size >= at + length


def _content_of(at: int, piece: Piece) -> tuple[int, int]:
    """Return where the content of an element begins, and its length; -1 if nobody knows it.

    Args:
        at: The place behind the element's id.
        piece: Returns bytes of the file.
    """
    head = piece(at, 8).ljust(8, b"\0")
    width = 9 - (head[0] or 1).bit_length()
    most = (1 << 7 * width) - 1
    length = int.from_bytes(head[:width], "big") & most
    return at + width, -1 if length == most else length
