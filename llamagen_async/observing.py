"""The package as it tells of itself: log records with ids in them, and an observer's protocol.

Each log record has the attributes `job_key`, `generation_id` and `request_id`; one that is not
known is `None`. What is known where a line is logged is given there (`extra=about(...)`). The rest
comes from two context variables, which a story's steps and a download set: the requests of both
are sent in a copy of their context, so that a line about one of them knows whose it is.

A program may give its records attributes of the same names, which then stay as they are. What its
handlers and filters raise goes to stderr: it ends nothing that was paid for.

An observer is told of operations while they run. Where there is none, nothing is called.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Final, Protocol

__all__ = ["GENERATION_ID", "JOB_KEY", "Observer", "Operation", "about", "logger_of"]

JOB_KEY: Final[ContextVar[str | None]] = ContextVar("llamagen_async_job_key", default=None)
"""The key of the story at whose steps this task works."""
GENERATION_ID: Final[ContextVar[str | None]] = ContextVar("llamagen_async_generation", default=None)
"""The id of the generation that this task waits for or fetches."""


class Operation(Protocol):
    """One operation that an observer was told of, while it runs."""

    def tell(
        self, *, generation_id: str | None, outcome: str, error: BaseException | None = None
    ) -> None:
        """Take what has become of it.

        Args:
            generation_id: The generation's id, where one is known.
            outcome: The state in which it ends, in a word.
            error: Why it did not go well.
        """
        ...


class Observer(Protocol):
    """An observer, such as the telemetry, that is told what a client does."""

    def operation(
        self, name: str, *, generation_id: str | None = None, job_key: str | None = None
    ) -> AbstractContextManager[Operation]:
        """Observe one operation while the result is entered.

        Args:
            name: What is done, such as `download`.
            generation_id: The generation's id, where one is known.
            job_key: The key of the story that it is done for.
        """
        ...


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records all have the same attributes."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add what is known of the job and the generation that a record is about."""
        known = {"job_key": JOB_KEY.get(), "generation_id": GENERATION_ID.get(), "request_id": None}
        extra: dict[str, Any] = known | (kwargs.get("extra") or {})
        factory = logging.getLogRecordFactory()
        if factory is not logging.LogRecord:
            # Web backends name their own request in each record; nothing may be given twice.
            taken = vars(factory(self.logger.name, logging.DEBUG, "", 0, "", (), None))
            extra = {name: value for name, value in extra.items() if name not in taken}
        kwargs["extra"] = extra
        return msg, kwargs

    def log(self, level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log a record; what the program's own logging raises changes nothing here."""
        kwargs["stacklevel"] = 2  # the record is of who calls this
        try:
            super().log(level, msg, *args, **kwargs)
        except Exception:  # noqa: BLE001  # whatever it is, a handler should have dealt with it
            if logging.raiseExceptions and sys.stderr is not None:
                traceback.print_exc()


def logger_of(name: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return the logger of a module of this package, by the module's name."""
    return _Logger(logging.getLogger(name))


def about(
    error: object = None, *, generation_id: object = None, job_key: str | None = None
) -> dict[str, str]:
    """Return the attributes of a log record that are known where it is logged.

    Args:
        error: The error that it tells of, which may name a generation and a request.
        generation_id: The generation's id.
        job_key: The key of the story.
    """
    known = {
        "job_key": job_key,
        "generation_id": generation_id or getattr(error, "id", None),
        "request_id": getattr(error, "request_id", None),
    }
    return {name: value for name, value in known.items() if isinstance(value, str)}
