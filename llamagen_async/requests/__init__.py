"""Requests, checked when they are made. No I/O.

A wrong value raises `InvalidRequestError` with the field's name, what was given and what is
allowed, so a mistake costs neither a request nor a credit. What is not wrong but only unknown (a
size, a preset, a model that may be new) is sent, with one warning; `extra` passes on whatever else
a newer API understands.
"""

from llamagen_async.requests.animation import AnimationFields, AnimationRequest
from llamagen_async.requests.any_request import (
    AnyRequest,
    BatchStory,
    ChangeRequest,
    RequestType,
)
from llamagen_async.requests.changes import (
    ContinueFields,
    ContinueRequest,
    UpdateFields,
    UpdateRequest,
)
from llamagen_async.requests.comic import ComicFields, ComicRequest
from llamagen_async.requests.parts import (
    Attachment,
    Character,
    Location,
    Pagination,
    VideoOptions,
)
from llamagen_async.requests.words import (
    SIZES,
    AspectRatio,
    AttachmentType,
    Language,
    Model,
    Preset,
    Resolution,
    Size,
    Upscale,
)

__all__ = [
    "SIZES",
    "AnimationFields",
    "AnimationRequest",
    "AnyRequest",
    "AspectRatio",
    "Attachment",
    "AttachmentType",
    "BatchStory",
    "ChangeRequest",
    "Character",
    "ComicFields",
    "ComicRequest",
    "ContinueFields",
    "ContinueRequest",
    "Language",
    "Location",
    "Model",
    "Pagination",
    "Preset",
    "RequestType",
    "Resolution",
    "Size",
    "UpdateFields",
    "UpdateRequest",
    "Upscale",
    "VideoOptions",
]
