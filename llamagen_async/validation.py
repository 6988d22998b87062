"""The error for an argument that is not allowed, and the checks that several rooms share.

The root of the error tree is here as well, because every other file may import this one;
`llamagen_async.errors` draws the whole tree.
"""

from __future__ import annotations

import operator
import re
import reprlib
import sys
import unicodedata
from copy import copy
from inspect import iscoroutinefunction
from numbers import Number
from pathlib import Path
from typing import Any, Final, Self, SupportsFloat, cast

import attrs

__all__ = [
    "HiddenText",
    "InvalidRequestError",
    "LlamaGenError",
    "check_flags",
    "check_hook",
    "checked_id",
    "checked_path",
    "checked_text",
    "generation_id",
    "number",
    "python_integer",
    "python_number",
    "seconds",
    "shown",
    "text_problem",
    "whole_number",
    "without_mark",
]

_SHOWN: Final = 80
"""Characters of a given value that a message repeats at most."""
_LONGEST_ID: Final = 1000
"""Characters of an id that are kept: servers refuse URLs of 8,000."""
_LARGEST: Final = 2**63 - 1
"""The largest whole number that fits into 64 bits: databases hold no other."""
_REPR: Final = reprlib.Repr()
_REPR.maxother = _REPR.maxlong = _REPR.maxstring = _SHOWN
_TEXT: Final = "text that is not empty"
_BLANK: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
) | {chr(code) for codes in (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for code in codes}
"""Letters, marks and signs that show nothing by themselves: Hangul's fillers, the empty Braille
pattern, and what chooses the form of the letter before it, as an emoji leaves it that is taken away
(Unicode: Default_Ignorable_Code_Point)."""
_ID: Final = "the id of a generation, with nothing around it"
_ESCAPED_BYTES: Final = range(0xDC80, 0xDD00)
"""The halves of surrogate pairs by which Python writes bytes that it can't decode."""
_PLANES: Final = 17
"""The planes of Unicode; the last two code points of each are no characters."""
_UNMEANT: Final = re.compile(
    # Tabs and all that ends a line or a page is meant: U+0009 to U+000D, and U+0085.
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(_PLANES) for last in (0xFFFE, 0xFFFF))
    + "]"
)
"""A character that nobody means: it is a sign that text was read in a wrong encoding, or damaged.
A story with one in it would be paid for all the same."""


def shown(value: object) -> str:
    """Return a given value as a message repeats it: short, whatever it is.

    The end of a long one is shown, too: it is the name of the file, if it is a path.
    """
    # Of a value that is large, or that can't be shown, no more is read than is shown.
    if isinstance(value, str) and len(value) > _SHOWN:
        value = value[:_SHOWN] + value[-_SHOWN:]
    try:
        text = repr(value) if isinstance(value, str) else _REPR.repr(value)
    except ValueError:  # Python does not write numbers of thousands of digits
        text = f"a large {type(value).__name__}"
    end = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - end - 1]}…{text[-end:]}"


class LlamaGenError(Exception):
    """The root of the tree: catches everything this package raises on purpose."""

    id: str | None = None
    """The id of the generation that the error is about, where one is known."""
    _goes_on: bool = False
    """Whether only a check of that generation has failed: it was accepted, and goes on."""

    def __str__(self) -> str:
        return self.naming_id(super().__str__())

    def naming_id(self, text: str) -> str:
        """Return a text about the error with the generation's id, where one is known."""
        if self.id is None:
            return text
        if not self._goes_on:
            return f"{text} (generation {self.id})"
        return (
            f"{text} (generation {self.id} was accepted and goes on: "
            f"call wait_for_completion({self.id!r}) then)"
        )

    def about(self, id_: str, *, goes_on: bool = False) -> Self:
        """Return the error with a generation's id: a copy, as others may have been told of it."""
        error = copy(self)
        error.id, error._goes_on = id_, goes_on  # noqa: SLF001  # it is of this class
        return error


@attrs.define(auto_exc=True, slots=False, eq=False)
class InvalidRequestError(LlamaGenError, ValueError):
    """An argument is not allowed. Nothing was sent and nothing was spent.

    Spent: Nothing: no request was sent.
    To do: Change the field that the message names to what it allows.
    """

    field: str
    """The name of the argument."""
    value: object
    """The value that was given."""
    allowed: str
    """Allowed values, in words."""

    def __str__(self) -> str:
        text = f"{self.field}: got {shown(self.value)}, allowed is {self.allowed}"
        return self.naming_id(text)


class HiddenText(str):
    """The API key, or a header with it: a text that no repr shows.

    Reports of errors show the variables of the frames that an error has passed.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[key]'"

    @classmethod
    def of(cls, given: object) -> Self | None:
        """Return what was given for a text; what is none becomes a text that can't be a key."""
        if given is None:
            return None
        return cls(given if isinstance(given, str) else "no text")


