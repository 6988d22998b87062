"""Webhook events read as generations. No I/O.

The vendor's documentation does not say what an event's `data` holds: only the generation's id can
be expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from llamagen_async.errors import InvalidRequestError
from llamagen_async.foreign import bounded
from llamagen_async.models import ComicGeneration
from llamagen_async.validation import generation_id

__all__ = ["generation_of"]

_STATUS: Final = {"completed": "SUCCEEDED", "failed": "FAILED"}
"""The status for the last word of an event's type, if `data` holds no status."""
_IDS: Final = ("id", "generationId", "generation_id")
"""The names under which `data` may hold the generation's id."""


def generation_of(event: Mapping[str, Any]) -> tuple[ComicGeneration, bool]:
    """Return the generation in an event, and whether a status check would tell nothing more.

    A failed generation is complete; a succeeded one is complete if the event names its pictures.

    Args:
        event: A verified event: `type`, and `data` with at least the generation's id.

    Raises:
        InvalidRequestError: The event is not about a generation.
    """
    given: object = event
    if not isinstance(given, Mapping):
        raise InvalidRequestError("event", given, "a webhook event, as parsed JSON")
    data: object = event.get("data")
    if not isinstance(data, Mapping):
        raise InvalidRequestError("event.data", data, "a mapping with the generation's id")
    fields: dict[str, Any] = bounded(dict(cast("Mapping[str, Any]", data)))
    named = next((fields[name] for name in _IDS if fields.get(name)), None)
    id_ = generation_id(named)
    if id_ is None:
        raise InvalidRequestError("event.data.id", named, "the id of a generation")
    word = str(event.get("type", "")).rpartition(".")[2].lower()
    status = fields.get("status") or _STATUS.get(word, "PROCESSING")
    generation = ComicGeneration.parse({**fields, "id": id_, "status": status})
    return generation, generation.is_done and not (
        generation.succeeded and not generation.asset_urls
    )
