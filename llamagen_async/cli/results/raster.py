"""A comic as a PDF, a page of it on each page, or as one tall PNG. This module needs Pillow.

Pictures are opened one at a time. Pillow's own bound for their pixels holds: one that has more is
told, and not opened.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from llamagen_async.cli.results.book import Book, NotMadeError
from llamagen_async.cli.results.pdf import JPEG, PDF
from llamagen_async.cli.text import one_line, shown_path

__all__ = ["opened_picture", "write_pdf", "write_strip"]

_FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
"""The kinds of pictures that are opened, as far as this Pillow knows them. Of others, some run
programs."""
_BROKEN: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError),
    *(struct.error, RuntimeError, Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""Errors of a picture that is not as its kind is to be."""
_QUALITY: Final = 95
"""The highest quality that Pillow recommends for JPEG."""
_MOST_PIXELS: Final = 64_000_000
"""Pixels of a strip: 192 MB while it is made. A comic that has more becomes narrower."""
_GUTTER: Final = 40
"""How many times as wide as its gutter a strip is."""
_SIDEWAYS: Final = (5, 6, 7, 8)
"""The orientations, as cameras write them, of which width and height change places."""


def write_pdf(book: Book, file: BinaryIO) -> None:
    """Write a comic as a PDF.

    Raises:
        NotMadeError: A picture is broken.
        OSError: The file can't be written.
    """
    pdf = PDF(file, title=book.title, mark=book.mark, language=book.language)
    for page in book.pages:
        pdf.add_page([pdf.add_picture(_jpeg(path)) for path in page])
    pdf.finish()


def write_strip(book: Book, file: BinaryIO) -> None:
    """Write a comic as one PNG, all panels below each other at the width of the widest.

    Raises:
        NotMadeError: A picture is broken.
        OSError: The file can't be written.
    """
    pictures = book.pictures
    width, heights = _measured([_size(path) for path in pictures])
    gutter = max(1, width // _GUTTER)
    whole = (width, sum(heights) + gutter * (len(heights) - 1))
    facts = PngImagePlugin.PngInfo()
    facts.add_text("Software", book.mark.decode())
    facts.add_itxt("Title", book.title)
    at = 0
    with Image.new("RGB", whole, "white") as strip:
        for path, height in zip(pictures, heights, strict=True):
            with opened_picture(path) as picture, _read(path):
                strip.paste(_resized(picture, (width, height)), (0, at))
            at += height + gutter
        strip.save(file, "PNG", pnginfo=facts)


@contextmanager
def opened_picture(path: Path) -> Generator[Image.Image]:
    """Yield a picture as it is seen: turned upright, its first frame, in RGB and on white.

    Raises:
        NotMadeError: It is broken, or has more pixels than Pillow allows.
    """
    with _read(path):
        seen = _converted(path)
    with seen:
        yield seen


def _converted(path: Path) -> Image.Image:
    with Image.open(path, formats=_formats()) as picture:
        turned = ImageOps.exif_transpose(picture)
        if turned.mode.startswith("I"):  # 16 bits of grey
            turned = Image.eval(turned.convert("I"), lambda value: value * (1 / 256))
        if not turned.has_transparency_data:
            return turned.convert("RGB")
        clear = turned.convert("RGBA")
        seen = Image.new("RGBA", clear.size, "white")
        seen.alpha_composite(clear)
        return seen.convert("RGB")


def _size(path: Path) -> tuple[int, int]:
    """Return the width and height of a picture as it is seen."""
    with _read(path), Image.open(path, formats=_formats()) as picture:
        width, height = picture.size
        turn = picture.getexif().get(ExifTags.Base.Orientation)
        return (height, width) if turn in _SIDEWAYS else (width, height)


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.size == size:
        return picture
    # A type of NumPy's is in its signature, and not there for who checks this.
    resized: Image.Image = cast("Any", picture).resize(size)
    return resized


def _measured(sizes: Sequence[tuple[int, int]]) -> tuple[int, list[int]]:
    """Return the width of a strip, and the height of each panel on it."""
    width = max(width for width, _ in sizes)
    tall = sum(height / width for width, height in sizes) + (len(sizes) - 1) / _GUTTER
    width = max(1, min(width, int((_MOST_PIXELS / tall) ** 0.5)))
    return width, [max(1, round(height * width / own)) for own, height in sizes]


def _jpeg(path: Path) -> JPEG:
    written = io.BytesIO()
    with opened_picture(path) as picture, _read(path):
        # With `optimize` Pillow has room for two bytes a pixel, and noise takes more.
        picture.save(written, "JPEG", quality=_QUALITY, subsampling=0)
        return JPEG(written.getvalue(), *picture.size)


def _formats() -> list[str]:
    Image.init()
    return [one for one in _FORMATS if one in Image.OPEN]


@contextmanager
def _read(path: Path) -> Generator[None]:
    """Have the errors of a picture told, and keep what Pillow has to say of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = Image.MAX_IMAGE_PIXELS or 0
        raise NotMadeError(f"{shown_path(path)} has more than {most:,} pixels") from None
    except UnidentifiedImageError:
        raise NotMadeError(f"{shown_path(path)} is no picture that Pillow can read") from None
    except _BROKEN as error:
        raise NotMadeError(f"{shown_path(path)} is broken ({one_line(str(error))})") from None
