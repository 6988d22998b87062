"""Letters in the sandbox's pictures: captions that always fit, bubbles, numbers, the watermark.

The only font that is always there is Pillow's own, which has little beyond Latin: `legible` spells
other scripts with the letters that it has. Figures and scenery are drawn elsewhere.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import attrs
from PIL import Image, ImageDraw, ImageFont

from llamagen_async.sandbox.pictures.pen import INK, Pen, smooth_outline

__all__ = [
    "Block",
    "box_size",
    "bubble_size",
    "caption_block",
    "draw_box",
    "draw_bubble",
    "draw_number",
    "legible",
    "mark",
]

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_WATERMARK: Final = "SANDBOX DEMO"
"""The text of the watermark on pictures of the demo plan."""
_UNKNOWN_AT_MOST: Final = 0.25
"""The share of letters without a spelling above which a whole text is replaced by dots."""
_LINE_HEIGHT: Final = 1.22
"""The distance of two lines in font sizes."""
_SMALLEST: Final = 9
"""The smallest font size in pixels that can be read."""
_LONGEST_WORD: Final = 16
"""The most characters of a word that is not hyphenated."""
_SOFT: Final = "\u00ad"
"""The soft hyphen, which marks where a word may be cut."""
_MARK_STRENGTH: Final = 84
"""The opacity of the watermark, of 255."""

_OTHERS: Final = """
а a б b в v г g д d е e ё yo ж zh з z и i й y к k л l м m н n о o п p р r с s т t у u ф f х kh
ц ts ч ch ш sh щ shch ъ - ы y ь - э e ю yu я ya і i ї yi є ye ґ g
α a β v γ g δ d ε e ζ z η i θ th ι i κ k λ l μ m ν n ξ x ο o π p ρ r σ s ς s τ t υ y φ f χ ch
ψ ps ω o ß ss æ ae œ oe ø o đ d ð d þ th ł l ı i € EUR × x
‘ ' ’ ' “ " ” " „ " « " » " … ... 。 . 、 , 「 " 」 " ¿ - ¡ -
"""  # noqa: RUF001 - the table is about such letters
"""Pairs of a letter and its spelling with letters of the font; `-` leaves the letter out."""

_SPELLED: Final = {
    letter: latin.replace("-", "")
    for letter, latin in zip(_OTHERS.split()[::2], _OTHERS.split()[1::2], strict=True)
}
_NAMED: Final = re.compile(r"(?:HIRAGANA|KATAKANA|HANGUL)(?: LETTER| SYLLABLE)(?: SMALL)? ([A-Z]+)")
"""The Unicode names that end in the sound of a letter."""


@attrs.frozen
class Block:
    """Lines of text and the size at which they fit."""

    lines: tuple[str, ...]
    """The lines; at least one."""
    font_size: int
    """The font size in pixels."""
    width: float
    """The width of the longest line in pixels."""

    @property
    def height(self) -> float:
        """The height of all lines in pixels."""
        return len(self.lines) * self.font_size * _LINE_HEIGHT


def legible(text: str) -> str:
    """Return `text` in letters that the font has, as well as that goes; never empty."""
    spelled = "".join(_spelled(letter) for letter in text)
    if spelled.count("\0") > _UNKNOWN_AT_MOST * len(spelled):
        return "..."
    return re.sub(r"(?:\s*\u0000\s*)+", " ... ", spelled).strip() or "..."


def caption_block(
    text: str, *, width: float, height: float, largest: float, smallest: float
) -> Block:
    """Return `text` in capitals, broken into lines, as large as fits.

    Args:
        text: Any text.
        width: The most pixels a line may have.
        height: The most pixels all lines may have.
        largest: The largest font size in pixels.
        smallest: The smallest font size in pixels; text that does not fit in it is cut.
    """
    words = [part for word in legible(text).upper().split() for part in _hyphenated(word)]
    least = max(_SMALLEST, round(smallest))
    size = max(least, round(largest))
    while True:
        lines = _wrapped(words, size, width)
        block = Block(tuple(lines), size, max(_width(line, size) for line in lines))
        if block.height <= height and block.width <= width:
            return block
        if size <= least:
            return _cut(block, width, height)
        size = max(least, min(size - 1, round(size * 0.92)))


def draw_box(
    draw: ImageDraw.ImageDraw, block: Block, box: tuple[float, float], *, fill: str, ink: float
) -> None:
    """Draw a narrator's box with its left upper corner at `box`."""
    x, y = box
    pad = _padding(block)
    right, bottom = x + block.width + 2 * pad, y + block.height + 1.4 * pad
    shadow = ink * 1.6
    draw.rectangle((x + shadow, y + shadow, right + shadow, bottom + shadow), fill=INK)
    draw.rectangle((x, y, right, bottom), fill=fill, outline=INK, width=max(1, round(ink)))
    _letters(draw, block, x + pad, y + 0.7 * pad, box_width=block.width)


