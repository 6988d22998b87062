"""What to send when a slot is free. Decided late, told everything, remembers nothing.

1. Someone waits interactively: their request goes first, creates before reads.
2. A look costs a slot only if it finds nothing. A slot's price is the lateness that its waste
   causes, higher the fewer slots are free and the more are wanted (`pricing`); a look is due at
   the age that a plan for that price names (`inspection`).
3. Of the looks that are due, that one is made which would be due at the highest price: it gains
   least by waiting. A look whose time has come goes before a batch's next create.
4. But a batch whose work left is shorter than a comic may take starts what is left to start: the
   last comic is what it will wait for.
5. Otherwise the batch's creates go before looks: a generation that runs costs nothing while it is
   waited for. And if nothing else could be sent, the slot waits until a look is due.
6. Nothing starves: for somebody who waits interactively a look is due every two minutes, and one
   at a comic that has been ready for minutes, most probably, goes before everything; so does a
   batch's, later. Two such looks in a row never go before one interactive request.
7. When a long window (the demo plan's day) runs short, looks are due when they are likely enough
   for each comic to get by with its share; when hardly more than one is left for each, almost
   certain. No comic is started whose collecting check would not fit.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

__all__ = [
    "ALMOST_CERTAIN",
    "HURRY",
    "PLENTIFUL",
    "Action",
    "Situation",
    "can_afford",
    "check_threshold",
    "choose",
    "is_hurried",
]

ALMOST_CERTAIN: Final = 0.95
"""A check with this chance finishes a comic for all practical purposes."""
PLENTIFUL: Final = 0.2
"""The least chance that is asked of a check where a long window has room for many."""
HURRY: Final = 0.98
"""The quantile of a comic's duration that a batch needs for its last comic."""
_PLENTY: Final = 5.0
"""With so many checks left for each comic there is no need to economize."""
_HARDLY_MORE_THAN_ONE: Final = 1.5
"""With fewer checks left for each comic none may be wasted: the day has time enough."""
_AS_GOOD_AS_DONE: Final = 0.99
"""How likely such a check has to be."""
_CREATE_AND_CHECK: Final = 2
"""Slots that a comic takes at least."""


class Action(enum.Enum):
    """What the free slot is used for."""

    SEND = enum.auto()
    """The first request in the queue."""
    CHECK = enum.auto()
    """The look that is worth most."""
    WAIT = enum.auto()
    """Nothing yet."""


@attrs.frozen(eq=False, repr=False)
class Situation:
    """All that the choice depends on."""

    urgent: bool
    """Whether someone waits interactively for a request in the queue."""
    queued: bool
    """Whether there is any request in the queue."""
    due: bool
    """Whether a look is due."""
    overdue: bool = False
    """Whether it should have been made long ago."""
    hurried: bool = False
    """Whether the batch has to start what is left, see `is_hurried`."""


def choose(situation: Situation) -> Action:
    """Return what a slot that is free now is used for."""
    if situation.overdue:
        return Action.CHECK
    if situation.urgent:
        return Action.SEND
    if situation.due and not (situation.queued and situation.hurried):
        return Action.CHECK
    return Action.SEND if situation.queued else Action.WAIT


def is_hurried(left: int, *, interval: float, duration: float) -> bool:
    """Whether a batch has to start what is left before it collects what is done.

    Args:
        left: Comics that are not collected yet, those included that are not started.
        interval: Seconds from slot to slot.
        duration: Seconds that a comic may take, at the quantile `HURRY`.
    """
    return left * interval < duration


def check_threshold(quota_left: int | None, *, queued: int, running: int) -> float:
    """Return how likely a check must be to finish a comic to be worth a slot of a long window.

    Args:
        quota_left: Free slots in the plan's long windows; `None` if it has none.
        queued: Requests that wait to be sent.
        running: Comics that run and are waited for.
    """
    if quota_left is None or not running:
        return PLENTIFUL
    startable = max(0, min(queued, (quota_left - running) // _CREATE_AND_CHECK))
    checks_each = (quota_left - startable) / (running + startable)
    if checks_each >= _PLENTY:
        return PLENTIFUL
    if checks_each < _HARDLY_MORE_THAN_ONE:
        return _AS_GOOD_AS_DONE
    return max(PLENTIFUL, min(ALMOST_CERTAIN, 1.0 / checks_each))


def can_afford(quota_left: int | None, *, running: int, ahead: int, slots_each: int) -> bool:
    """Whether a long window has room for one more comic, its create and its check.

    Args:
        quota_left: Free slots in the plan's long windows; `None` if it has none.
        running: Comics that run and still need a check.
        ahead: Creates that will be sent before.
        slots_each: Slots that a comic takes at least: its create and, if checks count, one check.
    """
    if quota_left is None:
        return True
    return quota_left >= running * (slots_each - 1) + slots_each * (ahead + 1)
