"""The kind of file that an asset becomes: its extension, and a name that is safe. No I/O.

The first bytes name the extension, whatever the server calls them: what a picture is wins over what
it is said to be. Only raster pictures and videos get an extension that programs show. What is said
to be a picture and is of no known kind was paid for all the same: it is kept as `.bin`, which
nothing opens and the gallery does not link. SVG is among that, since a page of it can run scripts.
Pages of HTML, XML, PDF and other text are refused.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

__all__ = [
    "HEAD",
    "PICTURES",
    "UNKNOWN",
    "VIDEOS",
    "distinct_stems",
    "extension_of",
    "media_type_of",
    "safe_stem",
]

HEAD: Final = 512
"""First bytes that `extension_of` needs to tell the kinds apart."""
PICTURES: Final = frozenset(
    (".avif", ".bmp", ".gif", ".heic", ".heif", ".jpg", ".jxl", ".png", ".tiff", ".webp")
)
"""The extensions of pictures: all raster, and without scripts."""
VIDEOS: Final = frozenset((".avi", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".webm"))
"""The extensions of videos."""
UNKNOWN: Final = ".bin"
"""The extension of what is said to be a picture or a video, and of no kind that is known."""

_TYPES: Final = {
    ".avi": "video/x-msvideo",
    ".jpg": "image/jpeg",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mpg": "video/mpeg",
    ".ogv": "video/ogg",
}
"""The media types that are not named as their extensions are."""

# Patterns are compiled, and remembered by `re`, when the first file comes.
_MAGIC: Final = (
    (rb"\x89PNG\r\n\x1a\n", ".png"),
    (rb"\xff\xd8\xff", ".jpg"),
    (rb"GIF8[79]a", ".gif"),
    (rb"(?s)RIFF.{4}WEBP", ".webp"),
    (rb"(?s)RIFF.{4}AVI ", ".avi"),
    (rb"(?s).{4}ftyp(?:avi[fs]|(?:mif1|msf1).{4}(?:.{4}){0,8}?avi[fs])", ".avif"),
    (
        rb"(?s).{4}ftyp(?:he[iv][cmsx]|(?:mif1|msf1).{4}(?:.{4}){0,8}?he[iv][cmsx])",
        ".heic",
    ),
    (rb"(?s).{4}ftyp(?:mif[12]|msf1)", ".heif"),
    (rb"(?s).{4}ftypqt  ", ".mov"),
    (
        rb"(?s).{4}ftyp(?:iso\w|mp4\d|mmp4|avc1|av01|hvc1|M4V[ HP]|f4v |dash|cmf\w|MSNV|3g\w\w)",
        ".mp4",
    ),
    (rb"(?s)\x1aE\xdf\xa3.{0,60}webm", ".webm"),
    (rb"(?s)\x1aE\xdf\xa3.{0,60}matroska", ".mkv"),
    (rb"\x00\x00\x01[\xba\xb3]", ".mpg"),
    (rb"(?s)OggS.{24,60}\x80theora", ".ogv"),
    (rb"\x00\x00\x00\x0cJXL \r\n\x87\n|\xff\x0a", ".jxl"),
    (rb"II[*+]\x00|MM\x00[*+]", ".tiff"),
    (rb"(?s)BM.{4}\x00{4}", ".bmp"),
)
"""The first bytes of a kind, and its extension."""
_CONTROL: Final = rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]"
"""Bytes that text does not have."""
_SVG: Final = rb"(?i)<(?:\w+:)?svg[\s>]"

_LONGEST_STEM: Final = 100
"""Bytes of a name without its extension; file systems allow 143 to 255 for all of it."""
_RESERVED: Final = r"(?i)(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³])"
"""Names that are devices on Windows."""


def media_type_of(extension: str) -> str:
    """Return the media type of an extension; Python knows some only from lists of the system."""
    if extension in PICTURES:
        return _TYPES.get(extension, f"image/{extension[1:]}")
    if extension in VIDEOS:
        return _TYPES.get(extension, f"video/{extension[1:]}")
    return "application/octet-stream"


def extension_of(content_type: str | None, head: bytes) -> str | None:
    """Return the file name extension of an asset, with its dot.

    Args:
        content_type: The answer's `Content-Type`, if there is one.
        head: The first bytes, `HEAD` of them if there are so many.

    Returns:
        The extension; `None` if it is neither a picture nor a video.
    """
    for magic, extension in _MAGIC:
        if re.match(magic, head):
            return extension
    said = (content_type or "").strip().lower()
    if not said.startswith(("image", "video")) or head.startswith(b"%PDF"):
        return None
    is_kept = re.search(_CONTROL, head) or re.search(_SVG, head)
    return UNKNOWN if is_kept else None


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
