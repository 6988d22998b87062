"""Ends that were announced before anybody waited, and ends that are known. Both bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llamagen_async.webhooks import Announcement

__all__ = ["EarlyEnds"]

_MOST: Final = 1_000
"""Announcements that are kept; then the oldest are forgotten (chosen)."""
_MOST_BYTES: Final = 2_000_000
"""Bytes of the events whose content is kept (chosen)."""
_MOST_SEEN: Final = 10_000
"""Ids of generations whose end was seen that are remembered (chosen)."""
_LEAST_SIZE: Final = 1_000
"""Bytes that an announcement is counted with, at least (chosen: what one takes without content)."""


class EarlyEnds:
    """The announced ends of generations that nobody waits for yet.

    One may overtake the answer to its create, others are about generations that another process
    waits for. One that comes after the end was seen says nothing new.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Announcement] = {}
        self._bytes = 0
        self._seen: dict[str, None] = {}
        """The ids of generations whose end was seen."""

    def keep(self, announcement: Announcement) -> bool:
        """Keep an announcement until it is taken, or many others have come.

        Returns:
            Whether the end that it announces was not seen before.
        """
        if announcement.id in self._seen:
            return False
        self.take(announcement.id)
        announcement = announcement.packed(_MOST_BYTES)
        self._kept[announcement.id] = announcement
        self._bytes += _size(announcement)
        while len(self._kept) > _MOST or self._bytes > _MOST_BYTES:
            self.take(next(iter(self._kept)))
        return True

    def take(self, id_: str) -> Announcement | None:
        """Return what was announced of a generation, if anything was, and forget it."""
        announcement = self._kept.pop(id_, None)
        if announcement is not None:
            self._bytes -= _size(announcement)
        return announcement

    def mark_seen(self, id_: str) -> None:
        """Remember that the end of a generation was seen."""
        self._seen[id_] = None
        while len(self._seen) > _MOST_SEEN:
            del self._seen[next(iter(self._seen))]

    def forget_seen(self, id_: str) -> bool:
        """Forget that the end of a generation was seen; return whether it was."""
        return self._seen.pop(id_, self) is None


def _size(announcement: Announcement) -> int:
    return max(_LEAST_SIZE, len(announcement.content or b""))
