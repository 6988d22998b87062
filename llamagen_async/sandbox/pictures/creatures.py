"""The other figures in the sandbox's pictures: all that is neither an animal nor a person.

The same rules as in `figures`: about 100 units high, feet at the pen's origin, looking right.
"""

from __future__ import annotations

from llamagen_async.sandbox.pictures.figures import WHITE, Look, draw_arms, draw_cape, draw_eyes
from llamagen_async.sandbox.pictures.pen import INK, Pen, mixed

__all__ = [
    "bird",
    "car",
    "fish",
    "ghost",
    "monster",
    "octopus",
    "robot",
    "rocket",
    "ship",
    "snowman",
]


def robot(pen: Pen, look: Look) -> None:
    """Draw a robot."""
    own = look.own("robot")
    metal = own.choice(("#9fc5d1", "#b8c4cc", "#8fd3b6", "#f4b860", "#c7b8ea"))
    dark, glow = mixed(metal, INK, 0.3), own.choice(("#ffe066", "#7df9ff", "#ff8fab"))
    if look.is_hero:
        draw_cape(pen, look)
    for side in (-1, 1):
        pen.limb([(side * 10, 20), (side * 11, 7)], 7, dark)
        pen.polygon([(side * 3, 0), (side * 3, 7), (side * 20, 7), (side * 20, 0)], dark)
    draw_arms(pen, look, 7, dark, shoulder=(20, 42), skin=metal)
    pen.polygon([(-20, 18), (-22, 48), (22, 48), (20, 18)], metal)
    pen.polygon([(-13, 24), (-13, 42), (13, 42), (13, 24)], mixed(metal, WHITE, 0.5))
    for x, colour in ((-7, "#ef476f"), (0, "#ffd166"), (7, "#06d6a0")):
        pen.disc(x, 37, 2.6, colour)
    pen.line([(-9, 29), (-4, 29), (-1, 33), (2, 26), (5, 29), (9, 29)])
    pen.line([(0, 88), (0, 98)], width=3)
    pen.disc(0, 100, 4.5, glow)
    for side in (-1, 1):
        pen.oval(side * 28, 69, 4, 8, dark)
    pen.blob([(-27, 52), (-28, 86), (0, 91), (28, 86), (27, 52), (0, 49)], metal)
    pen.blob([(-20, 59), (-20, 80), (0, 82), (20, 80), (20, 59), (0, 57)], "#2b2d42")
    draw_eyes(pen, look.mood, 72, 10, iris=glow)
    if look.mood == "surprised":
        pen.oval(0, 62, 3.4, 2.6, glow, outline=False)
    else:
        pen.curve([(-7, 64), (0, 60.5), (7, 64)], fill=glow, width=1.8)


def ghost(pen: Pen, look: Look) -> None:
    """Draw a friendly ghost."""
    sheet = look.own("sheet").choice(("#f4f1ff", "#e3fbff", "#fff3e6"))
    outline = [(-26, 14), (-30, 50), (-20, 84), (0, 95), (20, 84), (30, 50), (28, 12), (18, 20)]
    pen.blob([*outline, (8, 8), (-2, 19), (-14, 7)], sheet)
    for side in (-1, 1):
        pen.limb([(side * 26, 48), (side * 36, 54), (side * 38, 44)], 7, sheet)
    _big_eyes(pen, 66, 10)
    pen.oval(3, 48, 5, 7, "#4b3b5f")


def monster(pen: Pen, look: Look) -> None:
    """Draw a monster or an alien."""
    own = look.own("monster")
    skin = own.choice(("#7bd389", "#b388eb", "#ffa552", "#5bc0eb", "#f75c8d"))
    for x, tip in ((-14, -22), (14, 22)):
        pen.curve([(x, 80), (tip * 0.9, 92), (tip, 102)], width=3)
        pen.disc(tip, 104, 5, "#ffe066")
    for side in (-1, 1):
        pen.oval(side * 13, 5, 12, 6, skin)
        hand = 62 if look.pose % 2 else 26
        pen.limb([(side * 28, 40), (side * 40, 44), (side * 44, hand)], 8, skin)
    pen.blob([(-30, 10), (-34, 40), (-27, 76), (0, 90), (27, 76), (34, 40), (30, 10), (0, 4)], skin)
    for x, y, r in ((-20, 22, 4), (20, 30, 5), (12, 14, 3), (-24, 40, 3)):
        pen.disc(x, y, r, mixed(skin, INK, 0.25), outline=False)
    if own.random() < 0.5:  # noqa: PLR2004 - one eye or two
        pen.disc(2, 64, 15, WHITE)
        pen.disc(5, 63, 7, INK, outline=False)
        pen.disc(8, 66, 2.4, WHITE, outline=False)
    else:
        _big_eyes(pen, 64, 11)
    pen.blob([(-16, 42), (2, 38), (20, 42), (14, 28), (2, 24), (-10, 28)], "#5a2338")
    for x in (-8, 10):
        pen.polygon([(x - 4, 40), (x, 33), (x + 4, 40)], WHITE)


