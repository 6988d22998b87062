"""The content of an answer: bytes in, decoded JSON out, as tolerant as can be. No I/O.

A comic that was paid for is not lost for one field that nobody reads: broken characters, control
characters, numbers that are none, and text after the end are read over. What is no JSON as a whole
may still begin with an object, and that one with an id.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import re
import zlib
from email.message import Message
from typing import Any, Final

from llamagen_async.foreign import LONGEST_TEXT, MOST_DEPTH, bounded, clean_text

__all__ = [
    "LARGEST",
    "LONGEST_LINE",
    "MOST_HEADERS",
    "is_json",
    "json_of",
    "place_of",
    "remains_of",
    "text_of",
    "unpacked",
]

LARGEST: Final = 10_000_000
"""Bytes of the largest answer that is read, packed or unpacked: no server can fill the memory."""
LONGEST_LINE: Final = 65_536
"""Bytes of the longest header that is read. Browsers and curl read longer ones than the 8,190 of
aiohttp: some networks send such policies with each answer, also with that to a create."""
MOST_HEADERS: Final = 400
"""Headers of an answer that are read (chosen). aiohttp gives an answer with 129 up; browsers and
curl read thousands, and balancers may set a cookie for each of their pools. They take 26 MB."""
_MOST_PARTS: Final = 200_000
"""Brackets and commas of the largest JSON that is decoded. Each may stand for a part that takes a
hundred bytes; a comic has a few thousand."""
_LONGEST_BEGINNING: Final = 100_000
"""Characters of the beginning in which an id is looked for if the whole can't be decoded."""
_CODINGS: Final = ("gzip", "x-gzip", "deflate")
_MOST_CODINGS: Final = 3
"""Codings one upon the other that are unpacked, because each takes its time."""
_MOST_MEMBERS: Final = 20
"""Members of gzip behind the first one that are unpacked, because each takes its time."""
_MEMBER: Final = b"\x1f\x8b"
"""The beginning of a member of gzip (RFC 1952)."""
_LONGEST_NUMBER: Final = 400
"""Digits of the longest whole number: more fit no float, and thousands raise an error."""
_HALF: Final = r"\\u[dD]|[\ud800-\udfff]"
"""Half a surrogate pair, as it seems: written as an escape, or as it is."""
_BEFORE: Final = " \t\r\n\0\ufeff"
"""Characters that may stand before JSON without meaning anything."""
_TEXT: Final = r'"(?:[^"\\]++|\\.)*+"'
_NAME: Final = rf"[\s,]*+({_TEXT})\s*+:\s*+"
"""A name in an object, with what stands around it."""
_BRACKET_OR_TEXT: Final = rf"{_TEXT}|[\[\]{{}}]"
_NO_PREFIX: Final = r"(?i)^\s*[\[\"]|<(?:!doctype|html)\b"
"""JSON that is no object, or a page of HTML: an id in it is not that of a generation."""
_ID: Final = r',\s{0,9}"id"\s{0,9}:\s{0,9}("[^"\\\n]{1,200}"|\d{1,20}(?=\s{0,9}[,}]))'
"""A further member of an object in JSON that is an id."""
_LONGEST_TYPE: Final = 200
"""Characters of a content type that are read."""
_CHARSETS: Final = r"utf|iso|latin|ascii|cp\d|koi8|mac|big5|gb|hz|euc|shift|johab|tis|ptcp|kz"
"""The beginnings of the names of Python's codecs that are charsets."""


def unpacked(content: bytes, encoding: str | None) -> tuple[bytes, bool]:
    """Return the content unpacked, and whether that is all of it.

    Args:
        content: The bytes that were sent.
        encoding: The answer's `Content-Encoding`: only gzip and deflate are asked for. Others are
            identity, or a lie. No JSON begins like gzip, so that is unpacked, told or not.
    """
    told = (encoding or "").lower().replace(",", " ").split()
    names = [name for name in told if name in _CODINGS]
    if len(names) > _MOST_CODINGS:
        return b"", False
    untold = ["gzip"] * (_MOST_CODINGS - len(names))
    for place, name in enumerate([*reversed(names), *untold]):
        if place >= len(names) and not content.startswith(_MEMBER):
            break
        try:
            try:
                content, is_whole = _inflated(content, zlib.MAX_WBITS | 32)
            except zlib.error:
                if name != "deflate":
                    raise
                # Some servers leave the header out.
                content, is_whole = _inflated(content, -zlib.MAX_WBITS)
        except zlib.error:
            # Some say that it is packed, and it is not.
            return content, content.lstrip()[:1] == b"{"
        if not is_whole or len(content) > LARGEST:
            return content[:LARGEST], False
    return content, True


def _inflated(content: bytes, window: int) -> tuple[bytes, bool]:
    """Return content unpacked once, and whether that is all of it; gzip may come in members.

    Raises:
        zlib.error: Its beginning is not packed so.
    """
    packed = zlib.decompressobj(window)
    try:
        found = packed.decompress(content, LARGEST + 1)
    except zlib.error:
        if window < 0 or not (found := _until_broken(content, window)):
            raise
        return found, False
    for _ in range(_MOST_MEMBERS):
        if not (packed.eof and packed.unused_data.startswith(_MEMBER)) or len(found) > LARGEST:
            break
        rest, packed = packed.unused_data, zlib.decompressobj(window)
        try:
            found += packed.decompress(rest, LARGEST + 1 - len(found))
        except zlib.error:
            break
    return found, packed.eof and not packed.unused_data.startswith(_MEMBER)


