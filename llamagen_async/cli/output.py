"""Where words go: results to stdout, problems to stderr, live progress only to a terminal.

People get lines on stdout; with `--json` stdout gets one JSON object a line and nothing else. A
reader who has left (`| head -1`) is noticed and never complained about. Decides nothing about
what is said.
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
"""Columns of a table that is for no terminal: none is cut."""


class Output:
    """The streams of one command.

    Args:
        as_json: Whether stdout is for machines.
        command: What problems are reported by: the command as it was typed.
    """

    def __init__(self, *, as_json: bool, command: str = "") -> None:
        self.as_json: Final = as_json
        self.broken = False
        """Whether nobody reads stdout any more."""
        self._name: Final = f"llamagen-async {command}".strip()
        self.terminal: Final = _live_terminal()
        """Where live progress may be shown; `None` if stderr is no terminal."""

    def say(self, text: str = "") -> None:
        """Print a line for a person: on stdout, or on a terminal only if stdout is for machines."""
        if not self.as_json:
            self._write(text)
        elif self.terminal is not None:
            self.terminal.print(text, markup=False, highlight=False, soft_wrap=True)

    def emit(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object, in ASCII whatever stdout's encoding is, if `--json` was given."""
        if self.as_json:
            self._write(json.dumps(value))

    def complain(self, message: str) -> None:
        """Print one line on stderr."""
        try:
            sys.stderr.write(f"{self._name}: {one_line(message)}\n")
            sys.stderr.flush()
        except OSError:
            pass  # there is nobody left to tell

    def show(self, table: RenderableType) -> None:
        """Print a table on stdout; it is fitted to the width and coloured only on a terminal."""
        width = None if sys.stdout.isatty() else _WIDE
        console = Console(file=sys.stdout, highlight=False, markup=False, width=width)
        with console.capture() as captured:
            console.print(table)
        self._write(captured.get().rstrip("\n"))

    @contextmanager
    def busy(self, text: str) -> Generator[None]:
        """Show on a terminal that something goes on, for as long as this is entered."""
        if self.terminal is None:
            yield
        else:
            with self.terminal.status(Text(text)):
                yield

    def _write(self, text: str) -> None:
        if self.broken:
            return
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except OSError:
            self.broken = True
            _abandon_stdout()


def _live_terminal() -> Console | None:
    console = Console(stderr=True, highlight=False, markup=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _abandon_stdout() -> None:
    """Let what is still in the buffer go nowhere, or the interpreter complains at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    finally:
        os.close(nowhere)
