"""Text for people: short, on one line, and harmless to a terminal. Pure functions, no I/O."""

from __future__ import annotations

import math
import os
import re
import shlex
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llamagen_async.plans import RateLimit

__all__ = [
    "broken",
    "clock_time",
    "columns",
    "fitted",
    "format_duration",
    "format_limit",
    "format_time",
    "one_line",
    "pluralize",
    "quoted",
    "shortened",
    "shown_path",
    "wrapped",
]

_MINUTE: Final = 60.0
_ROUGH: Final = 90.0
"""Seconds from which on a duration is given in minutes."""
_NARROWEST: Final = 12
"""Columns of a line of prose, however narrow the terminal is."""
_JOINERS: Final = "\u200c\u200d"
"""Characters that part and join the letters of a word in Persian and Hindi, and the parts of an
emoji. They show nothing; a space in their place would make other words."""
_WIDENER: Final = "\ufe0f"
"""The character that makes an emoji of the symbol before it, one column wider on some terminals."""


def one_line(text: str) -> str:
    """Return `text` on one line, without what could steer a terminal.

    Prompts, captions and messages of servers come from elsewhere: an escape sequence in them must
    not reach the screen, nor may they forge a second line.
    """
    if text.isprintable():
        return text.strip()
    # Spaces side by side are kept: they may be part of a file's name.
    return re.sub(" *\0[ \0]*", " ", "".join(map(_printable, text))).strip()


def quoted(word: object) -> str:
    """Return a word of a command as it can be pasted into a shell."""
    text = str(word)
    if os.name == "nt":
        import subprocess  # noqa: PLC0415  # takes long to load

        return subprocess.list2cmdline([text])
    if text.isprintable():
        return shlex.quote(text)
    # What is not shown is written in the way of bash, ksh, zsh and POSIX of 2024.
    return "$'" + "".join(map(_escaped, text)) + "'"


def shown_path(path: str | os.PathLike[str]) -> str:
    """Return the name of a file as text, with escapes for bytes in it that are none."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")


def shortened(text: str, length: int) -> str:
    """Return `text` on one line of at most `length` characters."""
    line = one_line(text)
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def fitted(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` columns of a terminal."""
    line, taken, kept = one_line(text), 0, 0
    for number, character in enumerate(line, 1):  # a story may be as long as a book
        taken += _columns(character)
        if taken > width:
            return f"{line[:kept].rstrip()}…"
        if taken < width:
            kept = number
    return line


def columns(text: str) -> int:
    """Return how many columns of a terminal a line takes; where terminals differ, the most."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def wrapped(text: str, width: int) -> str:
    """Return prose in lines of at most `width` columns; a word that is longer is not cut."""
    return text if columns(text) <= width else "\n".join(broken(text, width))


def broken(text: str, width: int, *, first: str = "", later: str = "") -> list[str]:
    """Return prose as lines of at most `width` columns; a word that is longer is not cut.

    Args:
        text: The prose.
        width: Columns of a line. On a terminal of hardly any, lines are longer all the same.
        first: The beginning of the first line.
        later: The beginning of all others.
    """
    import textwrap  # noqa: PLC0415  # only on narrow terminals

    return textwrap.wrap(
        text,
        max(width, _NARROWEST),
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def pluralize(number: int, noun: str) -> str:
    """Return `1 comic`, `2 comics`, `3 stories`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"


def format_duration(seconds: float) -> str:
    """Return a duration in words: `45 s`, `9 min`, `2 h 10 min`."""
    if seconds < _ROUGH:
        return f"{max(0.0, seconds):.0f} s"
    minutes = math.floor(seconds / _MINUTE + 0.5)  # half a minute is never rounded down
    if minutes < 60:  # noqa: PLR2004 - minutes of an hour
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def format_time(when: datetime) -> str:
    """Return a time as a local clock shows it, and in UTC if that is another one."""
    # Rounded up: a try at the printed time is not too early.
    whole = when + timedelta(microseconds=-when.microsecond % 1_000_000)
    local = whole.astimezone()
    if not local.utcoffset():
        return f"{local:%Y-%m-%d %H:%M:%S} UTC"
    there = whole.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"{local:%Y-%m-%d %H:%M:%S} ({there})"


def format_limit(limit: RateLimit) -> str:
    """Return a limit in words: `10 requests per minute`."""
    return str(limit).replace(" per ", " requests per ", 1)


def clock_time(seconds: float) -> str:
    """Return a running time: `0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _printable(character: str) -> str:
    if "\ud800" <= character <= "\udfff":  # a byte of a file's name that is no text
        return shown_path(character)
    return character if character.isprintable() or character in _JOINERS else "\0"


def _columns(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    is_shown = unicodedata.category(character) not in ("Mn", "Me", "Cf")
    return int(is_shown or character == _WIDENER)


def _escaped(character: str) -> str:
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    is_byte = "\udc80" <= character <= "\udcff"
    raw = character.encode("utf-8", "surrogateescape" if is_byte else "backslashreplace")
    return "".join(f"\\{byte:03o}" for byte in raw)
