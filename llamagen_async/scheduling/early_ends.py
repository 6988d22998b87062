"""Ends of generations that were announced before anybody waited for them, within bounds."""

from __future__ import annotations

from typing import Final

from llamagen_async.foreign import letters_in
from llamagen_async.scheduling.poll_target import Generation

__all__ = ["EarlyEnds"]

_MOST: Final = 1_000
"""Ends that are kept; the oldest are forgotten, and their generations are checked."""
_MOST_LETTERS: Final = 8_000_000
"""Characters of all ends that are kept: a thousand events of a usual size have an eighth of it."""


class EarlyEnds:
    """Generations that have ended, until somebody asks for them or others take their place."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Generation, int]] = {}
        self._letters = 0

    def keep(self, generation: Generation) -> None:
        """Keep a generation; those that were kept longest make room for it."""
        self.take(generation.id)
        letters = letters_in(generation.raw)
        self._kept[generation.id] = generation, letters
        self._letters += letters
        while len(self._kept) > _MOST or self._letters > _MOST_LETTERS:
            self.take(next(iter(self._kept)))

    def take(self, id_: str) -> Generation | None:
        """Return a generation that is kept, and keep it no longer; `None` if there is none."""
        generation, letters = self._kept.pop(id_, (None, 0))
        self._letters -= letters
        return generation
