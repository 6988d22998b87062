"""What a ledger answers to those who share a ticket."""

from __future__ import annotations

from collections.abc import Iterable

from llamagen_async.ratelimit import Grant, NoSlot

__all__ = ["grants_in"]


def grants_in(answers: Iterable[Grant | NoSlot]) -> list[Grant]:
    """Return the slots among them."""
    return [answer for answer in answers if isinstance(answer, Grant)]
