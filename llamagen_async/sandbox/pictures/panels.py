"""One panel as an image: backdrop, figures and letters put together.

`casting` decides what is in a panel, the modules called from here draw the details, and `drawing`
encodes the image.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs
from PIL import Image, ImageDraw

from llamagen_async.sandbox.pictures import lettering
from llamagen_async.sandbox.pictures.casting import FIGURES, Scene, cast_scene
from llamagen_async.sandbox.pictures.figures import Look
from llamagen_async.sandbox.pictures.pen import INK, Pen
from llamagen_async.sandbox.pictures.places import PLACES
from llamagen_async.sandbox.pictures.scenery import LIGHTS, Light, Stage, draw_burst

__all__ = ["PAPER", "PanelSpec", "panel_image"]

PAPER: Final = "#fffdf7"
"""The colour of the paper."""

_SMOOTH: Final = 2
"""The factor by which a picture is drawn too large, so that scaling it down smooths its edges."""
_LARGEST_LETTERS: Final = 6.6
"""The largest font size in hundredths of the picture's shorter side."""
_SMALLEST_LETTERS: Final = 2.2
"""The smallest font size in hundredths of the picture's shorter side."""
_SAID_AT_MOST: Final = 60
"""The most characters of a call that stands in a bubble; a longer one stands in a box."""
_QUOTES: Final = frozenset('"“”«»「')
"""The quotation marks that put a caption into a bubble."""
_BOXES: Final = ("#fff3b0", "#ffffff", "#ffe5ec", "#e0fbfc")
"""The colours of the narrator's boxes."""
_BURSTS: Final = (
    ("#ffd166", "#fff0bf"),
    ("#8ecae6", "#d9f1fb"),
    ("#ff9f9f", "#ffd6d6"),
    ("#b8e0a5", "#e2f5d8"),
)
"""The colours of the rays behind a dramatic moment, in pairs."""
_BURST_SHARE: Final = 0.3
"""The share of dramatic moments that have rays instead of a place behind them."""
_USUAL_LIGHT_SHARE: Final = 0.6
"""The share of panels whose time of day is that of the whole story."""
_HEIGHT: Final = 108.0
"""The height of most figures in units of their own, ears and all."""
_HEIGHTS: Final = {"rabbit": 124.0, "unicorn": 116.0, "witch": 132.0, "wizard": 132.0}
"""The heights of taller figures in units of their own."""
_POSITIONS: Final = {1: (0.5,), 2: (0.29, 0.72), 3: (0.2, 0.52, 0.82)}
"""The positions of one, two or three figures, as shares of the width."""
_GREY: Final = frozenset({"black", "gray", "grey", "ink", "manga", "monochrome", "noir"})
"""The words of a style that make a picture grey."""


@attrs.frozen
class PanelSpec:
    """The content of one panel."""

    caption: str
    """The text in the panel."""
    seed: str = attrs.field(default="0", converter=str)
    """The seed of everything that the words leave open."""
    story: str | None = None
    """The whole prompt, which decides who the heroes are; the caption if not given."""
    style: str | None = None
    """The drawing style asked for; a word such as manga, noir, ink or grey makes it grey."""
    number: int | None = None
    """The number in a corner, if there is to be one."""


@attrs.frozen
class _Canvas:
    """A panel while it is drawn."""

    draw: ImageDraw.ImageDraw
    stage: Stage
    unit: float
    """A hundredth of the shorter side in pixels."""
    ink: float
    """The width of an outline in pixels."""
    rng: Random


@attrs.frozen
class _Text:
    """A caption, laid out."""

    block: lettering.Block
    is_said: bool
    """Whether the text stands in a bubble instead of a box."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the bubble or box in pixels."""
        measure = lettering.bubble_size if self.is_said else lettering.box_size
        return measure(self.block)


def panel_image(
    spec: PanelSpec, size: tuple[int, int], *, margin: float = 0.0, hop: float = 0.0
) -> Image.Image:
    """Return the image of a panel.

    Args:
        spec: The content of the panel.
        size: Width and height in pixels.
        margin: The paper around the frame, as a share of the shorter side.
        hop: The height of the figures above the ground, in hundredths of the shorter side.
    """
    width, height = size[0] * _SMOOTH, size[1] * _SMOOTH
    image = Image.new("RGB", (width, height), PAPER)
    story = spec.story or spec.caption
    scene = cast_scene(story, spec.caption, spec.seed)
    canvas = _canvas(image, story, spec.seed)
    if scene.mood != "happy" and canvas.rng.random() < _BURST_SHARE:
        centre = (canvas.stage.width / 2, canvas.stage.height * 0.4)
        draw_burst(canvas.stage, centre, canvas.rng.choice(_BURSTS))
    else:
        PLACES[scene.place](canvas.stage)
    text = _text(spec.caption, canvas)
    head = _figures(canvas, scene, text, story=story, hop=hop)
    _letter(canvas, text, head)
    _frame(canvas, (width, height), margin * min(width, height), spec.number)
    image = image.reduce(_SMOOTH)
    is_grey = not _GREY.isdisjoint((spec.style or "").lower().replace("-", " ").split())
    return image.convert("L").convert("RGB") if is_grey else image


