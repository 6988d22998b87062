"""The pictures of finished generations, drawn when they are first asked for.

The cache maps a path below `ASSETS` to a picture and keeps the latest drawings in memory. Drawing
itself is done by `drawing`, which needs Pillow; this module can be imported without.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs

from llamagen_async.sandbox.generations import ASSETS, SandboxGeneration

__all__ = ["Drawable", "PictureCache"]

_KEPT: Final = 64
"""The number of drawings kept in memory; a panel has at most 150 kB."""
_PATH: Final = re.compile(
    rf"{ASSETS}/(?P<id>\w+)/(?:(?P<page>\d{{1,4}})(?:-(?P<panel>\d{{1,4}}))?\.png|animation\.gif)"
)
"""The path of a panel (`0-1.png`), a page (`0.png`) or an animation."""


@attrs.frozen
class Drawable:
    """One picture that can be drawn."""

    name: str
    """A name that no other picture of the service has, not even one redrawn from this."""
    content_type: str
    """The media type of the drawing."""
    draw: Callable[[], bytes] = attrs.field(repr=False, eq=False)
    """The function that draws, in some milliseconds; without Pillow it raises ImportError."""


class PictureCache:
    """Finds pictures by path, and keeps the latest drawings.

    Args:
        find: A function that returns the finished generation of an id, if there is one.
        kept: The number of drawings that are kept in memory.
    """

    def __init__(
        self, find: Callable[[str], SandboxGeneration | None], *, kept: int = _KEPT
    ) -> None:
        self._find: Final = find
        self._kept: Final = kept
        self._drawn: Final[OrderedDict[str, bytes]] = OrderedDict()

    def find(self, path: str) -> Drawable | None:
        """Return the picture at a path; `None` if there is nothing (yet)."""
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

    def drawn(self, picture: Drawable) -> bytes | None:
        """Return a drawing that is still in memory."""
        content = self._drawn.get(picture.name)
        if content is not None:
            self._drawn.move_to_end(picture.name)
        return content

    def keep(self, picture: Drawable, content: bytes) -> None:
        """Keep a drawing; if there are too many, the least recently used one is dropped."""
        self._drawn[picture.name] = content
        self._drawn.move_to_end(picture.name)
        while len(self._drawn) > self._kept:
            self._drawn.popitem(last=False)


def _panel(generation: SandboxGeneration, page: int, panel: int) -> Drawable:
    def draw() -> bytes:
        from llamagen_async.sandbox.pictures.drawing import draw_panel  # noqa: PLC0415 - needs Pillow

        return draw_panel(
            drawing.caption,
            size=generation.size,
            seed=generation.seed(drawing),
            story=generation.prompt,
            style=generation.style,
            number=drawing.number,
            watermark=generation.watermarked,
        )

    drawing = generation.pages[page][panel]
    return Drawable(generation.seed(drawing), "image/png", draw)


def _page(generation: SandboxGeneration, page: int) -> Drawable:
    drawings = tuple(generation.pages[page])

    def draw() -> bytes:
        from llamagen_async.sandbox.pictures.drawing import PanelSpec, draw_page  # noqa: PLC0415

        return draw_page(
            [
                PanelSpec(
                    drawing.caption,
                    seed=generation.seed(drawing),
                    story=generation.prompt,
                    style=generation.style,
                    number=drawing.number,
                )
                for drawing in drawings
            ],
            size=generation.size,
            watermark=generation.watermarked,
        )

    return Drawable(f"{generation.id}/page/{page}/{generation.changes}", "image/png", draw)


def _animation(generation: SandboxGeneration) -> Drawable | None:
    def draw() -> bytes:
        from llamagen_async.sandbox.pictures.drawing import draw_animation  # noqa: PLC0415 - needs Pillow

        return draw_animation(
            generation.prompt,
            size=generation.size,
            seed=generation.id,
            watermark=generation.watermarked,
        )

    if not generation.is_animation:
        return None
    return Drawable(f"{generation.id}/animation", "image/gif", draw)
