"""Checks of a request's content: the sandbox answers 400 where the real API would.

The rules are the schemas of `schemas`. This module knows the part of JSON Schema that they use, and
what the checked values mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from llamagen_async.sandbox.schemas import (
    CONTINUE,
    INDEX,
    PAGE_NAMES,
    PANEL_NAMES,
    REDRAW,
    REDRAW_TEXTS,
    Schema,
)
from llamagen_async.sandbox.wire import HTTPError

__all__ = ["change_schema", "check", "panel_choice", "picture_size", "problem", "query_index"]

_DEFAULT_SIZE: Final = (1024, 1024)
"""The width and height of pictures in pixels if a request does not say (the vendor's clients)."""
_MOST_DIGITS: Final = 18
"""Digits of a number in a query: Python refuses to read thousands of them."""
_CHANGES: Final[Mapping[object, Schema]] = {"continueWrite": CONTINUE, "regeneratePanel": REDRAW}
"""The schema of each change, by its action."""


def check(payload: Mapping[str, Any], schema: Schema) -> None:
    """Return if a body is one that the API would accept.

    Raises:
        HTTPError: It would not (400); the message names the field, and what is allowed.
    """
    found = problem(payload, schema)
    if found is not None:
        raise _invalid(found)


def change_schema(payload: Mapping[str, Any]) -> Schema:
    """Return the schema of the change that a PATCH request asks for.

    Raises:
        HTTPError: The action is neither of the two known ones (400).
    """
    action: object = payload.get("action")
    schema = _CHANGES.get(action) if isinstance(action, str) else None
    if schema is None:
        raise _invalid(f"action must be {' or '.join(map(str, _CHANGES))}")
    return schema


def panel_choice(payload: Mapping[str, Any]) -> tuple[int, int, str | None]:
    """Return page, panel (both from 0) and the new caption of a checked regeneratePanel request."""
    page, panel = (
        next((payload[name] for name in names if payload.get(name) is not None), 0)
        for names in (PAGE_NAMES, PANEL_NAMES)
    )
    texts = (payload.get(field) for field in ("caption", *REDRAW_TEXTS))
    caption = next((text for text in texts if isinstance(text, str) and text.strip()), None)
    return page, panel, caption


def picture_size(payload: Mapping[str, Any]) -> tuple[int, int]:
    """Return the width and height of the pictures of a checked request in pixels."""
    size: str | None = payload.get("size")
    if size is None:
        return _DEFAULT_SIZE
    width, _, height = size.partition("x")
    return int(width), int(height)


def query_index(query: Mapping[str, str], name: str) -> int | None:
    """Return the number, from 0, that a query parameter holds; `None` if it is not there.

    Raises:
        HTTPError: The parameter holds something else (400).
    """
    text = query.get(name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    index = int(text) if is_number else None
    if index is None or problem(index, INDEX) is not None:
        raise _invalid(f"{name} must be {INDEX['description']}")
    return index


def problem(value: object, schema: Schema, name: str = "") -> str | None:
    """Return what is wrong with a value, in words; `None` if it fulfils a schema.

    Args:
        value: A value as JSON has it.
        schema: The schema; other words than those of `schemas` are not known.
        name: The field that has the value, as messages name it; empty for a whole body.
    """
    words: str = schema.get("description", "something else")
    if not all(rule(value, schema[word]) for word, rule in _RULES.items() if word in schema):
        return f"{name} must be {words}" if name else words
    fields = _fields(value)
    for field in schema.get("required", ()):
        if fields is not None and field not in fields:
            return f"{_path(name, field)} is required"
    return next(filter(None, (problem(*part) for part in _parts(value, schema, name))), None)


def _parts(value: object, schema: Schema, name: str) -> Iterator[tuple[object, Schema, str]]:
    """Yield all that is checked on its own: a value, its schema, and its name in messages."""
    fields = _fields(value) or {}
    for field, inner in schema.get("properties", {}).items():
        if field in fields:
            yield fields[field], inner, _path(name, field)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(cast("list[object]", value)):
            yield item, schema["items"], f"{name}[{number}]"
    for rule in schema.get("allOf", ()):
        yield value, rule, name


def _fields(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _path(name: str, field: str) -> str:
    return f"{name}.{field}" if name else field


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, Callable[[object], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    # 4.0 has become 4 when the body was read: the API's language does not tell them apart.
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
}
"""Whether a value is of a type."""


def _is_any_of(value: object, types: str | list[str]) -> bool:
    return any(_TYPES[one](value) for one in ([types] if isinstance(types, str) else types))


def _matches(value: object, pattern: str) -> bool:
    # Python's $ would let a line end pass; JSON Schema's does not.
    whole = re.sub(r"\$$", r"\\Z", pattern)
    return not isinstance(value, str) or re.search(whole, value) is not None


_RULES: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "type": _is_any_of,
    "const": lambda value, wanted: value == wanted,
    "pattern": _matches,
    "minimum": lambda value, least: not _is_number(value) or value >= least,
    "maximum": lambda value, most: not _is_number(value) or value <= most,
    "minItems": lambda value, least: (
        not isinstance(value, list) or len(cast("list[object]", value)) >= least
    ),
    "anyOf": lambda value, ways: any(problem(value, way) is None for way in ways),
    "not": lambda value, other: problem(value, other) is not None,
}
"""The words of JSON Schema that say yes or no to a whole value."""


def _invalid(message: str) -> HTTPError:
    return HTTPError(400, "invalid_request", message)
