"""The people in the sandbox's pictures: one body, and clothes, hats and things to put on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

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

__all__ = ["person"]


def person(
    *,
    hat: str | None = None,
    coats: tuple[str, ...] = ("#ef476f", "#118ab2", "#06a77d", "#f78c6b", "#8e6cef"),
    beard: str | None = None,
    held: str | None = None,
    dress: bool = False,
    is_tall: bool = False,
) -> Figure:
    """Return a person with the given hat, clothes and thing in hand.

    Args:
        hat: One of wizard, witch, pirate, crown, helmet, knight, detective or chef.
        coats: The colours of the clothes to choose from.
        beard: The colour of the beard, if there is one.
        held: One of wand, sword, glass or balloon.
        dress: Whether the person wears a dress or a robe.
        is_tall: Whether the person is a grown-up, whose head is smaller.
    """

    def draw(pen: Pen, look: Look) -> None:
        own = look.own("person")
        skin = own.choice(("#ffd9b8", "#f2b990", "#c98a5b", "#8a5a3c"))
        hair = own.choice(("#2f2a2a", "#6b3f24", "#c9732c", "#f2c14e", "#3b2a55"))
        coat = own.choice(coats)
        style = own.choice(("short", "long", "tuft"))
        head, r = (74.0, 19.0) if is_tall else (68.0, 23.0)
        neck = head - r + 4
        if look.is_hero:
            draw_cape(pen, look)
        _clothes(pen, coat, neck, dress=dress)
        if look.is_hero:
            pen.star(0, neck - 14, 7, "#ffd166")
        if style == "long" and hat in (None, "crown"):
            _long_hair(pen, head, r, hair)
        hand = draw_arms(pen, look, 8, coat, shoulder=(12, neck - 5), skin=skin)
        if held:
            _THINGS[held](pen, *hand)
        pen.disc(0, head, r, skin)
        if hat not in ("helmet", "knight"):
            _hair(pen, head, r, hair, has_tuft=style == "tuft")
        if look.is_hero:
            draw_mask(pen, head + 2, r * 0.98)
        draw_eyes(pen, look.mood, head + 1, r * 0.42, size=r / 27)
        if beard:
            _beard(pen, head, r, beard)
        draw_mouth(pen, look.mood, 2, head - 10)
        if hat:
            _HATS[hat](pen, head, r, mixed(coat, INK, 0.15))

    return draw


def _clothes(pen: Pen, coat: str, neck: float, *, dress: bool) -> None:
    for side in (-1, 1):
        if not dress:
            pen.limb([(side * 7, 22), (side * 8, 5)], 9, mixed(coat, "#26324f", 0.7))
        pen.oval(side * 10, 3.5, 9, 4.5, "#4a3b47")
    if dress:
        pen.blob([(-9, neck), (9, neck), (17, 26), (23, 6), (0, 4), (-23, 6), (-17, 26)], coat)
    else:
        pen.blob([(-10, neck), (10, neck), (16, 30), (14, 16), (-14, 16), (-16, 30)], coat)


def _long_hair(pen: Pen, head: float, r: float, hair: str) -> None:
    left = [(0, head + r), (-r, head + 8), (-r - 6, head - 22), (0, head - 28)]
    pen.blob([*left, (r + 6, head - 22), (r, head + 8)], hair)


def _hair(pen: Pen, head: float, r: float, hair: str, *, has_tuft: bool) -> None:
    outside = [(-r, head + 2), (-r * 0.9, head + r * 0.7), (0, head + r * 1.18)]
    outside += [(r * 0.9, head + r * 0.7), (r, head + 4)]
    inside = [(r * 0.6, head + r * 0.55), (0, head + r * 0.5), (-r * 0.6, head + r * 0.62)]
    pen.blob(outside + inside, hair)
    if has_tuft:
        pen.blob([(-2, head + r), (4, head + r + 12), (9, head + r)], hair)


def _beard(pen: Pen, head: float, r: float, colour: str) -> None:
    top = [(-r + 2, head - 4), (0, head - 9), (r - 2, head - 4)]
    pen.blob([*top, (r - 7, head - 24), (0, head - 38), (-r + 7, head - 24)], colour)


def _wand(pen: Pen, x: float, y: float) -> None:
    pen.line([(x, y - 6), (x + 8, y + 20)], fill="#5b3a29", width=3)
    pen.star(x + 9, y + 24, 8, "#ffe066")


def _sword(pen: Pen, x: float, y: float) -> None:
    blade = [(x - 2, y), (x + 8, y + 36), (x + 12, y + 38), (x + 12, y + 33), (x + 3, y)]
    pen.polygon(blade, "#dfe7ef")
    pen.line([(x - 7, y + 3), (x + 8, y - 1)], fill="#8a5a3c", width=4)


def _glass(pen: Pen, x: float, y: float) -> None:
    pen.line([(x, y), (x + 6, y + 10)], fill="#5b3a29", width=4)
    pen.disc(x + 10, y + 19, 10, "#cfefff")


def _balloon(pen: Pen, x: float, y: float) -> None:
    pen.curve([(x, y), (x + 5, y + 16), (x + 3, y + 32)])
    pen.oval(x + 4, y + 45, 11, 14, "#ef476f")


def _wizard_hat(pen: Pen, head: float, r: float, colour: str) -> None:
    brow = head + r * 0.55
    pen.polygon([(-r * 0.95, brow), (-2, brow + 46), (8, brow + 40), (r * 0.95, brow)], colour)
    pen.oval(0, brow, r * 1.45, 5.5, colour)
    pen.star(-3, brow + 17, 6, "#ffe066")
    pen.disc(7, brow + 11, 2.2, "#ffe066", outline=False)


def _witch_hat(pen: Pen, head: float, r: float, colour: str) -> None:
    brow, felt = head + r * 0.55, "#2f2a3f"
    pen.polygon([(-r * 0.95, brow), (-2, brow + 46), (8, brow + 40), (r * 0.95, brow)], felt)
    pen.line([(-r * 0.7, brow + 7), (r * 0.7, brow + 7)], fill=colour, width=5)
    pen.oval(0, brow, r * 1.45, 5.5, felt)


def _pirate_hat(pen: Pen, head: float, r: float, _colour: str) -> None:
    brow = head + r * 0.55
    left = [(0, brow + 3), (-r * 1.5, brow), (-r * 0.7, brow + 18), (0, brow + 24)]
    pen.blob([*left, (r * 0.7, brow + 18), (r * 1.5, brow)], "#2b2d42")
    for side in (-1, 1):
        pen.line([(-7, brow + 12 - side * 5), (7, brow + 12 + side * 5)], fill=WHITE, width=2)
    pen.disc(0, brow + 13, 5, WHITE)


def _crown(pen: Pen, head: float, r: float, _colour: str) -> None:
    w, low, high = r * 0.8, head + r * 0.55 + 3, head + r * 0.55 + 20
    left = [(w, low), (-w, low), (-w - 2, high), (-w / 2, low + 8), (0, high + 3)]
    pen.polygon([*left, (w / 2, low + 8), (w + 2, high)], "#ffd166")


def _helmet(pen: Pen, head: float, r: float, _colour: str) -> None:
    shell = "#e8eef5"
    left = [(-r, head - r * 0.6), (-r * 1.3, head), (-r, head + r), (0, head + r * 1.35)]
    right = [(r, head + r), (r * 1.3, head), (r, head - r * 0.6)]
    pen.limb(left + right, 4, shell)
    pen.limb([(-r * 0.9, head - r * 0.9), (0, head - r * 1.1), (r * 0.9, head - r * 0.9)], 5, shell)
    pen.line([(r * 0.5, head + r * 1.2), (r * 0.9, head + r * 1.75)], width=2.4)
    pen.disc(r * 0.95, head + r * 1.8, 3.4, "#ef476f")


def _knight_helmet(pen: Pen, head: float, r: float, _colour: str) -> None:
    outside = [(-r, head), (-r * 0.9, head + r), (0, head + r * 1.3), (r * 0.9, head + r)]
    inside = [(r, head), (r * 0.5, head + r * 0.55), (-r * 0.5, head + r * 0.55)]
    pen.blob(outside + inside, "#b8c4cc")
    pen.blob([(0, head + r * 1.2), (-16, head + r * 1.9), (-24, head + r * 1.2)], "#e63946")


def _detective_hat(pen: Pen, head: float, r: float, _colour: str) -> None:
    brow, felt = head + r * 0.55, "#a9815a"
    pen.blob([(-r, brow), (-r * 0.6, brow + 19), (r * 0.6, brow + 19), (r, brow)], felt)
    pen.oval(0, brow, r * 1.35, 4.5, felt)
    pen.line([(-r * 0.8, brow + 5), (r * 0.8, brow + 5)], fill="#5b3a29", width=4)


def _chef_hat(pen: Pen, head: float, r: float, _colour: str) -> None:
    brow = head + r * 0.55
    for x in (-12, 12, 0):
        pen.disc(x, brow + 19, 12, WHITE)
    pen.polygon([(-14, brow), (-14, brow + 15), (14, brow + 15), (14, brow)], WHITE)


_HATS: Final[Mapping[str, Callable[[Pen, float, float, str], None]]] = {
    "chef": _chef_hat,
    "crown": _crown,
    "detective": _detective_hat,
    "helmet": _helmet,
    "knight": _knight_helmet,
    "pirate": _pirate_hat,
    "witch": _witch_hat,
    "wizard": _wizard_hat,
}
"""The functions that draw the hats."""
_THINGS: Final[Mapping[str, Callable[[Pen, float, float], None]]] = {
    "balloon": _balloon,
    "glass": _glass,
    "sword": _sword,
    "wand": _wand,
}
"""The functions that draw the things in a hand."""
