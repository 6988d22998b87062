"""The sandbox's pictures: panels and pages, drawn from words and a seed.

The same words, seed and size give the same picture. This folder needs Pillow (the extra
`sandbox`), except for `cache`; nothing else of the sandbox does. It reads and writes no files.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Final

from PIL import Image

from llamagen_async.sandbox.pictures import lettering
from llamagen_async.sandbox.pictures.panels import PAPER, PanelSpec, panel_image

__all__ = ["PanelSpec", "draw_animation", "draw_page", "draw_panel"]

_MARGIN: Final = 0.016
"""The paper around a single panel, as a share of its shorter side."""
_PAGE_WIDTH: Final = 1200
"""The width of a page in pixels."""
_COLUMNS_AT_MOST: Final = 4
"""The most panels beside each other on a page: captions of narrower ones could not be read."""
_COLOURS: Final = 96
"""The number of colours in a file: flat colours need no more, and the file stays small."""
_COMPRESSION: Final = 3
"""The zlib level of PNGs. Higher levels take twice the time to save a few kilobytes."""
_FRAMES: Final = 8
"""The number of pictures in an animation."""
_FRAME_MILLISECONDS: Final = 120
"""Milliseconds for which each picture of an animation is shown."""
_PAGE_SHAPE: Final = 1.25
"""The height of a page, in page widths, that the number of columns is chosen for."""


def draw_panel(
    caption: str,
    *,
    size: tuple[int, int] = (1024, 1024),
    seed: object = 0,
    story: str | None = None,
    style: str | None = None,
    number: int | None = None,
    watermark: bool = False,
) -> bytes:
    """Return the picture of one panel as a PNG of exactly `size` pixels.

    Args:
        caption: The text in the panel; it always fits, whatever its length or script.
        size: Width and height in pixels.
        seed: The seed of everything that the words leave open.
        story: The whole prompt, which decides who the heroes are; the caption if not given.
        style: The drawing style asked for; see `PanelSpec.style`.
        number: The number in a corner, if there is to be one.
        watermark: Whether the demo plan's watermark lies across it.
    """
    spec = PanelSpec(caption, seed=str(seed), story=story, style=style, number=number)
    image = panel_image(spec, size, margin=_MARGIN)
    if watermark:
        lettering.mark(image)
    return _png(image)


def draw_page(
    panels: Sequence[PanelSpec], *, size: tuple[int, int] = (1024, 1024), watermark: bool = False
) -> bytes:
    """Return a page composed of panels as a PNG, 1200 pixels wide.

    Args:
        panels: The panels in reading order; at least one.
        size: Width and height of a panel's own picture: the page keeps their proportions.
        watermark: Whether the demo plan's watermark lies across it.
    """
    columns = _columns(len(panels), size)
    gutter = max(8, _PAGE_WIDTH // 60)
    rows = math.ceil(len(panels) / columns)
    cell = (_PAGE_WIDTH - (columns + 1) * gutter) // columns
    height = round(cell * size[1] / size[0])
    page = Image.new("RGB", (_PAGE_WIDTH, rows * (height + gutter) + gutter), PAPER)
    for row in range(rows):
        in_row = panels[row * columns : (row + 1) * columns]
        # A last row that is not full is stretched to the page's width.
        free = _PAGE_WIDTH - (len(in_row) + 1) * gutter
        for n, spec in enumerate(in_row):
            left = gutter + n * (free // len(in_row) + gutter)
            width = free // len(in_row)
            picture = panel_image(spec, (width, height))
            page.paste(picture, (left, gutter + row * (height + gutter)))
    if watermark:
        lettering.mark(page)
    return _png(page)


def draw_animation(
    story: str, *, size: tuple[int, int] = (512, 288), seed: object = 0, watermark: bool = False
) -> bytes:
    """Return a placeholder for a video: a small GIF whose figures hop.

    Args:
        story: The prompt.
        size: Width and height in pixels.
        seed: The seed of everything that the words leave open.
        watermark: Whether the demo plan's watermark lies across it.
    """
    frames: list[Image.Image] = []
    for n in range(_FRAMES):
        hop = abs(math.sin(math.pi * n / _FRAMES * 2)) * 7
        frame = panel_image(PanelSpec(story, seed=str(seed)), size, hop=hop)
        if watermark:
            lettering.mark(frame)
        frames.append(frame.quantize(_COLOURS, dither=Image.Dither.NONE))
    target = io.BytesIO()
    frames[0].save(
        target,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=_FRAME_MILLISECONDS,
        loop=0,
    )
    return target.getvalue()


def _columns(count: int, size: tuple[int, int]) -> int:
    """Return the number of panels beside each other that makes a page a little taller than wide."""
    best = min(
        range(1, count + 1),
        key=lambda n: abs(math.ceil(count / n) * size[1] / (n * size[0]) - _PAGE_SHAPE),
    )
    return min(best, _COLUMNS_AT_MOST)


def _png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    flat = image.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    flat.save(target, "PNG", compress_level=_COMPRESSION)
    return target.getvalue()
