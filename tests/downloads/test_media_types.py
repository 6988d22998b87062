"""The extension and the name of a file: safe on every system, and what the content is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.downloads.media_types import (
    distinct_stems,
    extension_of,
    is_media_type,
    safe_stem,
)


@pytest.mark.parametrize("name", ["c1-p01-01", "Füße_2.1", "漫画-1", "a"])
def test_a_name_that_is_safe_stays_as_it_is(name: str) -> None:
    assert safe_stem(name) == name


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("", "_-"),
        ("..", "_-"),
        ("../../etc/passwd", "_.._etc_passwd-"),
        ("C:\\x", "C_x-"),
        ("con", "_con-"),
        ("LPT1.old", "_LPT1.old-"),
        ("com¹", "_com¹-"),
        ("-rf", "_rf-"),
        (".hidden.", "hidden-"),
        ("a\0b\nc d", "a_b_c_d-"),
        ("x" * 500, "x" * 91 + "-"),
        ("\ud800", "_-"),
    ],
)
def test_a_name_that_is_not_safe_is_changed_and_kept_apart(name: str, start: str) -> None:
    assert safe_stem(name).startswith(start)
    assert len(safe_stem(name)) == len(start) + 8


@given(st.text() | st.text("./\\-~$ \0:conCON1é"))
def test_any_text_becomes_a_name_that_every_system_takes(text: str) -> None:
    name = safe_stem(text)
    assert name == safe_stem(text)
    assert 0 < len(name.encode()) <= 100
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    assert not set(name) & set('/\\:*?"<>| \0\n')
    assert name.isprintable()
    assert name.partition(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
    assert Path("folder", name).resolve().parent == Path("folder").resolve()


@given(st.lists(st.sampled_from(["a", "A", "a-2", "b", "a/b", "a_b"])))
def test_names_are_distinct_even_where_case_is_ignored(texts: list[str]) -> None:
    names = distinct_stems(texts)
    assert len(names) == len(texts)
    assert len({name.casefold() for name in names}) == len(texts)


@pytest.mark.parametrize(
    ("kind", "head", "extension"),
    [
        ("image/png", b"", ".png"),
        ("IMAGE/JPEG; q=1", b"", ".jpg"),
        ("image/webp", b"", ".webp"),
        ("image/svg+xml", b"<svg>", ".svg"),
        ("image/x-made-up-by-them", b"x", ".bin"),
        ("image/exe", b"MZ", ".bin"),
        ("image/png", b"\xff\xd8\xff\xe0", ".jpg"),
        ("image/png", b'{"error": "expired"}', None),
        ("image/jpeg", b"Not found", None),
        ("image/avif", b"\0\0\0\x1cftypmif1", ".avif"),
        ("image/../../x", b"x", ".bin"),
        ("video/mp4", b"", ".mp4"),
        ("video/quicktime", b"", ".mov"),
        ("image/png", b"<!DOCTYPE html>", None),
        ("image/png", b" <HTML lang=en>", None),
        ("text/html", b"\x89PNG\r\n\x1a\n", None),
        ("application/json", b"{}", None),
        ("application/octet-stream", b"\x89PNG\r\n\x1a\n", ".png"),
        ("binary/octet-stream", b"\xff\xd8\xff\xe0", ".jpg"),
        ("", b"GIF89a", ".gif"),
        (None, b"RIFF\0\0\0\0WEBPVP8 ", ".webp"),
        (None, b"\0\0\0\x1cftypavif", ".avif"),
        (None, b"\0\0\0\x1cftypisom", ".mp4"),
        (None, b"\0\0\0\x1cftypqt  ", ".mov"),
        (None, b"\x1aE\xdf\xa3\x01\0\0\0webm", ".webm"),
        (None, b"BM1234\0\0\0\0", ".bmp"),
        (None, b"MZ\x90\0", None),
        (None, b"", None),
    ],
)
def test_the_extension_comes_from_the_type_or_from_the_content(
    kind: str | None, head: bytes, extension: str | None
) -> None:
    assert extension_of(kind, head) == extension
    assert extension is None or is_media_type(kind)
