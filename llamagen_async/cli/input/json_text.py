"""JSON as people and programs write it into files of stories: read strictly, refused in words."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["decoded", "unique_names"]


def decoded(text: str) -> object:
    """Return the value of a JSON text.

    Raises:
        json.JSONDecodeError: It is none.
        ValueError: It has what no JSON has, or a name stands twice in one object.
        RecursionError: It is nested too deep.
    """
    value: object = json.loads(text, object_pairs_hook=unique_names, parse_constant=_refuse)
    return value


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, in which no name stands twice: one of the two would be lost.

    Raises:
        ValueError: One does.
    """
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"{name} stands twice in one object")
        made[name] = value
    return made


def _refuse(name: str) -> object:
    raise ValueError(f"there is no {name} in JSON")
