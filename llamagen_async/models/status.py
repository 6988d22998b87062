"""The status of a generation, in the words of both dialects."""

from __future__ import annotations

import enum
import logging
from typing import Final

from llamagen_async.foreign import clean_text

__all__ = ["GenerationStatus"]

_logger = logging.getLogger(__name__)


class GenerationStatus(enum.StrEnum):
    """How far a generation has come."""

    is_final: bool
    """Whether the generation will never change again."""

    PENDING = "PENDING"
    """Accepted and waiting for its turn."""
    PROCESSING = "PROCESSING"
    """Being drawn."""
    SUCCEEDED = "SUCCEEDED"
    """Done: the pictures are there."""
    FAILED = "FAILED"
    """Ended without a comic; final."""
    CANCELLED = "CANCELLED"
    """Stopped; final."""

    def __init__(self, word: str) -> None:
        self.is_final = word in ("SUCCEEDED", "FAILED", "CANCELLED")

    @classmethod
    def parse(cls, word: object) -> GenerationStatus:
        """Read a status word of either dialect, in any case.

        A word that is not known means "not done yet", with one warning for each such word.
        """
        if word is None:
            return cls.PENDING
        is_plain = isinstance(word, str | int | float)
        text = clean_text(str(word) if is_plain else type(word).__name__, _LONGEST_WORD).upper()
        status = _WORDS.get(text)
        if status is None:
            status = cls.PROCESSING
            if text not in _warned and len(_warned) < _MOST_WORDS:
                _warned.add(text)
                _logger.warning("unknown generation status %r is taken for 'not done yet'", text)
        return status


_WORDS: Final[dict[str, GenerationStatus]] = {
    **{status.value: status for status in GenerationStatus},
    "LOADING": GenerationStatus.PROCESSING,
    "QUEUED": GenerationStatus.PENDING,
    "PROCESSED": GenerationStatus.SUCCEEDED,
    "COMPLETED": GenerationStatus.SUCCEEDED,
    "CANCELED": GenerationStatus.CANCELLED,
    "ERROR": GenerationStatus.FAILED,
}
_LONGEST_WORD: Final = 40
"""Characters of a status word that are read."""
_MOST_WORDS: Final = 20
"""Unknown status words that are told of: an API has few, and a server that goes mad many."""
_warned: set[str] = set()
