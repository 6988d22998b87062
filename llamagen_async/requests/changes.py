"""Requests that change a comic: its continuation, and the redrawing of one panel.

What they may hold, and under which names, is read off the vendor's own clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypedDict

import attrs

from llamagen_async.requests import fields
from llamagen_async.requests.parts import Attachment, Pagination
from llamagen_async.requests.spelling import Spelling
from llamagen_async.validation import InvalidRequestError, without_mark

__all__ = ["ContinueFields", "ContinueRequest", "UpdateFields", "UpdateRequest"]

_WHAT_CHANGES: Final = ("prompt", "panelPrompt", "images", "caption")
"""Fields of which a redraw needs one, in the API's spelling."""


def _pagination(value: Pagination | Mapping[str, Any]) -> Pagination:
    return fields.parsed("pagination", value, Pagination)


def _attachments(
    value: Iterable[Attachment | Mapping[str, Any]] | Attachment | Mapping[str, Any] | None,
) -> tuple[Attachment, ...]:
    return () if value == () else fields.parsed_items("attachments", value, Attachment)


def _text() -> Any:
    return attrs.field(
        default=None,
        kw_only=True,
        converter=without_mark,
        validator=fields.optional(fields.text),
    )


def _extra() -> Any:
    return attrs.field(
        factory=dict[str, Any], kw_only=True, hash=False, validator=fields.check_extra
    )


@attrs.frozen
class ContinueRequest:
    """More of the story of a comic.

    Raises:
        InvalidRequestError: A value is not allowed. Nothing was sent.
    """

    prompt: str = attrs.field(converter=without_mark, validator=fields.text)
    """The story from there on."""
    fix_panel_num: int | None = attrs.field(
        default=None,
        kw_only=True,
        converter=fields.whole,
        validator=fields.optional(fields.count),
    )
    """Number of further panels, 1 to 20. Not together with `pagination`."""
    pagination: Pagination | None = attrs.field(
        default=None, kw_only=True, converter=attrs.converters.optional(_pagination)
    )
    """Further pages and panels per page. Not together with `fix_panel_num`."""
    attachments: tuple[Attachment, ...] = attrs.field(
        default=(), kw_only=True, converter=_attachments
    )
    """Files, each an `Attachment` or a mapping of its fields."""
    images: tuple[str | Path, ...] = attrs.field(
        default=(), kw_only=True, converter=fields.urls_of, validator=fields.urls
    )
    """URLs of reference images."""
    extra: Mapping[str, Any] = _extra()
    """Fields that this version does not know, in the API's own spelling; they override others."""

    def __attrs_post_init__(self) -> None:
        fields.check_layout(self.fix_panel_num, self.pagination)

    @classmethod
    def parse(cls, value: ContinueRequest | str | Mapping[str, Any]) -> Self:
        """Make a request from a prompt or from a mapping of fields, in either spelling.

        Raises:
            InvalidRequestError: A field is unknown or its value is not allowed.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            allowed = "a prompt, a mapping or a ContinueRequest"
            raise InvalidRequestError("request", value, allowed)
        return cls(**_CONTINUE.read(_without_action(value), needs="prompt"))

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON body of the request; what was not given is not sent."""
        return {"action": "continueWrite", **_CONTINUE.write(self)}


@attrs.frozen(kw_only=True)
class UpdateRequest:
    """The redrawing of one panel of a comic.

    Raises:
        InvalidRequestError: A value is not allowed, or nothing says what is to change. Nothing was
            sent.
    """

    panel: int = attrs.field(converter=fields.whole, validator=fields.index)
    """The panel's number on its page, from 0."""
    page: int | None = attrs.field(
        default=None, converter=fields.whole, validator=fields.optional(fields.index)
    )
    """The page's number, from 0; the server takes the first one when it is not given."""
    prompt: str | None = _text()
    """The panel's new content, in words."""
    panel_prompt: str | None = _text()
    """A second name of it, which is more precise at the API."""
    images: tuple[str | Path, ...] = attrs.field(
        default=(), kw_only=True, converter=fields.urls_of, validator=fields.urls
    )
    """URLs of reference images."""
    caption: str | None = _text()
    """The text that goes with the picture."""
    extra: Mapping[str, Any] = _extra()
    """Fields that this version does not know, in the API's own spelling; they override others."""

    def __attrs_post_init__(self) -> None:
        if not any(map(self.to_payload().get, _WHAT_CHANGES)):
            allowed = "text that is not empty; or panel_prompt, images or caption instead of it"
            raise InvalidRequestError("prompt", self.prompt, allowed)

    @classmethod
    def parse(cls, value: UpdateRequest | Mapping[str, Any]) -> Self:
        """Make a request from a mapping of fields, in any spelling of the vendor's clients.

        Raises:
            InvalidRequestError: A field is unknown or its value is not allowed.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise InvalidRequestError("request", value, "a mapping or an UpdateRequest")
        return cls(**_UPDATE.read(_without_action(value), needs="panel"))

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON body of the request; what was not given is not sent."""
        return {"action": "regeneratePanel", **_UPDATE.write(self)}


def _without_action(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields without the API's word for the change, which the class says."""
    return {name: one for name, one in value.items() if name != "action"}


_CONTINUE: Final = Spelling(ContinueRequest)
_UPDATE: Final = Spelling(
    UpdateRequest,
    also={
        "pageIndex": "page",
        "page_index": "page",
        "panelIndex": "panel",
        "panel_index": "panel",
        "images_url": "images",
    },
)


class ContinueFields(TypedDict, total=False):
    """The keyword arguments of `continue_write`: the fields of `ContinueRequest`."""

    fix_panel_num: int | None
    pagination: Pagination | Mapping[str, Any] | None
    attachments: Iterable[Attachment | Mapping[str, Any]]
    images: Iterable[str | Path]
    extra: Mapping[str, Any]


class UpdateFields(TypedDict, total=False):
    """The keyword arguments of `update_panel`: the fields of `UpdateRequest`."""

    panel: int
    page: int | None
    prompt: str | None
    panel_prompt: str | None
    images: Iterable[str | Path]
    caption: str | None
    extra: Mapping[str, Any]
