"""Requests that change a comic: its continuation, and the redrawing of one panel.

What they may hold, and under which names, is read off the vendor's own clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

import attrs

from llamagen_async.requests import fields
from llamagen_async.requests.comic import attachments_of
from llamagen_async.requests.parts import Attachment, Pagination, pagination_of
from llamagen_async.requests.spelling import Spelled, Spelling
from llamagen_async.validation import InvalidRequestError, without_mark

__all__ = [
    "ContinueFields",
    "ContinueRequest",
    "UpdateFields",
    "UpdateRequest",
]

_WHAT_CHANGES: Final = ("prompt", "panelPrompt", "images", "caption")
"""Fields of which a redraw needs one, in the API's spelling."""


def _text() -> Any:
    return attrs.field(
        default=None,
        kw_only=True,
        converter=without_mark,
        validator=fields.optional(fields.text),
    )


@attrs.frozen
class ContinueRequest(Spelled):
    """More of the story of a comic.

    Raises:
        InvalidRequestError: A value is not allowed. Nothing was sent.
    """

    prompt: str = attrs.field(converter=without_mark, validator=fields.text)
    """The story from there on."""
    fix_panel_num: int | None = attrs.field(
        default=None,
        kw_only=True,
        converter=fields.whole_if_any,
        validator=fields.optional(fields.count),
    )
    """Number of further panels, 1 to 20. Not together with `pagination`."""
    pagination: Pagination | None = attrs.field(default=None, kw_only=True, converter=pagination_of)
    """Further pages and panels per page. Not together with `fix_panel_num`."""
    attachments: tuple[Attachment, ...] = attrs.field(
        default=(), kw_only=True, converter=attachments_of
    )
    """Files, each an `Attachment` or a mapping of its fields."""
    images: tuple[str | Path, ...] = attrs.field(
        default=(), kw_only=True, converter=fields.urls_of, validator=fields.urls
    )
    """URLs of reference images."""
    extra: Mapping[str, Any] = fields.extra()
    """Fields that this version does not know, in the API's own spelling; they override others."""

    def __attrs_post_init__(self) -> None:
        fields.check_layout(self.fix_panel_num, self.pagination)


@attrs.frozen(kw_only=True)
class UpdateRequest(Spelled):
    """The redrawing of one panel of a comic.

    Raises:
        InvalidRequestError: A value is not allowed, or nothing says what is to change. Nothing was
            sent.
    """

    panel: int = attrs.field(converter=fields.whole, validator=fields.index)
    """The panel's number on its page, from 0."""
    page: int | None = attrs.field(
        default=None, converter=fields.whole_if_any, validator=fields.optional(fields.index)
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
    extra: Mapping[str, Any] = fields.extra()
    """Fields that this version does not know, in the API's own spelling; they override others."""

    def __attrs_post_init__(self) -> None:
        if not any(map(self.to_payload().get, _WHAT_CHANGES)):
            allowed = "text that is not empty; or panel_prompt, images or caption instead of it"
            raise InvalidRequestError("prompt", self.prompt, allowed)


ContinueRequest.spelling = Spelling(
    ContinueRequest,
    field="request",
    allowed="a prompt, a mapping or a ContinueRequest",
    text_is="prompt",
    needs=("prompt",),
    says={"action": "continueWrite"},
)
UpdateRequest.spelling = Spelling(
    UpdateRequest,
    field="request",
    allowed="a mapping or an UpdateRequest",
    needs=("panel",),
    says={"action": "regeneratePanel"},
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
