"""The request for an animation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import attrs

from llamagen_async.requests import fields
from llamagen_async.requests.parts import VideoOptions
from llamagen_async.requests.spelling import Spelled, Spelling
from llamagen_async.validation import without_mark

__all__ = ["AnimationFields", "AnimationRequest"]


def _video_options(value: VideoOptions | Mapping[str, Any] | None) -> VideoOptions | None:
    return None if value is None else fields.parsed("video_options", value, VideoOptions)


@attrs.frozen
class AnimationRequest(Spelled):
    """One animation to generate.

    Raises:
        InvalidRequestError: A value is not allowed. Nothing was sent.
    """

    prompt: str = attrs.field(converter=without_mark, validator=fields.text)
    """The video's content, in words."""
    video_options: VideoOptions | None = attrs.field(
        default=None, kw_only=True, converter=_video_options
    )
    """How the video is made, as `VideoOptions` or a mapping of its fields."""
    extra: Mapping[str, Any] = fields.extra()
    """Fields that this version does not know, in the API's own spelling; they override others."""


AnimationRequest.spelling = Spelling(
    AnimationRequest,
    field="request",
    allowed="a prompt, a mapping or an AnimationRequest",
    text_is="prompt",
    needs=("prompt",),
)


class AnimationFields(TypedDict, total=False):
    """The keyword arguments of `client.animations.create`: the fields of `AnimationRequest`."""

    video_options: VideoOptions | Mapping[str, Any] | None
    extra: Mapping[str, Any]
