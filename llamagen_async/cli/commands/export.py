"""`llamagen-async export`: the comics of a batch as files to read. It sends nothing."""

from __future__ import annotations

import errno
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from llamagen_async.batch.folder import prove_writable
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, INTERRUPTED, CommandError
from llamagen_async.cli.input.finished_comics import FinishedComic, Unfinished, finished_comics
from llamagen_async.cli.input.journal_file import journal_in
from llamagen_async.cli.interrupts import interruptible
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.book import Book, NotMadeError, book_of, check_place
from llamagen_async.cli.results.whole_file import atomic_writer
from llamagen_async.cli.text import pluralize, shown_path
from llamagen_async.validation import checked_path

__all__ = ["export"]

_EXTENSIONS: Final = {"cbz": ".cbz", "pdf": ".pdf", "strip": ".png"}
_FULL: Final = ("ENOSPC", "EDQUOT", "EROFS")
"""The names of errors after which no other file can be written either."""

_Writer = Callable[[Book, BinaryIO], None]


@attrs.define
class _Export:
    """A run of the command: where files go, and what has become of the stories."""

    folder: Path
    """The folder of the pictures."""
    out: Path
    """The folder of the files."""
    extension: str
    write: _Writer
    output: Output
    made: int = 0
    """Files that were made."""
    failed: int = 0
    """Comics that were asked for, and of which no file could be made."""
    left_out: int = 0
    """Stories that are no comic that is done, and were not asked for by name."""

    def add(self, comic: FinishedComic) -> None:
        """Make the file of a comic, or tell why there is none."""
        path = self.out / f"{comic.stem}{self.extension}"
        try:
            book = self._book(comic)
            check_place(path, book)
            with atomic_writer(path) as file:
                self.write(book, file)
        except NotMadeError as error:
            self.leave(comic, str(error), is_failure=True)
            return
        except OSError as error:
            reason = f"{shown_path(path)} can't be written: {error.strerror or error}"
            if errno.errorcode.get(error.errno or 0) in _FULL:
                raise CommandError(f"{reason} ({self.summary()})", FAILED) from None
            self.leave(comic, reason, is_failure=True)
            return
        self.made += 1
        pictures, pages = len(book.pictures), len(book.pages)
        self._emit(comic, file=str(path), pages=pages, pictures=pictures)
        if not self.output.as_json:
            panels = pluralize(pictures, "panel")
            on = f" on {pluralize(pages, 'page')}" if pages > 1 else ""
            self.output.print(f"{comic.name}  {shown_path(path)}  {panels}{on}")

    def leave(self, story: FinishedComic | Unfinished, reason: str, *, is_failure: bool) -> None:
        """Tell why no file is made of a story."""
        self._emit(story, error=reason)
        if is_failure:
            self.failed += 1
            self.output.error(f"{story.name}: {reason}")
            return
        self.left_out += 1
        if not self.output.as_json:
            self.output.print(f"{story.name}  left out: {reason}")

    def summary(self) -> str:
        """Return what was made, in words."""
        told = f"{pluralize(self.made, 'file')} in {shown_path(self.out)}"
        if self.left_out:
            told += f", {self.left_out} left out"
        return f"{told}, {self.failed} failed" if self.failed else told

    def end(self) -> int:
        """Tell the sums and return the exit status."""
        sums = {"made": self.made, "failed": self.failed, "left_out": self.left_out}
        self.output.emit_json({"out": str(self.out), **sums})
        if not self.output.as_json:
            self.output.print(f"{self.summary()}.")
        return FAILED if self.failed or not self.made else ALL_DONE

    def _book(self, comic: FinishedComic) -> Book:
        try:
            return book_of(comic, self.folder)
        except (ValueError, TypeError) as error:
            raise NotMadeError(f"the journal is damaged ({error})") from None

    def _emit(self, story: FinishedComic | Unfinished, **facts: object) -> None:
        known: dict[str, object] = {"file": None, "pages": None, "pictures": None, "error": None}
        self.output.emit_json({"key": story.key, "id": story.id, **known, **facts})


def export(
    *,
    place: str,
    keys: Sequence[str],
    form: str,
    out: str | None,
    journal: str | None,
    output: Output,
) -> int:
    """Make a file of each comic of a batch that is done."""
    folder = checked_path("DIR", place)
    path = checked_path("--journal", journal) if journal is not None else journal_in(folder)
    if not path.is_file():
        what = "a batch's folder, or the journal's own file"
        raise CommandError(f"there is no journal {shown_path(path)}: DIR is {what}")
    if not folder.is_dir():
        if journal is not None:
            raise CommandError(f"DIR {shown_path(folder)}: there is no such folder")
        folder = folder.parent
    write = _writer(form)
    target = folder if out is None else checked_path("--out", out)
    try:
        prove_writable(target)
    except OSError as error:
        name = f"--out {out}" if out is not None else f"DIR {shown_path(folder)}"
        hint = "" if out is not None else "; --out names another folder"
        raise CommandError(f"{name}: {error.strerror or error}{hint}") from None
    found = finished_comics(path, keys)
    work = _Export(folder, target, _EXTENSIONS[form], write, output)
    try:
        with interruptible():
            for one in found:
                if isinstance(one, Unfinished):
                    work.leave(one, one.reason, is_failure=bool(keys))
                else:
                    work.add(one)
    except KeyboardInterrupt:
        output.error(f"interrupted: {work.summary()}; each is whole")
        return INTERRUPTED
    return work.end()


def _writer(form: str) -> _Writer:
    """Return the function that writes files of a format."""
    if form == "cbz":
        from llamagen_async.cli.results.cbz import write_cbz  # noqa: PLC0415  # only one is needed

        return write_cbz
    if importlib.util.find_spec("PIL") is None:
        install = "pip install 'llamagen-async[cli,export]'"
        raise CommandError(f"--format {form} needs Pillow: {install} (cbz does not)")
    from llamagen_async.cli.results import raster  # noqa: PLC0415  # it needs Pillow

    return raster.write_pdf if form == "pdf" else raster.write_strip