def draw_bubble(
    draw: ImageDraw.ImageDraw,
    block: Block,
    box: tuple[float, float],
    *,
    target: tuple[float, float],
    ink: float,
) -> None:
    """Draw a speech bubble with its left upper corner at `box` and its tail towards `target`."""
    pad = _padding(block)
    half_width, half_height = block.width / 2 + 1.5 * pad, block.height / 2 + 0.9 * pad
    x, y = box[0] + half_width, box[1] + half_height
    pen = Pen(draw, (x, y), 1.0, ink=ink)
    # A rounded box rather than an ellipse: text fills it, whatever its shape.
    a, b = half_width, half_height
    right = [(a, 0), (a * 0.93, b * 0.72), (a * 0.5, b)]
    upper = [*right, *((-px, py) for px, py in reversed(right))]
    outline = smooth_outline([*upper, *((px, -py) for px, py in upper[-2:0:-1])])
    tip_x, tip_y = target[0] - x, y - target[1]
    root = min(max(tip_x * 0.6, -a * 0.5), a * 0.5)
    tail_width = block.font_size * 0.5
    tail = [(root - tail_width, -b * 0.86), (tip_x, tip_y), (root + tail_width, -b * 0.86)]
    pen.polygon(tail, "#ffffff")
    pen.polygon(outline, "#ffffff")
    inner = [(px, py + ink * 1.5) for px, py in (tail[0], tail[2])]
    shrunk = [(tip_x * 0.5 + root * 0.5, (tip_y - b) / 2 + ink), *inner]
    pen.polygon(shrunk, "#ffffff", outline=False)
    _letters(draw, block, x - block.width / 2, y - block.height / 2, box_width=block.width)


def bubble_size(block: Block) -> tuple[float, float]:
    """Return the width and height of a bubble around a block, without its tail, in pixels."""
    pad = _padding(block)
    return block.width + 3 * pad, block.height + 1.8 * pad


def box_size(block: Block) -> tuple[float, float]:
    """Return the width and height of a narrator's box around a block, in pixels."""
    pad = _padding(block)
    return block.width + 2 * pad, block.height + 1.4 * pad


def draw_number(
    draw: ImageDraw.ImageDraw, number: int, centre: tuple[float, float], radius: float, ink: float
) -> None:
    """Draw a panel's number in a disc."""
    x, y = centre
    draw.ellipse(
        (x - radius, y - radius, x + radius, y + radius),
        fill="#ffffff",
        outline=INK,
        width=max(1, round(ink)),
    )
    font = _font(max(_SMALLEST, round(radius * 1.15)))
    draw.text((x, y), str(number), font=font, fill=INK, anchor="mm", stroke_width=round(ink / 4))


def mark(image: Image.Image) -> None:
    """Put the demo plan's watermark across a picture, in place."""
    mask = _mark_mask(image.size)
    image.paste("#ffffff", (0, 0), mask)


