"""Who appears in the sandbox's pictures: cartoon figures built from a few simple parts.

Every figure is about 100 units high with its feet at the pen's origin and looks to the right. It
is drawn from shapes only; where it stands and who is called for is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Literal

import attrs

from llamagen_async.sandbox.pen import INK, Pen, Point, mixed

__all__ = ["Look", "Mood", "animal", "person", "robot"]

Mood = Literal["happy", "surprised", "bold"]
"""What a face shows."""

_WHITE: Final = "#ffffff"


@attrs.frozen
class Look:
    """How a figure appears in one panel."""

    mood: Mood = "happy"
    """What its face shows."""
    is_hero: bool = False
    """Whether it wears a cape and a mask."""
    pose: int = 0
    """Which of the arm positions it takes."""
    seed: str = ""
    """Decides what is its own for the whole comic, such as colours."""

    def own(self, part: str) -> Random:
        """Return the stream that decides one part of how the figure looks."""
        return Random(f"{self.seed}/{part}")


_ARMS: Final[tuple[tuple[Point, Point], ...]] = (
    ((-27, 22), (27, 22)),
    ((-27, 24), (30, 52)),
    ((-31, 50), (31, 50)),
    ((-18, 26), (33, 38)),
)


def animal(
    *,
    furs: tuple[str, ...],
    ears: str,
    tail: str,
    belly: str | None = None,
    extras: frozenset[str] = frozenset(),
) -> Callable[[Pen, Look], None]:
    """Return a figure with a big head, small limbs and the given ears and tail.

    Args:
        furs: Colours to choose from.
        ears: cat, fox, dog, mouse, bear, rabbit, horse or none.
        tail: long, thin, bushy, short, ball, dragon or none.
        belly: The colour of belly and muzzle; a lighter fur if not given.
        extras: Any of wings, horns, spikes, horn, mane, whiskers, snout, stripes.
    """

    def draw(pen: Pen, look: Look) -> None:
        fur = look.own("fur").choice(furs)
        light = belly or mixed(fur, _WHITE, 0.6)
        dark = mixed(fur, INK, 0.35)
        if "wings" in extras:
            _wings(pen, mixed(fur, "#ff8fab", 0.45))
        _tail(pen, tail, fur, light)
        if look.is_hero:
            _cape(pen, look)
        for side in (-1, 1):
            pen.oval(side * 10, 5, 10, 6, fur)
        pen.oval(0, 27, 19, 24, fur)
        pen.oval(0, 23, 12, 16, light, outline=False)
        _arms(pen, look, 9, fur, shoulder=(15, 39))
        if "spikes" in extras:
            for x, y in ((-14, 88), (-2, 93), (10, 89)):
                pen.polygon([(x - 6, y - 4), (x, y + 10), (x + 6, y - 4)], "#ffd166")
        _ears(pen, ears, fur, light)
        pen.oval(0, 66, 27, 24, fur)
        if "mane" in extras:
            pen.blob([(-30, 50), (-30, 80), (-10, 96), (8, 94), (0, 84), (-18, 70)], "#ff8fab")
        if "stripes" in extras:
            for x in (-8, 0, 8):
                pen.line([(x, 89 - abs(x) / 4), (x, 81)], fill=dark, width=3)
        if "horns" in extras:
            for side in (-1, 1):
                tip = (side * 22, 104)
                pen.polygon([(side * 20, 84), tip, (side * 10, 89)], "#fff3c4")
        if "horn" in extras:
            pen.polygon([(4, 88), (12, 114), (16, 85)], "#ffd166")
        wide = "snout" in extras
        pen.oval(3, 56, 17 if wide else 13, 10 if wide else 8.5, light, outline=wide)
        if look.is_hero:
            _mask(pen, 70, 26)
        _eyes(pen, look.mood, 70, 10)
        if wide:
            for x in (-3, 9):
                pen.oval(x, 60, 1.8, 2.4, INK, outline=False)
        else:
            pen.oval(3, 61, 4, 3, "#ff7b9c" if "whiskers" in extras else INK)
        _mouth(pen, look.mood, 3, 54)
        if "whiskers" in extras:
            for side in (-1, 1):
                for rise in (-2, 2):
                    pen.line([(3 + side * 13, 58), (3 + side * 30, 58 + rise * 2)])
        for side in (-1, 1):
            pen.oval(side * 18, 59, 4, 2.6, "#ff9eb0", outline=False)

    return draw


def person(
    *,
    hat: str = "none",
    coats: tuple[str, ...] = ("#ef476f", "#118ab2", "#06a77d", "#f78c6b", "#8e6cef"),
    beard: str | None = None,
    held: str = "none",
    dress: bool = False,
    is_tall: bool = False,
) -> Callable[[Pen, Look], None]:
    """Return a person with the given hat, clothes and thing in hand.

    Args:
        hat: none, wizard, pirate, crown, helmet, knight, detective, chef or witch.
        coats: Colours of the clothes to choose from.
        beard: The colour of a beard.
        held: none, wand, sword, glass or balloon.
        dress: Whether it wears a dress or a robe.
        is_tall: Whether it is a grown-up: the head is smaller.
    """

    def draw(pen: Pen, look: Look) -> None:
        own = look.own("person")
        skin = own.choice(("#ffd9b8", "#f2b990", "#c98a5b", "#8a5a3c"))
        hair = own.choice(("#2f2a2a", "#6b3f24", "#c9732c", "#f2c14e", "#3b2a55"))
        coat = own.choice(coats)
        style = own.randrange(3)
        head, r = (74.0, 19.0) if is_tall else (68.0, 23.0)
        if look.is_hero:
            _cape(pen, look)
        for side in (-1, 1):
            if not dress:
                pen.limb([(side * 7, 22), (side * 8, 5)], 9, mixed(coat, "#26324f", 0.7))
            pen.oval(side * 10, 3.5, 9, 4.5, "#4a3b47")
        neck = head - r + 4
        if dress:
            pen.blob([(-9, neck), (9, neck), (17, 26), (23, 6), (0, 4), (-23, 6), (-17, 26)], coat)
        else:
            pen.blob([(-10, neck), (10, neck), (16, 30), (14, 16), (-14, 16), (-16, 30)], coat)
        if look.is_hero:
            pen.star(0, neck - 14, 7, "#ffd166")
        if style == 1 and hat in ("none", "crown"):
            pen.blob(
                [(-r, head + 8), (-r - 6, head - 22), (0, head - 28), (r + 6, head - 22)]
                + [(r, head + 8), (0, head + r)],
                hair,
            )
        hand = _arms(pen, look, 8, coat, shoulder=(12, neck - 5), skin=skin)
        _held(pen, held, hand)
        pen.disc(0, head, r, skin)
        if hat not in ("helmet", "knight"):
            _hair(pen, style, head, r, hair)
        if look.is_hero:
            _mask(pen, head + 2, r * 0.98)
        _eyes(pen, look.mood, head + 1, r * 0.42, size=r / 27)
        if beard:
            pen.blob(
                [(-r + 2, head - 4), (0, head - 9), (r - 2, head - 4), (r - 7, head - 24)]
                + [(0, head - 38), (-r + 7, head - 24)],
                beard,
            )
        _mouth(pen, look.mood, 2, head - 10)
        _hat(pen, hat, head, r, mixed(coat, INK, 0.15))

    return draw


def robot(pen: Pen, look: Look) -> None:
    """Draw a robot."""
    own = look.own("robot")
    metal = own.choice(("#9fc5d1", "#b8c4cc", "#8fd3b6", "#f4b860", "#c7b8ea"))
    dark, glow = mixed(metal, INK, 0.3), own.choice(("#ffe066", "#7df9ff", "#ff8fab"))
    if look.is_hero:
        _cape(pen, look)
    for side in (-1, 1):
        pen.limb([(side * 10, 20), (side * 11, 7)], 7, dark)
        pen.polygon([(side * 3, 0), (side * 3, 7), (side * 20, 7), (side * 20, 0)], dark)
    _arms(pen, look, 7, dark, shoulder=(20, 42), skin=metal)
    pen.polygon([(-20, 18), (-22, 48), (22, 48), (20, 18)], metal)
    pen.polygon([(-13, 24), (-13, 42), (13, 42), (13, 24)], mixed(metal, _WHITE, 0.5))
    for x, colour in ((-7, "#ef476f"), (0, "#ffd166"), (7, "#06d6a0")):
        pen.disc(x, 37, 2.6, colour)
    pen.line([(-9, 29), (-4, 29), (-1, 33), (2, 26), (5, 29), (9, 29)])
    pen.line([(0, 88), (0, 98)], width=3)
    pen.disc(0, 100, 4.5, glow)
    for side in (-1, 1):
        pen.oval(side * 28, 69, 4, 8, dark)
    pen.blob([(-27, 52), (-28, 86), (0, 91), (28, 86), (27, 52), (0, 49)], metal)
    pen.blob([(-20, 59), (-20, 80), (0, 82), (20, 80), (20, 59), (0, 57)], "#2b2d42")
    _eyes(pen, look.mood, 72, 10, iris=glow)
    if look.mood == "surprised":
        pen.oval(0, 62, 3.4, 2.6, glow, outline=False)
    else:
        pen.curve([(-7, 64), (0, 60.5), (7, 64)], fill=glow, width=1.8)


def _arms(
    pen: Pen, look: Look, width: float, fill: str, *, shoulder: Point, skin: str | None = None
) -> Point:
    """Draw both arms; return where the right hand is."""
    x, y = shoulder
    lift = y - 39
    left, right = _ARMS[look.pose % len(_ARMS)]
    for sign, (hand_x, hand_y) in ((-1, left), (1, right)):
        elbow = (sign * (x + 9), (y + hand_y + lift) / 2 - 3)
        pen.limb([(sign * x, y), elbow, (hand_x, hand_y + lift)], width, fill)
        if skin:
            pen.disc(hand_x, hand_y + lift, width * 0.62, skin)
    return right[0], right[1] + lift


def _eyes(
    pen: Pen, mood: Mood, y: float, gap: float, *, size: float = 1.0, iris: str | None = None
) -> None:
    for side in (-1, 1):
        x = side * gap + 2
        if mood == "happy" and iris is None:
            pen.oval(x, y, 5.4 * size, 6.6 * size, _WHITE)
            pen.oval(x + 1.4, y - 0.5, 3.1 * size, 4.4 * size, INK, outline=False)
            pen.disc(x + 2.6, y + 1.5, 1.3 * size, _WHITE, outline=False)
            continue
        wide = 1.25 if mood == "surprised" else 1.0
        pen.oval(x, y, 6 * size * wide, 7 * size * wide, iris or _WHITE)
        pen.disc(x + 1, y, (1.8 if mood == "surprised" else 3) * size, INK, outline=False)
        if mood == "bold":
            brow = [(x - side * 6 * size, y + 6 * size), (x + side * 8 * size, y + 11 * size)]
            pen.line(brow, width=2.6 * size)


def _mouth(pen: Pen, mood: Mood, x: float, y: float) -> None:
    if mood == "surprised":
        pen.oval(x, y - 2, 3.2, 4.4, "#7a2e3a")
    elif mood == "bold":
        pen.curve([(x - 6, y - 1), (x, y - 2.5), (x + 7, y + 1)])
    else:
        pen.blob([(x - 7, y), (x, y - 1), (x + 7, y), (x + 3, y - 6), (x - 3, y - 6)], "#a23b4a")


def _mask(pen: Pen, y: float, half: float) -> None:
    colour = "#26324f"
    pen.blob(
        [(-half, y + 5), (0, y + 9), (half, y + 5), (half - 3, y - 8), (2, y - 4), (3 - half, y - 8)],
        colour,
    )


def _cape(pen: Pen, look: Look) -> None:
    colour = look.own("cape").choice(("#e63946", "#3a56d4", "#7b2cbf", "#f77f00"))
    pen.blob([(10, 50), (-12, 50), (-30, 34), (-48, 12), (-34, 14), (-22, 5), (-6, 12)], colour)
    pen.curve([(-10, 44), (-22, 28), (-32, 18)], fill=mixed(colour, INK, 0.35))


def _wings(pen: Pen, fill: str) -> None:
    for side in (-1, 1):
        pen.polygon(
            [(side * x, y) for x, y in ((12, 40), (40, 78), (62, 70), (54, 58), (58, 44))]
            + [(side * x, y) for x, y in ((44, 44), (40, 30), (28, 34))],
            fill,
        )


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
            pen.blob(
                [(side * 18, 86), (side * 34, 76), (side * 36, 54), (side * 27, 52)], dark
            )


def _hair(pen: Pen, style: int, head: float, r: float, hair: str) -> None:
    top = [(-r, head + 2), (-r * 0.9, head + r * 0.7), (0, head + r * 1.18)]
    pen.blob(
        [*top, (r * 0.9, head + r * 0.7), (r, head + 4), (r * 0.6, head + r * 0.55)]
        + [(0, head + r * 0.5), (-r * 0.6, head + r * 0.62)],
        hair,
    )
    if style == 2:  # noqa: PLR2004 - the third of three
        pen.blob([(-2, head + r), (4, head + r + 12), (9, head + r)], hair)


def _held(pen: Pen, held: str, hand: Point) -> None:
    x, y = hand
    if held == "wand":
        pen.line([(x, y - 6), (x + 8, y + 20)], fill="#5b3a29", width=3)
        pen.star(x + 9, y + 24, 8, "#ffe066")
    elif held == "sword":
        pen.polygon([(x - 2, y), (x + 8, y + 36), (x + 12, y + 38), (x + 12, y + 33), (x + 3, y)],
                    "#dfe7ef")  # fmt: skip
        pen.line([(x - 7, y + 3), (x + 8, y - 1)], fill="#8a5a3c", width=4)
    elif held == "glass":
        pen.line([(x, y), (x + 6, y + 10)], fill="#5b3a29", width=4)
        pen.disc(x + 10, y + 19, 10, "#cfefff")
    elif held == "balloon":
        pen.curve([(x, y), (x + 5, y + 16), (x + 3, y + 32)])
        pen.oval(x + 4, y + 45, 11, 14, "#ef476f")


def _hat(pen: Pen, hat: str, head: float, r: float, colour: str) -> None:
    brow = head + r * 0.55
    if hat in ("wizard", "witch"):
        tall = colour if hat == "wizard" else "#2f2a3f"
        pen.polygon([(-r * 0.95, brow), (-2, brow + 46), (8, brow + 40), (r * 0.95, brow)], tall)
        pen.oval(0, brow, r * 1.45, 5.5, tall)
        if hat == "wizard":
            pen.star(-3, brow + 17, 6, "#ffe066")
            pen.disc(7, brow + 11, 2.2, "#ffe066", outline=False)
    elif hat == "pirate":
        pen.blob(
            [(-r * 1.5, brow), (-r * 0.7, brow + 18), (0, brow + 24), (r * 0.7, brow + 18)]
            + [(r * 1.5, brow), (0, brow + 3)],
            "#2b2d42",
        )
        pen.disc(0, brow + 12, 4.5, _WHITE)
        pen.line([(-7, brow + 6), (7, brow + 17)], fill=_WHITE, width=2)
    elif hat == "crown":
        w, low, high = r * 0.8, brow + 3, brow + 20
        pen.polygon(
            [(-w, low), (-w - 2, high), (-w / 2, low + 8), (0, high + 3), (w / 2, low + 8)]
            + [(w + 2, high), (w, low)],
            "#ffd166",
        )
    elif hat == "helmet":
        pen.curve([(-r, head - r * 0.6), (-r * 1.3, head), (-r, head + r), (0, head + r * 1.35)]
                  + [(r, head + r), (r * 1.3, head), (r, head - r * 0.6)],
                  fill="#e8eef5", width=7)  # fmt: skip
        pen.limb([(-r * 0.9, head - r * 0.9), (0, head - r * 1.1), (r * 0.9, head - r * 0.9)], 5,
                 "#e8eef5")  # fmt: skip
        pen.line([(r * 0.5, head + r * 1.2), (r * 0.9, head + r * 1.75)], width=2.4)
        pen.disc(r * 0.95, head + r * 1.8, 3.4, "#ef476f")
    elif hat == "knight":
        pen.blob(
            [(-r, head), (-r * 0.9, head + r), (0, head + r * 1.3), (r * 0.9, head + r)]
            + [(r, head), (r * 0.5, head + r * 0.55), (-r * 0.5, head + r * 0.55)],
            "#b8c4cc",
        )
        pen.blob([(0, head + r * 1.2), (-16, head + r * 1.9), (-24, head + r * 1.2)], "#e63946")
    elif hat == "detective":
        pen.blob([(-r, brow), (-r * 0.6, brow + 19), (r * 0.6, brow + 19), (r, brow)], "#a9815a")
        pen.oval(0, brow, r * 1.35, 4.5, "#a9815a")
        pen.line([(-r * 0.8, brow + 5), (r * 0.8, brow + 5)], fill="#5b3a29", width=4)
    elif hat == "chef":
        for x in (-12, 12, 0):
            pen.disc(x, brow + 19, 12, _WHITE)
        pen.polygon([(-14, brow), (-14, brow + 15), (14, brow + 15), (14, brow)], _WHITE)
