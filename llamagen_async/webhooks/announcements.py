"""Announcements: what an event says of a generation.

What its `data` holds is not documented: the generation's id can be expected, its result may be
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs

from llamagen_async.errors import InvalidRequestError
from llamagen_async.foreign import bounded
from llamagen_async.models import Animation, ComicGeneration, GenerationStatus
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
    """The generation as the event has it; `None` if a status check has to tell."""
    size: int
    """Bytes of the event."""

    def read(self, parse: Callable[[object], _G]) -> _G | None:
        """Return the ended generation, or `None` if a status check has to bring its result.

        A failed generation is complete; a comic is complete if the event has a picture for each
        panel, because `output` alone may be the first of many pictures.

        Args:
            parse: Reads a generation, as it does from the answer to a status check.
        """
        try:
            generation = None if self.fields is None else parse(self.fields)
        except ValueError:
            return None
        return generation if generation is not None and _is_complete(generation) else None


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
    data: dict[str, Any] = dict(event.data)
    if not event.is_plain:
        data = bounded(data)
    id_ = next(filter(None, (generation_id(data.get(name)) for name in _IDS)), None)
    if id_ is None:
        if not event.type.startswith(_ABOUT_GENERATIONS):
            return None
        raise InvalidRequestError("event.data.id", data.get("id"), "the id of a generation")
    ends = _ENDS.get(event.type.rpartition(".")[2].lower())
    word = data.get("status") or (ends[0] if ends else GenerationStatus.PROCESSING)
    status = GenerationStatus.parse(word)
    # If the type and the data contradict each other, only a status check can tell.
    is_clear = ends is None or status in ends
    fields = {**data, "id": id_, "status": word} if is_clear else None
    return Announcement(id_, ends is not None or status.is_final, fields, event.size)


def _is_complete(generation: ComicGeneration | Animation) -> bool:
    if not generation.succeeded:
        return generation.is_done
    if isinstance(generation, Animation):
        return bool(generation.asset_urls)
    panels = [panel for page in generation.pages for panel in page.panels]
    return bool(panels) and all(panel.asset_url for panel in panels)
