"""Any request that is billed: its type, and the one form in which a batch takes all of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import attrs

from llamagen_async.requests.animation import AnimationRequest
from llamagen_async.requests.changes import ContinueRequest, UpdateRequest
from llamagen_async.requests.comic import ComicRequest
from llamagen_async.requests.words import OPEN
from llamagen_async.validation import InvalidRequestError

__all__ = [
    "FIELDS",
    "TEXTS",
    "AnyRequest",
    "BatchStory",
    "ChangeRequest",
    "RequestType",
    "fields_of",
    "parse_request",
    "type_given",
    "type_of",
]

ChangeRequest = ContinueRequest | UpdateRequest
"""A request that changes a comic."""
AnyRequest = ComicRequest | ChangeRequest | AnimationRequest
"""A request that is billed."""


class RequestType(enum.StrEnum):
    """The type of a request that is billed: the word that a story's `type` says."""

    COMIC = "comic"
    """A comic."""
    CONTINUE = "continue"
    """The continuation of a comic."""
    UPDATE_PANEL = "update_panel"
    """The redrawing of one panel of a comic."""
    ANIMATION = "animation"
    """An animation."""

    @property
    def is_change(self) -> bool:
        """Whether it changes a comic that is there already."""
        return self in (RequestType.CONTINUE, RequestType.UPDATE_PANEL)


@attrs.frozen
class BatchStory:
    """One story of a batch or a queue, with its name and with the comic that it changes.

    A mapping with the same names says the same: `{"type": "continue", "of": "order-1", "prompt":
    "Then it rains", "key": "order-2"}`.
    """

    request: AnyRequest | str | Mapping[str, Any] = attrs.field(hash=False)
    """The request; text is a comic's prompt, and a mapping may have a `type`."""
    key: str | int | None = attrs.field(default=None, kw_only=True)
    """Your own name for the story, such as an order number."""
    of: str | int | None = attrs.field(default=None, kw_only=True)
    """The key of the story whose comic is changed; it stands anywhere in the input or journal."""
    id: str | None = attrs.field(default=None, kw_only=True)
    """The id of the comic that is changed, instead of `of`."""


_CLASSES: Final[Mapping[RequestType, type[Any]]] = {
    RequestType.COMIC: ComicRequest,
    RequestType.CONTINUE: ContinueRequest,
    RequestType.UPDATE_PANEL: UpdateRequest,
    RequestType.ANIMATION: AnimationRequest,
}
FIELDS: Final[Mapping[str, str]] = {
    spelling: name for cls in _CLASSES.values() for spelling, name in cls.spelling.names.items()
}
"""The name in Python of each field that some request has, by every spelling that is read."""
_TYPES: Final = [
    (field.name, str(field.type)) for cls in _CLASSES.values() for field in attrs.fields(cls)
]
TEXTS: Final = {name for name, _ in _TYPES} - {
    name for name, type_ in _TYPES if type_.removesuffix(" | None") not in ("str", *OPEN)
}
"""The names of the fields that are text and nothing else."""
_ACTIONS: Final = {
    "continuewrite": RequestType.CONTINUE,
    "regeneratepanel": RequestType.UPDATE_PANEL,
}
"""The API's own words for changes, without case."""
_WORDS: Final = {
    **_ACTIONS,
    **{"".join(one.split("_")): one for one in RequestType},
    "continuation": RequestType.CONTINUE,
    "redraw": RequestType.UPDATE_PANEL,
    "animate": RequestType.ANIMATION,
}
"""The words of a `type`, without case, hyphens and underscores."""
_ALLOWED: Final = f"one of {', '.join(RequestType)}"


def type_given(word: object, action: object = None) -> RequestType:
    """Return the type that a story says: by its `type`, or by the API's own `action`.

    Args:
        word: The type's name, or the API's name for the change; `None` if it says none.
        action: The API's name for the change, if the story has that.

    Raises:
        InvalidRequestError: There is no such type, or the two are not the same.
    """
    named = None if word is None else _type(word, "type", _WORDS, _ALLOWED)
    allowed = "continueWrite or regeneratePanel"
    acting = None if action is None else _type(action, "action", _ACTIONS, allowed)
    if named and acting and named is not acting:
        raise InvalidRequestError("action", action, f"what type says, which is {named}")
    return named or acting or RequestType.COMIC


def type_of(request: AnyRequest) -> RequestType:
    """Return the type of a request."""
    return next(type_ for type_, cls in _CLASSES.items() if isinstance(request, cls))


def parse_request(type_: RequestType, fields: Any) -> AnyRequest:
    """Make a request of a type from whatever its class can be made from.

    Raises:
        InvalidRequestError: A field is unknown or its value is not allowed.
    """
    request: AnyRequest = _CLASSES[type_].parse(fields)
    return request


def fields_of(request: AnyRequest) -> dict[str, Any]:
    """Return a request's fields as `parse_request` reads them back."""
    return request.to_fields()


def _type(word: object, field: str, words: Mapping[str, RequestType], allowed: str) -> RequestType:
    text = word.replace("-", "").replace("_", "").lower() if isinstance(word, str) else ""
    if text not in words:
        raise InvalidRequestError(field, word, allowed)
    return words[text]
