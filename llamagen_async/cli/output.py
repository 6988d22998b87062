"""Where text goes: results to stdout, problems to stderr, live progress only to a terminal.

People get lines on stdout; with `--json` stdout gets one JSON object a line and nothing else. If
the reader of stdout is gone (`| head -1`), output ends without an error message; any other failure
to write is told on stderr. Nothing here decides what is printed.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Final

from llamagen_async.cli.streams import (
    forgiving,
    is_pipe,
    is_terminal,
    write_error,
    write_line,
    write_passing,
)
from llamagen_async.cli.text import one_line, wrapped

if TYPE_CHECKING:  # it takes long to load, and only a terminal or a table needs it
    from rich.console import Console, RenderableType

__all__ = ["Output"]

_WIDE: Final = 160
"""Columns of a table that is not printed on a terminal, so that none is cut."""
_LOADING: Final = "Starting ..."
"""The text on a terminal while a command is loaded."""
_DUMB: Final = ("dumb", "unknown")
"""Values of TERM for terminals on which no line can be written over."""
_UNBOUNDED: Final = 10_000
"""Columns of text that is not printed on a terminal: each paragraph is one line."""


class Output:
    """The streams of one command.

    Args:
        as_json: Whether stdout is for machines.
        command: The command as it was typed; errors begin with it.
        is_quiet: Whether only results and problems are printed, and nothing on the way.
    """

    def __init__(self, *, as_json: bool, command: str = "", is_quiet: bool = False) -> None:
        self.as_json: Final = as_json
        self.is_quiet: bool = is_quiet
        """Whether `tell` prints nothing."""
        self.stdout_closed: bool = False
        """Whether the reader of stdout is gone."""
        self.is_lost: bool = False
        """Whether stdout did not take a line, for any other reason."""
        self._name: Final = f"llamagen-async {command}".strip()

    @cached_property
    def terminal(self) -> Console | None:
        """The terminal for live progress; `None` if stderr is no terminal, or all is quiet."""
        return None if self.is_quiet else _live_terminal()

    @cached_property
    def screen(self) -> Console | None:
        """The terminal for what is drawn over and over; `None` if there is none of that.

        Lines for people that go into a pipe, such as `| tee`, come out on the same terminal at any
        time: the display would erase them.
        """
        return None if self._is_piped else self.terminal

    @property
    def _is_piped(self) -> bool:
        return not self.as_json and is_pipe(sys.stdout)

    @property
    def has_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return is_terminal(sys.stdout)

    @property
    def width(self) -> int:
        """Columns of stdout: those of the terminal, or as many as no line needs."""
        return shutil.get_terminal_size().columns if self.has_terminal else _UNBOUNDED

    @property
    def has_colours(self) -> bool:
        """Whether lines for people may have colours."""
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in _DUMB
        return not plain and (self.terminal is not None if self.as_json else self.has_terminal)

    def print(self, text: str = "", *, is_prose: bool = False) -> bool:
        """Print a line for a person: on stdout, or on a terminal only if stdout is for machines.

        Args:
            text: The line.
            is_prose: Whether a terminal that is too narrow for it gets it between words in lines;
                a command or a path that is to be pasted stays whole.

        Returns:
            Whether it was printed.
        """
        if not self.as_json:
            return self._write(wrapped(text, self.width) if is_prose else text)
        if self.terminal is not None:
            line = wrapped(text, self.terminal.width) if is_prose else text
            self.terminal.print(line, markup=False, highlight=False, soft_wrap=True)
        return self.terminal is not None

    def tell(self, text: str, *, is_prose: bool = True) -> None:
        """Print a line for a person about what goes on; it is not what the command was asked for.

        Nothing is printed if `--quiet` was given.
        """
        if not self.is_quiet:
            self.print(text, is_prose=is_prose)

    def emit_json(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object, in ASCII whatever stdout's encoding is, if `--json` was given."""
        if self.as_json:
            self._write(json.dumps(value))

    def error(self, message: str) -> None:
        """Print one line on stderr."""
        write_error(f"{self._name}: {one_line(message)}")

    def begin_csv(self) -> None:
        """Have stdout take a table for a spreadsheet, unless it is a terminal.

        That is UTF-8, whatever the locale says: in its own encoding letters of other languages
        would be lost. A file begins with the mark by which Excel knows it; in a pipe it would be a
        part of the first column's name to most programs.
        """
        stream = sys.stdout
        if not self.has_terminal and isinstance(stream, io.TextIOWrapper):
            encoding = "utf-8" if is_pipe(sys.stdout) else "utf-8-sig"
            stream.reconfigure(encoding=encoding, errors="replace")

    def print_table(self, table: RenderableType) -> None:
        """Print a table on stdout; it is fitted to the width only on a terminal."""
        from rich.console import Console  # noqa: PLC0415

        width = None if self.has_terminal else _WIDE
        file = forgiving(sys.stdout or io.StringIO())
        console = Console(file=file, highlight=False, markup=False, width=width)
        with console.capture() as captured:
            console.print(table)
        self._write(captured.get().rstrip("\n"))

    @contextmanager
    def spinner(self, text: str) -> Generator[None]:
        """Show on a terminal that something goes on, for as long as this is entered."""
        if self.screen is None:
            yield
        else:
            from rich.text import Text  # noqa: PLC0415

            with self.screen.status(Text(text)):
                yield

    @contextmanager
    def loading(self) -> Generator[None]:
        """Show on a terminal that the command has begun, while what sends requests is loaded.

        That takes longer than all that finds mistakes. It is plain text: `rich` takes a while, too.
        """
        is_shown = not self.is_quiet and _is_live(sys.stderr) and not self._is_piped
        if is_shown:
            write_passing(sys.stderr, _LOADING)
        try:
            yield
        finally:
            if is_shown:
                write_passing(sys.stderr, f"\r{' ' * len(_LOADING)}\r")

    def _write(self, text: str) -> bool:
        if self.stdout_closed or self.is_lost:
            return False
        failure = write_line(sys.stdout, text)
        if isinstance(failure, BrokenPipeError):
            self.stdout_closed = True
        elif failure is not None:
            self.is_lost = True
            self.error(f"stdout can't be written: {failure.strerror or failure}")
        return failure is None


def _is_live(stream: IO[str] | None) -> bool:
    """Return whether a stream is a terminal on which a line can be written over."""
    return is_terminal(stream) and os.environ.get("TERM") not in _DUMB


def _live_terminal() -> Console | None:
    if sys.stderr is None or not is_terminal(sys.stderr):
        return None
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=forgiving(sys.stderr), highlight=False, markup=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None
