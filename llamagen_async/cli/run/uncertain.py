"""Messages about uncertain stories: nobody knows whether they were accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from llamagen_async.cli.output import Output
from llamagen_async.cli.results.records import RESULTS, Record
from llamagen_async.cli.text import pluralize, shortened
from llamagen_async.client import LlamaGenClient
from llamagen_async.errors import LlamaGenError

__all__ = ["print_uncertain", "requests_counted"]

_USAGE_TIMEOUT: Final = 10.0
"""Real seconds that the server may take to report its count of requests."""
_TITLE: Final = 48
"""Characters of a story's title."""


async def requests_counted(client: LlamaGenClient) -> int | None:
    """Return how many requests the server has counted, if asking delays nobody.

    It is a request like any other: on a plan with a daily quota, or while no slot is free, the
    server is not asked.
    """
    if client.plan.quotas:
        return None
    try:
        limits = await client.limits()
        if limits.next_free_in > 0:
            return None
        async with asyncio.timeout(_USAGE_TIMEOUT):
            return (await client.comics.usage()).api_usage_count
    except (LlamaGenError, TimeoutError):
        return None


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
        name = " ".join(filter(None, (record.label, f"({shortened(record.prompt, _TITLE)})")))
        output.error(f"left without an answer, it may have been accepted and charged: {name}{sent}")
    if number > len(records):
        output.error(f"and {number - len(records)} more of these, see {RESULTS}")
    known = (
        f"the server has counted {pluralize(requests, 'request')} of this key; " if requests else ""
    )
    what = "it" if number == 1 else f"these {number}"
    output.error(f"{known}to send {what} again, which may be paid twice: {again}")
