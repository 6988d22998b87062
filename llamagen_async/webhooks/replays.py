"""Events that were handled already."""

from __future__ import annotations

import hashlib
from typing import Final

from llamagen_async.validation import InvalidRequestError, whole_number
from llamagen_async.webhooks.events import WebhookEvent

__all__ = ["ReplayGuard"]

_LONG: Final = 64
"""Characters of the longest id that is kept as it is, and of a digest."""


class ReplayGuard:
    """Remembers events, so that none is handled twice: neither a replay nor a second delivery.

    Keep one guard for as long as the process lives. Several processes need a store that they share
    instead: there, remember `event.id` and `event.fingerprint` for twice the tolerance.

    Args:
        most: Events that are remembered; then the oldest are forgotten. A replay is refused for its
            timestamp once the tolerance is over, so the events of ten minutes are enough.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most_marks = 2 * whole_number("most", most, at_least=1)
        self._seen: dict[str, None] = {}
        """The marks of the events, two for each, the oldest first."""

    def claim(self, event: WebhookEvent) -> bool:
        """Remember an event, and return whether it is new.

        One that is not new needs nothing but a 2xx answer: the vendor has not heard the first one.
        """
        marks = _marks(event)
        if any(mark in self._seen for mark in marks):
            return False
        self._seen.update(dict.fromkeys(marks))
        while len(self._seen) > self._most_marks:
            del self._seen[next(iter(self._seen))]
        return True

    def release(self, event: WebhookEvent) -> None:
        """Forget an event that could not be handled, so that its next delivery is new."""
        for mark in _marks(event):
            self._seen.pop(mark, None)


def _marks(event: WebhookEvent) -> list[str]:
    """Return what tells an event from others; none is long, whatever the event holds."""
    given: object = event
    if not isinstance(given, WebhookEvent):
        raise InvalidRequestError("event", given, "what webhooks.construct_event returned")
    return [
        value if len(value) <= _LONG else hashlib.sha256(repr(value).encode()).hexdigest()
        for value in (event.id, event.fingerprint)
        if value
    ]
