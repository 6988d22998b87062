"""News of a run that its journal does not keep: rejected lines, and reasons that may pass.

However long the input is, little of it is in memory: records go to a temporary file, which is read
once, when the run has ended.
"""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Iterator
from typing import Final

from llamagen_async.batch.journal.codec import Row
from llamagen_async.cli.input.stories import InputStory
from llamagen_async.cli.results.records import Reason, Record, line_of

__all__ = ["Unrecorded"]

_REASONS: Final = 50_000
"""Stories whose passing reason is remembered, at most: some megabytes. All stories beyond them met
the same few errors, which the run prints."""


class Unrecorded:
    """The stories that a run could not hand to its journal, and why others are not done."""

    def __init__(self) -> None:
        self.reading: Final[dict[int, InputStory]] = {}
        """Stories that were read and have not ended, by position: no more than are in flight."""
        self._reasons: dict[str, Reason] = {}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        weakref.finalize(self, self._file.close)

    def explain(self, key: str, reason: Reason) -> None:
        """Remember why a story of the journal is not done, until the run has ended."""
        if len(self._reasons) < _REASONS:
            self._reasons[key] = reason

    def reason(self, key: str) -> Reason | None:
        """Return why a story of the journal is not done, as far as the journal does not know."""
        return self._reasons.get(key)

    def add(self, record: Record) -> None:
        """Take in a story that is in no journal."""
        self._file.write(line_of(record.to_json()))

    def records(self) -> Iterator[Record]:
        """Yield the stories that are in no journal, in the order in which they ended."""
        self._file.seek(0)
        for line in self._file:
            yield Record.from_json(json.loads(line))

    def take_unfinished(self, row: Row) -> bool:
        """Return whether a row is a story that was read and has not ended; it is forgotten then."""
        one = self.reading.get(-1 if row.position is None else row.position)
        if one is None or one.story is None:
            return False
        if (one.story.label, one.story.digest) != (row.label, row.digest):
            return False  # another run's story stood in that place
        del self.reading[one.number]
        return True

    def close(self) -> None:
        """Forget everything."""
        self._file.close()
