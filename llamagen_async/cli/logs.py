"""The package's log records as lines on stderr, like all others."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator

from llamagen_async.cli.streams import write_error
from llamagen_async.cli.text import one_line

__all__ = ["errors_only", "logged"]


@contextlib.contextmanager
def logged(level: str) -> Generator[None, None, None]:
    """Show the package's log records from a level on.

    Args:
        level: The level's name, such as `warning`.
    """
    logger = logging.getLogger("llamagen_async")
    number = logging.getLevelNamesMapping()[level.upper()]
    handler, propagate, before = _Lines(number), logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(number)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(before)


@contextlib.contextmanager
def errors_only(name: str) -> Generator[None, None, None]:
    """Pass on the errors, and nothing else, of the records of a logger, and of those below it."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Lines(logging.Handler):
    """Writes one line for each record."""

    def emit(self, record: logging.LogRecord) -> None:
        # Warnings are for everybody; who asks for more wants to know whose word it is.
        word = "" if record.levelno == logging.WARNING else f"{record.levelname.lower()}: "
        write_error(f"llamagen-async: {word}{one_line(record.getMessage())}")
