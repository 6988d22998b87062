"""Stories: one request of the input each, checked, with its name and what it changes. No I/O."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final, cast

import attrs

from llamagen_async.errors import InvalidRequestError
from llamagen_async.requests import AnyRequest, BatchStory, ComicRequest, RequestType
from llamagen_async.requests.any_request import fields_of, parse_request, type_given, type_of
from llamagen_async.requests.defaults import Defaults
from llamagen_async.requests.files import with_absolute_paths, with_paths
from llamagen_async.validation import checked_id, checked_text, python_integer, without_mark

__all__ = [
    "RequestLike",
    "Story",
    "checked_key",
    "content_key",
    "given_key",
    "own_key",
    "request_in",
]

_KEY: Final = "key"
_OF: Final = "of"
_ID: Final = "id"
_TYPE: Final = "type"
_NAMES: Final = (_KEY, _OF, _ID, _TYPE)
"""The names that a story may have beside its request's fields."""
_OF_CONTENT: Final = "content:"
"""The beginning of a key that a journal has made."""
_LONGEST_KEY: Final = 500
"""Characters of the longest key: order numbers and URLs fit, a story by mistake does not."""
_ALLOWED_KEY: Final = f"text or a whole number, up to {_LONGEST_KEY} characters"
_dump: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode
_NEEDED: Final = "the key of the story whose comic is changed, or id: that comic's own id"


@attrs.frozen
class Story:
    """One story of the input, checked and ready to be written."""

    request: AnyRequest
    """The request."""
    key: str | None
    """The user's own name for the story, such as an order number."""
    text: str
    """The story as JSON, without its key, ready to be read back."""
    digest: bytes
    """A hash of the content: two stories with the same digest ask for the same."""
    label: str = ""
    """Where the story stands in its file, such as `stories.jsonl:7`."""
    type: RequestType = RequestType.COMIC
    """The type of the request."""
    of: str | None = None
    """The key of the story whose comic is changed."""
    target: str | None = None
    """The id of the comic that is changed, if that was given."""

    @classmethod
    def parse(
        cls,
        given: RequestLike,
        key: object = None,
        label: str = "",
        *,
        defaults: Defaults | None = None,
        folder: Path | None = None,
    ) -> Story:
        """Check one story of the input; a story that was parsed before is taken as it is.

        Args:
            given: The story; what a mapping has beside its request's fields (`key`, `type`, `of`,
                `id`) is not sent.
            key: The user's own name, if it is not in the mapping.
            label: Where the story stands in its file.
            defaults: What a comic does not say itself. They are no part of its digest, so that
                what is done stays done when they change.
            folder: The folder of a file of the user's own in which the story stands: then text in
                the place of a URL is the path of a file, from there on.

        Raises:
            InvalidRequestError: A field, the key or what is to be changed is not allowed.
        """
        if isinstance(given, Story):
            return given if key is None else attrs.evolve(given, key=checked_key(key))
        request, names = _taken_apart(given, has_paths=folder is not None)
        type_ = type_of(request)
        key = names[_KEY] if names[_KEY] is not None else key
        known = None if key is None else checked_key(key)
        of, target = _changed(type_, names)
        if of is not None and of == known:
            raise InvalidRequestError(_OF, of, "the key of another story")
        # Through JSON and back: names that are numbers can't be sorted among others.
        content = json.loads(json.dumps(request.to_payload(), default=_text_of))
        beside: dict[str, Any] = {}
        if type_ is not RequestType.COMIC:
            given_names = {_TYPE: type_.value, _OF: of, _ID: target}
            beside = {name: one for name, one in given_names.items() if one is not None}
            content = [beside, content]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        request = with_absolute_paths(request, folder)
        if defaults is not None and isinstance(request, ComicRequest):
            request = defaults.merged(request)
        return cls(
            request,
            known,
            _dump({**beside, **fields_of(request)}),
            hashlib.sha256(canonical.encode()).digest()[:16],
            label,
            type_,
            of,
            target,
        )


