"""JSON Schemas of a request for a comic, for the document that describes the routes. No I/O.

They describe what `ComicRequest` allows in snake_case; the API's own spelling is read as well.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["REQUEST", "TEXT"]

_Json = dict[str, Any]

TEXT: Final[_Json] = {"type": "string", "minLength": 1}
"""Text that is not empty."""
# What a line can be broken by is no text. Spelled out, it means the same in all languages.
_WORDS: Final[_Json] = {
    "type": "string",
    "pattern": "[^\\t-\\r\\x1c-\\x1f\\x85 \\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f"
    "\\u3000]",
    "description": "Text that is not blank and has no control characters.",
}
_URL: Final[_Json] = {
    "type": "string",
    "pattern": "^(https?://[^/?#]|data:)",
    "not": {"pattern": "^https?://[^\\r\\n]*([\\r\\n\\t]|[ ]$|[ ](https?://|data:))"},
}
_COUNT: Final[_Json] = {"type": "integer", "minimum": 1, "maximum": 20}
_NOTHING: Final[_Json] = {"type": "null"}


def _maybe(schema: _Json, **more: Any) -> _Json:
    """Return the schema of a field that need not be given."""
    return {"anyOf": [schema, _NOTHING], **more}


def _several(schema: _Json, **more: Any) -> _Json:
    """Return the schema of a list; a single one is a list of one."""
    return {"anyOf": [{"type": "array", "items": schema}, schema, _NOTHING], **more}


def _part(*needed: str, **fields: _Json) -> _Json:
    """Return the schema of a part of a request, which may have fields that nobody here knows."""
    return {
        "type": "object",
        "required": list(needed),
        "properties": {**fields, "extra": {"type": "object"}},
    }


_ROLE: Final = _part(
    "name",
    name=_WORDS,
    image=_maybe(_URL),
    age=_maybe({"anyOf": [{"type": "number"}, _WORDS]}),
    gender=_maybe(_WORDS),
    dress=_maybe(_WORDS),
    clothing=_maybe(_WORDS),
    description=_maybe(_WORDS),
)
_LOCATION: Final = _part("name", name=_WORDS, image=_maybe(_URL), description=_maybe(_WORDS))
_ATTACHMENT: Final = _part(
    "url",
    url=_URL,
    type=_maybe({"enum": ["image", "document", "video"]}),
    title=_maybe(_WORDS),
)
_PAGINATION: Final[_Json] = {
    "type": "object",
    "required": ["total_pages", "panels_per_page"],
    "properties": {"total_pages": _COUNT, "panels_per_page": _COUNT},
    "additionalProperties": False,
}

REQUEST: Final[_Json] = {
    "type": "object",
    "description": "The fields of a comic. The API's own spelling (fixPanelNum) is read as well. "
    "`extra` holds fields that this version does not know.",
    "properties": {
        "prompt": _maybe(_WORDS, description="The story."),
        "prompt_url": _maybe(_URL, description="Where the story can be read, instead of prompt."),
        "model": _maybe(_WORDS),
        "preset": _maybe(_WORDS),
        "size": _maybe({"type": "string", "pattern": "^[1-9][0-9]{1,4}x[1-9][0-9]{1,4}$"}),
        "fix_panel_num": _maybe(_COUNT, description="Panels; not together with pagination."),
        "pagination": _maybe(_PAGINATION),
        "style": _maybe(_WORDS),
        "language": _maybe(_WORDS),
        "upscale": _maybe({"enum": [True, False, "2K", "4K"]}),
        "images": _several(_URL),
        "comic_roles": _several(_ROLE),
        "comic_locations": _several(_LOCATION),
        "attachments": _several(_ATTACHMENT),
        "extra": {"type": "object"},
    },
    "additionalProperties": False,
    "anyOf": [
        {"required": [name], "properties": {name: schema}}
        for name, schema in (("prompt", _WORDS), ("prompt_url", _URL))
    ],
    "not": {
        "required": ["fix_panel_num", "pagination"],
        "properties": {"fix_panel_num": _COUNT, "pagination": _PAGINATION},
    },
    "examples": [{"prompt": "A superhero cat saves a city from giant mice", "fix_panel_num": 4}],
}
"""A request for a comic."""
