"""Content that comes packed although nobody has asked for it, piece by piece. No I/O.

A host of pictures may say that a file is packed, and it is not: some stores keep a header with it
that is wrong. So the first bytes decide.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Final

__all__ = ["HEAD", "Unpacker", "coding_of", "is_packed"]

HEAD: Final = 16
"""Bytes that tell a picture from what is packed."""
_ZLIB: Final = ("gzip", "x-gzip", "deflate")
_OTHERS: Final = ("br", "compress", "dcb", "dcz", "x-compress", "zstd")
"""Further codings (IANA's register). What else stands there is none, such as `aws-chunked` or
`utf-8`, with which some stores keep their files: browsers pass over it."""
_PICTURE: Final = rb"(?s)\x89PNG|\xff\xd8\xff|GIF8|RIFF|.{4}ftyp|\x1aE\xdf\xa3"
"""The beginning of a picture or video: nothing that is packed begins so."""
_ANY_HEADER: Final = zlib.MAX_WBITS | 32
"""Makes zlib take either of its headers."""
_MEMBER: Final = b"\x1f"
"""The first byte of a member of gzip (RFC 1952)."""
_MOST_MEMBERS: Final = 10_000
"""Members of gzip that are unpacked, because each takes its time."""


def coding_of(told: str) -> str:
    """Return how content is packed by its `Content-Encoding`; no text if it is not."""
    codings = told.lower().replace(",", " ").split()
    return ", ".join(coding for coding in codings if coding in (*_ZLIB, *_OTHERS))


def is_packed(head: bytes) -> bool:
    """Whether content that is said to be packed can be, by its first `HEAD` bytes."""
    return re.match(_PICTURE, head) is None


class Unpacker:
    """Unpacks in small pieces, so that little that becomes much is noticed in time.

    Args:
        coding: How the content is packed.
        largest: Bytes of the largest piece.

    Raises:
        ValueError: What is packed so can't be unpacked here.
    """

    def __init__(self, coding: str, largest: int) -> None:
        if coding not in _ZLIB:
            raise ValueError(f"it is packed as {coding!r}, unasked")
        self._largest = largest
        self._has_header = coding != "deflate"
        """Whether the content's header is there for certain: some servers leave it out."""
        self._packed = zlib.decompressobj(_ANY_HEADER)
        self._members = 0

    @property
    def is_whole(self) -> bool:
        """Whether the content has ended."""
        return self._packed.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what is in the next bytes.

        Raises:
            ValueError: They can't be unpacked.
        """
        while chunk:
            if self._packed.eof:  # gzip may come in members
                self._members += 1
                if not chunk.startswith(_MEMBER):
                    return
                if self._members > _MOST_MEMBERS:
                    raise ValueError(f"it is packed in more than {_MOST_MEMBERS:,} members")
                self._packed = zlib.decompressobj(_ANY_HEADER)
            try:
                piece = self._packed.decompress(chunk, self._largest)
            except zlib.error:
                if self._has_header:
                    raise ValueError("it is packed, and can't be unpacked") from None
                self._packed, self._has_header = zlib.decompressobj(-zlib.MAX_WBITS), True
                continue
            self._has_header = True
            chunk = self._packed.unconsumed_tail or self._packed.unused_data
            if piece:
                yield piece
