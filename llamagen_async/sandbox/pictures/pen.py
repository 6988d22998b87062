"""A comic artist's pen on top of Pillow: filled shapes with a dark outline, in local coordinates.

Figures and scenery are written in units of their own (a figure is about 100 high, its feet at
the origin, y upwards); the pen turns these units into pixels of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from PIL import ImageDraw

__all__ = ["INK", "Pen", "Point", "mixed", "smooth_outline"]

Point = tuple[float, float]
"""A pair of x and y."""

INK: Final = "#1d1b26"
"""The colour of outlines and letters: not quite black."""

_STEPS: Final = 7
"""The number of straight pieces that a curve between two points is drawn with."""


class Pen:
    """Draws outlined shapes around an origin.

    Args:
        draw: The picture to draw on.
        origin: The pixel of the local origin.
        scale: The length of one local unit in pixels.
        ink: The outline's width in pixels.
        flip: Whether left and right are exchanged.
    """

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        origin: Point,
        scale: float,
        *,
        ink: float = 3.0,
        flip: bool = False,
    ) -> None:
        self._draw: Final = draw
        self._x, self._y = origin
        self._scale: Final = scale
        self._sign: Final = -1.0 if flip else 1.0
        self._ink: Final = max(1, round(ink))

    def at(self, x: float, y: float) -> Point:
        """Return the pixel of a local point."""
        return self._x + self._sign * x * self._scale, self._y - y * self._scale

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: str, *, outline: bool = True
    ) -> None:
        """Draw an ellipse around (x, y)."""
        px, py = self.at(x, y)
        box = (
            px - rx * self._scale,
            py - ry * self._scale,
            px + rx * self._scale,
            py + ry * self._scale,
        )
        if outline:
            self._draw.ellipse(box, fill=fill, outline=INK, width=self._ink)
        else:
            self._draw.ellipse(box, fill=fill)

    def disc(self, x: float, y: float, r: float, fill: str, *, outline: bool = True) -> None:
        """Draw a circle around (x, y)."""
        self.oval(x, y, r, r, fill, outline=outline)

    def polygon(self, points: Sequence[Point], fill: str, *, outline: bool = True) -> None:
        """Draw a closed shape with corners."""
        self._closed(points, fill, outline=outline, joint="curve")

    def box(
        self,
        left: float,
        bottom: float,
        right: float,
        top: float,
        fill: str,
        *,
        outline: bool = True,
    ) -> None:
        """Draw a rectangle between two corners."""
        corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
        self.polygon(corners, fill, outline=outline)

    def blob(self, points: Sequence[Point], fill: str, *, outline: bool = True) -> None:
        """Draw a closed shape without corners through the points."""
        # Its pieces meet at such flat angles that drawn joints would cost time and not be seen.
        self._closed(smooth_outline(points), fill, outline=outline, joint=None)

    def line(self, points: Sequence[Point], *, fill: str = INK, width: float | None = None) -> None:
        """Draw an open line with round ends; `width` in local units, else the outline's."""
        pixels = [self.at(*point) for point in points]
        thick = self._ink if width is None else max(1.0, width * self._scale)
        self._stroke(pixels, fill, thick)

    def curve(
        self, points: Sequence[Point], *, fill: str = INK, width: float | None = None
    ) -> None:
        """Draw an open line without corners through the points."""
        self.line(smooth_outline(points, is_closed=False), fill=fill, width=width)

    def limb(self, points: Sequence[Point], width: float, fill: str) -> None:
        """Draw an outlined thick curve with round ends: an arm, a leg, a tail."""
        pixels = [self.at(*point) for point in smooth_outline(points, is_closed=False)]
        thick = max(1, round(width * self._scale))
        for diameter, colour in ((thick + 2 * self._ink, INK), (thick, fill)):
            self._draw.line(pixels, fill=colour, width=diameter)
            # A disc at every bend: Pillow's own joints leave specks where a limb is thick.
            for x, y in pixels:
                half = diameter / 2
                self._draw.ellipse((x - half, y - half, x + half, y + half), fill=colour)

    def star(self, x: float, y: float, r: float, fill: str, *, points: int = 5) -> None:
        """Draw an outlined star around (x, y)."""
        self.polygon(burst_outline(x, y, r, r * 0.45, points), fill)

    def _closed(
        self, points: Sequence[Point], fill: str, *, outline: bool, joint: str | None
    ) -> None:
        pixels = [self.at(*point) for point in points]
        self._draw.polygon(pixels, fill=fill)
        if outline:
            self._draw.line([*pixels, *pixels[:2]], fill=INK, width=self._ink, joint=joint)

    def _stroke(self, pixels: Sequence[Point], fill: str, thick: float) -> None:
        self._draw.line(list(pixels), fill=fill, width=max(1, round(thick)), joint="curve")
        half = thick / 2
        if half >= 1:
            for x, y in (pixels[0], pixels[-1]):
                self._draw.ellipse((x - half, y - half, x + half, y + half), fill=fill)


def smooth_outline(points: Sequence[Point], *, is_closed: bool = True) -> list[Point]:
    """Return a Catmull-Rom curve through the points, as short straight pieces."""
    count = len(points)
    if count < 3:  # noqa: PLR2004 - two points are a line
        return list(points)
    if is_closed:
        knots = [points[-1], *points, points[0], points[1]]
    else:
        knots = [points[0], *points, points[-1]]
    outline: list[Point] = []
    for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        outline += [_between(a, b, c, d, step / _STEPS) for step in range(_STEPS)]
    if not is_closed:
        outline.append(points[-1])
    return outline


def burst_outline(x: float, y: float, outer: float, inner: float, points: int) -> list[Point]:
    """Return the corners of a star around (x, y), the first one on top."""
    corners: list[Point] = []
    for n in range(2 * points):
        radius = inner if n % 2 else outer
        angle = math.pi * n / points
        corners.append((x + radius * math.sin(angle), y + radius * math.cos(angle)))
    return corners


def mixed(colour: str, other: str, share: float) -> str:
    """Return `colour` with a share of `other` in it; both as #rrggbb."""
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _between(a: Point, b: Point, c: Point, d: Point, t: float) -> Point:
    t2, t3 = t * t, t * t * t
    wa, wb = -t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2
    wc, wd = -3 * t3 + 4 * t2 + t, t3 - t2
    return (
        (wa * a[0] + wb * b[0] + wc * c[0] + wd * d[0]) / 2,
        (wa * a[1] + wb * b[1] + wc * c[1] + wd * d[1]) / 2,
    )
