"""Bad input costs nothing: the error that names it, and the checks that several rooms share.

The root of the error tree is here as well, because everything else stands above this file;
`llamagen_async.errors` draws the whole tree.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

__all__ = ["InvalidRequestError", "LlamaGenError", "positive_number", "whole_number"]

_SHOWN: Final = 80
"""How many characters of a given value a message repeats."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


class LlamaGenError(Exception):
    """The root of the tree: catches everything this package raises on purpose."""


@attrs.define(auto_exc=True, slots=False, eq=False)
class InvalidRequestError(LlamaGenError, ValueError):
    """An argument is not allowed. Nothing was sent and nothing was spent."""

    field: str
    """The name of the argument."""
    value: object
    """What was given."""
    allowed: str
    """What is allowed, in words."""

    def __str__(self) -> str:
        return f"{self.field}: got {_shown(self.value)}, allowed is {self.allowed}"


def positive_number(
    field: str, value: object, *, at_most: float = math.inf, unit: str = ""
) -> float:
    """Return `value` if it is a finite number greater than 0 and at most `at_most`.

    Args:
        field: What the error calls it.
        value: What was given.
        at_most: The largest allowed.
        unit: What it counts, such as `" of seconds"`.

    Raises:
        InvalidRequestError: It is not.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 < value <= at_most
    ):
        bound = "" if math.isinf(at_most) else f", up to {at_most:g}"
        raise InvalidRequestError(field, value, f"a number{unit} greater than 0{bound}")
    return float(value)


def whole_number(field: str, value: object, *, at_least: int) -> int:
    """Return `value` if it is a whole number of at least `at_least`.

    Raises:
        InvalidRequestError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidRequestError(field, value, f"a whole number of at least {at_least}")
    return value
