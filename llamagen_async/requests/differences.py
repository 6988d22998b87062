"""Differences of two requests, field by field, in words. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Final, cast

import attrs

from llamagen_async.requests.any_request import AnyRequest, type_of
from llamagen_async.requests.parts import Character, Location
from llamagen_async.validation import shown

__all__ = ["differences"]

_AROUND: Final = 12
"""Characters that are shown of a long text before what has changed in it."""
_LONG: Final = 48
"""Characters of a text that is shown from there on only."""
_NOTHING: Final = "nothing"


def differences(before: AnyRequest, after: AnyRequest) -> list[str]:
    """Return a phrase for each field that is another one, such as `size: 'a' is now 'b'`."""
    if type_of(before) is not type_of(after):
        return [f"type: {type_of(before)} is now {type_of(after)}"]
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        f"{name}: {_changed(old.get(name), new.get(name))}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]


def _flat(one: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Yield each value within a request, and where it stands; parts with a name stand under it."""
    if attrs.has(type(one)):
        items = {
            field.name: getattr(one, field.name)
            for field in attrs.fields(type(cast("attrs.AttrsInstance", one)))
            if field.init
        }
        yield from _flat(items, place)
    elif isinstance(one, Mapping):
        for name, value in cast("Mapping[str, object]", one).items():
            yield from _flat(value, f"{place}.{name}" if place else str(name))
    elif isinstance(one, tuple | list):
        for number, value in enumerate(cast("tuple[object, ...]", one)):
            within = value.name if isinstance(value, Character | Location) else number
            yield from _flat(value, f"{place}[{within}]")
    elif one is not None:
        yield place, str(one) if isinstance(one, PurePath) else one


def _changed(old: object, new: object) -> str:
    start = 0
    if isinstance(old, str) and isinstance(new, str):
        start = max(0, _common(old, new) - _AROUND)
    was, is_now = (_excerpt(value, start) for value in (old, new))
    return f"{was} is now {is_now}"


def _excerpt(value: object, start: int) -> str:
    if value is None:
        return _NOTHING
    if not isinstance(value, str) or len(value) <= _LONG:
        return shown(value)
    end = value[start : start + _LONG]
    return shown(f"{'…' if start else ''}{end}{'…' if start + _LONG < len(value) else ''}")


def _common(old: str, new: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(old), len(new)))
