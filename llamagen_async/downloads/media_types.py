"""The kind of file that an asset becomes: its extension, and a name that is safe. No I/O.

The content type names the extension, and the content of the usual pictures has to start like one of
them: what a picture is wins over what it is called. Where a server says only "some bytes", the
content must start like a picture or a video that is known here. A page of HTML is never taken for
one, and no extension is ever one that a system runs.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

__all__ = ["HEAD", "distinct_stems", "extension_of", "is_media_type", "is_whole", "safe_stem"]

HEAD: Final = 64
"""First bytes that `extension_of` needs to tell the kinds apart."""

_EXTENSIONS: Final = {
    "image/apng": ".png",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/jxl": ".jxl",
    "image/pjpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tiff",
    "image/vnd.microsoft.icon": ".ico",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
    "image/x-png": ".png",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpg",
    "video/ogg": ".ogv",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}
"""The extension of each content type that is known."""
_BYTES: Final = ("", "application/octet-stream", "binary/octet-stream")
"""Content types that say nothing."""
_KNOWN_BY_CONTENT: Final = frozenset((".png", ".jpg", ".gif", ".webp"))
"""Kinds of which every file starts with its pattern in `_MAGIC`."""
# Patterns are compiled, and remembered by `re`, when the first file comes.
_MAGIC: Final = (
    (rb"\x89PNG\r\n\x1a\n", ".png"),
    (rb"\xff\xd8\xff", ".jpg"),
    (rb"GIF8[79]a", ".gif"),
    (rb"(?s)RIFF.{4}WEBP", ".webp"),
    (rb"(?s).{4}ftyp(?:avif|avis)", ".avif"),
    (rb"(?s).{4}ftypqt  ", ".mov"),
    (rb"(?s).{4}ftyp(?:isom|iso\d|mp4\d|avc1|M4V |dash)", ".mp4"),
    (rb"(?s)\x1aE\xdf\xa3.*webm", ".webm"),
    (rb"(?s)BM.{4}\x00{4}", ".bmp"),
)
"""The first bytes of a kind, and its extension."""
_PAGE: Final = rb"(?i)(?:\xef\xbb\xbf)?\s*(?:<!doctype\s+html|<html)"
"""The first bytes of a page of HTML."""

_LONGEST_STEM: Final = 100
"""Bytes of a name without its extension; file systems allow 143 to 255 for all of it."""
_RESERVED: Final = r"(?i)(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³])"
"""Names that are devices on Windows."""


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
    if not is_media_type(content_type) or re.match(_PAGE, head):
        return None
    said = _EXTENSIONS.get(kind, ".bin")
    if kind in _BYTES or (head and said in _KNOWN_BY_CONTENT):
        for magic, extension in _MAGIC:
            if re.match(magic, head):
                return extension
        return None
    return said


def is_whole(extension: str, size: int, first: bytes, last: bytes) -> bool:
    """Whether a file can be whole, as far as its kind shows that at its ends.

    Args:
        extension: Its extension, as `extension_of` gave it.
        size: Its bytes.
        first: Its first bytes, `HEAD` of them if there are so many.
        last: Its last bytes, `HEAD` of them if there are so many.
    """
    if extension == ".png":
        return b"IEND\xaeB`\x82" in last
    if extension == ".jpg":
        return b"\xff\xd9" in last
    if extension == ".gif":
        return last.rstrip(b"\0").endswith(b";")
    if extension == ".webp":
        return size >= int.from_bytes(first[4:8], "little") + 8
    return True


def safe_stem(text: str) -> str:
    """Make a file name without extension that is safe on Linux, macOS and Windows.

    Letters and digits of any script, `.`, `_` and `-` stay as they are. A name that had to be
    changed ends in a short digest of the original, so that two of them do not become one.
    """
    plain = unicodedata.normalize("NFC", text)
    safe = re.sub(r"[^\w.-]+", "_", plain).strip(".")
    # A dash in front would read as an option on a command line.
    safe = re.sub(r"^-+", "_", safe)
    if not safe or re.fullmatch(_RESERVED, safe.partition(".")[0]):
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
