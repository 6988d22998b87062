"""A PDF of pictures, written as they come, so that one of them is in memory at a time.

The same pictures give the same bytes. PDF 1.4 (ISO 32000-1 describes it, too).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Final

import attrs

__all__ = ["JPEG", "PDF", "Box", "arranged_in_rows"]

_WIDTH: Final = 595.0
"""Points of a page's width, as of A4; its height is what its panels need."""
_GUTTER: Final = 12.0
"""Points of white between panels and around them."""
_SIDE_BY_SIDE: Final = 2
"""Panels of a row."""
_HIGHEST: Final = 14_400.0
"""Points of the highest page that readers have to show (ISO 32000-1, annex C)."""
_CATALOG, _PAGES, _INFO = 1, 2, 3
"""The numbers of the objects that there are once."""


@attrs.frozen
class JPEG:
    """A picture of three colours."""

    content: bytes = attrs.field(repr=False)
    """The file's bytes."""
    width: int
    """Pixels of its width."""
    height: int
    """Pixels of its height."""


@attrs.frozen
class Box:
    """The place of a panel on a page, in points from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


def arranged_in_rows(
    shapes: Sequence[float], width: float = _WIDTH, gutter: float = _GUTTER
) -> tuple[list[Box], float]:
    """Arrange the panels of a page in rows of two that fill its width.

    Both panels of a row have the same height; a single one that is left over fills its row.

    Args:
        shapes: The width of each panel divided by its height, in reading order.
        width: Points of the page's width.
        gutter: Points of white between panels and around them.

    Returns:
        The place of each panel, and the height that the page needs.
    """
    boxes: list[Box] = []
    y = gutter
    for first in range(0, len(shapes), _SIDE_BY_SIDE):
        row = shapes[first : first + _SIDE_BY_SIDE]
        height = (width - gutter * (len(row) + 1)) / sum(row)
        x = gutter
        for shape in row:
            boxes.append(Box(x, y, shape * height, height))
            x += shape * height + gutter
        y += height + gutter
    return boxes, y


class PDF:
    """A PDF that is being written.

    Args:
        file: Its file, empty.
        title: The title that readers show.
        mark: ASCII text by which the file is recognised, on its second line.
        language: The code of the language of what is in it.
    """

    def __init__(self, file: BinaryIO, *, title: str, mark: bytes, language: str | None) -> None:
        self._file: Final = file
        self._places: Final[dict[int, int]] = {}
        self._written = 0
        self._next = _INFO + 1
        self._pictures: Final[dict[int, float]] = {}
        self._pages: Final[list[int]] = []
        # Bytes above 127 tell programs that the file is no text.
        self._write(b"%PDF-1.4\n%" + mark + b"\n%\xe2\xe3\xcf\xd3\n")
        lang = f" /Lang ({language})" if language else ""
        self._object(_CATALOG, f"<< /Type /Catalog /Pages {_PAGES} 0 R{lang} >>")
        # The mark in front of it says that it is UTF-16.
        text = f"\ufeff{title}".encode("utf-16-be", "replace").hex()
        self._object(_INFO, f"<< /Title <{text}> /Producer (llamagen-async) >>")

    def add_picture(self, picture: JPEG) -> int:
        """Write a picture and return its number, for a page."""
        number = self._number()
        self._pictures[number] = picture.width / picture.height
        facts = (
            f"/Type /XObject /Subtype /Image /Width {picture.width} /Height {picture.height} "
            "/ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode"
        )
        self._object(number, facts, picture.content)
        return number

    def add_page(self, pictures: Sequence[int]) -> None:
        """Write a page of pictures, which are in reading order."""
        boxes, height = arranged_in_rows([self._pictures[number] for number in pictures])
        scale = min(1.0, _HIGHEST / height)
        width, height = _WIDTH * scale, height * scale
        drawn = [f"1 1 1 rg 0 0 {width:.4f} {height:.4f} re f"]
        for number, box in zip(pictures, boxes, strict=True):
            x, y = box.x * scale, height - (box.y + box.height) * scale
            size = f"{box.width * scale:.4f} 0 0 {box.height * scale:.4f}"
            drawn.append(f"q {size} {x:.4f} {y:.4f} cm /P{number} Do Q")
        content, page = self._number(), self._number()
        self._object(content, "", "\n".join(drawn).encode())
        names = " ".join(f"/P{number} {number} 0 R" for number in dict.fromkeys(pictures))
        self._object(
            page,
            f"<< /Type /Page /Parent {_PAGES} 0 R /MediaBox [0 0 {width:.4f} {height:.4f}] "
            f"/Resources << /XObject << {names} >> >> /Contents {content} 0 R >>",
        )
        self._pages.append(page)

    def finish(self) -> None:
        """Write what stands at the end of the file; nothing can be added any more."""
        kids = " ".join(f"{page} 0 R" for page in self._pages)
        self._object(_PAGES, f"<< /Type /Pages /Count {len(self._pages)} /Kids [{kids}] >>")
        place = self._written
        lines = ["xref", f"0 {self._next}", "0000000000 65535 f "]
        lines += [f"{self._places[number]:010} 00000 n " for number in range(1, self._next)]
        lines += [
            "trailer",
            f"<< /Size {self._next} /Root {_CATALOG} 0 R /Info {_INFO} 0 R >>",
            f"startxref\n{place}\n%%EOF\n",
        ]
        self._write("\n".join(lines).encode())

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _object(self, number: int, facts: str, stream: bytes | None = None) -> None:
        self._places[number] = self._written
        if stream is None:
            self._write(f"{number} 0 obj\n{facts}\nendobj\n".encode())
            return
        self._write(f"{number} 0 obj\n<< {facts} /Length {len(stream)} >>\nstream\n".encode())
        self._write(stream)
        self._write(b"\nendstream\nendobj\n")

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._written += len(content)
