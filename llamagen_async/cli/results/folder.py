"""The folder of a command's pictures, made and proven before anything is sent."""

from __future__ import annotations

from pathlib import Path

from llamagen_async.batch.folder import prove_writable
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.results.gallery import INDEX, is_foreign
from llamagen_async.cli.results.records import RESULTS
from llamagen_async.validation import checked_path

__all__ = ["prepared_folder"]


def prepared_folder(given: str) -> Path:
    """Make a folder for pictures, before anything is sent.

    Raises:
        CommandError: It can't be made or written to, or holds a page that is not ours to replace.
    """
    folder = checked_path("--out", given)
    try:
        prove_writable(folder)
        foreign = is_foreign(folder)
        results = folder / RESULTS
        if results.exists() and not results.is_file():
            raise FileExistsError(None, f"its {RESULTS} is no file; choose another folder")
    except OSError as error:
        raise CommandError(f"--out {given}: {error.strerror or error}; nothing was sent") from None
    if foreign:
        raise CommandError(
            f"--out {given}: its {INDEX} was not made by llamagen-async; choose another folder"
        )
    return folder
