"""Values that were stored, checked as they are read, and the error of a store that has none.

Any program may have changed a value, and a wrong one would fail later, count wrongly, or have
everyone wait for ever. No store is known here.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import attrs

__all__ = ["DAMAGED", "NEVER", "StateReader", "StoreError", "decode", "encode"]

DAMAGED: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    RecursionError,
)
"""Errors of a state that is not as it was written."""
NEVER: Final = -1e15
"""A time before all others, in seconds; unlike infinity it is a number that JSON has."""
_MOST: Final = 10**15
"""The greatest whole number that can be."""
_ROUNDING: Final = 1.0
"""Seconds by which a time that is over may seem to be still to come: times are kept in rounded
numbers."""


class StoreError(Exception):
    """A store, which is a file or a server, does not answer, or not with what was stored."""


@attrs.frozen
class StateReader:
    """A reader of values. Each method returns the value, or raises one of `DAMAGED`."""

    now: float
    """The time, in the seconds of the values."""

    def time(self, value: Any) -> float:
        """Return a time of any kind."""
        if not math.isfinite(value):
            raise ValueError("a time without end")
        return float(value)

    def past(self, value: Any) -> float:
        """Return a time that is over."""
        if not value <= self.now + _ROUNDING:
            raise ValueError("a time that is still to come")
        return self.time(value)

    def whole(self, value: Any, at_least: int = 0, at_most: int = _MOST) -> int:
        """Return a whole number."""
        if type(value) is not int or not at_least <= value <= at_most:
            raise ValueError("a number that can't be")
        return value

    def text(self, value: Any) -> str:
        """Return a text."""
        if type(value) is not str:
            raise TypeError("no text")
        return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


# Made once: that takes as long as a row.
decode: Final = json.JSONDecoder(parse_constant=_refuse).decode
"""Return the value of a JSON text, in which every number is one."""
encode: Final = json.JSONEncoder(separators=(",", ":")).encode
"""Return a value as a JSON text without spaces."""
