"""A folder for pictures: proven before anything is paid for, and whether they are in it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from llamagen_async.errors import InvalidRequestError

__all__ = ["are_there", "check_writable", "prove_writable"]


def prove_writable(folder: Path) -> None:
    """Make a folder if it is missing, and write a file into it that is gone at once.

    Raises:
        OSError: It can't be made or written to; the error names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        # The file's own name is nothing that anybody knows.
        raise type(error)(error.errno, error.strerror, str(folder)) from None


def check_writable(folder: Path) -> None:
    """Make a folder for pictures if it is missing, before anything is sent.

    Raises:
        InvalidRequestError: It can't be made or written to.
    """
    try:
        prove_writable(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        allowed = f"a folder that can be written to ({reason}); nothing was sent"
        raise InvalidRequestError("out", str(folder), allowed) from None


def are_there(folder: Path, names: Sequence[str]) -> bool:
    """Whether all files of these names are in a folder."""
    return all((folder / name).is_file() for name in names)
