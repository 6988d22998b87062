"""Changes of generations that have ended before: whose end does a status check show?

A continuation and a redraw put a generation back to running, and it is not documented whether a
check right after that still shows the old end. So the end that a check shows is taken for the
change's own by these rules, in this order:

1. What was asked before the change was accepted says nothing about it.
2. After a check has shown it running, the next end is the change's.
3. An end that is another one than before is the change's: another status, more panels, more
   redrawn or charged panels, or a panel whose picture is at another path. (A query does not count:
   signatures stand in it, which are others in each answer.)
4. If nobody knows how the generation was before, an end is believed once the change is probably
   done and caches have had their time.
5. An end that is the same as before, as far as can be seen, is believed long after that.

What is not believed counts as "still running". The answer to the change itself is evidence, too: it
may show how the generation was before. If another process has made the change, whoever waits here
tells how the generation was. Nothing here waits, sends, or reads a clock.
"""

from __future__ import annotations

from typing import Final, Self
from urllib.parse import urlsplit

import attrs

from llamagen_async.forecasting import ANY, Forecasts, Profile
from llamagen_async.models import Animation, ComicGeneration, GenerationStatus

__all__ = ["Changes", "SeenEnd"]

_PROBABLE: Final = 0.75
"""The chance to be done, as forecast when a change begins, from which on an end is believed that
may be the old one (chosen: it costs a wait only if the change was done before the first check)."""
_CACHED: Final = 60.0
"""Seconds after a change before which such an end is not believed (chosen: answers that change are
seldom kept in a cache for longer)."""
_SAME: Final = 300.0
"""Seconds after a change before which an end is not believed that is the same as before (chosen: it
costs a wait only if the server tells of no redraw and puts the new picture where the old one was,
and was done before the first check)."""
_MOST: Final = 10_000
"""Ends that are remembered, and changes that nobody waits for yet (chosen: about 2 MB)."""


@attrs.frozen
class SeenEnd:
    """The end of a generation, as far as a change alters it and it was seen."""

    status: GenerationStatus
    panels: int
    """Number of panels on all pages."""
    charged: tuple[int, int]
    """Numbers of comics and of redrawn panels that were charged; 0 if the server does not say."""
    pictures: int
    """A hash of the paths of all panels' pictures, in reading order; 0 if there are none."""

    @classmethod
    def of(cls, generation: ComicGeneration | Animation) -> Self:
        """Return what is seen of a generation."""
        if isinstance(generation, Animation):
            return cls(generation.status, 0, (0, 0), 0)
        panels, paths = 0, list[str]()
        for page in generation.pages:
            panels += len(page.panels)
            for panel in page.panels:
                if panel.asset_url:
                    paths.append(_path(panel.asset_url))
        usage = generation.usage
        charged = (usage.total_comics or 0, usage.redraw_panels or 0) if usage else (0, 0)
        return cls(generation.status, panels, charged, hash(tuple(paths)) if paths else 0)

    def is_after(self, before: SeenEnd) -> bool:
        """Whether something has changed since."""
        return (
            self.status is not before.status
            or self.panels > before.panels
            or any(map(int.__gt__, self.charged, before.charged))
            or self.pictures not in (0, before.pictures)
        )


@attrs.define(eq=False)
class _Change:
    """One change that was accepted and whose end was not seen yet."""

    accepted_at: float
    believed_at: float
    """When an end is believed that may be the old one."""
    before: SeenEnd | None
    """The generation before the change; `None` if nobody has seen it."""
    is_running: bool = False
    """Whether a check has shown it running since."""


class Changes:
    """The changes whose ends were not seen yet, and the ends that were.

    Args:
        forecasts: The forecasts of how long generations take.
    """

    def __init__(self, forecasts: Forecasts) -> None:
        self._forecasts = forecasts
        self._pending: dict[str, _Change] = {}
        self._ends: dict[str, SeenEnd] = {}

    def begin(self, answer: ComicGeneration | Animation, now: float, profile: Profile) -> None:
        """Expect the end of a change that was accepted.

        Args:
            answer: The server's answer to the change.
            now: The time at which it came.
            profile: What decides how long the change takes.
        """
        before = self._ends.pop(answer.id, None)
        self._pending.pop(answer.id, None)
        if answer.is_done:
            shown = SeenEnd.of(answer)
            if before is not None and shown.is_after(before):
                return  # the answer has the result: whatever comes is its end
            before = shown
        probable = self._forecasts.of(profile).forecast.age_when(_PROBABLE)
        believed_at = now + max(_CACHED if before is None else _SAME, probable)
        self._pending[answer.id] = _Change(now, believed_at, before)
        if len(self._pending) > _MOST:
            del self._pending[next(iter(self._pending))]

    def expect(self, seen: ComicGeneration | Animation, accepted_at: float) -> None:
        """Expect the end of a change that another process has made.

        Args:
            seen: The generation as it was seen last: before the change, or in the answer to it.
            accepted_at: The time at which the change was accepted, as far as is known.
        """
        if seen.id not in self._pending:  # a change of this process is known better
            self.begin(seen, accepted_at, ANY)

    def shows_end(self, generation: ComicGeneration | Animation, asked_at: float) -> bool:
        """Whether an answer shows the end of what is waited for.

        Args:
            generation: The generation as the server has answered.
            asked_at: When the server was asked.
        """
        change = self._pending.get(generation.id)
        if not generation.is_done:
            if change is not None and asked_at >= change.accepted_at:
                change.is_running = True
            return False
        end = SeenEnd.of(generation)
        if change is not None:
            if not _is_believed(change, end, asked_at):
                return False
            del self._pending[generation.id]
        self._keep(generation.id, end)
        return True

    def recall(self, generation: ComicGeneration | Animation) -> None:
        """Take in how a generation ended that somebody else has seen, unless it was seen here."""
        is_known = generation.id in self._ends or generation.id in self._pending
        if generation.is_done and not is_known:
            self._keep(generation.id, SeenEnd.of(generation))

    def _keep(self, id_: str, end: SeenEnd) -> None:
        self._ends.pop(id_, None)
        self._ends[id_] = end
        if len(self._ends) > _MOST:
            del self._ends[next(iter(self._ends))]


def _is_believed(change: _Change, end: SeenEnd, asked_at: float) -> bool:
    """Apply the rules to an end that was seen while a change is pending."""
    if asked_at < change.accepted_at:
        return False
    is_other = change.before is not None and end.is_after(change.before)
    return change.is_running or is_other or asked_at >= change.believed_at


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return url
