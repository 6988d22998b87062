"""Fields of an answer, read with tolerance: what is of another type is not there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

__all__ = [
    "flag_of",
    "integer_of",
    "is_url",
    "list_of",
    "mapping_of",
    "number_of",
    "single",
    "text_of",
    "url_of",
]

_MOST_AROUND_URL: Final = 2
"""Lists and objects around a URL that are looked into, one in the other."""
_D = TypeVar("_D")

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_LARGEST: Final = 10**15
"""The largest number that is read: more is no count, and no file's name could hold it."""


def mapping_of(value: object) -> Mapping[str, Any]:
    """Return an object; an empty one if it is none."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def list_of(value: object) -> list[object]:
    """Return a list; an empty one if it is none.

    An object whose names are numbers is one, too: so PHP writes a list from which one was removed.
    """
    if isinstance(value, list):
        return cast("list[object]", value)
    fields = mapping_of(value)
    is_list = fields and all(re.fullmatch("[0-9]{1,4}", str(name)) for name in fields)
    return list(fields.values()) if is_list else []


def single(value: object) -> object:
    """Return the one item of a list of one; everything else as it is."""
    items = list_of(value)
    return items[0] if len(items) == 1 else value


def is_url(value: object) -> bool:
    """Whether a value is the URL of something on the web."""
    return isinstance(value, str) and value[:8].lower().startswith(("https://", "http://"))


def url_of(value: object) -> str | None:
    """Return a URL, without blanks around it; one in a list, or in an object's `url`, is found."""
    for _ in range(_MOST_AROUND_URL + 1):
        if isinstance(value, str):
            return value.strip() or None
        several = list_of(value)
        value = several[0] if several else mapping_of(value).get("url")
    return None


def text_of(value: object) -> str | None:
    """Return text that is not empty, or `None`."""
    return value if isinstance(value, str) and value else None


def number_of(value: object) -> float | None:
    """Return a number, which may be written as text, or `None`."""
    if isinstance(value, str):
        is_number = re.fullmatch(r"\s*-?[0-9]{1,18}(?:\.[0-9]{1,18})?\s*", value)
        return float(value) if is_number else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= _LARGEST else None


def flag_of(value: object) -> bool | None:
    """Return a yes or no, which may be written as text or as 1 and 0, or `None`."""
    return _FLAGS.get(str(value).strip().lower()) if isinstance(value, str | int) else None


def integer_of(value: object, default: _D) -> int | _D:
    """Return a whole number, which may be written as text, or `default`."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[0-9]{1,18}\s*", value) else default
    number = number_of(value)
    return default if number is None else int(number)
