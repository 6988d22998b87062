"""What to send when a slot is free. Decided late, told everything, remembers nothing.

1. Someone waits interactively: their request goes first, creates before reads.
2. A comic that is almost certainly done is collected before a batch starts another one: its
   slot finishes something now, and the next create loses one slot only.
3. Then the batch's creates: a generation that runs costs nothing while it is waited for.
4. Then the check that is likeliest to finish a comic, if it is likely enough to be worth a slot.
   How likely that has to be depends on how many checks each comic can still be given before a
   long window (the demo plan's day) is used up: plenty, and one in five is enough to notice an
   end early; hardly more than one each, and a check has to be almost certain.
5. Otherwise the slot waits until a check is worth it. Nothing else could be sent.
6. Nothing starves: a check that is overdue (`_PATIENCE` seconds past the time when it was almost
   certain) goes before everything, and a create goes before all checks that are not.
7. Near the end of a long window no comic is started whose collecting check would not fit.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

__all__ = ["WORTH_A_SLOT", "Action", "Situation", "can_afford", "check_threshold", "choose"]

ALMOST_CERTAIN: Final = 0.95
"""A check with this chance finishes a comic for all practical purposes."""
WORTH_A_SLOT: Final = 0.2
"""A check with this chance is worth a slot that nothing else needs."""
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
    """The likeliest status check."""
    WAIT = enum.auto()
    """Nothing yet."""


@attrs.frozen
class Situation:
    """All that the choice depends on."""

    urgent: bool
    """Whether someone waits interactively for a request in the queue."""
    queued: bool
    """Whether there is any request in the queue."""
    chance: float
    """The likeliest check's chance to finish a comic; 0 if there is none."""
    threshold: float
    """How likely a check has to be to be worth a slot, from `check_threshold`."""
    overdue: bool
    """Whether that check should have been made long ago."""


def choose(situation: Situation) -> Action:
    """Return what a slot that is free now is used for."""
    chance = situation.chance
    if chance > 0 and situation.overdue:
        return Action.CHECK
    if situation.urgent:
        return Action.SEND
    if situation.queued and chance < ALMOST_CERTAIN:
        return Action.SEND
    if chance > 0 and chance >= situation.threshold:
        return Action.CHECK
    return Action.SEND if situation.queued else Action.WAIT


def check_threshold(quota_left: int | None, *, queued: int, running: int) -> float:
    """Return how likely a check must be to finish a comic to be worth a slot.

    Args:
        quota_left: Free slots in the plan's long windows; `None` if it has none.
        queued: Requests that wait to be sent.
        running: Comics that run and are waited for.
    """
    if quota_left is None or not running:
        return WORTH_A_SLOT
    startable = max(0, min(queued, (quota_left - running) // _CREATE_AND_CHECK))
    checks_each = (quota_left - startable) / (running + startable)
    if checks_each >= _PLENTY:
        return WORTH_A_SLOT
    if checks_each < _HARDLY_MORE_THAN_ONE:
        return _AS_GOOD_AS_DONE
    return max(WORTH_A_SLOT, min(ALMOST_CERTAIN, 1.0 / checks_each))


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