@lru_cache(maxsize=8)
def _mark_mask(size: tuple[int, int]) -> Image.Image:
    width, height = size
    diagonal = (width**2 + height**2) ** 0.5
    font_size = max(_SMALLEST, round(diagonal * 0.058))
    strip_height = round(font_size * 2.2)
    side = round(diagonal)
    band = Image.new("L", (side, side))
    draw = ImageDraw.Draw(band)
    font = _font(font_size)
    for row, y in enumerate(range(strip_height // 2, side, strip_height * 2)):
        x = side / 2 + (row % 2 - 0.5) * font_size * 4
        draw.text(
            (x, y),
            f"{_WATERMARK}   {_WATERMARK}",
            font=font,
            fill=_MARK_STRENGTH,
            anchor="mm",
            stroke_width=max(1, font_size // 24),
        )
    turned = band.rotate(30, resample=Image.Resampling.BILINEAR)
    left, top = (side - width) // 2, (side - height) // 2
    return turned.crop((left, top, left + width, top + height))


def _letters(
    draw: ImageDraw.ImageDraw, block: Block, x: float, y: float, *, box_width: float
) -> None:
    font = _font(block.font_size)
    bold = max(0, round(block.font_size / 38))
    for n, line in enumerate(block.lines):
        middle = y + (n + 0.5) * block.font_size * _LINE_HEIGHT
        draw.text(
            (x + box_width / 2, middle),
            line,
            font=font,
            fill=INK,
            anchor="mm",
            stroke_width=bold,
        )


def _hyphenated(word: str) -> list[str]:
    """Cut a word that no line could hold in letters of a good size."""
    if len(word) <= _LONGEST_WORD:
        return [word]
    step = math.ceil(len(word) / math.ceil(len(word) / _LONGEST_WORD))
    parts = [word[n : n + step] for n in range(0, len(word), step)]
    return [*(part + _SOFT for part in parts[:-1]), parts[-1]]


def _wrapped(words: Sequence[str], size: int, width: float) -> list[str]:
    lines: list[str] = []
    for word in words:
        last = lines[-1] if lines else ""
        joined = last[:-1] + word if last.endswith(_SOFT) else f"{last} {word}"
        if lines and _width(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return [line.replace(_SOFT, "-") for line in lines]


def _cut(block: Block, width: float, height: float) -> Block:
    """Return what fits of a block that is too long even in the smallest letters."""
    size = block.font_size
    lines = list(block.lines[: max(1, int(height / (size * _LINE_HEIGHT)))])
    if len(lines) < len(block.lines):
        lines[-1] += "..."
    fitting: list[str] = []
    for line in lines:
        cut = line
        while len(cut) > 1 and _width(cut, size) > width:
            cut = f"{cut.removesuffix('...')[:-1]}..." if len(cut) > 4 else cut[:-1]  # noqa: PLR2004
        fitting.append(cut)
    return Block(tuple(fitting), size, min(width, max(_width(line, size) for line in fitting)))


def _width(text: str, size: int) -> float:
    return float(_font(size).getlength(text)) * 1.02


def _padding(block: Block) -> float:
    return block.font_size * 0.55


@lru_cache(maxsize=64)
def _font(size: int) -> _Font:
    return ImageFont.load_default(size=size)


@lru_cache(maxsize=1024)
def _spelled(letter: str) -> str:
    """Return one letter in letters that the font has; a NUL if there is no way."""
    if letter.isspace():
        return " "
    if letter.isascii() and letter.isprintable():
        return letter
    if unicodedata.category(letter) in ("Mn", "Cf", "Cc"):
        return ""
    if unicodedata.category(letter) == "Pd":
        return "-"
    if letter.lower() in _SPELLED:
        spelled = _SPELLED[letter.lower()]
        return spelled.upper() if letter.isupper() else spelled
    base = "".join(part for part in unicodedata.normalize("NFKD", letter) if part.isascii())
    if base.strip():
        return base
    named = _NAMED.match(unicodedata.name(letter, ""))
    return named[1].lower() if named else "\0"
