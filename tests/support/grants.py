"""Answers of a ledger, taken apart."""

from __future__ import annotations

from collections.abc import Iterable

from llamagen_async.ratelimit import Grant, Ledger, NoSlot

__all__ = ["delay_of", "grants_in"]


def grants_in(answers: Iterable[Grant | NoSlot]) -> list[Grant]:
    """Return the slots among the answers."""
    return [answer for answer in answers if isinstance(answer, Grant)]


async def delay_of(ledger: Ledger, waiter_id: str) -> float:
    """Ask for a slot that must not be free; return the seconds after which to ask again."""
    answer = await ledger.reserve(waiter_id)
    assert isinstance(answer, NoSlot)
    return answer.delay