RequestLike = str | AnyRequest | BatchStory | Mapping[str, Any] | Story
"""The forms in which one story may be given. A mapping may have a `key` of the user's own, a `type`
and, if it is a change, the key or the id of the comic that it changes."""


def content_key(story: Story, number: int) -> str:
    """Return the name of a story without a key of the user's: made of its content.

    Args:
        story: The story.
        number: How many of the same content there are up to this one.
    """
    return f"{_OF_CONTENT}{story.digest.hex()}/{number}"


def own_key(key: str | None) -> str:
    """Return a story's key if it is the user's own; empty text if a journal has made it."""
    return "" if key is None or key.startswith(_OF_CONTENT) else key


def request_in(fields: object) -> AnyRequest:
    """Return the request of a story as a journal keeps it.

    Raises:
        InvalidRequestError: This version does not allow it any more.
    """
    return _taken_apart(cast("RequestLike", fields), has_paths=True)[0]


def given_key(given: object) -> str | None:
    """Return the user's own name for a story that is refused, if it is a good one."""
    if isinstance(given, Story):
        return given.key
    key = given.key if isinstance(given, BatchStory) else None
    if isinstance(given, Mapping):
        key = cast("Mapping[str, Any]", given).get(_KEY)
    with contextlib.suppress(InvalidRequestError):
        return checked_key(key)
    return None


def checked_key(key: object, field: str = _KEY) -> str:
    """Return a key as text.

    Args:
        key: The key.
        field: The name of the field that has it.

    Raises:
        InvalidRequestError: The value can't be a key.
    """
    number = python_integer(key)
    if isinstance(number, int) and not isinstance(number, bool):
        key = str(number)
    text = checked_text(field, without_mark(cast("str", key)), _ALLOWED_KEY)
    if len(text) > _LONGEST_KEY:
        raise InvalidRequestError(field, key, _ALLOWED_KEY)
    return text


def _text_of(path: object) -> str:
    """Return a path as the user has written it, on whatever system."""
    return PurePath(str(path)).as_posix()


def _taken_apart(
    given: RequestLike, *, has_paths: bool = False
) -> tuple[AnyRequest, dict[str, Any]]:
    """Return the request of a story, and what stands beside its fields."""
    names: dict[str, Any] = dict.fromkeys(_NAMES)
    fields: object = given
    if isinstance(given, BatchStory):
        names |= {_KEY: given.key, _OF: given.of, _ID: given.id}
        fields = given.request
    if not isinstance(fields, Mapping):
        if isinstance(fields, str):
            return parse_request(RequestType.COMIC, fields), names
        if isinstance(fields, AnyRequest):
            return fields, names
        allowed = "a prompt, a mapping of fields, a request or a BatchStory"
        raise InvalidRequestError("request", fields, allowed)
    rest = dict(fields)
    for name in _NAMES:
        if (value := rest.pop(name, None)) is not None:
            if names[name] is not None:
                raise InvalidRequestError(name, value, "given once, not also beside the mapping")
            names[name] = value
    if has_paths:
        rest = with_paths(rest)
    return parse_request(type_given(names[_TYPE], rest.get("action")), rest), names


def _changed(type_: RequestType, names: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the key or the id that says which comic is changed."""
    of, id_ = names[_OF], names[_ID]
    if not type_.is_change:
        for name in (_OF, _ID):
            if names[name] is not None:
                changes = f"nothing for a story of type {type_}: only a change names a comic"
                raise InvalidRequestError(name, names[name], changes)
        return None, None
    if of is not None and id_ is not None:
        raise InvalidRequestError(_ID, id_, "of or id, not both")
    if of is None and id_ is None:
        raise InvalidRequestError(_OF, None, _NEEDED)
    if of is not None:
        return checked_key(of, _OF), None
    return None, checked_id(_ID, id_)
