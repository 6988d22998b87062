"""Pages and panels in reading order, by the numbers that the server gives them.

A server may list them in another order, such as that in which they were drawn, leave out those
that are not drawn, or name one twice. A panel's place names its picture, and is what a redraw asks
for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final, Protocol, TypeVar

from llamagen_async.models.reading import integer_of

__all__ = ["arranged"]

_MOST: Final = 20
"""The most pages, and panels of a page, that the API draws (vendor's clients)."""


class _Numbered(Protocol):
    @property
    def raw(self) -> Mapping[str, Any]: ...


_N = TypeVar("_N", bound=_Numbered)


def arranged(given: tuple[_N, ...], name: str, missing: Callable[[int], _N]) -> tuple[_N, ...]:
    """Return pages or panels in the order of their numbers, with an empty one where one is missing.

    They stay as they are unless each has a number of its own.

    Args:
        given: The pages or panels as the server lists them.
        name: The name of their number.
        missing: Makes an empty one of a number.
    """
    numbers = [integer_of(one.raw.get(name), None) for one in given]
    known = [number for number in numbers if number is not None]
    if len(known) < len(given) or all(one + 1 == other for one, other in pairwise(known)):
        return given
    ordered: dict[int, _N] = {}
    for number, one in zip(known, given, strict=True):
        if ordered.setdefault(number, one).raw != one.raw:
            return given  # two of one number: nobody knows which one is right
    first, last = min(known), max(known)
    if first in (0, 1) and last - first < _MOST:
        return tuple(ordered.get(n) or missing(n) for n in range(first, last + 1))
    return tuple(ordered[number] for number in sorted(ordered))
