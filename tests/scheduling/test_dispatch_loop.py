"""A claim that waits for its turn is asked for again when that may change something."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import NoSlot, Priority
from llamagen_async.scheduling.dispatch_loop import Turn
from llamagen_async.scheduling.policy import Choice
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import APIRequest
from tests.support.claims import claim, key_state

pytestmark = pytest.mark.virtual_time

NOW: Final = 1_000.0
RATE: Final = Plan.PAID.rate
DAY: Final = RateLimit(15, per=86_400)


def request(waited: float) -> Submission[Any]:
    create = APIRequest(RequestKind.CREATE, "POST", "/comics/generations")
    future = asyncio.get_running_loop().create_future()
    return Submission[Any](create, str, NOW - waited, future, urgent=False)


def turn(
    delay: float = 65.0,
    limit: RateLimit | None = RATE,
    returning: tuple[float, ...] = (20.0,) * 10,
    *,
    of: Submission[Any] | None = None,
    waiting: int = 1,
    others: int = 1,
) -> Turn:
    answer = NoSlot(delay, limit, key_state(returning=returning))
    asked = claim("one", priority=Priority.BATCH)
    return Turn.begin(asked, of, answer, NOW, rate=RATE, waiting=waiting, others=others)


@pytest.mark.parametrize(
    ("delay", "limit", "returning", "others", "asked_in"),
    [
        (50.0, RATE, [20.0] * 10, 0, 50.0),  # the ledger knows
        (50.0, RATE, [20.0] * 10, 3, 38.0),  # those have had time to use their slots
        (41.0, RATE, [20.0] * 10, 3, 41.0),  # about as early, so it is asked once
        (180.0, RATE, [60.0] * 10, 150, 184.0),  # the position is kept for five seconds more
        (65.0, RATE, [20.0] * 9, 3, 18.0),  # one is free now, for others
        (30.0, RATE, [20.0] * 10, 3, 30.0),  # never later than the ledger says
        (900.0, RATE, [60.0] * 10, 150, 180.0),  # others enough for all slots
        (70.0, RATE, [60.0] * 10, 12, 73.0),  # that slot is used, and answered, before
        (3_000.0, RATE, [2_990.0] * 10, 2, 3_004.0),  # nobody gets one before
        (40_000.0, DAY, [20.0], 2, 11_540.0),  # no slot of the day is left
        (65.0, None, [], 3, 65.0),  # a pause
    ],
)
async def test_a_slot_that_others_leave_after_all_is_asked_for(
    delay: float, limit: RateLimit | None, returning: list[float], others: int, asked_in: float
) -> None:
    """The ledger goes by what they have told, and they may end without a word."""
    one = request(9.0)
    waits = turn(delay, limit, tuple(returning), of=one, others=others)
    assert waits.ask_at - NOW == pytest.approx(asked_in)


async def test_a_check_is_asked_for_when_the_ledger_says() -> None:
    assert turn(of=None, others=3).ask_at == NOW + 65.0


@pytest.mark.parametrize(
    ("told", "others", "more", "asked_in"),
    [
        (1, 0, 0, 65.0),  # nothing has changed
        (1, 0, 1, 6.0),  # those that came go before what comes elsewhere from now on
        (2, 7, 5, 6.0),
        (3, 7, 5, 65.0),  # a window's slots are for those of which is known
        (12, 0, 5, 65.0),
        (2, 0, -1, 65.0),  # nobody goes behind one that is gone
    ],
)
async def test_others_are_told_of_what_came_since(
    told: int, others: int, more: int, asked_in: float
) -> None:
    """Only what might be sent with the next slots, which may come back all at once, is told of."""
    one = request(9.0)
    waits = turn(65.0, None, of=one, waiting=told, others=others)
    choice = Choice(one, Priority.BATCH, 9.0)
    assert waits.until(choice, told + more, others) == NOW + asked_in


async def test_what_goes_before_the_request_that_was_asked_for_is_asked_for_at_once() -> None:
    """Of a better priority, or taken over from another client and older."""
    one, older, younger = request(9.0), request(10.0), request(8.0)
    waits = turn(of=one)
    assert waits.until(Choice(younger, Priority.BATCH, 8.0), 1, 1) == waits.ask_at
    assert waits.until(Choice(older, Priority.BATCH, 10.0), 1, 1) == -math.inf
    assert waits.until(Choice(younger, Priority.INTERACTIVE, 8.0), 1, 1) == -math.inf


async def test_who_stood_behind_others_asks_when_none_of_them_waits_any_more() -> None:
    """Once: then the ledger knows when there is a slot."""
    one = request(9.0)
    choice = Choice(one, Priority.BATCH, 9.0)
    assert turn(of=one, others=3).until(choice, 1, 1) > NOW
    assert turn(of=one, others=3).until(choice, 1, 0) == -math.inf
    assert turn(of=one, others=0).until(choice, 1, 0) == NOW + 65.0
