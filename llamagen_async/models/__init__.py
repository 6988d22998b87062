"""Answers of the API, as frozen attrs classes that are read with tolerance.

Every field but `id` and `status` may be missing, new ones appear, and two dialects of status
words are in use (the documented one and production's). None of that is an error; the whole answer
always stays in `raw`. No I/O.
"""

from llamagen_async.models.account import Upload, Usage
from llamagen_async.models.batch import BatchItem, BatchState
from llamagen_async.models.generation import (
    Animation,
    AnyGeneration,
    ComicGeneration,
    GenerationStatus,
    GenerationUsage,
    Page,
    Panel,
)

__all__ = [
    "Animation",
    "AnyGeneration",
    "BatchItem",
    "BatchState",
    "ComicGeneration",
    "GenerationStatus",
    "GenerationUsage",
    "Page",
    "Panel",
    "Upload",
    "Usage",
]
