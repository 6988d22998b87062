"""Callers of a client whose server fails, and what is known of their comics afterwards."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from llamagen_async import (
    APIConnectionError,
    ComicGeneration,
    InvalidResponseError,
    QuotaExhaustedError,
    QuotaStoreError,
    RateLimitError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from tests.support.scripted import now

__all__ = ["Caller", "ask", "logged", "rows"]


class Log(logging.Handler):
    """Everything that is logged, as stderr would have it."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"


@contextmanager
def logged() -> Iterator[Log]:
    log = Log()
    logger = logging.getLogger("llamagen_async")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(log)
    try:
        yield log
    finally:
        logger.removeHandler(log)
        logger.propagate = propagates


def rows(journal: Path) -> dict[str, tuple[str, str | None]]:
    """Return state and id of each story of a journal."""
    with closing(sqlite3.connect(journal)) as connection:
        found = connection.execute("SELECT request, state, generation_id FROM job").fetchall()
    return {str(request): (state, id_) for request, state, id_ in found}


@attrs.frozen
class Caller:
    """Somebody who asks for a comic, and may leave."""

    comes: float
    timeout: float
    leaves: float | None
    """Seconds after which the caller is cancelled."""


async def ask(client: Any, number: int, caller: Caller, ids: set[str]) -> str:
    """Ask for a comic, and say what came of it."""
    await asyncio.sleep(caller.comes)
    began = now()
    try:
        async with asyncio.timeout(caller.leaves):
            comic = await client.comics.create_and_wait(f"s{number}", timeout=caller.timeout)
            assert isinstance(comic, ComicGeneration)
            assert comic.succeeded
            ids.add(comic.id)
            outcome = "comic"
    except TimeoutError:
        outcome = "left"
    except (WaitTimeoutError, QuotaExhaustedError) as error:
        # The server may have asked to wait for longer than there is time.
        ids.add(error.id or "")
        outcome = "late" if error.id else "not sent"
    except (RateLimitError, QuotaStoreError) as error:
        # With an id, only its checks could not be sent.
        ids.add(error.id or "")
        outcome = "late" if error.id else "not sent"
    except SubmissionUncertainError:
        outcome = "uncertain"
    except APIConnectionError as error:
        outcome = "sent" if error.request_sent else "not sent"
    except InvalidResponseError as error:
        # Of these, only a redirect says that nothing was accepted.
        outcome = "not sent" if error.status == 302 else "sent"
    # The time for a slot, the time for the comic, and a request on its way in between.
    assert now() - began <= 2 * caller.timeout + 31.0, (number, caller, began, now(), outcome)
    return outcome
