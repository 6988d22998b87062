"""The request for a comic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import attrs

from llamagen_async.requests import fields
from llamagen_async.requests.parts import (
    Attachment,
    Character,
    Location,
    Pagination,
    pagination_of,
)
from llamagen_async.requests.spelling import Spelled, Spelling
from llamagen_async.requests.words import MODELS, PRESETS, Language, Model, Preset, Size, Upscale
from llamagen_async.validation import InvalidRequestError, checked_text, without_mark

__all__ = ["ComicFields", "ComicRequest", "attachments_of"]


def _characters(
    value: Iterable[Character | Mapping[str, Any]] | Character | Mapping[str, Any] | None,
) -> tuple[Character, ...]:
    return fields.parsed_items("comic_roles", value, Character)


def _locations(
    value: Iterable[Location | Mapping[str, Any]] | Location | Mapping[str, Any] | None,
) -> tuple[Location, ...]:
    return fields.parsed_items("comic_locations", value, Location)


def attachments_of(
    value: Iterable[Attachment | Mapping[str, Any]] | Attachment | Mapping[str, Any] | None,
) -> tuple[Attachment, ...]:
    """Return the files of a request, whose field is `attachments`."""
    return fields.parsed_items("attachments", value, Attachment)


@attrs.frozen
class ComicRequest(Spelled):
    """One comic to generate.

    Raises:
        InvalidRequestError: A value is not allowed. Nothing was sent.
    """

    prompt: str | None = attrs.field(default=None, converter=without_mark)
    """The story. Required unless `prompt_url` is given."""
    prompt_url: str | Path | None = attrs.field(
        default=None, kw_only=True, validator=fields.optional(fields.url)
    )
    """URL at which the story can be read, instead of `prompt`."""
    model: Model | None = attrs.field(
        default=None,
        kw_only=True,
        validator=fields.optional(fields.text_that_may_be_new(MODELS)),
    )
    """The model's name; the server chooses by plan when it is not given."""
    preset: Preset | None = attrs.field(
        default=None,
        kw_only=True,
        validator=fields.optional(fields.text_that_may_be_new(PRESETS)),
    )
    """The preset; the server uses `render` when it is not given."""
    size: Size | None = attrs.field(
        default=None, kw_only=True, validator=fields.optional(fields.size)
    )
    """Picture size in pixels, such as one of `SIZES`."""
    fix_panel_num: int | None = attrs.field(
        default=None,
        kw_only=True,
        converter=fields.whole_if_any,
        validator=fields.optional(fields.count),
    )
    """Number of panels, 1 to 20. Not together with `pagination`."""
    pagination: Pagination | None = attrs.field(default=None, kw_only=True, converter=pagination_of)
    """Pages and panels per page. Not together with `fix_panel_num`."""
    style: str | None = attrs.field(
        default=None, kw_only=True, validator=fields.optional(fields.text)
    )
    """The drawing style, in words."""
    language: Language | None = attrs.field(
        default=None, kw_only=True, validator=fields.optional(fields.language)
    )
    """The code of the captions' language, such as `en`."""
    upscale: Upscale | None = attrs.field(
        default=None, kw_only=True, validator=fields.optional(fields.upscale)
    )
    """`True`, `"2K"` or `"4K"` for larger pictures."""
    images: tuple[str | Path, ...] = attrs.field(
        default=(), kw_only=True, converter=fields.urls_of, validator=fields.urls
    )
    """URLs of reference images."""
    comic_roles: tuple[Character, ...] = attrs.field(
        default=(), kw_only=True, converter=_characters
    )
    """Characters, each a `Character` or a mapping of its fields."""
    comic_locations: tuple[Location, ...] = attrs.field(
        default=(), kw_only=True, converter=_locations
    )
    """Places, each a `Location` or a mapping of its fields."""
    attachments: tuple[Attachment, ...] = attrs.field(
        default=(), kw_only=True, converter=attachments_of
    )
    """Files, each an `Attachment` or a mapping of its fields."""
    extra: Mapping[str, Any] = fields.extra()
    """Fields that this version does not know, in the API's own spelling; they override others."""

    def __attrs_post_init__(self) -> None:
        if self.prompt is not None:
            checked_text("prompt", self.prompt)
        elif self.prompt_url is None:
            raise InvalidRequestError("prompt", None, f"{fields.TEXT}, or a prompt_url")
        if self.fix_panel_num is not None and self.pagination is not None:
            fields.check_layout(self.fix_panel_num, self.pagination)


ComicRequest.spelling = Spelling(
    ComicRequest,
    field="request",
    allowed="a prompt, a mapping or a ComicRequest",
    text_is="prompt",
)


class ComicFields(TypedDict, total=False):
    """The keyword arguments of `create` and `create_and_wait`: the fields of `ComicRequest`."""

    prompt_url: str | Path | None
    model: Model | None
    preset: Preset | None
    size: Size | None
    fix_panel_num: int | None
    pagination: Pagination | Mapping[str, Any] | None
    style: str | None
    language: Language | None
    upscale: Upscale | None
    images: Iterable[str | Path]
    comic_roles: Iterable[Character | Mapping[str, Any]]
    comic_locations: Iterable[Location | Mapping[str, Any]]
    attachments: Iterable[Attachment | Mapping[str, Any]]
    extra: Mapping[str, Any]
