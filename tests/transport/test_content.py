"""Content is read with tolerance: what can be read of an answer is used."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llamagen_async.foreign import MOST_DEPTH
from llamagen_async.transport.content import (
    LARGEST,
    json_of,
    remains_of,
    text_of,
    unpacked,
)

CONTENT = b'{"id": "c1"}'
JSON = "application/json"


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (CONTENT, None),
        (CONTENT, "identity"),
        (gzip.compress(CONTENT, mtime=0), "gzip"),
        (gzip.compress(CONTENT, mtime=0), "GZip"),
        (gzip.compress(CONTENT, mtime=0), "x-gzip"),
        (gzip.compress(CONTENT[:5]) + gzip.compress(CONTENT[5:]), "gzip"),
        (gzip.compress(CONTENT, mtime=0) + bytes(9), "gzip"),
        (zlib.compress(CONTENT), "deflate"),
        (raw_deflate(CONTENT), "deflate"),
        (zlib.compress(gzip.compress(CONTENT, mtime=0)), "gzip, deflate"),
        (CONTENT, "gzip"),  # it says so, and it is not
        (CONTENT, "br"),
        (gzip.compress(CONTENT, mtime=0), None),  # it does not say so, and it is
        (gzip.compress(CONTENT, mtime=0), "br"),
        (gzip.compress(CONTENT, mtime=0), "gzip;q=1.0"),
        (gzip.compress(CONTENT, mtime=0), "identity, identity, identity, gzip"),
        (gzip.compress(gzip.compress(CONTENT), mtime=0), "gzip"),
        (zlib.compress(gzip.compress(gzip.compress(CONTENT))), "deflate"),
    ],
)
def test_packed_content_is_unpacked(content: bytes, encoding: str | None) -> None:
    assert unpacked(content, encoding) == (CONTENT, True)


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [(gzip.compress(CONTENT, mtime=0), "gzip"), (zlib.compress(CONTENT), "deflate")],
)
def test_what_can_be_unpacked_of_a_broken_content_is_returned(packed: bytes, encoding: str) -> None:
    content, is_whole = unpacked(packed[:-6], encoding)
    assert CONTENT.startswith(content[:6])
    assert not is_whole
    assert unpacked(b"\x00garbage", encoding)[1] is False
    assert unpacked(CONTENT, ", ".join([encoding] * 1000)) == (b"", False)


@pytest.mark.parametrize(
    ("pack", "encoding"),
    [(gzip.compress, "gzip"), (gzip.compress, None), (zlib.compress, "deflate")],
)
def test_what_stands_before_a_broken_byte_is_returned(
    pack: Callable[[bytes], bytes], encoding: str | None
) -> None:
    """The id of something paid, in an answer whose checksum is wrong or whose end is."""
    packed = pack(CONTENT)
    assert unpacked(packed[:-4] + b"\xff\xff\xff\xff", encoding) == (CONTENT, False)
    long = CONTENT + b"".join(b"%d," % (n * n) for n in range(9_000))
    packed = pack(long)
    middle = len(packed) // 2
    content, is_whole = unpacked(packed[:middle] + b"\xff" * 99 + packed[middle:], encoding)
    assert content.startswith(CONTENT)
    assert not is_whole


def test_a_bomb_with_a_broken_byte_is_not_unpacked_beyond_the_largest_answer() -> None:
    content, is_whole = unpacked(gzip.compress(bytes(6 * LARGEST))[:-4] + b"\xff\xff\xff\xff", None)
    assert len(content) <= LARGEST
    assert not is_whole


@pytest.mark.parametrize(
    "more", [b"\x1f\x8bbroken", 1_000 * gzip.compress(b"x"), gzip.compress(b"x" * LARGEST)[:-9]]
)
def test_members_behind_the_first_one_can_not_lose_it(more: bytes) -> None:
    """Nor are there more of them, or larger ones, than take little time."""
    content, is_whole = unpacked(gzip.compress(CONTENT) + more, "gzip")
    assert content.startswith(CONTENT)
    assert len(content) <= LARGEST
    assert not is_whole


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_bomb_is_not_unpacked_beyond_the_largest_answer(layers: int) -> None:
    """19 kB that stand for megabytes, also packed several times."""
    content = b"\0" * (6 * LARGEST)
    for _ in range(layers):
        content = gzip.compress(content)
    tracemalloc.start()
    kept, is_whole = unpacked(content, ", ".join(["gzip"] * layers))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(kept), is_whole) == (LARGEST, False)
    assert peak < 3 * LARGEST


@pytest.mark.parametrize(
    ("content", "content_type", "text"),
    [
        ("é".encode(), JSON, "é"),
        (b"\xef\xbb\xbf" + "é".encode(), JSON, "é"),
        (b"\xef\xbb\xbf\xe9", "text/json; charset=latin-1", "\ufffd"),
        ("é".encode(), f"{JSON}; charset=iso-8859-1", "é"),  # JSON is UTF-8, whatever it says
        (b"caf\xe9", f"{JSON}; charset=ISO-8859-1", "café"),
        (b"caf\xe9", f'{JSON}; charset="windows-1252"', "café"),
        ("漫画".encode("shift_jis"), f"{JSON}; charset=Shift_JIS", "漫画"),
        ('{"é"'.encode("utf-16"), JSON, '{"é"'),
        ('{"é"'.encode("utf-16-le"), JSON, '{"é"'),
        ('{"é"'.encode("utf-16-be") + b"x", JSON, '{"é"\ufffd'),
        ('{"é"'.encode("utf-32"), JSON, '{"é"'),
        (b'"caf\xc3"', JSON, '"caf\ufffd"'),
        (b"\xff", None, "\ufffd"),
        (b"\xff", f"{JSON}; charset=no-such", "\ufffd"),
        (b"\xff", f"{JSON}; charset=zlib", "\ufffd"),
        (b"\xff", f"{JSON}; charset=idna", "\ufffd"),
        (b"\xff", f"{JSON}; charset=a\x00b", "\ufffd"),
        (b"\xff", f"{JSON}; charset=" + "x" * 5000, "\ufffd"),
        (b"\xff", "\ud800;;=; charset", "\ufffd"),
        (b"", None, ""),
    ],
)
def test_text_is_read_in_its_charset_or_as_far_as_it_goes(
    content: bytes, content_type: str | None, text: str
) -> None:
    assert text_of(content, content_type) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": NaN, "b": -Infinity, "c": 1e999}', {"a": None, "b": None, "c": None}),
        ('{"a": "b\nc\x00\x1b"}', {"a": "b\nc\x00\x1b"}),
        ('{"a": 1} trailing', {"a": 1}),
        ('{"a": 1}{"a": 2}', {"a": 1}),
        (' \ufeff\0\r\n{"a": 1}\0', {"a": 1}),
        ('{"a": ' + "9" * 5000 + ', "b": 1.5}', {"a": None, "b": 1.5}),
        ('{"a": ' + "9" * 100 + "}", {"a": int("9" * 100)}),
        ('{"a": "\\ud800", "b": "\\uD83D\\uDE00"}', {"a": "\\ud800", "b": "\U0001f600"}),
        ("null", None),
        ('"text"', "text"),
    ],
)
def test_json_is_read_over_what_nobody_needs(text: str, value: Any) -> None:
    assert json_of(text) == value


@pytest.mark.parametrize("levels", [MOST_DEPTH, 500, 40_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":[', "]}")])
def test_what_is_nested_too_deep_takes_nothing_else_with_it(
    levels: int, opening: str, closing: str
) -> None:
    text = f'{{"x": {opening * levels}{closing * levels}, "id": "[c1"}} {{'
    value = json_of(text)
    assert value["id"] == "[c1"
    json.dumps(value)
    assert str(value["x"]).count("[") <= MOST_DEPTH


def test_texts_full_of_brackets_are_texts() -> None:
    value = json_of(json.dumps({"failureReason": "boom\x1b[2J, {" * 300_000, "id": "c1"}))
    assert value["id"] == "c1"
    assert value["failureReason"].startswith("boom\x1b[2J")


@pytest.mark.parametrize(
    "text",
    ["", "<html>", '{"a": 1', "[" * 1000, "[" + "{}," * 300_000, "502 Bad Gateway", '"a" "b"'],
)
def test_what_is_no_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # which one is nobody's business
        json_of(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"id": "c1", "status": "PEND', {"id": "c1"}),
        ('{"id": "c1"', {"id": "c1"}),
        ('{"id": "c1', {}),
        ('{"id": 17, "x": {"y": [1, 2], "z": tru', {"id": 17, "x": {"y": [1, 2]}}),
        ('{"x": {"id": "no"}, "id": "c1", oops', {"x": {"id": "no"}, "id": "c1"}),
        ('{"artwork": {"id": "a1", "s', {"artwork": {"id": "a1"}}),
        ('{"artwork": {"status": "SUCCEEDED", "id": "a1", "o', {"artwork": {"id": "a1"}}),
        ('{"id": "c1", "x": ' + "[" * 90_000, {"id": "c1"}),
        ('{"id": "c1"}', {"id": "c1"}),
        ("{}", {}),
        ('["id", "c1"', {}),
        ("<html>", {}),
        ("", {}),
        ('{"\\x": 1, "id": "c1", oops', {'"\\x"': 1, "id": "c1"}),
        ('{"\\x": {"id": "c1", oops', {'"\\x"': {"id": "c1"}}),
        # What stands before it is passed over.
        ('<br />Warning: foo() in x.php {"id": "c1", "status": "PENDING"}', {"id": "c1"}),
        (")]}',\n" + '{"id": "c1", "x": 1}', {"id": "c1", "x": 1}),
        ('<!DOCTYPE html><script>x = {"id": "GT-1"}</script>', {}),
        ('<html><script>{"a": b, "id": "GT-1"}</script>', {}),
        # The only id behind the broken place.
        ('{"prompt": "say "hi"", "id": "c1", "status": "PENDING"}', {"prompt": "say ", "id": "c1"}),
        ('{"at": undefined, "id": 17}', {"id": 17}),
        ('{"at": undefined, "id": "c1", "x": {"y": 1, "id": "c1"}}', {"id": "c1"}),
        ('{"at": undefined, "id": "c1", "x": {"y": 1, "id": "p1"}}', {}),
        ('{"at": undefined, "user": {"id": "u1"}}', {}),
        ('{"at": undefined, "id": "c', {}),
        ('{"at": undefined, "id": 17', {}),
        ('{"user": {"id": "u1"}, "at": undefined, "x": 1, "y', {"user": {"id": "u1"}}),
    ],
)
def test_the_beginning_of_an_object_is_read(text: str, value: object) -> None:
    assert remains_of(text) == value


@given(st.text(st.sampled_from('{}[]",:\\u1ae id.\n\0\ud800')) | st.text())
@example('"\ud800"')
def test_no_text_raises_anything_else(text: str) -> None:
    assert isinstance(remains_of(text), dict)
    try:
        value = json_of(text)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False).encode()


@given(st.binary(), st.none() | st.text(), st.none() | st.text(st.sampled_from("gzip,deflat br")))
def test_no_content_raises_at_all(content: bytes, kind: str | None, packing: str | None) -> None:
    content, _ = unpacked(content, packing)
    assert isinstance(text_of(content, kind), str)
