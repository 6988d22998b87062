"""JSON Schemas of what the API is sent, as far as it is known.

The checks of requests read these schemas, and the OpenAPI document shows them: there is no second
list. The facts come from the vendor's documentation and clients, and share no code and no list with
the client's own checks on purpose, so that a mistake in one of them shows. Fields that are not
listed are accepted, because the real API knows more of them than its documentation.

A schema's `description` is what a value has to be, in words, and ends the message of a 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "ANIMATION",
    "CONTINUE",
    "CREATE",
    "INDEX",
    "PAGE_NAMES",
    "PANEL_NAMES",
    "REDRAW",
    "REDRAW_TEXTS",
    "SIZES",
    "Schema",
]

Schema = Mapping[str, Any]
"""A JSON Schema; of its words those are used that `request_checks` knows."""

SIZES: Final = frozenset(
    {"1024x1024", "512x768", "512x1024", "576x1024", "768x1024"}
    | {"1024x768", "768x512", "1024x576", "1024x512"}
)
"""The picture sizes in pixels, width first, that the vendor's own clients offer.

They were read from the clients' source; a page of the vendor's site lists others.
"""

_SIDE: Final = "(6[4-9]|[7-9][0-9]|[1-9][0-9]{2}|1[0-9]{3}|20[0-3][0-9]|204[0-8])"
"""The pixels that a side of a picture may have, 64 to 2048: both lists, and whatever else can be
drawn soon."""
_LARGEST: Final = 10**15
"""The largest page or panel that can be asked for: more digits are no number of a panel."""
PANEL_NAMES: Final = ("panel", "panelIndex", "panel_index")
"""The names under which the vendor's clients send the number of the panel to redraw."""
PAGE_NAMES: Final = ("page", "pageIndex", "page_index")
"""The names under which they send the number of its page."""
REDRAW_TEXTS: Final = ("panelPrompt", "panel_prompt", "prompt", "caption")
"""The texts of which a redraw needs one, unless it has pictures."""


def _or_null(schema: Schema) -> Schema:
    """Return a schema that null fulfils, too: to the API it is a field that is not there."""
    kind = schema.get("type")
    if kind is None:
        return schema
    kinds = [kind] if isinstance(kind, str) else kind
    return {**schema, "type": [*kinds, "null"]}


def _object(words: str, required: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    properties = {
        name: schema if name in required else _or_null(schema) for name, schema in fields.items()
    }
    needs = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **needs, "description": words}


def _list(schema: Schema, words: str) -> Schema:
    return {"type": "array", "items": schema, "description": words}


def _given(name: str, schema: Schema) -> Schema:
    """Return the condition that a field is there, and not null."""
    return {"required": [name], "properties": {name: schema}}


def _one_of(names: tuple[str, ...], words: str) -> Schema:
    return {"anyOf": [_given(name, {"not": {"type": "null"}}) for name in names],
            "description": words}  # fmt: skip


