"""Files of each kind show by their own bytes whether they are cut, at whatever place."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.downloads.media_types import HEAD, PICTURES, VIDEOS, extension_of
from llamagen_async.downloads.wholeness import is_whole
from llamagen_async.transport import HTTPAssets
from tests.support.assets import fetch, picture
from tests.support.rawserver import Received, raw_server


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def large_box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content


def pillows(kind: str) -> bytes:
    image = pytest.importorskip("PIL.Image")
    image.init()
    if kind not in image.SAVE:  # as AVIF before Pillow 11.3
        pytest.skip(f"this Pillow writes no {kind}")
    file = io.BytesIO()
    image.effect_noise((64, 64), 50).convert("RGB").save(file, kind)
    return file.getvalue()


VIDEO = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
EBML = b"\x1aE\xdf\xa3\x87B\x82\x84webm"
WHOLE = {
    "mp4": VIDEO + box(b"free", b"") + box(b"mdat", bytes(900)) + box(b"moov", bytes(200)),
    "mp4, large": VIDEO + large_box(b"mdat", bytes(900)) + box(b"moov", bytes(200)),
    "mp4, in fragments": VIDEO + (box(b"moof", bytes(90)) + box(b"mdat", bytes(900))) * 3,
    "mov": box(b"ftyp", b"qt  \0\0\2\0qt  ") + box(b"mdat", bytes(900)) + box(b"moov", bytes(9)),
    "avif": box(b"ftyp", b"avif\0\0\0\0avifmif1")
    + box(b"meta", bytes(90))
    + box(b"mdat", b"x" * 9),
    "heic": box(b"ftyp", b"heic\0\0\0\0heicmif1")
    + box(b"meta", bytes(90))
    + box(b"mdat", b"x" * 9),
    "avi": b"RIFF" + struct.pack("<I", 904) + b"AVI " + bytes(900),
    "webp": b"RIFF" + struct.pack("<I", 904) + b"WEBP" + bytes(900),
    "bmp": b"BM" + struct.pack("<I", 914) + bytes(908),
    "webm": EBML + b"\x18\x53\x80\x67\x01" + (900).to_bytes(7, "big") + bytes(900),
    "webm, short length": EBML + b"\x18\x53\x80\x67\x43\x84" + bytes(900),
}


def can_be_whole(content: bytes) -> bool:
    extension = extension_of(None, content[:HEAD])
    assert extension
    return is_whole(extension, len(content), lambda at, length: content[at : at + length])


@pytest.mark.parametrize("name", WHOLE)
def test_a_cut_one_is_told_from_a_whole_one(name: str) -> None:
    content = WHOLE[name]
    assert can_be_whole(content)
    taken = [length for length in range(60, len(content)) if can_be_whole(content[:length])]
    # Where a box ends that another one may follow, and in the head of that one, nobody knows.
    assert len(taken) == {"mp4, in fragments": 5 * 8, "avif": 8, "heic": 8}.get(name, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "AVIF"])
def test_real_pictures_are_told_apart(kind: str) -> None:
    content = pillows(kind)
    assert can_be_whole(content)
    for part in (0.3, 0.6, 0.9):
        assert not can_be_whole(content[: int(len(content) * part)])


@pytest.mark.parametrize(
    "content",
    [
        WHOLE["mp4"] + b"\0\0\0\0mdat" + bytes(99),
        VIDEO + box(b"moov", b"") + b"\0\0\0\0mdat" + bytes(99),
        WHOLE["mp4"] + b"\xff" * 50,
        WHOLE["webp"] + b"more",
        EBML + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(900),
        b"OggS" + bytes(24) + b"\x80theora" + bytes(99),
    ],
    ids=["to the end", "index first", "more behind", "more", "of unknown length", "no length"],
)
def test_what_can_be_whole_is_taken(content: bytes) -> None:
    assert can_be_whole(content)


@given(st.sampled_from(sorted(PICTURES | VIDEOS)), st.binary(max_size=80))
def test_any_bytes_are_looked_at(extension: str, content: bytes) -> None:
    read = is_whole(extension, len(content), lambda at, length: content[at : at + length])
    assert read in (True, False)


async def test_a_video_without_any_length_has_to_show_its_end(
    source: HTTPAssets, tmp_path: Path
) -> None:
    content = WHOLE["mp4"]

    async def serve(received: Received) -> None:
        part = content if received.number == 2 else content[:-100]
        await received.reply(picture(part, length=None, content_type="video/mp4"))
        received.drop()

    async with raw_server(serve) as server:
        path = await fetch(source, server.url, tmp_path)
    assert path.read_bytes() == content
