"""The extension and the name of a file: safe on every system, and what the content is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.downloads.media_types import (
    PICTURES,
    UNKNOWN,
    VIDEOS,
    distinct_stems,
    extension_of,
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


def boxed(brand: bytes, *others: bytes) -> bytes:
    """Begin a file of ISO's base media format."""
    box = b"ftyp" + brand + bytes(4) + b"".join(others)
    return (len(box) + 4).to_bytes(4) + box + bytes(100)


KINDS = [
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff\xe0", ".jpg"),
    (b"\xff\xd8\xff\xdb", ".jpg"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
    (b"RIFF\0\0\0\0WEBPVP8 ", ".webp"),
    (b"RIFF\n\r\n\nWEBPVP8X", ".webp"),
    (boxed(b"avif"), ".avif"),
    (boxed(b"avis", b"msf1"), ".avif"),
    (boxed(b"mif1", b"mif1", b"avif"), ".avif"),
    (boxed(b"heic", b"mif1"), ".heic"),
    (boxed(b"heix"), ".heic"),
    (boxed(b"mif1", b"heic"), ".heic"),
    (boxed(b"msf1", b"hevc"), ".heic"),
    (boxed(b"mif1", b"miaf"), ".heif"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", ".jxl"),
    (b"\xff\x0a\xfa\x1f", ".jxl"),
    (b"BM1234\0\0\0\0", ".bmp"),
    (b"II*\0\x08\0\0\0", ".tiff"),
    (b"MM\0*\0\0\0\x08", ".tiff"),
    (b"II+\0\x08\0\0\0", ".tiff"),
    (boxed(b"isom"), ".mp4"),
    (boxed(b"iso6"), ".mp4"),
    (boxed(b"mp42"), ".mp4"),
    (boxed(b"M4V "), ".mp4"),
    (boxed(b"dash"), ".mp4"),
    (boxed(b"3gp5"), ".mp4"),
    (boxed(b"qt  "), ".mov"),
    (
        b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm",
        ".webm",
    ),
    (b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\x82\x88matroska", ".mkv"),
    (b"RIFF\0\0\0\0AVI LIST", ".avi"),
    (b"\0\0\x01\xba\x44", ".mpg"),
    (b"OggS" + bytes(24) + b"\x80theora", ".ogv"),
]
SAID = [
    "image/png",
    "image/jpeg",
    "image/*",
    "image",
    "IMAGE/SVG+XML; charset=utf-8",
    "video/mp4",
    "text/plain",
    "text/html",
    "application/json",
    "application/octet-stream",
    "binary/octet-stream",
    "",
    "nonsense",
    None,
]


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize(("head", "extension"), KINDS)
def test_the_first_bytes_win_over_what_is_said(
    head: bytes, extension: str, said: str | None
) -> None:
    assert extension_of(said, head) == extension
    assert extension in PICTURES | VIDEOS


TEXTS = [
    b"<!DOCTYPE html><html>",
    b" \n<HTML lang=en>",
    b"\xef\xbb\xbf<html>",
    b"<!-- a --><script>alert(1)</script>",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    b'{"error": "expired"}',
    b"Not found",
    "Nicht gefunden: für immer".encode("latin-1"),
    b"%PDF-1.7\n\0\x01",
    b"",
]


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("head", TEXTS)
def test_text_is_no_picture_whatever_is_said(head: bytes, said: str | None) -> None:
    assert extension_of(said, head) is None


SVGS = [
    b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' ''><svg>",
    b"\xef\xbb\xbf<!-- hello --><SVG onload='alert(1)'>",
    b"<x:svg xmlns:x='http://www.w3.org/2000/svg'>",
    "<svg xmlns='http://www.w3.org/2000/svg'>".encode("utf-16"),
]
STRANGE = [b"MZ\x90\0\x03", b"\x7fELF\x02\x01\x01\0", b"\0\0\0\x0cjP  \r\n\x87\n", b"qoif\0\0\x02"]


@pytest.mark.parametrize("head", [*SVGS, *STRANGE])
def test_what_is_said_to_be_a_picture_of_no_known_kind_is_kept_as_bytes(head: bytes) -> None:
    for said in ("image/svg+xml", "image/png", "Image/Made-Up; q=1", "image/../../x", "video/new"):
        assert extension_of(said, head) == ".bin"
    for other in ("text/html", "application/octet-stream", "", None):
        assert extension_of(other, head) is None
    assert UNKNOWN not in PICTURES | VIDEOS


@given(st.sampled_from(SAID), st.binary(max_size=600))
def test_no_bytes_get_an_extension_that_runs(said: str | None, head: bytes) -> None:
    extension = extension_of(said, head)
    assert extension is None or extension in PICTURES | VIDEOS | {UNKNOWN}
    assert ".svg" not in PICTURES | VIDEOS
