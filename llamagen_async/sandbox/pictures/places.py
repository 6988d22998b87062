"""The places of the sandbox's stories: one backdrop for each place that has a name.

Backdrops are drawn with the parts that `scenery` offers, in its units, without figures or letters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from llamagen_async.sandbox.pictures.figures import WHITE
from llamagen_async.sandbox.pictures.pen import INK, Point, mixed
from llamagen_async.sandbox.pictures.scenery import (
    NIGHT,
    Stage,
    draw_dots,
    draw_grass,
    draw_sky,
    draw_stars,
    draw_tree,
    fill_stage,
)

__all__ = ["PLACES"]

_LIT: Final = 0.4
"""The share of houses with light in their windows by day."""


def _city(stage: Stage) -> None:
    draw_sky(stage)
    pen, rng, light = stage.pen, stage.rng, stage.light
    for step, low, high, colour in ((11, 20, 42, "#9fb4cf"), (17, 12, 30, "#6f7fa8")):
        for x in stage.across(step, jitter=0.1):
            wide, tall = step * rng.uniform(0.42, 0.55), rng.uniform(low, high)
            top, near = stage.horizon + tall, step > 12  # noqa: PLR2004 - the second row
            wall = light.on(mixed(colour, rng.choice(("#ef8a62", "#8d6a9f", "#5b8e7d")), 0.35))
            pen.polygon(
                [(x - wide, 0), (x - wide, top), (x + wide, top), (x + wide, 0)], wall, outline=near
            )
            if near:
                is_lit = light is NIGHT or rng.random() < _LIT
                lit = "#ffe08a" if is_lit else mixed(wall, WHITE, 0.5)
                _windows(stage, x, wide, top, lit)
    stage.ground("#7d8597", rise=0.4)
    for x in stage.across(22, jitter=0):
        y = stage.horizon * 0.42
        pen.polygon([(x, y), (x + 1, y + 2), (x + 10, y + 2), (x + 9, y)], "#f5f0e1", outline=False)


def _windows(stage: Stage, x: float, wide: float, top: float, lit: str) -> None:
    y = top - 6
    while y > stage.horizon:
        for dx in (-0.5, 0.15):
            if stage.rng.random() < 0.75:  # noqa: PLR2004 - some are dark
                left = x + dx * wide
                corners = [(left, y), (left, y + 3), (left + wide * 0.36, y + 3)]
                stage.pen.polygon([*corners, (left + wide * 0.36, y)], lit, outline=False)
        y -= 6


def _forest(stage: Stage) -> None:
    draw_sky(stage, clouds=False)
    for x in stage.across(13):
        draw_tree(stage, x, stage.horizon - 1, stage.rng.uniform(0.7, 1.0))
    stage.ground("#7fc25e")
    for x in (stage.width * 0.02, stage.width * 0.98):
        draw_tree(stage, x, stage.horizon * 0.55, stage.rng.uniform(1.3, 1.7))
    draw_grass(stage, "#4f9a45")


def _sea(stage: Stage) -> None:
    draw_sky(stage)
    pen, rng, light = stage.pen, stage.rng, stage.light
    if rng.random() < 0.6:  # noqa: PLR2004 - most seas have an island
        x = stage.width * rng.choice((0.12, 0.85))
        y = stage.horizon
        pen.blob([(x - 16, y - 2), (x - 6, y + 6), (x + 7, y + 5), (x + 17, y - 2)],
                 light.on("#f2d398"))  # fmt: skip
        pen.limb([(x, y + 4), (x + 2, y + 13), (x + 6, y + 20)], 1.6, light.on("#8a5a3c"))
        for dx, dy in ((-9, -2), (-5, 6), (7, 6), (11, -3)):
            leaf = [(x + 6, y + 20), (x + 6 + dx * 0.6, y + 22 + dy), (x + 6 + dx, y + 19 + dy)]
            pen.blob(leaf, light.on("#3f9c4f"))
    stage.ground("#2f8fce", rise=0.8)
    for row in range(4):
        y = stage.horizon * (0.82 - row * 0.22)
        for x in stage.across(18):
            pen.curve([(x - 5, y), (x - 2, y + 1.5), (x + 1, y), (x + 4, y + 1.5), (x + 7, y)],
                      fill=light.on("#a9dcf5"), width=0.7)  # fmt: skip


def _beach(stage: Stage) -> None:
    _sea(stage)
    pen, rng, light, y = stage.pen, stage.rng, stage.light, stage.horizon * 0.62
    shore = [(x, y + rng.uniform(-2, 2)) for x in stage.across(24, jitter=0)]
    for lift, colour in ((1.6, WHITE), (0.0, light.on("#f3d9a0"))):
        raised = [(x, top + lift) for x, top in shore]
        pen.blob([(-14, -12), (-14, y + lift), *raised, (stage.width + 30, -12)], colour,
                 outline=False)  # fmt: skip
    for _ in range(10):
        x, low = rng.uniform(0, stage.width), rng.uniform(1, y - 4)
        pen.oval(x, low, 1.2, 0.7, light.on("#d8b06a"), outline=False)
    pen.star(stage.width * rng.uniform(0.1, 0.9), y * 0.3, 3, "#ff7b54")


def _space(stage: Stage) -> None:
    pen, rng = stage.pen, stage.rng
    night = rng.choice(("#1b1b3a", "#1d2d50", "#2d1b4e"))
    fill_stage(stage, night)
    draw_dots(stage, mixed(night, "#7b5ea7", 0.4), bottom=stage.horizon - 3, top=stage.height * 0.6)
    draw_stars(stage, 60)
    x, y = stage.width * rng.choice((0.18, 0.82)), stage.height * rng.uniform(0.5, 0.62)
    planet = rng.choice(("#f4a261", "#e76f51", "#84dcc6", "#c77dff"))
    pen.disc(x, y, 12, planet)
    pen.blob([(x - 11, y + 3), (x, y + 6), (x + 11, y + 4), (x, y + 1)], mixed(planet, WHITE, 0.4),
             outline=False)  # fmt: skip
    pen.curve([(x - 20, y - 5), (x - 4, y - 5), (x + 20, y + 5)], fill="#ffe8b0", width=1.4)
    stage.ground(rng.choice(("#a7a3bd", "#c9ada7", "#d08c60")), rise=3)
    for _ in range(7):
        spot_x, spot_y = rng.uniform(0, stage.width), rng.uniform(2, stage.horizon - 6)
        pen.oval(spot_x, spot_y, rng.uniform(3, 7), rng.uniform(1, 2), "#6c6785")


def _room(stage: Stage) -> None:
    pen, rng, w = stage.pen, stage.rng, stage.width
    wall = rng.choice(("#f6d6ad", "#bfe3d0", "#d9cff2", "#f7c6c7", "#c4e0f5"))
    fill_stage(stage, wall)
    for x in stage.across(9, jitter=0):
        pen.polygon([(x, 0), (x, stage.height), (x + 3, stage.height), (x + 3, 0)],
                    mixed(wall, WHITE, 0.35), outline=False)  # fmt: skip
    x, y = w * rng.choice((0.2, 0.76)), stage.horizon + 17
    pen.box(x - 13, y, x + 13, y + 27, WHITE)
    pen.box(x - 11, y + 2, x + 11, y + 25, stage.light.sky)
    pen.line([(x, y + 2), (x, y + 25)])
    pen.line([(x - 11, y + 13), (x + 11, y + 13)])
    for side in (-1, 1):
        top = [(x + side * 8, y + 30), (x + side * 17, y + 30)]
        pen.blob([*top, (x + side * 16, y - 4), (x + side * 12, y + 8)], "#e07a5f")
    x = w - x
    pen.box(x - 8, y + 8, x + 8, y + 22, "#8a5a3c")
    pen.box(x - 6, y + 10, x + 6, y + 20, "#fff3d6")
    pen.star(x, y + 15, 4, "#f2a65a")
    floor = rng.choice(("#c98f5a", "#b5794a", "#a9746e"))
    pen.box(-5, -5, w + 5, stage.horizon, floor)
    pen.box(-5, stage.horizon, w + 5, stage.horizon + 3, mixed(wall, INK, 0.3))
    crack = mixed(floor, INK, 0.25)
    for x in stage.across(17, jitter=0):
        pen.line([(x, stage.horizon), (x + (x - w / 2) * 0.7, -2)], fill=crack, width=0.5)
    pen.oval(w / 2, stage.horizon * 0.42, w * 0.34, stage.horizon * 0.26, "#d1495b")
    pen.oval(w / 2, stage.horizon * 0.42, w * 0.27, stage.horizon * 0.19, "#edae49", outline=False)


def _mountains(stage: Stage) -> None:
    draw_sky(stage)
    for x in stage.across(30, jitter=0.25):
        tall, half = stage.rng.uniform(26, 46), stage.rng.uniform(18, 28)
        _peak(stage, x, tall, half)
    stage.ground(stage.rng.choice(("#e9f3fb", "#8fc777", "#b6d369")))
    draw_grass(stage, "#7da56c")


def _peak(stage: Stage, x: float, tall: float, half: float) -> None:
    y = stage.horizon - 2
    rock = stage.light.on(stage.rng.choice(("#8d99ae", "#7f8fb5", "#9c89a8")))
    stage.pen.polygon([(x - half, y), (x, y + tall), (x + half, y)], rock)
    snow = [(-0.36, 0.64), (0, 1), (0.36, 0.64), (0.18, 0.71), (0.04, 0.6), (-0.16, 0.72)]
    stage.pen.polygon([(x + dx * half, y + dy * tall) for dx, dy in snow], WHITE)


def _castle(stage: Stage) -> None:
    draw_sky(stage)
    pen, light, y = stage.pen, stage.light, stage.horizon - 2
    x = stage.width * stage.rng.choice((0.25, 0.5, 0.75))
    stone, roof = light.on("#c3b8cf"), light.on(stage.rng.choice(("#d1495b", "#3d5a99", "#6a4c93")))
    for dx, tall in ((-22, 24), (22, 24), (-11, 34), (11, 31)):
        left, right, top = x + dx - 5, x + dx + 5, y + tall
        pen.polygon([(left, y), (left, top), (right, top), (right, y)], stone)
        pen.polygon([(left - 2, top), (x + dx, top + 13), (right + 2, top)], roof)
        pen.oval(x + dx, top - 6, 1.4, 2.4, INK, outline=False)
    battlement: list[Point] = [(x - 18, y), (x - 18, y + 18)]
    for n in range(6):
        left = x - 18 + n * 6
        battlement += [(left, y + 21), (left + 3, y + 21), (left + 3, y + 18), (left + 6, y + 18)]
    pen.polygon([*battlement, (x + 18, y)], mixed(stone, WHITE, 0.2))
    pen.blob([(x - 5, y), (x - 5, y + 9), (x, y + 13), (x + 5, y + 9), (x + 5, y)], "#5b3a29")
    pen.line([(x, y + 34), (x, y + 46)], width=0.7)
    pen.polygon([(x, y + 46), (x + 9, y + 43), (x, y + 40)], "#ffd166")
    stage.ground("#86bf6a")
    draw_grass(stage, "#5b9a4c")


def _desert(stage: Stage) -> None:
    draw_sky(stage, clouds=False)
    pen, rng, light, y = stage.pen, stage.rng, stage.light, stage.horizon - 2
    for dx, size in ((0.2, 24), (0.45, 34), (0.8, 20)):
        x = stage.width * (dx + rng.uniform(-0.08, 0.08))
        pen.polygon([(x - size, y), (x, y + size), (x + size, y)], light.on("#e0b36a"))
        pen.polygon([(x, y + size), (x + size, y), (x + size * 0.25, y)], light.on("#b98545"))
    stage.ground("#f0cf8e", rise=4)
    for x in (stage.width * 0.08, stage.width * 0.94):
        low, cactus = stage.horizon * 0.7, light.on("#4f9a5b")
        pen.limb([(x, low), (x, low + 22)], 4, cactus)
        pen.limb([(x, low + 8), (x + 6, low + 9), (x + 7, low + 16)], 3, cactus)
        pen.limb([(x, low + 11), (x - 6, low + 12), (x - 7, low + 18)], 3, cactus)


def _meadow(stage: Stage) -> None:
    draw_sky(stage)
    pen, rng, light = stage.pen, stage.rng, stage.light
    far = [(-15.0, 0.0), (-15.0, stage.horizon + 6)]
    far += [(x, stage.horizon + rng.uniform(5, 14)) for x in stage.across(30)]
    pen.blob([*far, (stage.width + 40, stage.horizon), (stage.width + 40, 0)], light.on("#9bcf6b"))
    x, y = stage.width * rng.choice((0.16, 0.84)), stage.horizon + 3
    pen.polygon([(x - 8, y), (x - 8, y + 11), (x + 8, y + 11), (x + 8, y)], light.on("#fbe8c8"))
    pen.polygon([(x - 11, y + 11), (x, y + 20), (x + 11, y + 11)], light.on("#c8553d"))
    pen.polygon([(x - 2, y), (x - 2, y + 6), (x + 2, y + 6), (x + 2, y)], light.on("#7a5230"))
    draw_tree(stage, stage.width - x, stage.horizon + 1, 1.0)
    stage.ground("#7cc25b")
    draw_grass(stage, "#4f9a45")
    for _ in range(9):
        spot_x, spot_y = rng.uniform(0, stage.width), rng.uniform(2, stage.horizon - 3)
        pen.disc(spot_x, spot_y, 1.2, rng.choice(("#ff8fab", "#ffffff", "#ffd166")), outline=False)


PLACES: Final[Mapping[str, Callable[[Stage], None]]] = {
    "beach": _beach,
    "castle": _castle,
    "city": _city,
    "desert": _desert,
    "forest": _forest,
    "meadow": _meadow,
    "mountains": _mountains,
    "room": _room,
    "sea": _sea,
    "space": _space,
}
"""The backdrops by name."""
