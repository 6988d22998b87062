"""Webhook events that the vendor has signed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self, cast

import attrs

from llamagen_async.errors import InvalidRequestError
from llamagen_async.foreign import LONGEST_TEXT, MOST_DEPTH
from llamagen_async.webhooks.signatures import TOLERANCE, Headers, SecretKeys, Secrets, SignedBody

__all__ = ["WebhookEvent", "construct_event", "name_of"]

_MILLISECONDS: Final = 1e11
"""A unix time from which on it is taken for milliseconds: in seconds it is the year 5138."""


@attrs.frozen
class WebhookEvent:
    """An event that the vendor has signed."""

    id: str | None
    """The event's id, the same for each delivery of it: the body's, or else the header's, which no
    signature covers."""
    type: str
    """Name of what has happened, such as `comic.generation.completed`; empty if there is none."""
    created: datetime | None
    """Time at which it happened, if the event says so."""
    data: Mapping[str, Any] = attrs.field(repr=False, hash=False)
    """The object of the event; empty if there is none."""
    raw: Mapping[str, Any] = attrs.field(repr=False, hash=False)
    """The whole body."""
    request_id: str | None = attrs.field(default=None, kw_only=True)
    """The vendor's name for this delivery, for questions to its support."""
    fingerprint: str | None = attrs.field(default=None, repr=False, kw_only=True)
    """A digest of all that was signed: the same for a replay, whatever its other headers say."""
    content: bytes | None = attrs.field(default=None, repr=False, eq=False, kw_only=True)
    """The body as it came, if it came here."""
    is_plain: bool = attrs.field(default=False, repr=False, kw_only=True)
    """Whether the body is known to have nothing in it that has to be bounded before it is kept."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any], **fields: Any) -> Self:
        """Read an event whose signature was verified, here or by another process of yours.

        Args:
            raw: The body, as parsed JSON: the `raw` of the event that was verified.
            **fields: `id` if the body holds none, `request_id`, `fingerprint`, `content` and
                `is_plain`.

        Raises:
            InvalidRequestError: `raw` is no mapping.
        """
        given: object = raw
        if not isinstance(given, Mapping):
            raise InvalidRequestError("raw", given, "the `raw` of a verified event")
        data = raw.get("data")
        fields["id"] = name_of(raw.get("id")) or fields.get("id")
        return cls(
            type=name_of(raw.get("type")) or "",
            created=_instant(raw.get("created")),
            data=cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {},
            raw=raw,
            **fields,
        )


def construct_event(
    body: str | bytes, headers: Headers, secret: Secrets, *, tolerance: float = TOLERANCE
) -> WebhookEvent:
    """Verify an event's signature, and return the event.

    Args:
        body: The request's raw body, before anything has parsed it.
        headers: The request's headers, as any framework has them.
        secret: The secret of the vendor's dashboard; several while you change it.
        tolerance: Seconds by which the event's timestamp may differ from this machine's clock.

    Raises:
        WebhookSignatureError: It is not signed with that secret, or too long ago. The message is
            the same whatever is wrong; the log says what it was.
        InvalidRequestError: An argument is not allowed, such as a parsed body; or the body was
            signed and is no JSON object.
    """
    keys = SecretKeys.of(secret)
    del secret  # a report of an error may show the variables of its frames
    one = SignedBody.verified(body, headers, keys, tolerance)
    raw, is_text = _decoded(one.content)
    if not isinstance(raw, dict):
        raise InvalidRequestError("body", one.content[:100], "a JSON object, as all events are")
    return WebhookEvent.parse(
        cast("dict[str, Any]", raw),
        id=one.id,
        request_id=one.request_id,
        fingerprint=hashlib.sha256(one.signed).hexdigest(),
        content=one.content,
        is_plain=is_text and _is_plain(one.content),
    )


def _decoded(content: bytes) -> tuple[object, bool]:
    """Return JSON as an object, `None` if it is none, and whether it was UTF-8 without fault."""
    try:
        # Nearly all is, and then its encoding need not be found out.
        return json.loads(content.decode()), True
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(content), False
    except (ValueError, RecursionError):
        return None, False


def _is_plain(content: bytes) -> bool:
    """Whether UTF-8 with JSON is short, not deep, and without halves of surrogate pairs.

    Nearly all events are, and to find that out takes a hundredth of the time of bounding one.
    """
    return (
        len(content) <= LONGEST_TEXT
        and content.count(b"{") + content.count(b"[") <= MOST_DEPTH
        and not (b"\\" in content and (b"\\ud" in content or b"\\uD" in content))
    )


def name_of(value: object) -> str | None:
    """Return an id or another name as text; `None` if it is none."""
    if isinstance(value, str):
        return value or None
    return str(value) if value and isinstance(value, int) and value is not True else None


def _instant(value: object) -> datetime | None:
    """Return a unix time or an ISO 8601 text as a time; `None` if it is neither."""
    try:
        if isinstance(value, str):
            given = datetime.fromisoformat(value)
            return given if given.tzinfo else given.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            moment = value / 1_000 if abs(value) >= _MILLISECONDS else value
            return datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None