def _until_broken(content: bytes, window: int) -> bytes:
    """Return what is packed before the byte at which content is broken, maybe its checksum.

    zlib gives out nothing of a piece in which it finds a mistake, so the pieces are small, and only
    the beginning is unpacked.
    """
    packed, found = zlib.decompressobj(window), bytearray()
    with contextlib.suppress(zlib.error):
        for at in range(min(len(content), _LONGEST_BEGINNING)):
            found += packed.decompress(content[at : at + 1], LARGEST)
            if packed.eof or len(found) > LARGEST:
                break
    return bytes(found)


def text_of(content: bytes, content_type: str | None) -> str:
    """Return content as text; what is in no charset is replaced.

    JSON is UTF-8 or, rarely, UTF-16 or UTF-32, which can be told from its first bytes. If it is
    none of them, the charset that the server names is believed.
    """
    charset: str = json.detect_encoding(content)
    try:
        return content.decode(charset)
    except UnicodeDecodeError:
        if charset == "utf-8":
            charset = _named_charset(content_type)
        return content.decode(charset, "replace")


def _named_charset(content_type: str | None) -> str:
    message = Message()
    message["Content-Type"] = clean_text(content_type or "", _LONGEST_TYPE)
    try:
        charset = codecs.lookup(message.get_content_charset() or "utf-8").name
    except (LookupError, ValueError):
        return "utf-8"
    return charset if re.match(_CHARSETS, charset) else "utf-8"


def json_of(text: str) -> Any:
    """Return the JSON that `text` begins with, bounded with a spare.

    Raises:
        ValueError: There is none, it is not whole, or it is more than any answer of the API.
    """
    text = text.lstrip(_BEFORE)
    brackets = text.count("{") + text.count("[")
    if brackets + text.count(",") > _MOST_PARTS:
        bare = re.sub(_TEXT, "", text, flags=re.DOTALL)
        if bare.count("{") + bare.count("[") + bare.count(",") > _MOST_PARTS:
            raise ValueError(f"it has more than {_MOST_PARTS:,} parts")
    value: Any
    try:
        value, end = _decode(text)
    except RecursionError:
        value, end = _decode(_shallow(text))
    if not text.startswith(("{", "[")) and text[end:].strip(_BEFORE):
        raise ValueError("a sentence that begins with a number")
    if len(text) > LONGEST_TEXT or brackets > MOST_DEPTH or re.search(_HALF, text):
        return bounded(value, spare=True)
    return value


def is_json(content: bytes) -> bool:
    """Whether bytes are JSON as a whole."""
    try:
        json_of(text_of(content, None))
    except ValueError:
        return False
    return True


def remains_of(text: str) -> dict[str, Any]:
    """Return what can be read of an object whose text is no JSON as a whole.

    These are its first members; what stands before it, such as a warning of the server's language,
    is passed over. If there is no id in them, it is the only id that stands behind the place at
    which the JSON is broken.
    """
    text = text[:_LONGEST_BEGINNING]
    begin = text.find("{")
    if begin < 0 or (begin and re.search(_NO_PREFIX, text)):
        return {}
    remains = _first_members(text[begin:])
    if '"id"' not in json.dumps(remains):
        ids = set(re.findall(_ID, text[begin:]))
        if len(ids) == 1:
            remains["id"] = _decode(ids.pop())[0]
    return remains


def place_of(error: ValueError) -> str:
    """Return where JSON is broken, in words, from the error of `json_of`."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1:,}"
    return str(error)


def _first_members(text: str) -> dict[str, Any]:
    """Return the first members of an object whose text is cut, or broken at some place.

    They go up to the first one that is not whole; of that one, its own first members. Its status is
    left out: what belongs to it may have been in the rest.
    """
    outer: dict[str, Any] = {}
    members, position = outer, 1
    for _ in range(MOST_DEPTH):
        while name := re.compile(_NAME, re.DOTALL).match(text, position):
            position = name.end()
            try:
                value, position = _decode(text, position)
            except (ValueError, RecursionError):
                break
            if name[1] != '"status"':
                members[_name(name[1])] = bounded(value, spare=True)
        if name is None or not text.startswith("{", position):
            break
        inner: dict[str, Any] = {}
        members[_name(name[1])] = inner
        members, position = inner, position + 1
    return outer


def _name(text: str) -> str:
    """Return a name in an object; one that is broken is one that nobody knows."""
    try:
        name: str = _decode(text)[0]
    except ValueError:
        return text
    return name


def _shallow(text: str) -> str:
    """Return JSON without what is nested deeper than is kept; strings are skipped."""
    kept: list[str] = []
    depth = begin = 0
    for found in re.finditer(_BRACKET_OR_TEXT, text, re.DOTALL):
        if found[0] in ("{", "["):
            depth += 1
            if depth == MOST_DEPTH + 1:
                kept += text[begin : found.start()], "null"
        elif found[0] in ("}", "]"):
            if depth == MOST_DEPTH + 1:
                begin = found.end()
            depth -= 1
            if depth == 0:
                break
    return "".join((*kept, text[begin:] if depth <= MOST_DEPTH else ""))


def _whole_number(digits: str) -> int | None:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else None


def _number(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _no_number(_word: str) -> None:
    """Read NaN and Infinity as nothing: JSON has no such numbers, and nobody could pass them on."""


_decode: Final = json.JSONDecoder(
    parse_int=_whole_number, parse_float=_number, parse_constant=_no_number, strict=False
).raw_decode
