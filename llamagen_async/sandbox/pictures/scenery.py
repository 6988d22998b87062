"""The parts of all backdrops of the sandbox's pictures: light, skies of dots, ground, trees.

Lengths are in units of a hundredth of the picture's shorter side, from its lower left corner. No
figures and no letters are drawn here.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final

import attrs

from llamagen_async.sandbox.pictures.figures import WHITE
from llamagen_async.sandbox.pictures.pen import INK, Pen, Point, mixed

__all__ = [
    "LIGHTS",
    "NIGHT",
    "Light",
    "Stage",
    "draw_burst",
    "draw_dots",
    "draw_grass",
    "draw_sky",
    "draw_stars",
    "draw_tree",
    "fill_stage",
]


@attrs.frozen
class Light:
    """The time of day, as colours."""

    sky: str
    """The sky's upper part."""
    low: str
    """The colour of the dots above the horizon."""
    sun: str
    """The colour of sun or moon."""
    shade: str
    """The colour that all colours of the scenery are mixed with."""
    depth: float
    """The share of `shade` in the colours, from 0 to 1."""

    def on(self, colour: str) -> str:
        """Return a colour as it looks in this light."""
        return mixed(colour, self.shade, self.depth)


LIGHTS: Final = (
    Light("#7cc8f7", "#c9ecff", "#fff1a8", "#fff4d6", 0.08),
    Light("#ffb36b", "#ffe0a3", "#ff6f59", "#ff8552", 0.25),
    Light("#2b3a67", "#4a5f9c", "#fdf6d3", "#1f2a55", 0.5),
    Light("#f7a8c4", "#ffe3ec", "#fff6d5", "#c77dba", 0.2),
    Light("#8fdcc6", "#dcf8ee", "#fff1a8", "#3b9c8c", 0.15),
)
"""The light of day, sunset, night, dawn and a green afternoon."""

NIGHT: Final = LIGHTS[2]
"""The light with stars in it."""


@attrs.frozen
class Stage:
    """The stage that a backdrop is drawn on."""

    pen: Pen
    width: float
    height: float
    horizon: float
    """The height of the ground."""
    rng: Random
    light: Light

    def across(self, step: float, *, jitter: float = 0.3) -> list[float]:
        """Return x from left to right, about `step` apart, a little beyond both edges."""
        count = math.ceil(self.width / step) + 1
        return [(n + self.rng.uniform(-jitter, jitter)) * step for n in range(count)]

    def ground(self, colour: str, *, rise: float = 2.5) -> None:
        """Fill everything below the horizon; `rise` makes it hilly."""
        line: list[Point] = [
            (x, self.horizon + self.rng.uniform(-rise, rise)) for x in self.across(28, jitter=0)
        ]
        low = -12.0
        edge = [(-14.0, low), (-14.0, self.horizon), *line, (self.width + 30, self.horizon)]
        self.pen.blob([*edge, (self.width + 30, low)], self.light.on(colour))


def draw_burst(stage: Stage, centre: Point, colours: tuple[str, str]) -> None:
    """Fill the picture with rays from a point: the backdrop of a dramatic moment."""
    pen, rays = stage.pen, 22
    reach = stage.width + stage.height
    fill_stage(stage, colours[0])
    turn = stage.rng.uniform(0, 1)
    for n in range(rays):
        corners = [centre]
        for edge in (n + turn, n + turn + 0.5):
            angle = 2 * math.pi * edge / rays
            corners.append(
                (centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle))
            )
        pen.polygon(corners, colours[1], outline=False)


def fill_stage(stage: Stage, colour: str) -> None:
    """Fill the whole picture."""
    w, h = stage.width, stage.height
    stage.pen.polygon([(0, 0), (0, h), (w, h), (w, 0)], colour, outline=False)


