"""The folder of a command's pictures, made and proven before anything is sent."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from llamagen_async.batch.folder import RESULTS, prove_writable
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.text import shown_path
from llamagen_async.validation import checked_path

__all__ = ["INDEX", "check_apart", "is_foreign", "prepared_folder"]

INDEX: Final = "index.html"
"""The file name of the page that shows the folder's comics."""
_MARK: Final = '<meta name="generator" content="llamagen-async'
"""The beginning of the tag by which a page made here is recognised."""
_BEGIN: Final = re.compile(rb'\s*\{\s*"index"\s*:')
"""The beginning of the results of any run."""


def check_apart(folder: Path, name: str, file: Path) -> None:
    """Make sure that a file of the user's is not one that the results would replace.

    Args:
        folder: The folder of the results.
        name: What the file was given as.
        file: The file, which need not be there.

    Raises:
        CommandError: It is.
    """
    for written in (RESULTS, INDEX):
        if os.path.realpath(folder / written) == os.path.realpath(file):
            raise CommandError(
                f"{name} {shown_path(file)}: the results are written to that file; name another "
                "one; nothing was sent"
            )


def prepared_folder(given: str, name: str = "--out") -> Path:
    """Make a folder for pictures, before anything is sent.

    Args:
        given: The folder as it was typed.
        name: The option or argument that it was given as.

    Raises:
        CommandError: It can't be made or written to, or holds a page that is not ours to replace.
    """
    folder = checked_path(name, given)
    try:
        prove_writable(folder)
        foreign = is_foreign(folder)
        results = folder / RESULTS
        if results.exists() and not results.is_file():
            raise FileExistsError(None, f"its {RESULTS} is no file; choose another folder")
        names = [INDEX] * foreign + [RESULTS] * _are_foreign(results)
    except OSError as error:
        raise CommandError(f"{name} {given}: {error.strerror or error}; nothing was sent") from None
    if names:
        raise CommandError(
            f"{name} {given}: its {names[0]} was not made by llamagen-async; choose another folder"
        )
    return folder


def is_foreign(folder: Path) -> bool:
    """Return whether there is an `index.html` in the folder that was not made here."""
    path = folder / INDEX
    if not path.is_file():  # what is no file may never end
        return path.exists()
    return _MARK not in path.read_text("utf-8", errors="replace")


def _are_foreign(results: Path) -> bool:
    """Whether there is a file in the place of the results that no run has written."""
    if not results.is_file():
        return False
    with results.open("rb") as file:
        begin = file.read(100)
    return bool(begin.strip()) and not _BEGIN.match(begin)
