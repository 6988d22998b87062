"""The request for an animation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self, TypedDict

import attrs

from llamagen_async.requests import fields
from llamagen_async.requests.parts import VideoOptions
from llamagen_async.requests.spelling import Spelling
from llamagen_async.validation import without_mark

__all__ = ["ANIMATION", "AnimationFields", "AnimationRequest"]


def _video_options(value: VideoOptions | Mapping[str, Any]) -> VideoOptions:
    return fields.parsed("video_options", value, VideoOptions)


@attrs.frozen
class AnimationRequest:
    """One animation to generate.

    Raises:
        InvalidRequestError: A value is not allowed. Nothing was sent.
    """

    prompt: str = attrs.field(converter=without_mark, validator=fields.text)
    """The video's content, in words."""
    video_options: VideoOptions | None = attrs.field(
        default=None, kw_only=True, converter=attrs.converters.optional(_video_options)
    )
    """How the video is made, as `VideoOptions` or a mapping of its fields."""
    extra: Mapping[str, Any] = attrs.field(
        factory=dict[str, Any], kw_only=True, hash=False, validator=fields.check_extra
    )
    """Fields that this version does not know, in the API's own spelling; they override others."""

    @classmethod
    def parse(cls, value: AnimationRequest | str | Mapping[str, Any]) -> Self:
        """Make a request from a prompt or from a mapping of fields, in either spelling.

        Raises:
            InvalidRequestError: A field is unknown or its value is not allowed.
        """
        return value if isinstance(value, cls) else cls(**ANIMATION.read(value))

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON body of the request; what was not given is not sent."""
        return ANIMATION.write(self)


ANIMATION: Final = Spelling(
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