def draw_sky(stage: Stage, *, clouds: bool = True) -> None:
    """Draw a sky with sun or moon, dots above the horizon, clouds or stars."""
    light, rng = stage.light, stage.rng
    fill_stage(stage, light.sky)
    x, y = stage.width * rng.uniform(0.15, 0.85), stage.height * rng.uniform(0.5, 0.66)
    r = rng.uniform(8, 12)
    stage.pen.disc(x, y, r * 1.5, mixed(light.sky, light.sun, 0.35), outline=False)
    stage.pen.disc(x, y, r, light.sun, outline=False)
    draw_dots(stage, light.low, bottom=stage.horizon - 3, top=stage.height * 0.62)
    if light is NIGHT:
        draw_stars(stage, 26)
    elif clouds:
        for _ in range(2):
            cloud_x = rng.uniform(0, stage.width)
            _cloud(stage.pen, cloud_x, stage.height * rng.uniform(0.5, 0.72), rng.uniform(0.7, 1.2))


def draw_dots(stage: Stage, colour: str, *, bottom: float, top: float) -> None:
    """Draw a halftone: rows of dots that grow towards the bottom until they touch."""
    step = 3.4
    rows = max(1, math.ceil((top - bottom) / step * 1.4))
    for row in range(rows):
        share = 1 - row / rows
        y = bottom + row * step / 1.4
        radius = step * 0.74 * share**0.8
        shift = step / 2 if row % 2 else 0.0
        for n in range(math.ceil(stage.width / step) + 1):
            stage.pen.disc(n * step + shift, y, radius, colour, outline=False)


def draw_stars(stage: Stage, count: int) -> None:
    """Scatter stars over the sky."""
    for _ in range(count):
        x, y = stage.rng.uniform(0, stage.width), stage.rng.uniform(stage.horizon, stage.height)
        stage.pen.disc(x, y, stage.rng.choice((0.4, 0.6, 1.0)), "#fff7d6", outline=False)


def _cloud(pen: Pen, x: float, y: float, size: float) -> None:
    parts = ((-9, 0, 6), (0, 3, 8), (9, 0, 6.5), (2, -2, 7))
    for grown in (0.9, 0.0):
        for dx, dy, r in parts:
            colour = mixed(WHITE, INK, 0.85) if grown else WHITE
            pen.disc(x + dx * size, y + dy * size, r * size + grown, colour, outline=False)


def draw_tree(stage: Stage, x: float, y: float, size: float) -> None:
    """Draw a tree with its foot at (x, y); a size of 1 is about 30 units high."""
    pen, rng, light = stage.pen, stage.rng, stage.light
    leaf = light.on(rng.choice(("#3f9c4f", "#5cb85c", "#2f855a", "#7cb342")))
    trunk = [(x - 1.6 * size, y), (x - 1.2 * size, y + 12 * size)]
    pen.polygon([*trunk, (x + 1.2 * size, y + 12 * size), (x + 1.6 * size, y)], light.on("#7a5230"))
    if rng.random() < 0.5:  # noqa: PLR2004 - one of two kinds
        for n in range(3):
            low, half = y + (7 + 8 * n) * size, (10 - 2.6 * n) * size
            pen.polygon([(x - half, low), (x, low + 14 * size), (x + half, low)], leaf)
    else:
        pen.blob(
            [(x + dx * size, y + dy * size) for dx, dy in ((-10, 14), (-11, 22), (-4, 31))]
            + [(x + dx * size, y + dy * size) for dx, dy in ((5, 31), (11, 22), (9, 13), (0, 10))],
            leaf,
        )
        pen.disc(x - 3 * size, y + 24 * size, 2.4 * size, mixed(leaf, WHITE, 0.3), outline=False)


def draw_grass(stage: Stage, colour: str) -> None:
    """Scatter tufts of grass over the ground."""
    blade = stage.light.on(colour)
    for _ in range(12):
        x, y = stage.rng.uniform(0, stage.width), stage.rng.uniform(2, stage.horizon - 4)
        for lean in (-1.2, 0, 1.2):
            stage.pen.line([(x, y), (x + lean, y + 2.4)], fill=blade, width=0.6)
