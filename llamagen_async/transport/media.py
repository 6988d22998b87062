"""What file an asset becomes: its kind, its extension and a name that is safe. No I/O.

The content type names the extension. Where a server says only "some bytes", the content must start
like a picture or a video that is known here; a page of HTML is never taken for one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

__all__ = ["HEAD", "distinct_stems", "extension_of", "is_media_type", "safe_stem"]

HEAD: Final = 64
"""How many first bytes `extension_of` wants to see."""

_EXTENSIONS: Final = {
    "image/apng": ".png",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/pjpeg": ".jpg",
    "image/svg+xml": ".svg",
    "image/vnd.microsoft.icon": ".ico",
    "image/x-icon": ".ico",
    "video/mpeg": ".mpg",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}
_BYTES: Final = ("", "application/octet-stream", "binary/octet-stream")
_SUBTYPE: Final = re.compile(r"(?:image|video)/(?:x-)?([a-z0-9]{2,5})")
_MAGIC: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ".png"),
    (re.compile(rb"\xff\xd8\xff"), ".jpg"),
    (re.compile(rb"GIF8[79]a"), ".gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), ".webp"),
    (re.compile(rb".{4}ftyp(?:avif|avis)", re.DOTALL), ".avif"),
    (re.compile(rb".{4}ftypqt  ", re.DOTALL), ".mov"),
    (re.compile(rb".{4}ftyp(?:isom|iso\d|mp4\d|avc1|M4V |dash)", re.DOTALL), ".mp4"),
    (re.compile(rb"\x1aE\xdf\xa3.*webm", re.DOTALL), ".webm"),
    (re.compile(rb"BM.{4}\x00{4}", re.DOTALL), ".bmp"),
)
_PAGE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!doctype\s+html|<html)", re.IGNORECASE)

_LONGEST_STEM: Final = 100
"""Bytes of a name without its extension; file systems allow 143 to 255 for all of it."""
_RESERVED: Final = re.compile(
    r"(?i)(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³])"
)


def is_media_type(content_type: str | None) -> bool:
    """Whether an answer of this content type may be a picture or a video."""
    kind = _bare(content_type)
    return kind in _BYTES or kind.startswith(("image/", "video/"))


def extension_of(content_type: str | None, head: bytes = b"") -> str | None:
    """Return the file name extension of an asset, with its dot.

    Args:
        content_type: The answer's `Content-Type`, if there is one.
        head: The first bytes, `HEAD` of them if there are so many.

    Returns:
        The extension; `None` if it is neither a picture nor a video, or cannot be told from what
        was given.
    """
    kind = _bare(content_type)
    if not is_media_type(content_type) or _PAGE.match(head):
        return None
    if kind in _BYTES:
        return next((extension for magic, extension in _MAGIC if magic.match(head)), None)
    match = _SUBTYPE.fullmatch(kind)
    return _EXTENSIONS.get(kind) or (f".{match[1]}" if match else ".bin")


def safe_stem(text: str) -> str:
    """Make a file name without extension that is safe on Linux, macOS and Windows.

    Letters and digits of any script, `.`, `_` and `-` stay as they are. A name that had to be
    changed ends in a short digest of the original, so that two of them do not become one.
    """
    plain = unicodedata.normalize("NFC", text)
    safe = re.sub(r"[^\w.-]+", "_", plain).strip(".")
    # A dash in front would read as an option on a command line.
    safe = re.sub(r"^-+", "_", safe)
    if not safe or _RESERVED.fullmatch(safe.partition(".")[0]):
        safe = f"_{safe}"
    if safe == text and len(safe.encode()) <= _LONGEST_STEM:
        return safe
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    cut = safe.encode()[: _LONGEST_STEM - len(digest) - 1].decode("utf-8", "ignore")
    return f"{cut}-{digest}"


def distinct_stems(texts: Iterable[str]) -> list[str]:
    """Make all names safe, and number those that would be one file on a disk that ignores case."""
    taken: set[str] = set()
    names: list[str] = []
    for text in texts:
        stem = name = safe_stem(text)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _bare(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()
