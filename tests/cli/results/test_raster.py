"""Pictures of every kind in a strip and in a PDF: upright, in colour, on white, or told broken."""

from __future__ import annotations

import io
import random
import re
from pathlib import Path

import attrs
import pytest
from PIL import Image

from llamagen_async.cli.results import raster
from llamagen_async.cli.results.book import Book, NotMadeError
from llamagen_async.cli.results.raster import opened_picture, write_pdf, write_strip
from tests.support.comics_on_disk import picture

WHITE = (255, 255, 255)


def book(folder: Path, *pages: tuple[bytes, ...]) -> Book:
    numbers = iter(range(2_000))

    def written(content: bytes) -> Path:
        path = folder / f"{next(numbers)}.png"
        path.write_bytes(content)
        return path

    return Book("cmc_1", "Käse & 猫", tuple(tuple(map(written, page)) for page in pages))


def strip_of(one: Book) -> Image.Image:
    file = io.BytesIO()
    write_strip(one, file)
    assert one.mark in file.getvalue()[:1024]
    return Image.open(file)


def pdf_of(one: Book) -> bytes:
    file = io.BytesIO()
    write_pdf(one, file)
    return file.getvalue()


def turned() -> bytes:
    """Return a wide picture that a camera has taken sideways."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture("red", (40, 20), "JPEG", exif=exif)


def animated() -> bytes:
    written = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(written, "GIF", save_all=True, append_images=frames[1:])
    return written.getvalue()


def palette() -> bytes:
    """Return a picture with a palette of which one colour is clear."""
    written = io.BytesIO()
    one = Image.new("P", (4, 4), 1)
    one.putpalette([255, 0, 0, 0, 255, 0])
    one.save(written, "PNG", transparency=b"\xff\x00")
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "size", "colour"),
    [
        (picture((255, 0, 0, 0), mode="RGBA"), (40, 30), WHITE),
        (picture((0, 0, 0, 127), mode="RGBA"), (40, 30), (128, 128, 128)),
        (picture((9, 0), mode="LA"), (40, 30), WHITE),
        (picture(0x8000, mode="I;16"), (40, 30), (128, 128, 128)),
        (picture(0xFFFF, mode="I;16"), (40, 30), WHITE),
        (picture(1, mode="1"), (40, 30), WHITE),
        (picture(77, mode="L"), (40, 30), (77, 77, 77)),
        (picture((0, 0, 0, 0), mode="CMYK", kind="JPEG"), (40, 30), WHITE),
        (palette(), (4, 4), WHITE),
        (animated(), (8, 8), (255, 0, 0)),
        (turned(), (20, 40), (254, 0, 0)),
    ],
)
def test_a_picture_is_as_it_is_seen(
    content: bytes, size: tuple[int, int], colour: tuple[int, int, int], tmp_path: Path
) -> None:
    one = book(tmp_path, (content,))
    with opened_picture(one.pictures[0]) as seen:
        assert (seen.mode, seen.size) == ("RGB", size)
        got = seen.getpixel((1, 1))
    assert isinstance(got, tuple)
    assert all(abs(a - b) <= 1 for a, b in zip(got, colour, strict=True)), got
    assert strip_of(one).size == size


def test_a_strip_has_all_panels_at_the_width_of_the_widest(tmp_path: Path) -> None:
    pictures = picture("red", (80, 40)), picture("lime", (40, 40)), picture("blue", (80, 20))
    with strip_of(book(tmp_path, pictures[:2], pictures[2:])) as strip:
        assert (strip.format, strip.mode) == ("PNG", "RGB")
        assert strip.size == (80, 40 + 80 + 20 + 2 * 2)
        column = [strip.getpixel((40, y)) for y in range(strip.height)]
        assert strip.info["Title"] == "Käse & 猫"
    assert column[0] == column[39] == (255, 0, 0)
    assert column[40] == column[41] == column[122] == WHITE
    assert column[42] == column[121] == (0, 255, 0)
    assert column[124] == column[-1] == (0, 0, 255)


def test_a_long_strip_becomes_narrower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster, "_MOST_PIXELS", 10_000)
    one = book(tmp_path, (picture("red", (100, 100)),))
    with strip_of(attrs.evolve(one, pages=one.pages * 50)) as strip:
        assert strip.width == 13
        assert strip.width * strip.height <= 11_000


@pytest.mark.parametrize("write", [write_strip, write_pdf])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no picture that Pillow can read"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "is no picture that Pillow can read",
        ),
        (picture("red")[:60], "is broken"),
        (picture("red", (200, 200), "JPEG")[:-400], "is broken"),
        (picture("red").replace(b"IDAT", b"IDAX"), "is no picture that Pillow can read"),
        (picture("red", (30, 40)), "has more than 100 pixels"),
        (picture("red", (12, 10)), "has more than 100 pixels"),
    ],
)
def test_what_is_no_whole_picture_is_told(
    write: object, content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of too many pixels: Pillow refuses some of these, and warns of others."""
    if "pixels" in said:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    one = book(tmp_path, (picture("blue", (5, 5)), content))
    with pytest.raises(NotMadeError, match=said):
        write(one, io.BytesIO())  # type: ignore[operator]  # one of the two


def test_a_pdf_has_a_page_for_each_page(tmp_path: Path) -> None:
    pictures = [picture("red", (80, 40)), picture("lime", (40, 40)), turned()]
    content = pdf_of(book(tmp_path, tuple(pictures), (pictures[0],)))
    assert content.startswith(b"%PDF-1.4\n")
    assert content.count(b"/Type /Page ") == 2
    assert content.count(b"/Subtype /Image") == content.count(b"/DCTDecode") == 4
    jpegs = [
        Image.open(io.BytesIO(one))
        for one in re.findall(rb"stream\n(\xff\xd8.+?\xff\xd9)\nendstream", content, re.DOTALL)
    ]
    assert [one.size for one in jpegs] == [(80, 40), (40, 40), (20, 40), (80, 40)]
    pixel = jpegs[1].convert("RGB").getpixel((5, 5))
    assert pixel in ((0, 255, 1), (0, 255, 0), (0, 254, 0))


def test_a_picture_of_noise_fits_into_a_pdf(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The JPEG has more than two bytes a pixel, for which Pillow does not always have room."""
    noise = random.Random(1).randbytes(3 * 512 * 512)
    written = io.BytesIO()
    Image.frombytes("RGB", (512, 512), noise).save(written, "PNG")
    assert len(pdf_of(book(tmp_path, (written.getvalue(),)))) > 2 * 512 * 512
    assert capfd.readouterr().err == ""


def test_the_same_comic_gives_the_same_bytes(tmp_path: Path) -> None:
    one = book(tmp_path, (picture("red"), palette()))
    assert pdf_of(one) == pdf_of(one)
    with strip_of(one) as first, strip_of(one) as second:
        assert first.tobytes() == second.tobytes()