# A space, a tab and what ends a line are no text. Spelled out, it means the same in all languages.
_TEXT: Final[Schema] = {
    "type": "string",
    "pattern": "[^\\t-\\r ]",
    "description": "text that is not empty",
}
_WORD: Final[Schema] = {"type": "string", "description": "text"}
_NUMBER: Final[Schema] = {"type": "number", "description": "a number"}
_FLAG: Final[Schema] = {"type": "boolean", "description": "true or false"}
_COUNT: Final[Schema] = {
    "type": "integer",
    "minimum": 1,
    "maximum": 20,
    "description": "a whole number from 1 to 20",
}
INDEX: Final[Schema] = {
    "type": "integer",
    "minimum": 0,
    "maximum": _LARGEST,
    "description": "a whole number of at least 0",
}
"""The number of a page or a panel, from 0."""
_URLS: Final = _list(_WORD, "a list of URLs")
_PICTURES: Final[Schema] = {**_URLS, "minItems": 1}
_PAGES: Final = _object(
    "an object", ("totalPages", "panelsPerPage"), totalPages=_COUNT, panelsPerPage=_COUNT
)
_ROLE: Final = _object(
    "an object with a name",
    ("name",),
    name=_TEXT,
    image=_WORD,
    age={"type": ["number", "string"], "description": "a number or text"},
    gender=_WORD,
    dress=_WORD,
    clothing=_WORD,
    description=_WORD,
)
_LOCATION: Final = _object(
    "an object with a name", ("name",), name=_TEXT, image=_WORD, description=_WORD
)
_ATTACHMENT: Final = _object(
    "an object with a url",
    ("url",),
    url=_TEXT,
    type={**_WORD, "examples": ["image", "document", "video"]},
    title=_WORD,
)
_LENGTH: Final[Mapping[str, Schema]] = {
    "fixPanelNum": _COUNT,
    "pagination": _PAGES,
    "attachments": _list(_ATTACHMENT, "a list of objects"),
    "images": _URLS,
}
"""The fields that a new comic and a continuation have in common."""
_ONE_LENGTH: Final[Schema] = {
    "not": {
        "allOf": [_given(name, {"not": {"type": "null"}}) for name in ("fixPanelNum", "pagination")]
    },
    "description": "fixPanelNum and pagination exclude each other",
}

CREATE: Final[Schema] = {
    **_object(
        "an object",
        prompt=_TEXT,
        promptUrl=_TEXT,
        model=_WORD,
        preset=_WORD,
        size={
            "type": "string",
            "pattern": f"^{_SIDE}x{_SIDE}$",
            "examples": sorted(SIZES),
            "description": "WIDTHxHEIGHT, each from 64 to 2048",
        },
        style=_WORD,
        language=_WORD,
        upscale={
            "type": ["boolean", "string"],
            "examples": ["2K", "4K"],
            "description": "true, false, or text",
        },
        comicRoles=_list(_ROLE, "a list of objects"),
        comicLocations=_list(_LOCATION, "a list of objects"),
        **_LENGTH,
    ),
    "allOf": [_one_of(("prompt", "promptUrl"), "prompt or promptUrl is required"), _ONE_LENGTH],
}
"""A new comic."""

CONTINUE: Final[Schema] = {
    **_object(
        "an object",
        ("action", "prompt"),
        action={"const": "continueWrite", "description": "continueWrite"},
        prompt=_TEXT,
        **_LENGTH,
    ),
    "allOf": [_ONE_LENGTH],
}
"""The continuation of a comic."""

REDRAW: Final[Schema] = {
    **_object(
        "an object",
        ("action",),
        action={"const": "regeneratePanel", "description": "regeneratePanel"},
        images=_URLS,
        images_url={"type": ["string", "array"], "items": _WORD, "description": "text or a list"},
        **dict.fromkeys((*PANEL_NAMES, *PAGE_NAMES), INDEX),
        **dict.fromkeys(REDRAW_TEXTS, _WORD),
    ),
    "allOf": [
        _one_of(PANEL_NAMES, f"one of {', '.join(PANEL_NAMES)} is required"),
        {
            "anyOf": [
                *(_given(name, _TEXT) for name in (*REDRAW_TEXTS, "images_url")),
                *(_given(name, _PICTURES) for name in ("images", "images_url")),
            ],
            "description": f"one of {', '.join((*REDRAW_TEXTS, 'images', 'images_url'))}"
            " is required",
        },
    ],
}
"""The redrawing of one panel."""

ANIMATION: Final = _object(
    "an object",
    ("prompt",),
    prompt=_TEXT,
    videoOptions=_object(
        "an object",
        duration=_NUMBER,
        resolution=_WORD,
        aspect_ratio=_WORD,
        image=_WORD,
        last_frame_image=_WORD,
        reference_images=_URLS,
        reference_videos=_URLS,
        reference_audios=_URLS,
        generate_audio=_FLAG,
        seed={"type": "integer", "description": "a whole number"},
    ),
)
"""A new animation."""
