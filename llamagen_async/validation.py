"""The error for an argument that is not allowed, and a check that several rooms share.

The root of the error tree is here as well, because every other file may import this one;
`llamagen_async.errors` draws the whole tree.
"""

from __future__ import annotations

import operator
import reprlib
from copy import copy
from typing import Final, Self

import attrs

__all__ = [
    "InvalidRequestError",
    "LlamaGenError",
    "generation_id",
    "python_integer",
    "shown",
    "whole_number",
]

_SHOWN: Final = 80
"""Characters of a given value that a message repeats at most."""
_LONGEST_ID: Final = 1000
"""Characters of the longest id: a longer one is none, and servers refuse URLs of 8,000."""
_REPR: Final = reprlib.Repr()
_REPR.maxother = _REPR.maxlong = _REPR.maxstring = _SHOWN


def shown(value: object) -> str:
    """Return a given value as a message repeats it: short, whatever it is."""
    # Of a value that is large, or that can't be shown, no more is read than is shown.
    text = repr(value[: _SHOWN + 1]) if isinstance(value, str) else _REPR.repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


class LlamaGenError(Exception):
    """The root of the tree: catches everything this package raises on purpose."""

    id: str | None = None
    """The id of the generation that the error is about, where one is known."""

    def __str__(self) -> str:
        return self.naming_id(super().__str__())

    def naming_id(self, text: str) -> str:
        """Return a text about the error with the generation's id, where one is known."""
        return text if self.id is None else f"{text} (generation {self.id})"

    def about(self, id_: str) -> Self:
        """Return the error with a generation's id: a copy, as others may have been told of it."""
        error = copy(self)
        error.id = id_
        return error


@attrs.define(auto_exc=True, slots=False, eq=False)
class InvalidRequestError(LlamaGenError, ValueError):
    """An argument is not allowed. Nothing was sent and nothing was spent."""

    field: str
    """The name of the argument."""
    value: object
    """The value that was given."""
    allowed: str
    """Allowed values, in words."""

    def __str__(self) -> str:
        return f"{self.field}: got {shown(self.value)}, allowed is {self.allowed}"


def whole_number(field: str, value: object, *, at_least: int) -> int:
    """Return `value` if it is a whole number of at least `at_least`.

    Raises:
        InvalidRequestError: It is not.
    """
    number = python_integer(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < at_least:
        raise InvalidRequestError(field, value, f"a whole number of at least {at_least}")
    return number


def python_integer(value: object) -> object:
    """Return a whole number of another kind, such as numpy's, as Python's own; else `value`."""
    if isinstance(value, bool):
        return value
    try:
        return operator.index(value)  # type: ignore[arg-type]  # which is what is tried
    except TypeError:
        return value


def generation_id(value: object) -> str | None:
    """Return a generation's id as text, or `None` if nothing can be asked for by that value.

    Dots alone would be another path, and half a character is in no URL.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value if value.strip() and value not in (".", "..") else None
