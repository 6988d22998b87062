"""Announcements: what an event says of a generation.

What its `data` holds is not documented: the generation's id can be expected, its result may be
there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs

from llamagen_async.errors import InvalidRequestError
from llamagen_async.foreign import bounded
from llamagen_async.models import Animation, ComicGeneration, GenerationStatus
from llamagen_async.models.places import fields_of
from llamagen_async.validation import generation_id
from llamagen_async.webhooks.events import WebhookEvent

__all__ = ["Announcement", "announcement_of"]

_ENDS: Final = {
    "completed": (GenerationStatus.SUCCEEDED,),
    "failed": (GenerationStatus.FAILED, GenerationStatus.CANCELLED),
}
"""The statuses that fit the last word of an event's type."""
_IDS: Final = ("generationId", "generation_id", "id")
"""The names under which `data` may hold the generation's id, the plainest one first."""
_ABOUT_GENERATIONS: Final = "comic.generation."
"""The beginning of the documented types."""

_G = TypeVar("_G", bound=ComicGeneration | Animation)


@attrs.frozen(eq=False, repr=False)
class Announcement:
    """News of one generation that an event brings."""

    id: str
    """The generation's id."""
    has_ended: bool
    """Whether the generation has ended."""
    fields: Mapping[str, Any] | None
    """The generation as the event has it; `None` if it is packed, or a status check has to tell."""
    status: GenerationStatus
    """The generation's status, if its data has no word for it."""
    content: bytes | None = attrs.field(default=None, kw_only=True)
    """The event as JSON; `None` if there is none, or a status check has to tell."""

    def packed(self, most: int) -> Announcement:
        """Return the same to be kept: as JSON, which takes a fraction of what was read of it.

        Args:
            most: Bytes that may be kept; what is larger is left for a status check to bring.
        """
        content = None
        if self.fields is not None:
            content = self.content or json.dumps({"data": self.fields}).encode()
            content = content if len(content) <= most else None
        return Announcement(self.id, self.has_ended, None, self.status, content=content)

    def read(self, parse: Callable[[object], _G]) -> _G | None:
        """Return the ended generation, or `None` if a status check has to bring its result.

        A failed generation is complete; a comic is complete if the event has a picture for each
        panel, because `output` alone may be the first of many pictures.

        Args:
            parse: Reads a generation, as it does from the answer to a status check.
        """
        fields = self.fields
        if fields is None and self.content is not None:
            fields = json.loads(self.content)["data"]
        if fields is None:
            return None
        if not fields.get("status"):
            fields = {**fields, "status": self.status.value}
        try:
            generation = parse({**fields, "id": self.id})
        except ValueError:
            return None
        return generation if _is_complete(generation) else None


def announcement_of(event: WebhookEvent) -> Announcement | None:
    """Return what an event says of a generation; `None` if it is about something else.

    Raises:
        InvalidRequestError: It is no event that was verified, or names no generation.
    """
    given: object = event
    if not isinstance(given, WebhookEvent):
        raise InvalidRequestError(
            "event",
            given,
            "what webhooks.construct_event returned, so that its signature is verified "
            "(WebhookEvent.parse reads what another process of yours has verified)",
        )
    data, content = event.data, event.content
    if not event.is_plain:
        data, content = bounded(dict(data)), None
    id_ = None
    for name in _IDS:
        id_ = generation_id(data[name]) if name in data else None
        if id_ is not None:
            break
    else:
        # Within another object, as some answers have it.
        id_ = generation_id(fields_of(data).get("id"))
    if id_ is None:
        if not event.type.startswith(_ABOUT_GENERATIONS):
            return None
        raise InvalidRequestError("event.data.id", data.get("id"), "the id of a generation")
    ends = _ENDS.get(event.type.rpartition(".")[2].lower())
    word = data.get("status") or (ends[0] if ends else GenerationStatus.PROCESSING)
    status = GenerationStatus.parse(word)
    # If the type and the data contradict each other, only a status check can tell.
    is_clear = ends is None or status in ends
    has_ended = ends is not None or status.is_final
    return Announcement(id_, has_ended, data if is_clear else None, status, content=content)


def _is_complete(generation: ComicGeneration | Animation) -> bool:
    if not generation.succeeded:
        return generation.is_done
    if isinstance(generation, Animation):
        return bool(generation.asset_urls)
    panels = [panel for page in generation.pages for panel in page.panels]
    return bool(panels) and all(panel.asset_url for panel in panels)
