"""Text and data from outside, bounded and cleaned before they are kept, shown or logged. No I/O.

A server, or whatever answers in its place, may write texts of megabytes, control characters that
steer a terminal, and JSON that no later step can hold. Whatever is short and plain passes as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast

__all__ = [
    "LONGEST_TEXT",
    "MOST_DEPTH",
    "MOST_LETTERS",
    "beginning_of",
    "bounded",
    "clean_text",
    "is_nested_deeper",
    "storable",
]

_MESSAGE: Final = 300
"""Characters that a message keeps of a foreign text, if it does not say otherwise."""
_BEGINNING: Final = 200
"""Characters that a message keeps of the beginning of JSON."""
MOST_DEPTH: Final = 50
"""Levels of nested JSON that are kept. A comic has 6; a few hundred are too much for Python."""
MOST_LETTERS: Final = 2_000_000
"""Characters of one answer that are kept. A comic of 400 panels, the most that the API draws, has
about half of that with long captions and signed URLs."""
LONGEST_TEXT: Final = 32_768
"""Characters of the longest text that is kept: a chapter of a book fits."""
_LONG: Final = 4_096
"""Characters from which on a text is long. No URL that a browser opens is."""
_MOST_LONG: Final = 8 * LONGEST_TEXT
"""Characters of one answer that long texts have together; what comes after is cut to `_LONG`, so
that no other part of the answer is lost for them."""
_SPARE: Final = 4_096
"""Characters that are left of a text beyond where it is cut, if that is asked for: the beginning of
an API key would not be found. A key of 500 characters fits, each of them written as an escape."""
_CUT: Final = "\ufdd0"
"""The end of a text with such a rest: a noncharacter, which is in no text."""
_WHOLE: Final = ("comicData",)
"""Fields whose text is JSON, with the pictures in it: nothing could be read of it if it was cut."""
_PART: Final = 32
"""Characters that a part of an answer counts for beside its text: it takes memory, too."""


def clean_text(text: str, limit: int = _MESSAGE) -> str:
    """Return a foreign text as fit for a message: one line, no control characters, trimmed."""
    # Cut first: cleaning a megabyte would hold up the event loop.
    text = " ".join(text[: 4 * limit].split())
    if not text.isprintable():
        text = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
        )
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def beginning_of(value: object) -> str:
    """Return the beginning of decoded JSON, for a message: nobody knows where in it an id is."""
    return clean_text(json.dumps(value, ensure_ascii=False, default=str), _BEGINNING)


def storable(text: str) -> str:
    """Return a text that files and databases take: half a surrogate pair is written as escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def bounded(value: object, *, spare: bool = False) -> Any:
    """Return decoded JSON as much of it as is kept, in the same shape.

    Texts are cut, what is nested too deep becomes `None`, and what is too much in all is left out
    from the end. Every text in the result can be stored.

    Args:
        value: The decoded JSON.
        spare: Whether some more is left of a text that is cut, for whoever looks for something
            in it that may stand where it is cut. Who asks for it bounds the value again.
    """
    return _Bounds(spare=spare).kept(value, MOST_DEPTH)


def is_nested_deeper(value: object, levels: int) -> bool:
    """Whether the lists and objects of a value from JSON are nested in more than some levels."""
    level: list[object] = [value]
    for _ in range(levels + 1):
        level = [one for one in level if isinstance(one, (Mapping, list, tuple))]
        if not level:
            return False
        inner: list[object] = []
        for one in level:
            outer = cast("Mapping[str, object] | list[object] | tuple[object, ...]", one)
            inner += outer.values() if isinstance(outer, Mapping) else outer
        level = inner
    return True


class _Bounds:
    """The room that is left for the parts of one answer."""

    def __init__(self, *, spare: bool = False) -> None:
        self._spare = spare
        self._left = MOST_LETTERS
        self._left_for_long = _MOST_LONG

    def kept(self, value: object, depth: int) -> object:
        """Return as much of a part as is kept.

        Args:
            value: The part.
            depth: How many levels it may have.
        """
        self._left -= _PART
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            kept: dict[str, object] = {}
            for name, item in cast("dict[str, object]", value).items() if depth else ():
                if self._left <= 0:
                    break
                if name in _WHOLE and isinstance(item, str):
                    kept[name] = self._text(item, longest=self._left)
                else:
                    kept[self._text(name)] = self.kept(item, depth - 1)
            return kept if depth else None
        if isinstance(value, list):
            items: list[object] = []
            for item in cast("list[object]", value) if depth else ():
                if self._left <= 0:
                    break
                items.append(self.kept(item, depth - 1))
            return items if depth else None
        return value

    def _text(self, text: str, *, longest: int | None = None) -> str:
        if text.endswith(_CUT):
            text = f"{text[:-_SPARE]}…"
        if len(text) > _LONG:
            most = longest or min(LONGEST_TEXT, max(_LONG, self._left_for_long))
            if len(text) > most:
                text = text[: most + _SPARE] + _CUT if self._spare else f"{text[: most - 1]}…"
            self._left_for_long -= len(text)
        self._left -= len(text)
        return storable(text)
