"""Where text goes: results to stdout, problems to stderr, live progress only to a terminal.

People get lines on stdout; with `--json` stdout gets one JSON object a line and nothing else. If
the reader of stdout is gone (`| head -1`), output ends without an error message. Nothing here
decides what is printed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.text import Text

from llamagen_async.cli.text import one_line

__all__ = ["Output"]

_WIDE: Final = 160
"""Columns of a table that is not printed on a terminal, so that none is cut."""


class Output:
    """The streams of one command.

    Args:
        as_json: Whether stdout is for machines.
        command: The command as it was typed; errors begin with it.
    """

    def __init__(self, *, as_json: bool, command: str = "") -> None:
        self.as_json: Final = as_json
        self.stdout_closed = False
        """Whether the reader of stdout is gone."""
        self._name: Final = f"llamagen-async {command}".strip()
        self.terminal: Final = _live_terminal()
        """The terminal for live progress; `None` if stderr is no terminal."""

    def print(self, text: str = "") -> None:
        """Print a line for a person: on stdout, or on a terminal only if stdout is for machines."""
        if not self.as_json:
            self._write(text)
        elif self.terminal is not None:
            self.terminal.print(text, markup=False, highlight=False, soft_wrap=True)

    def emit_json(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object, in ASCII whatever stdout's encoding is, if `--json` was given."""
        if self.as_json:
            self._write(json.dumps(value))

    def error(self, message: str) -> None:
        """Print one line on stderr."""
        try:
            sys.stderr.write(f"{self._name}: {one_line(message)}\n")
            sys.stderr.flush()
        except OSError:
            pass  # nobody reads stderr any more

    def print_table(self, table: RenderableType) -> None:
        """Print a table on stdout; it is fitted to the width and coloured only on a terminal."""
        width = None if sys.stdout.isatty() else _WIDE
        console = Console(file=sys.stdout, highlight=False, markup=False, width=width)
        with console.capture() as captured:
            console.print(table)
        self._write(captured.get().rstrip("\n"))

    @contextmanager
    def spinner(self, text: str) -> Generator[None]:
        """Show on a terminal that something goes on, for as long as this is entered."""
        if self.terminal is None:
            yield
        else:
            with self.terminal.status(Text(text)):
                yield

    def _write(self, text: str) -> None:
        if self.stdout_closed:
            return
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except OSError:
            self.stdout_closed = True
            _discard_stdout()


def _live_terminal() -> Console | None:
    console = Console(stderr=True, highlight=False, markup=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _discard_stdout() -> None:
    """Send what is left in the buffer nowhere; otherwise the interpreter reports it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    finally:
        os.close(nowhere)
