"""A generation that is waited for, and the status check that is worth most. Plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import Final, Generic, TypeVar

import attrs

from llamagen_async.forecasting import ANY, Profile
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.transport import APIRequest

__all__ = [
    "Generation",
    "GenerationWait",
    "GroupKey",
    "HeapEntry",
    "Poll",
    "PollTarget",
    "TargetGroup",
]

_FINAL_POLL_LEAD: Final = 10.0
"""Seconds before the end of a wait at which a final check is due."""

Generation = ComicGeneration | Animation
_G = TypeVar("_G", bound=Generation)


@attrs.frozen(eq=False, repr=False)
class GenerationWait(Generic[_G]):
    """One caller's wait for a generation, as it is asked for."""

    id: str
    """The generation's id."""
    request: APIRequest
    """The status check."""
    parse: Callable[[object], _G]
    """Reads the decoded body of its answer; raises `ValueError` if it is something else."""
    timeout: float
    """Seconds of the server's clock to wait at most."""
    urgent: bool = True
    """Whether somebody waits interactively."""
    after: _G | None = None
    """The generation as it was before a change that another process has made."""
    age: float = 0.0
    """Seconds since that change was accepted."""
    progress: Callable[[_G], None] | None = None
    """Called with the generation whenever it was seen unfinished."""


@attrs.define(eq=False, repr=False)
class PollTarget:
    """One generation that somebody waits for."""

    id: str
    """The generation's id."""
    request: APIRequest
    """The status check."""
    parse: Callable[[object], Generation]
    """Reads the decoded body of its answer; raises `ValueError` if it is something else."""
    accepted_at: float
    """When the server accepted it, in seconds of the server's clock."""
    profile: Profile = ANY
    """Features of the generation that decide how long it takes, as far as they are known."""
    urgent: bool = True
    """Whether somebody waits interactively."""
    announced: bool = False
    """Whether its end will be announced by a webhook event."""
    heard: bool = False
    """Whether events come: one has come lately."""
    has_ended: bool = False
    """Whether its end was announced without what came of it."""
    announced_at: float = -math.inf
    """Time of that announcement."""
    last_running_age: float = 0.0
    """Its age in seconds when it was last seen running; 0 if it never was."""
    not_before: float = -math.inf
    """The time before which a check makes no sense."""
    deadline: float = math.inf
    """When the last of those who wait for it gives up."""
    in_flight: bool = False
    """Whether a check is on its way."""
    failures: int = 0
    """Checks in a row that brought no answer."""
    last_error: str | None = None
    """The failure of the last check, if it has brought no answer."""
    is_known: bool = False
    """Whether the server has accepted it here, or shown it."""
    unknown_since: float = math.inf
    """Time since which the server says that there is no such generation."""
    delays: Iterator[float] | None = None
    """Seconds to wait before each further check, once one has failed."""
    context: Context = attrs.field(factory=copy_context)
    """The context variables of the first who waits for it, in which checks are sent."""
    entry: int = 0
    """The number of its valid entry in a heap of the poll set; 0 if it is in none."""

    @property
    def final_at(self) -> float:
        """When a final check is due, before the last of those who wait for it gives up."""
        return self.deadline - _FINAL_POLL_LEAD

    def restart(self, now: float) -> None:
        """Set that it runs again: a change of it was accepted now."""
        self.accepted_at, self.last_running_age = now, 0.0
        self.has_ended, self.announced_at, self.not_before = False, -math.inf, -math.inf


HeapEntry = tuple[float, int, PollTarget]
"""A value that the target is ordered by, the entry's number, and the target.

An entry is void if its number is not that of its target.
"""
GroupKey = tuple[Profile, bool, bool, bool, bool, bool, int]
"""Features that the members of a group have in common."""


@attrs.define(eq=False, repr=False)
class TargetGroup:
    """Targets of one profile that were last seen running at about the same age."""

    urgent: bool
    announced: bool
    has_ended: bool
    profile: Profile
    heap: list[HeapEntry] = attrs.field(factory=list[HeapEntry])
    """The members by the time of their acceptance."""
    size: int = 0


@attrs.frozen(eq=False, repr=False)
class Poll:
    """The status check that is worth most now, or when there will be one."""

    target: PollTarget | None
    """The generation to check; `None` if no check is due."""
    chance: float
    """The chance that it is done."""
    is_overdue: bool
    """Whether the check goes before everything else."""
    next_at: float
    """When the next check is due, if none is now; infinite if there is none."""