def _canvas(image: Image.Image, story: str, seed: str) -> _Canvas:
    draw, (width, height) = ImageDraw.Draw(image), image.size
    unit = min(width, height) / 100
    ink = max(1.0, unit * 0.55)
    rng = Random(f"{seed}/layout")
    stage = Stage(
        pen=Pen(draw, (0.0, float(height)), unit, ink=ink),
        width=width / unit,
        height=height / unit,
        horizon=height / unit * rng.uniform(0.24, 0.3),
        rng=Random(f"{seed}/scenery"),
        light=_light(story, rng),
    )
    return _Canvas(draw, stage, unit, ink, rng)


def _light(story: str, rng: Random) -> Light:
    """Return the time of day: mostly that of the whole story."""
    weights = (5, 2, 2, 2, 2)
    usual = Random(f"{story}/light").choices(LIGHTS, weights)[0]
    other = rng.choices(LIGHTS, weights)[0]
    return usual if rng.random() < _USUAL_LIGHT_SHARE else other


def _text(caption: str, canvas: _Canvas) -> _Text:
    is_short = len(caption) <= _SAID_AT_MOST
    is_call = is_short and caption.rstrip().endswith(("!", "?", "…"))
    is_said = is_call or not _QUOTES.isdisjoint(caption)
    stage, unit = canvas.stage, canvas.unit
    block = lettering.caption_block(
        caption,
        width=stage.width * unit * (0.6 if is_said else 0.82),
        height=stage.height * unit * 0.24,
        largest=_LARGEST_LETTERS * unit,
        smallest=_SMALLEST_LETTERS * unit,
    )
    return _Text(block, is_said)


def _figures(
    canvas: _Canvas, scene: Scene, text: _Text, *, story: str, hop: float
) -> tuple[float, float]:
    """Draw the figures; return the top of the first one's head in pixels."""
    stage, rng, count = canvas.stage, canvas.rng, len(scene.figures)
    foot = stage.horizon * rng.uniform(0.25, 0.5)
    reach = max(_HEIGHTS.get(name, _HEIGHT) for name in scene.figures) / _HEIGHT
    room = stage.height - text.size[1] / canvas.unit - (13 if text.is_said else 7) - foot
    tallest = max(10.0, min(room / reach, stage.width / count * 0.98, stage.height * 0.72))
    shift = rng.uniform(-0.1, 0.1) if count == 1 else 0.0
    head = (0.0, 0.0)
    # From the last to the first: the most important one stands before the others.
    for n in reversed(range(count)):
        name, position = scene.figures[n], _POSITIONS[count][n] + shift
        size = tallest * (rng.uniform(0.78, 0.95) if n else 1.0) / _HEIGHT
        x, y = position * stage.width, foot + (stage.horizon * 0.18 if n else 0.0)
        stage.pen.oval(x, y, 30 * size, 4.5 * size, "#4d5263", outline=False)
        origin = stage.pen.at(x, y + hop)
        look = Look(
            mood=scene.mood,
            is_hero=scene.has_hero and n == 0,
            pose=rng.randrange(4),
            seed=f"{story}/{name}",
        )
        is_right = position > 0.5  # noqa: PLR2004 - the middle
        pen = Pen(canvas.draw, origin, size * canvas.unit, ink=canvas.ink, flip=is_right)
        FIGURES[name](pen, look)
        head = pen.at(0, _HEIGHTS.get(name, _HEIGHT))
    return head


def _letter(canvas: _Canvas, text: _Text, head: tuple[float, float]) -> None:
    """Put the caption above the figures."""
    unit, rng = canvas.unit, canvas.rng
    width = canvas.stage.width * unit
    text_width, text_height = text.size
    edge = 4.5 * unit
    if text.is_said:
        wanted = head[0] - text_width * rng.uniform(0.35, 0.65)
        left = min(max(wanted, edge), width - text_width - edge)
        # Near the head, though at the top if there is little room.
        top = max(edge, head[1] - text_height - 8 * unit)
        tip = (head[0], max(head[1] - unit, top + text_height + 4 * unit))
        lettering.draw_bubble(canvas.draw, text.block, (left, top), target=tip, ink=canvas.ink)
    else:
        left = rng.choice((edge, (width - text_width) / 2))
        fill = rng.choice(_BOXES)
        lettering.draw_box(canvas.draw, text.block, (left, edge), fill=fill, ink=canvas.ink)


def _frame(canvas: _Canvas, size: tuple[int, int], edge: float, number: int | None) -> None:
    width, height = size
    if edge:
        canvas.draw.rectangle((0, 0, width, height), outline=PAPER, width=round(edge))
    thick = max(2, round(canvas.unit))
    inside = (edge, edge, width - 1 - edge, height - 1 - edge)
    canvas.draw.rectangle(inside, outline=INK, width=thick)
    if number is not None:
        radius = canvas.unit * 4.2
        corner = (width - edge - radius * 1.5, height - edge - radius * 1.5)
        lettering.draw_number(canvas.draw, number, corner, radius, canvas.ink)