def check_flags(**flags: object) -> None:
    """Check arguments, by their names, that are yes or no: text such as "no" would be yes.

    Raises:
        InvalidRequestError: One is something else.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise InvalidRequestError(name, value, "True or False")


def check_hook(field: str, hook: object, allowed: str) -> None:
    """Check a function that is called later, and not awaited; `None` is none.

    Raises:
        InvalidRequestError: It is none, or what it returns has to be awaited: it would never run.
    """
    if hook is None:
        return
    call = getattr(hook, "__call__", None)  # noqa: B004  # that of an object may be async
    if not callable(hook) or iscoroutinefunction(hook) or iscoroutinefunction(call):
        raise InvalidRequestError(field, hook, f"{allowed}, and no async one")


def whole_number(field: str, value: object, *, at_least: int) -> int:
    """Return `value` if it is a whole number of at least `at_least` that fits into 64 bits.

    Raises:
        InvalidRequestError: It is not.
    """
    number = python_integer(value)
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    if not is_whole or not at_least <= cast("int", number) <= _LARGEST:
        is_large = is_whole and cast("int", number) > _LARGEST
        bound = f", up to {_LARGEST}" if is_large else ""
        raise InvalidRequestError(field, value, f"a whole number of at least {at_least}{bound}")
    return cast("int", number)


def python_integer(value: object) -> object:
    """Return a whole number of another kind, such as numpy's, as Python's own; else `value`."""
    if isinstance(value, bool):
        return value
    try:
        return operator.index(value)  # type: ignore[arg-type]  # which is what is tried
    except TypeError:
        return value


def python_number(value: object) -> object:
    """Return a number of another kind, such as numpy's or a `Decimal`, as Python's own.

    What is no number, or none that is so large, stays as it is.
    """
    given = python_integer(value)
    if isinstance(given, int) or not isinstance(given, Number):
        return given
    try:
        return float(cast("SupportsFloat", given))
    except (TypeError, ValueError, OverflowError):
        return given


def seconds(name: str, value: object, *, at_most: float | None = None) -> float:
    """Return `value` if it is a finite number of seconds greater than 0.

    Args:
        name: The argument's name, for the error.
        value: What was given.
        at_most: The most seconds allowed, if there is such a bound.

    Raises:
        InvalidRequestError: `value` is not such a number, or is more than `at_most`.
    """
    given = python_number(value)
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not 0 < given <= (sys.float_info.max if at_most is None else at_most)
    ):
        bound = "" if at_most is None else f", up to {at_most:g}"
        raise InvalidRequestError(name, value, f"a number of seconds greater than 0{bound}")
    return float(given)


def number(value: float) -> Any:
    """Return a number of another kind, such as numpy's, as Python's own; else `value`."""
    return python_number(value)


def generation_id(value: object) -> str | None:
    """Return a generation's id as text, or `None` if nothing can be asked for by that value.

    It was paid for: so what no text or URL can hold is escaped in it, and what is too long is cut.
    Dots alone would be another path.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = value.strip()[:_LONGEST_ID] if isinstance(value, str) else ""
    if not text.isprintable():
        text = "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )
    return text if text not in ("", ".", "..") else None


def text_problem(text: str) -> str | None:
    """Return what text must not have in it, and where that is; `None` if it is in order."""
    found = _UNMEANT.search(text)
    if found is None:
        return None
    code, where = ord(found.group()), f"at character {found.start() + 1}"
    if code in _ESCAPED_BYTES:
        return f"bytes that are not UTF-8 (0x{code & 0xFF:02X} {where})"
    if 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004  # Unicode's range of surrogates
        return f"half a surrogate pair (U+{code:04X} {where})"
    kind = "control characters" if unicodedata.category(chr(code)) == "Cc" else "noncharacters"
    return f"{kind} (U+{code:04X} {where})"


def checked_text(field: str, value: object, allowed: str = _TEXT) -> str:
    """Return `value` if it is text that somebody can have meant.

    Args:
        field: The name of the argument.
        value: Anything.
        allowed: Allowed values, in words.

    Raises:
        InvalidRequestError: It is no text, shows nothing, or has in it what nobody means: NUL and
            other control characters (but tabs and the ends of lines and pages), half a surrogate
            pair, noncharacters.
    """
    # Nearly all text begins with a letter and is printable, which is found out quickly.
    if not isinstance(value, str) or not _shows_something(value):
        raise InvalidRequestError(field, value, allowed)
    if not value.isprintable() and (problem := text_problem(value)):
        raise InvalidRequestError(field, value, f"text without {problem}")
    return value


def checked_id(field: str, value: object) -> str:
    """Return `value` if it can be the id of a generation, which becomes part of a URL's path.

    Raises:
        InvalidRequestError: It is not.
    """
    text = checked_text(field, value, _ID)
    if generation_id(text) != text:
        raise InvalidRequestError(field, value, _ID)
    return text


def checked_path(field: str, value: Any) -> Path:
    """Return the path of a file or folder, if the system can have one of that name.

    Args:
        field: The name of the argument.
        value: A path, or its text.

    Raises:
        InvalidRequestError: It can't.
    """
    try:
        path = Path(value)
        name = str(path).encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
    except (TypeError, ValueError):  # no path, or characters that no file name can have here
        raise InvalidRequestError(field, value, "the path of a file or folder") from None
    if b"\0" in name:
        raise InvalidRequestError(field, value, "a path without NUL")
    return path


def without_mark(value: str | None) -> Any:
    """Return text without the mark of byte order that its file began with, and all else as it is.

    Otherwise the first story of a file would be another one than the same story elsewhere.
    """
    return value.removeprefix("\ufeff") if isinstance(value, str) else value


def _shows_something(text: str) -> bool:
    """Whether text has in it more than white space, byte order marks and the like."""
    return any(
        not one.isspace() and one not in _BLANK and unicodedata.category(one) != "Cf"
        for one in text
    )
