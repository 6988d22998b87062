"""Messages about uncertain stories: nobody knows whether they were accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llamagen_async.batch.journal.file_names import RESULTS
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.records import Record
from llamagen_async.cli.text import pluralize, shortened

__all__ = ["print_uncertain"]

_TITLE: Final = 48
"""Characters of a story's title."""


def print_uncertain(
    output: Output,
    records: Sequence[Record],
    number: int,
    *,
    requests: int | None,
    again: str,
) -> None:
    """Print on stderr which stories may have been paid for, and what can be done.

    Args:
        output: The streams to print to.
        records: The first of these stories.
        number: How many there are.
        requests: How many requests the server has counted, if that is known.
        again: The command that sends them again.
    """
    for record in records:
        sent = f", sent at {record.sent_at}" if record.sent_at else ""
        name = " ".join(filter(None, (record.name, f"({shortened(record.prompt, _TITLE)})")))
        output.error(f"left without an answer, it may have been accepted and charged: {name}{sent}")
    if number > len(records):
        output.error(f"and {number - len(records)} more of these, see {RESULTS}")
    known = (
        f"the server has counted {pluralize(requests, 'request')} of this key; " if requests else ""
    )
    what = "it" if number == 1 else f"these {number}"
    output.error(f"{known}to send {what} again, which may be paid twice: {again}")
