"""The exit statuses of the commands, and the error that ends one. They load nothing else."""

from __future__ import annotations

from typing import Final

__all__ = ["ALL_DONE", "FAILED", "INTERRUPTED", "WRONG_USAGE", "CommandError"]

ALL_DONE: Final = 0
"""Exit status: everything that was asked for is done."""
FAILED: Final = 1
"""Exit status: something failed."""
WRONG_USAGE: Final = 2
"""Exit status: the command line is wrong; nothing was sent."""
INTERRUPTED: Final = 130
"""Exit status: interrupted by Ctrl-C or by a request of the system to end."""


class CommandError(Exception):
    """The end of a command, with one line on stderr.

    Args:
        message: The line, without the program's name.
        status: The exit status.
    """

    def __init__(self, message: str, status: int = WRONG_USAGE) -> None:
        super().__init__(message)
        self.status: Final = status
