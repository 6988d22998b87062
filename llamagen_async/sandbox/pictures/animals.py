"""The animals in the sandbox's pictures: one body, and ears, tails and more to put on it."""

from __future__ import annotations

from llamagen_async.sandbox.pictures.figures import (
    WHITE,
    Figure,
    Look,
    draw_arms,
    draw_cape,
    draw_eyes,
    draw_mask,
    draw_mouth,
)
from llamagen_async.sandbox.pictures.pen import INK, Pen, mixed

__all__ = ["animal"]


def animal(
    *,
    furs: tuple[str, ...],
    ears: str,
    tail: str,
    belly: str | None = None,
    extras: frozenset[str] = frozenset(),
) -> Figure:
    """Return an animal with a big head, small limbs and the given ears and tail.

    Args:
        furs: The colours to choose from.
        ears: One of cat, fox, dog, mouse, bear, rabbit, horse or none.
        tail: One of long, thin, bushy, short, ball, dragon or none.
        belly: The colour of belly and muzzle; a lighter fur if not given.
        extras: Any of wings, horns, spikes, horn, mane, fleece, stripes,
            whiskers, snout.
    """

    def draw(pen: Pen, look: Look) -> None:
        fur = look.own("fur").choice(furs)
        light = belly or mixed(fur, WHITE, 0.6)
        if "wings" in extras:
            _wings(pen, mixed(fur, "#ff8fab", 0.45))
        _tail(pen, tail, fur, light)
        if look.is_hero:
            draw_cape(pen, look)
        for side in (-1, 1):
            pen.oval(side * 10, 5, 10, 6, fur)
        pen.oval(0, 27, 19, 24, fur)
        pen.oval(0, 23, 12, 16, light, outline=False)
        draw_arms(pen, look, 9, fur, shoulder=(15, 39))
        if "spikes" in extras:
            for x, y in ((-14, 88), (-2, 93), (10, 89)):
                pen.polygon([(x - 6, y - 4), (x, y + 10), (x + 6, y - 4)], "#ffd166")
        _ears(pen, ears, fur, light)
        pen.oval(0, 66, 27, 24, fur)
        _crown(pen, extras, mixed(fur, INK, 0.35))
        _face(pen, look, extras, light)

    return draw


def _crown(pen: Pen, extras: frozenset[str], dark: str) -> None:
    """Draw what grows on top of the head."""
    if "mane" in extras:
        pen.blob([(-30, 50), (-30, 80), (-10, 96), (8, 94), (0, 84), (-18, 70)], "#ff8fab")
    if "fleece" in extras:
        for x, y in ((-12, 88), (12, 89), (0, 93)):
            pen.disc(x, y, 9, mixed(dark, WHITE, 0.75))
    if "stripes" in extras:
        for x in (-8, 0, 8):
            pen.line([(x, 89 - abs(x) / 4), (x, 81)], fill=dark, width=3)
    if "horns" in extras:
        for side in (-1, 1):
            pen.polygon([(side * 20, 84), (side * 22, 104), (side * 10, 89)], "#fff3c4")
    if "horn" in extras:
        pen.polygon([(4, 88), (12, 114), (16, 85)], "#ffd166")


def _face(pen: Pen, look: Look, extras: frozenset[str], light: str) -> None:
    has_snout, has_whiskers = "snout" in extras, "whiskers" in extras
    rx, ry = (17.0, 10.0) if has_snout else (13.0, 8.5)
    pen.oval(3, 56, rx, ry, light, outline=has_snout)
    if look.is_hero:
        draw_mask(pen, 70, 26)
    draw_eyes(pen, look.mood, 70, 10)
    if has_snout:
        for x in (-3, 9):
            pen.oval(x, 60, 1.8, 2.4, INK, outline=False)
    else:
        pen.oval(3, 61, 4, 3, "#ff7b9c" if has_whiskers else INK)
    draw_mouth(pen, look.mood, 3, 54)
    for side in (-1, 1):
        for rise in (-4, 4) if has_whiskers else ():
            pen.line([(3 + side * 13, 58), (3 + side * 30, 58 + rise)])
        pen.oval(side * 18, 59, 4, 2.6, "#ff9eb0", outline=False)


def _wings(pen: Pen, fill: str) -> None:
    for side in (-1, 1):
        pen.polygon(
            [(side * x, y) for x, y in ((10, 36), (22, 62), (46, 82), (52, 64), (60, 50))]
            + [(side * x, y) for x, y in ((49, 48), (42, 36), (34, 42), (26, 28))],
            fill,
        )
        for x, y in ((42, 36), (60, 50)):
            pen.line([(side * 16, 46), (side * x, y)], width=0.9)


def _tail(pen: Pen, kind: str, fur: str, light: str) -> None:
    if kind == "long":
        pen.limb([(-10, 12), (-28, 10), (-36, 24), (-30, 38), (-37, 46)], 7, fur)
    elif kind == "thin":
        pen.limb([(-10, 10), (-28, 6), (-36, 18), (-46, 14)], 3, "#f5a3b5")
    elif kind == "bushy":
        pen.blob([(-8, 10), (-30, 6), (-46, 24), (-42, 48), (-28, 40), (-18, 24)], fur)
        pen.blob([(-45, 30), (-42, 48), (-30, 42), (-36, 34)], light)
    elif kind == "short":
        pen.limb([(-12, 16), (-24, 22), (-28, 32)], 6, fur)
    elif kind == "ball":
        pen.disc(-19, 14, 8, light)
    elif kind == "dragon":
        pen.limb([(-8, 10), (-28, 6), (-44, 12), (-52, 26)], 10, fur)
        pen.polygon([(-60, 22), (-56, 44), (-42, 30)], "#ffd166")


def _ears(pen: Pen, kind: str, fur: str, light: str) -> None:
    for side in (-1, 1):
        if kind in ("cat", "fox", "horse"):
            tip = {"cat": 101, "fox": 106, "horse": 98}[kind]
            pen.polygon([(side * 26, 70), (side * 23, tip), (side * 5, 86)], fur)
            inner = [(side * 22, 76), (side * 21, tip - 9), (side * 10, 86)]
            pen.polygon(inner, mixed(light, "#ff8fab", 0.5), outline=False)
        elif kind == "mouse":
            pen.disc(side * 24, 87, 15, fur)
            pen.disc(side * 24, 87, 9, "#f5a3b5", outline=False)
        elif kind == "bear":
            pen.disc(side * 20, 86, 9, fur)
            pen.disc(side * 20, 86, 5, light, outline=False)
        elif kind == "rabbit":
            pen.oval(side * 11, 100, 7.5, 22, fur)
            pen.oval(side * 11, 99, 3.8, 16, "#f5a3b5", outline=False)
        elif kind == "dog":
            dark = mixed(fur, INK, 0.3)
            pen.blob([(side * 18, 86), (side * 34, 76), (side * 36, 54), (side * 27, 52)], dark)
