"""The pictures of finished generations, drawn when they are first asked for.

It maps a path below `ASSETS` to what is drawn there and keeps the latest drawings in memory. What
a panel looks like is decided in `drawing`, which needs Pillow; this module is importable without.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs

from llamagen_async.sandbox.generations import ASSETS, Generation

__all__ = ["Gallery", "Picture"]

_KEPT: Final = 64
_PATH: Final = re.compile(
    rf"{ASSETS}/(?P<id>\w+)/(?:(?P<page>\d+)(?:-(?P<panel>\d+))?\.png|animation\.gif)"
)


@attrs.frozen
class Picture:
    """One picture that can be drawn."""

    name: str
    """Tells it from all others of the service, redrawn ones too."""
    content_type: str
    """Its media type."""
    draw: Callable[[], bytes] = attrs.field(repr=False, eq=False)
    """Draws it. Takes some milliseconds of one core, and raises ImportError without Pillow."""


class Gallery:
    """Finds pictures by path, and keeps the latest drawings.

    Args:
        find: Returns the finished generation of an id, if there is one.
        kept: How many drawings are kept in memory.
    """

    def __init__(self, find: Callable[[str], Generation | None], *, kept: int = _KEPT) -> None:
        self._find: Final = find
        self._kept: Final = kept
        self._drawn: Final[OrderedDict[str, bytes]] = OrderedDict()

    def find(self, path: str) -> Picture | None:
        """Return what is drawn at a path; `None` if there is nothing (yet)."""
        match = _PATH.fullmatch(path)
        generation = self._find(match["id"]) if match else None
        if match is None or generation is None:
            return None
        if match["page"] is None:
            return _animation(generation)
        page = int(match["page"])
        if page >= len(generation.pages):
            return None
        if match["panel"] is None:
            return _page(generation, page)
        panel = int(match["panel"])
        return _panel(generation, page, panel) if panel < len(generation.pages[page]) else None

    def drawn(self, picture: Picture) -> bytes | None:
        """Return a drawing that is still in memory."""
        content = self._drawn.get(picture.name)
        if content is not None:
            self._drawn.move_to_end(picture.name)
        return content

    def keep(self, picture: Picture, content: bytes) -> None:
        """Keep a drawing; the one that was not asked for longest makes room."""
        self._drawn[picture.name] = content
        self._drawn.move_to_end(picture.name)
        while len(self._drawn) > self._kept:
            self._drawn.popitem(last=False)


def _panel(generation: Generation, page: int, panel: int) -> Picture:
    def draw() -> bytes:
        from llamagen_async.sandbox.pictures.drawing import draw_panel  # noqa: PLC0415 - needs Pillow

        return draw_panel(
            drawing.caption,
            size=generation.size,
            seed=generation.seed(drawing),
            story=generation.story,
            style=generation.style,
            number=drawing.number,
            watermark=generation.watermarked,
        )

    drawing = generation.pages[page][panel]
    return Picture(generation.seed(drawing), "image/png", draw)


def _page(generation: Generation, page: int) -> Picture:
    drawings = tuple(generation.pages[page])

    def draw() -> bytes:
        from llamagen_async.sandbox.pictures.drawing import PanelSpec, draw_page  # noqa: PLC0415

        return draw_page(
            [
                PanelSpec(
                    drawing.caption,
                    seed=generation.seed(drawing),
                    story=generation.story,
                    style=generation.style,
                    number=drawing.number,
                )
                for drawing in drawings
            ],
            size=generation.size,
            watermark=generation.watermarked,
        )

    return Picture(f"{generation.id}/page/{page}/{generation.changes}", "image/png", draw)


def _animation(generation: Generation) -> Picture | None:
    def draw() -> bytes:
        from llamagen_async.sandbox.pictures.drawing import draw_animation  # noqa: PLC0415 - needs Pillow

        return draw_animation(
            generation.story,
            size=generation.size,
            seed=generation.id,
            watermark=generation.watermarked,
        )

    if not generation.is_animation:
        return None
    return Picture(f"{generation.id}/animation", "image/gif", draw)
