"""A story of a journal by what people call it."""

from __future__ import annotations

from typing import Final

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.reading import JournalReader
from llamagen_async.errors import InvalidRequestError

__all__ = ["find_story"]

_ALLOWED: Final = (
    "a story's key, its line such as stories.jsonl:7, its position from 0, its comic's id, or the "
    "beginning of a key or id that no other one has"
)
_SHOWN: Final = 3
"""Stories that an error names, at most."""


async def find_story(journal: JournalReader, name: str) -> Row:
    """Return the story that is meant; what fits exactly goes before what fits in part.

    Args:
        journal: The journal, open.
        name: The story's key, its comic's id, the label of its line, its position from 0, or the
            beginning of its key or id.

    Raises:
        InvalidRequestError: There is no such story, or more than one.
    """
    exact = await journal.find(key=name, generation_id=name)
    if exact is not None:
        return exact
    by_place: list[Row] = []
    by_beginning: list[Row] = []
    async for row in journal.rows():
        if name == row.label or name == str(row.position):
            by_place.append(row)
        elif name and (row.key.startswith(name) or (row.generation_id or "").startswith(name)):
            by_beginning.append(row)
        if len(by_place) > _SHOWN:
            break
    found = by_place or by_beginning
    if len({row.generation_id or row.key for row in found}) == 1:
        return found[0]
    if not found:
        raise InvalidRequestError("key", name, f"{_ALLOWED}; the journal has none of that name")
    names = ", ".join(row.key for row in found[:_SHOWN])
    more = ", ..." if len(found) > _SHOWN else ""
    raise InvalidRequestError("key", name, f"{_ALLOWED}; this may be {names}{more}")
