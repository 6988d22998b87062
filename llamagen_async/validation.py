"""The error for an argument that is not allowed, and a check that several rooms share.

The root of the error tree is here as well, because every other file may import this one;
`llamagen_async.errors` draws the whole tree.
"""

from __future__ import annotations

from copy import copy
from typing import Final, Self

import attrs

__all__ = ["InvalidRequestError", "LlamaGenError", "whole_number"]

_SHOWN: Final = 80
"""Characters of a given value that a message repeats at most."""


def _shown(value: object) -> str:
    text = repr(value)
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
        return f"{self.field}: got {_shown(self.value)}, allowed is {self.allowed}"


def whole_number(field: str, value: object, *, at_least: int) -> int:
    """Return `value` if it is a whole number of at least `at_least`.

    Raises:
        InvalidRequestError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidRequestError(field, value, f"a whole number of at least {at_least}")
    return value
