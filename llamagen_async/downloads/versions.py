"""Older versions of a picture, kept beside the newer one. All of it blocks.

The picture `c1-p01-03.png` was once what is now `c1-p01-03.1.png`, and then `c1-p01-03.2.png`: the
higher the number, the newer. None of them is ever written over.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from llamagen_async.downloads.media_types import PICTURES, UNKNOWN, VIDEOS

__all__ = ["keep_others", "keep_versions", "older_versions", "pictures_of"]

_EXTENSIONS: Final = (*sorted(PICTURES | VIDEOS), UNKNOWN)


def older_versions(picture: Path) -> list[Path]:
    """Return what was kept of a picture, oldest first."""
    pattern = re.compile(rf"{re.escape(picture.stem)}\.([1-9][0-9]{{0,8}})(\.[a-z0-9]+)")
    found: list[tuple[int, Path]] = []
    with contextlib.suppress(OSError):
        for path in picture.parent.iterdir():
            match = pattern.fullmatch(path.name)
            if match and match[2] in _EXTENSIONS and path.is_file():
                found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


def pictures_of(folder: Path, stems: Iterable[str]) -> dict[str, Path]:
    """Return what is in a folder under these names without extension."""
    found: dict[str, Path] = {}
    for stem in stems:
        paths = (folder / f"{stem}{extension}" for extension in _EXTENSIONS)
        if (path := next((path for path in paths if path.is_file()), None)) is not None:
            found[stem] = path
    return found


def keep_versions(new: Path, picture: Path) -> bool:
    """Keep the picture that stands where a new one is to stand, also one of another kind.

    Ended at any instant and called again, it keeps each content once.

    Args:
        new: The new picture, under another name.
        picture: The path where it is to stand.

    Returns:
        Whether it is another picture than what stands there: if not, nothing is to be done.

    Raises:
        OSError: It can't be kept; what stands there still does.
    """
    is_other = True
    for extension in _EXTENSIONS:
        there = picture.with_name(f"{picture.stem}{extension}")
        if not there.is_file():
            continue
        if there == picture and filecmp.cmp(new, there, shallow=False):
            is_other = False
            continue
        kept = older_versions(picture)
        if not (kept and filecmp.cmp(kept[-1], there, shallow=False)):
            _link(there, picture, len(kept))
        if there != picture:
            there.unlink()
    return is_other


def keep_others(picture: Path) -> None:
    """Keep what has the name of a picture and is of another kind, such as its older version.

    Whoever looks for a picture of that name would take it for that.
    """
    for extension in _EXTENSIONS:
        there = picture.with_name(f"{picture.stem}{extension}")
        if there != picture and there.is_file():
            _link(there, picture, len(older_versions(picture)))
            there.unlink(missing_ok=True)


def _link(there: Path, picture: Path, number: int) -> None:
    """Give a picture the first free name of an older version; it keeps its own, if it can."""
    while True:
        number += 1
        if any(os.path.lexists(_version(picture, number, one)) for one in _EXTENSIONS):
            continue
        name = _version(picture, number, there.suffix)
        try:
            os.link(there, name)
        except FileExistsError:
            continue
        except OSError:  # no such links there: for a moment it has the other name only
            there.rename(name)
        return


def _version(picture: Path, number: int, extension: str) -> Path:
    return picture.with_name(f"{picture.stem}.{number}{extension}")