def bird(pen: Pen, look: Look) -> None:
    """Draw a bird."""
    own = look.own("bird")
    feathers = own.choice(("#4cc9f0", "#f9c74f", "#f94144", "#90be6d", "#6d597a"))
    for x in (-7, 7):
        pen.line([(x, 16), (x, 2)], fill="#f4a259", width=4)
        pen.line([(x - 5, 1), (x + 8, 1)], fill="#f4a259", width=3.4)
    pen.polygon([(-20, 30), (-48, 22), (-44, 36), (-24, 44)], mixed(feathers, INK, 0.25))
    pen.blob([(-28, 34), (-22, 66), (0, 92), (26, 80), (28, 44), (12, 14), (-14, 14)], feathers)
    pen.oval(7, 34, 14, 18, mixed(feathers, WHITE, 0.65), outline=False)
    wing = [(-16, 50), (2, 48), (-6, 26), (-26, 20)]
    if look.pose % 2:
        wing = [(-12, 48), (0, 56), (-22, 88), (-44, 84)]
    pen.blob(wing, mixed(feathers, INK, 0.2))
    pen.curve([(2, 90), (-4, 102), (6, 104)], width=3)
    _big_eyes(pen, 70, 9, x=8)
    pen.polygon([(20, 64), (44, 58), (20, 52)], "#f4a259")
    pen.line([(20, 58), (36, 58)])


def fish(pen: Pen, look: Look) -> None:
    """Draw a fish or a whale, jumping."""
    skin = look.own("fish").choice(("#4895ef", "#ff9f1c", "#2ec4b6", "#577590"))
    pen.polygon([(-34, 52), (-62, 78), (-56, 52), (-62, 26)], mixed(skin, INK, 0.15))
    pen.blob([(-40, 52), (-14, 76), (22, 76), (46, 54), (24, 28), (-14, 30)], skin)
    pen.blob([(-22, 38), (12, 40), (42, 48), (22, 29), (-10, 31)], mixed(skin, WHITE, 0.7))
    pen.blob([(-8, 74), (2, 92), (16, 75)], mixed(skin, INK, 0.15))
    pen.blob([(-6, 46), (-18, 30), (6, 38)], mixed(skin, INK, 0.15))
    _big_eyes(pen, 60, 7, x=24)
    pen.curve([(28, 42), (36, 40), (43, 46)])
    for x, y in ((-30, 8), (0, 2), (28, 9)):
        pen.blob([(x - 7, y), (x, y + 15), (x + 7, y), (x, y - 5)], "#bde8ff")


def octopus(pen: Pen, look: Look) -> None:
    """Draw an octopus."""
    skin = look.own("octopus").choice(("#e05780", "#9d4edd", "#f3722c"))
    for n, x in enumerate((-40, -24, -8, 8, 24, 40)):
        lift = 16 if (n + look.pose) % 3 == 0 else 3
        pen.limb([(x * 0.45, 34), (x * 0.9, 16), (x, lift), (x * 1.15, lift + 6)], 9, skin)
    pen.blob([(-28, 40), (-34, 70), (-16, 94), (16, 94), (34, 70), (28, 40), (0, 30)], skin)
    for x, y in ((-20, 80), (-12, 87), (20, 82)):
        pen.disc(x, y, 3, mixed(skin, WHITE, 0.4), outline=False)
    _big_eyes(pen, 62, 12)
    pen.curve([(-6, 46), (3, 41), (12, 46)])


