"""The stories of an input whose comics other stories change: are they there, and no circle?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.errors import InvalidRequestError
from llamagen_async.requests import RequestType

if TYPE_CHECKING:
    from llamagen_async.batch.journal.journal import Journal

__all__ = ["ChangedKeys"]


class ChangedKeys:
    """The keys that the changes of an input name."""

    def __init__(self) -> None:
        self.labels: Final[dict[str, str]] = {}
        """Where each of these keys is named first."""
        self._changes: dict[str, tuple[str, str]] = {}
        """The key that each change with a key of its own names, and where it stands."""
        self._missing: dict[str, None] | None = None

    def add(self, label: str, story: Story) -> None:
        """Take in a story that stands at a place of the input."""
        if story.of is None:
            return
        self.labels.setdefault(story.of, label)
        if story.key is not None:
            self._changes[story.key] = story.of, label

    def find(self, story: Story) -> None:
        """Note that a story is there.

        Raises:
            CommandError: It is an animation, and some story changes it.
        """
        if self._missing is None:
            self._missing = dict.fromkeys(self.labels)
        if story.key is None or story.key not in self.labels:
            return
        self._missing.pop(story.key, None)
        if story.type is RequestType.ANIMATION:
            raise self._refusal(story.key, "a comic's; this is an animation's")

    def check_circles(self) -> None:
        """Make sure that no change waits for itself.

        Raises:
            CommandError: One does.
        """
        checked: set[str] = set()
        for start in self._changes:
            chain: dict[str, None] = {}
            key = start
            while key in self._changes and key not in checked:
                if key in chain:
                    way = " of ".join(map(repr, (*chain, key)))
                    label = self._changes[start][1]
                    problem = InvalidRequestError(
                        "of", key, f"a comic that does not wait for this one ({way})"
                    )
                    raise CommandError(f"{label}: {problem}; nothing was sent")
                chain[key] = None
                key = self._changes[key][0]
            checked.update(chain)

    async def check_journal(self, journal: Journal) -> None:
        """Make sure that the journal has what the input does not have.

        Raises:
            CommandError: It has not, either.
        """
        for key in self._missing or ():
            if await journal.get(key) is None:
                raise self._refusal(key, "the key of a story in the input or in the journal")

    def _refusal(self, key: str, allowed: str) -> CommandError:
        problem = InvalidRequestError("of", key, allowed)
        return CommandError(f"{self.labels[key]}: {problem}; nothing was sent")
