"""The parts that all figures of the sandbox's pictures share: arms, faces, a hero's cape.

Every figure is about 100 units high with its feet at the pen's origin and looks to the right. It
is drawn from shapes only; `panels` decides where it stands, `casting` which one is called for.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Literal

import attrs

from llamagen_async.sandbox.pictures.pen import INK, Pen, Point, mixed

__all__ = [
    "WHITE",
    "Figure",
    "Look",
    "Mood",
    "draw_arms",
    "draw_cape",
    "draw_eyes",
    "draw_mask",
    "draw_mouth",
]

Mood = Literal["happy", "surprised", "bold"]
"""The expression of a face."""

WHITE: Final = "#ffffff"
"""The white of eyes, paper and snow."""


@attrs.frozen
class Look:
    """How a figure appears in one panel."""

    mood: Mood = "happy"
    """The expression of the face."""
    is_hero: bool = False
    """Whether the figure wears a cape and a mask."""
    pose: int = 0
    """The index of the position of the arms."""
    seed: str = ""
    """The seed of everything that stays the same in a whole comic, such as colours."""

    def own(self, part: str) -> Random:
        """Return the random numbers that decide one part of the figure's appearance."""
        return Random(f"{self.seed}/{part}")


Figure = Callable[[Pen, Look], None]
"""A function that draws one figure."""

_ARMS: Final[tuple[tuple[Point, Point], ...]] = (
    ((-27, 22), (27, 22)),
    ((-27, 24), (30, 52)),
    ((-31, 50), (31, 50)),
    ((-18, 26), (33, 38)),
)
"""The positions of the left and the right hand in each pose, in units of the figure."""


def draw_arms(
    pen: Pen, look: Look, width: float, fill: str, *, shoulder: Point, skin: str | None = None
) -> Point:
    """Draw both arms, from shoulders at plus and minus x; return where the right hand is."""
    x, y = shoulder
    lift = y - 39
    left, right = _ARMS[look.pose % len(_ARMS)]
    for sign, (hand_x, hand_y) in ((-1, left), (1, right)):
        elbow = (sign * (x + 9), (y + hand_y + lift) / 2 - 3)
        pen.limb([(sign * x, y), elbow, (hand_x, hand_y + lift)], width, fill)
        if skin:
            pen.disc(hand_x, hand_y + lift, width * 0.62, skin)
    return right[0], right[1] + lift


def draw_eyes(
    pen: Pen, mood: Mood, y: float, gap: float, *, size: float = 1.0, iris: str | None = None
) -> None:
    """Draw both eyes, `gap` left and right of the nose; `iris` makes them glow."""
    for side in (-1, 1):
        x = side * gap + 2
        if mood == "happy" and iris is None:
            pen.oval(x, y, 5.4 * size, 6.6 * size, WHITE)
            pen.oval(x + 1.4, y - 0.5, 3.1 * size, 4.4 * size, INK, outline=False)
            pen.disc(x + 2.6, y + 1.5, 1.3 * size, WHITE, outline=False)
            continue
        wide = 1.25 if mood == "surprised" else 1.0
        pen.oval(x, y, 6 * size * wide, 7 * size * wide, iris or WHITE)
        pen.disc(x + 1, y, (1.8 if mood == "surprised" else 3) * size, INK, outline=False)
        if mood == "bold":
            brow = [(x - side * 6 * size, y + 6 * size), (x + side * 8 * size, y + 11 * size)]
            pen.line(brow, width=2.6 * size)


def draw_mouth(pen: Pen, mood: Mood, x: float, y: float) -> None:
    """Draw a mouth."""
    if mood == "surprised":
        pen.oval(x, y - 2, 3.2, 4.4, "#7a2e3a")
    elif mood == "bold":
        pen.curve([(x - 6, y - 1), (x, y - 2.5), (x + 7, y + 1)])
    else:
        pen.blob([(x - 7, y), (x, y - 1), (x + 7, y), (x + 3, y - 6), (x - 3, y - 6)], "#a23b4a")


def draw_mask(pen: Pen, y: float, half: float) -> None:
    """Draw a hero's mask, `half` as wide to either side; the eyes come on top of it."""
    colour = "#26324f"
    pen.blob(
        [
            (-half, y + 5),
            (0, y + 9),
            (half, y + 5),
            (half - 3, y - 8),
            (2, y - 4),
            (3 - half, y - 8),
        ],
        colour,
    )


def draw_cape(pen: Pen, look: Look) -> None:
    """Draw a hero's cape; the body comes on top of it."""
    colour = look.own("cape").choice(("#e63946", "#3a56d4", "#7b2cbf", "#f77f00"))
    pen.blob([(10, 50), (-12, 50), (-30, 34), (-48, 12), (-34, 14), (-22, 5), (-6, 12)], colour)
    pen.curve([(-10, 44), (-22, 28), (-32, 18)], fill=mixed(colour, INK, 0.35))