def ship(pen: Pen, look: Look) -> None:
    """Draw a sailing ship."""
    own = look.own("ship")
    sail, flag = own.choice(("#fff8e7", "#ffe3e3", "#e2f3ff")), own.choice(("#e63946", "#2b2d42"))
    pen.line([(0, 20), (0, 100)], fill="#6b4423", width=4)
    pen.blob([(4, 88), (38, 62), (30, 36), (4, 32), (14, 60)], sail)
    pen.blob([(-4, 80), (-34, 56), (-30, 34), (-4, 32), (-12, 56)], mixed(sail, INK, 0.1))
    pen.polygon([(0, 92), (0, 106), (24, 99)], flag)
    pen.blob([(-52, 34), (-20, 28), (24, 28), (58, 38), (42, 4), (0, -2), (-38, 4)], "#a4683f")
    pen.curve([(-46, 24), (0, 17), (50, 27)], fill="#6b4423", width=3)
    for x in (-24, 0, 24):
        pen.disc(x, 12, 5, "#bde8ff")
    for x in (-56, -20, 20, 56):
        pen.blob([(x - 20, -3), (x - 6, 5), (x + 6, 5), (x + 20, -3), (x, -9)], "#bde8ff")


def rocket(pen: Pen, look: Look) -> None:
    """Draw a rocket that takes off."""
    own = look.own("rocket")
    body, trim = own.choice(("#f4f4f8", "#fff1d0")), own.choice(("#e63946", "#3a86ff", "#8338ec"))
    pen.blob([(-12, 20), (-16, 4), (-4, -14), (0, -4), (6, -16), (16, 4), (12, 20)], "#ffb703")
    pen.blob([(-6, 20), (-7, 8), (0, -4), (7, 8), (6, 20)], "#fff3b0", outline=False)
    for side in (-1, 1):
        pen.blob([(side * 14, 44), (side * 36, 22), (side * 34, 8), (side * 12, 22)], trim)
    pen.blob([(-16, 20), (-22, 50), (-14, 82), (0, 104), (14, 82), (22, 50), (16, 20)], body)
    pen.blob([(-13, 84), (0, 104), (13, 84), (0, 80)], trim)
    pen.disc(0, 58, 12, mixed(body, INK, 0.35))
    pen.disc(0, 58, 8.5, "#8ee3ff")
    pen.disc(-3, 61, 2.4, WHITE, outline=False)
    pen.line([(-17, 32), (17, 32)], fill=trim, width=4)


def car(pen: Pen, look: Look) -> None:
    """Draw a car."""
    paint = look.own("car").choice(("#ef476f", "#3a86ff", "#ffbe0b", "#06a77d"))
    pen.blob([(-56, 16), (-54, 36), (-30, 42), (30, 42), (56, 34), (58, 14), (0, 10)], paint)
    pen.blob([(-32, 40), (-22, 66), (20, 66), (36, 40)], paint)
    pen.polygon([(-24, 42), (-17, 60), (0, 60), (0, 42)], "#d6f3ff")
    pen.polygon([(5, 42), (5, 60), (17, 60), (27, 42)], "#d6f3ff")
    for x in (-32, 32):
        pen.disc(x, 12, 14, "#3b3a45")
        pen.disc(x, 12, 6, "#dfe7ef")
    pen.disc(53, 30, 4.5, "#fff3b0")
    pen.curve([(40, 20), (47, 17), (54, 21)])


def snowman(pen: Pen, look: Look) -> None:
    """Draw a snowman."""
    scarf = look.own("scarf").choice(("#e63946", "#3a86ff", "#06a77d"))
    pen.line([(-20, 46), (-42, 58 if look.pose % 2 else 40)], fill="#6b4423", width=4)
    pen.line([(20, 46), (42, 62)], fill="#6b4423", width=4)
    pen.disc(0, 22, 26, "#f7fbff")
    pen.disc(0, 50, 20, "#f7fbff")
    pen.disc(0, 76, 17, "#f7fbff")
    pen.limb([(-14, 63), (0, 59), (14, 63)], 7, scarf)
    pen.limb([(10, 60), (14, 44)], 7, scarf)
    for y in (52, 44):
        pen.disc(2, y, 2.6, INK, outline=False)
    for x in (-4, 8):
        pen.disc(x, 80, 2.8, INK, outline=False)
    pen.polygon([(4, 77), (26, 73), (4, 71)], "#f4a259")
    pen.polygon([(-18, 88), (-18, 92), (18, 92), (18, 88)], "#2b2d42")
    pen.polygon([(-11, 92), (-11, 110), (11, 110), (11, 92)], "#2b2d42")


def _big_eyes(pen: Pen, y: float, gap: float, *, x: float = 2.0) -> None:
    for side in (-1, 1):
        pen.oval(x + side * gap, y, 7, 8.5, WHITE)
        pen.oval(x + side * gap + 2, y - 0.5, 3.6, 4.8, INK, outline=False)
        pen.disc(x + side * gap + 3.4, y + 2, 1.5, WHITE, outline=False)
