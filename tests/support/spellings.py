"""A text as encoders write it, and where it is found in what a program leaves behind."""

from __future__ import annotations

import base64
import html
import json
import traceback
import urllib.parse
from collections.abc import Iterator

__all__ = ["errors_of", "found_in", "frames_of", "spellings"]


def spellings(key: str) -> dict[str, str]:
    """Return the spellings in which a server, a log or a file may have a key."""
    middle = len(key) // 2
    partly = f"{key[:middle]}\\u{ord(key[middle]):04x}{json.dumps(key[middle + 1 :])[1:-1]}"
    return {
        "plain": key,
        "in JSON": json.dumps(key)[1:-1],
        "in PHP's JSON": json.dumps(key)[1:-1].replace("/", "\\/"),
        "in JSON in JSON": json.dumps(json.dumps(key).replace("/", "\\/"))[3:-3],
        "in JSON, escaped": "".join(f"\\u{ord(character):04x}" for character in key),
        "in JSON, escaped in capitals": "".join(f"\\u{ord(character):04X}" for character in key),
        "in JSON, escaped in JSON": "".join(f"\\\\u{ord(character):04x}" for character in key),
        "in JSON, partly escaped": partly,
        "in Python": repr(key.encode())[2:-1],
        "in bytes": "".join(f"\\x{ord(character):02x}" for character in key),
        "in a query": urllib.parse.quote(key, safe=""),
        "in a path": urllib.parse.quote(key),
        "in a query in a query": urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
        "in small percents": _small(urllib.parse.quote(key, safe="")),
        "in percents": "".join(f"%{ord(character):02X}" for character in key),
        "in HTML": html.escape(key),
        "in entities": "".join(f"&#{ord(character)};" for character in key),
        "in entities in hexadecimal": "".join(f"&#x{ord(character):X};" for character in key),
        "in hexadecimal": key.encode().hex(),
        "in capital hexadecimal": key.encode().hex().upper(),
    }


def _small(quoted: str) -> str:
    parts = quoted.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


def found_in(content: str | bytes, key: str) -> list[str]:
    """Return the spellings in which a key is in a content, also backwards and in Base64."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    sought = spellings(key)
    for before in range(3):
        text = base64.b64encode(bytes(before) + key.encode()).decode()
        text = text[-(-4 * before // 3) : (before + len(key)) * 8 // 6]
        sought[f"in Base64 after {before}"] = text
        sought[f"in Base64 of URLs after {before}"] = text.replace("+", "-").replace("/", "_")
    sought["backwards"] = f"Bearer {key}"[::-1]
    # What is told apart is the middle: a key that was cut short is a key all the same.
    sought["cut"] = key[: 3 * len(key) // 4]
    return [name for name, spelling in sought.items() if spelling.encode() in content]


def errors_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that hang on it."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def frames_of(error: BaseException, *, but: str) -> str:
    """Return the local variables of all frames of an error, but those of one file."""
    shown: list[str] = []
    for one in errors_of(error):
        for frame, line in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_filename != but:
                shown.append(f"{frame.f_code.co_qualname}, {line}: {frame.f_locals!r}")
    return "\n".join(shown)
