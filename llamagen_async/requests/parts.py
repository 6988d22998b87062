"""Parts of requests: characters, places, files, pages, and how a video is made.

Each may be given as a mapping, in Python's spelling or the API's. Fields that this version does not
know are passed on where the API is known to take them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import attrs

from llamagen_async.requests import fields
from llamagen_async.requests.spelling import Spelled, Spelling
from llamagen_async.requests.words import (
    ASPECT_RATIOS,
    ATTACHMENT_TYPES,
    RESOLUTIONS,
    AspectRatio,
    AttachmentType,
    Resolution,
)
from llamagen_async.validation import InvalidRequestError

__all__ = [
    "Attachment",
    "Character",
    "Location",
    "Pagination",
    "VideoOptions",
    "pagination_of",
]

_LONGEST_VIDEO: Final = 3_600.0
"""Seconds of the longest video that is asked for: more is a mistake, such as milliseconds."""


def _text() -> Any:
    return attrs.field(default=None, kw_only=True, validator=fields.optional(fields.text))


_URL: Final = fields.optional(fields.url)
"""The check of a URL that need not be given."""


@attrs.frozen
class Pagination(Spelled):
    """Number of pages of a comic, and of panels on each page.

    Raises:
        InvalidRequestError: A number is not from 1 to 20.
    """

    total_pages: int = attrs.field(converter=fields.whole, validator=fields.count)
    """Number of pages, 1 to 20."""
    panels_per_page: int = attrs.field(converter=fields.whole, validator=fields.count)
    """Number of panels on each page, 1 to 20."""

    def __str__(self) -> str:
        return f"{self.total_pages}x{self.panels_per_page}"


@attrs.frozen
class Character(Spelled):
    """A character of a comic.

    Raises:
        InvalidRequestError: A value is not allowed.
    """

    name: str = attrs.field(validator=fields.text)
    """The name by which the story speaks of the character."""
    image: str | Path | None = attrs.field(default=None, kw_only=True, validator=_URL)
    """URL of a picture of the character, or the `Path` of one, which is uploaded first."""
    age: float | str | None = attrs.field(
        default=None,
        kw_only=True,
        converter=fields.number,
        validator=fields.optional(fields.text_or_number),
    )
    """The age, as a number or in words."""
    gender: str | None = _text()
    """The gender, in words."""
    dress: str | None = _text()
    """Clothes of the character, in words; the vendor's newer clients send this field."""
    clothing: str | None = _text()
    """Clothes of the character, under the name of the vendor's older clients."""
    description: str | None = _text()
    """The character, in words; the vendor's newer clients do not send it."""
    extra: Mapping[str, Any] = fields.extra()
    """Further fields, in the API's own spelling."""


@attrs.frozen
class Location(Spelled):
    """A place of a comic.

    Raises:
        InvalidRequestError: A value is not allowed.
    """

    name: str = attrs.field(validator=fields.text)
    """The name by which the story speaks of the place."""
    image: str | Path | None = attrs.field(default=None, kw_only=True, validator=_URL)
    """URL of a picture of the place, or the `Path` of one."""
    description: str | None = _text()
    """The place, in words."""
    extra: Mapping[str, Any] = fields.extra()
    """Further fields, in the API's own spelling."""


def _attachment_type(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ATTACHMENT_TYPES:
        allowed = f"one of {', '.join(ATTACHMENT_TYPES)}"
        raise InvalidRequestError(attribute.name, value, allowed)


@attrs.frozen
class Attachment(Spelled):
    """A file that goes with a request.

    Raises:
        InvalidRequestError: A value is not allowed.
    """

    url: str | Path = attrs.field(validator=fields.url)
    """URL of the file, or its `Path`."""
    type: AttachmentType | None = attrs.field(
        default=None, kw_only=True, validator=fields.optional(_attachment_type)
    )
    """The sort of file: `image`, `document` or `video`."""
    title: str | None = _text()
    """The file's title."""
    extra: Mapping[str, Any] = fields.extra()
    """Further fields, in the API's own spelling."""


def _duration(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < cast("float", value) <= _LONGEST_VIDEO:
        raise InvalidRequestError(attribute.name, value, "seconds, more than 0 and up to 3600")


@attrs.frozen(kw_only=True)
class VideoOptions(Spelled):
    """How a video is made; nothing has to be given.

    Raises:
        InvalidRequestError: A value is not allowed.
    """

    duration: float | None = attrs.field(
        default=None, converter=fields.number, validator=fields.optional(_duration)
    )
    """The length in seconds."""
    resolution: Resolution | None = attrs.field(
        default=None, validator=fields.optional(fields.text_that_may_be_new(RESOLUTIONS))
    )
    """The resolution, such as `480p`, `720p`, `1080p` or `4k`."""
    aspect_ratio: AspectRatio | None = attrs.field(
        default=None, validator=fields.optional(fields.text_that_may_be_new(ASPECT_RATIOS))
    )
    """The aspect ratio, as width and height with a colon between them.

    Known are `16:9`, `9:16`, `1:1`, `4:3` and `3:4`.
    """
    image: str | Path | None = attrs.field(default=None, kw_only=True, validator=_URL)
    """URL of the first frame's picture."""
    last_frame_image: str | Path | None = attrs.field(default=None, kw_only=True, validator=_URL)
    """URL of the last frame's picture."""
    reference_images: tuple[str | Path, ...] = attrs.field(
        default=(), kw_only=True, converter=fields.urls_of, validator=fields.urls
    )
    """URLs of pictures to go by."""
    reference_videos: tuple[str | Path, ...] = attrs.field(
        default=(), kw_only=True, converter=fields.urls_of, validator=fields.urls
    )
    """URLs of videos to go by."""
    reference_audios: tuple[str | Path, ...] = attrs.field(
        default=(), kw_only=True, converter=fields.urls_of, validator=fields.urls
    )
    """URLs of sounds to go by."""
    generate_audio: bool | None = attrs.field(default=None, validator=fields.optional(fields.flag))
    """Whether the video gets sound."""
    seed: int | None = attrs.field(
        default=None, converter=fields.whole_if_any, validator=fields.optional(fields.seed)
    )
    """The seed of what is drawn by chance."""
    extra: Mapping[str, Any] = fields.extra()
    """Further fields, in the API's own spelling."""


Pagination.spelling = Spelling(
    Pagination, allowed="a Pagination or a mapping", needs=("total_pages", "panels_per_page")
)
Character.spelling = Spelling(
    Character, allowed="a Character or a mapping with a name", needs=("name",), keeps_unknown=True
)
Location.spelling = Spelling(
    Location, allowed="a Location or a mapping with a name", needs=("name",), keeps_unknown=True
)
Attachment.spelling = Spelling(
    Attachment, allowed="an Attachment or a mapping with a url", needs=("url",), keeps_unknown=True
)
VideoOptions.spelling = Spelling(
    VideoOptions, allowed="VideoOptions or a mapping", is_snake=True, keeps_unknown=True
)


def pagination_of(value: Pagination | Mapping[str, Any] | None) -> Pagination | None:
    """Return the pages of a request, whose field is `pagination`; `None` if it has none."""
    return None if value is None else fields.parsed("pagination", value, Pagination)
