"""Pictures of what the benchmarks have measured, as SVG: the same results give the same text.

Each has a card of its own behind it, light or dark as the reader prefers, so it can be read on any
page; lines differ by the shape of their points, too; and a title and a description say in words
what is to be seen.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, Final

__all__ = ["Points", "chart", "ends_of", "timeline"]

Points = Sequence[tuple[float, float]]

_WIDTH: Final = 720
_HEIGHT: Final = 400
_LEFT: Final = 64
_RIGHT: Final = 24
_TOP: Final = 84
_BOTTOM: Final = 76
_STEPS: Final = 5
"""Lines of the grid, at least, from the bottom to the top of a picture whose scale is linear."""
_KINDS: Final = ("asked", "run", "late")
"""What a comic of a timeline goes through."""
_STYLE: Final = """
text{font:13px system-ui,sans-serif;fill:#24292f}.h{font-weight:600;font-size:15px}
.small{font-size:11px;fill:#57606a}.card{fill:#fff;stroke:#d0d7de}.grid{stroke:#e3e6ea}
.s0{--c:#0b6bcb}.s1{--c:#c2410c}.s2{--c:#15803d}.s3{--c:#7c3aed}
.line{fill:none;stroke:var(--c);stroke-width:2.5}.dot{fill:var(--c)}
.asked{fill:#d8dde6}.run{fill:#4c8bf5}.late{fill:#e8833a}
.check{stroke:#24292f;stroke-width:1.5}.send{stroke:#1f7a45;stroke-width:2.5}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9da7b1}
.card{fill:#0d1117;stroke:#3d444d}.grid{stroke:#2a3038}
.s0{--c:#6cb2ff}.s1{--c:#ff9e64}.s2{--c:#6ee7a0}.s3{--c:#c4a7ff}
.asked{fill:#39404a}.check{stroke:#fff}.send{stroke:#6ee7a0}}
"""


def chart(
    title: str,
    description: str,
    axes: tuple[str, str],
    lines: Mapping[str, Points],
    below: str,
    *,
    log_y: bool = False,
) -> str:
    """Return lines over an axis that is logarithmic to the right.

    Args:
        title: What the picture shows.
        description: The same as the picture says, in words.
        axes: What is told to the right, and upwards.
        lines: The points of each line, in the order of their first numbers.
        below: What measured it.
        log_y: Whether the axis upwards is logarithmic, too; otherwise it begins at 0.
    """
    points = [point for line in lines.values() for point in line]
    xs = sorted({x for x, _ in points})
    ticks = _decades(points) if log_y else _even(max(y for _, y in points))
    low, high = ticks[0], ticks[-1]

    def at_x(x: float) -> float:
        share = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        return _LEFT + 12 + share * (_WIDTH - _LEFT - _RIGHT - 24)

    def at_y(y: float) -> float:
        share = math.log(y / low) / math.log(high / low) if log_y else y / high
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts: list[str] = []
    for y in ticks:
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
            f'y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>'
        )
        parts.append(_text(_LEFT - 8, at_y(y) + 4, f"{y:,g}", anchor="end"))
    parts += [_text(at_x(x), _HEIGHT - _BOTTOM + 20, f"{x:,g}", anchor="middle") for x in xs]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_text(middle, _HEIGHT - _BOTTOM + 40, axes[0], anchor="middle"))
    parts.append(_text(_LEFT - 52, _TOP - 12, axes[1], kind="small"))
    left = float(_LEFT)
    for number, (name, line) in enumerate(lines.items()):
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        dots = "".join(_dot(number, at_x(x), at_y(y)) for x, y in line)
        parts.append(f'<g class="s{number}"><polyline class="line" points="{path}"/>{dots}')
        parts.append(f"{_dot(number, left, 50)}{_text(left + 12, 54, name)}</g>")
        left += 12 + 7.2 * len(name) + 24
    parts.append(_text(14, _HEIGHT - 12, below, kind="small"))
    return _picture(title, description, _HEIGHT, parts)


def timeline(
    title: str, description: str, clients: Mapping[str, Sequence[Mapping[str, Any]]], below: str
) -> str:
    """Return when each comic was asked for, sent, checked, done and noticed: a block a client."""
    longest = max(comic["noticed"] for comics in clients.values() for comic in comics)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    parts: list[str] = []
    left = 14
    for kind, word in (
        ("asked", "waits for its slot"),
        ("run", "is drawn"),
        ("late", "done, and not noticed yet"),
    ):
        parts.append(f'<rect class="{kind}" x="{left}" y="42" width="14" height="12"/>')
        parts.append(_text(left + 20, 53, word))
        left += 20 + 7 * len(word) + 20
    for kind, word in (("send", "create"), ("check", "check")):
        parts.append(f'<line class="{kind}" x1="{left}" x2="{left}" y1="41" y2="55"/>')
        parts.append(_text(left + 8, 53, word))
        left += 8 + 7 * len(word) + 20

    def x(seconds: float) -> str:
        return f"{_LEFT + seconds * scale:.1f}"

    top = 88
    for name, comics in clients.items():
        parts.append(_text(14, top, f"{name}: {ends_of(comics)}", kind="h"))
        top += 10
        bottom = top + 16 * len(comics)
        for minute in range(int(longest // 60) + 1):
            at = x(minute * 60.0)
            parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>')
            parts.append(_text(float(at), bottom + 14, f"{minute} min", kind="small"))
        for number, comic in enumerate(comics):
            y = top + number * 16
            parts.append(_text(_LEFT - 10, y + 12, f"{number + 1}", kind="small", anchor="end"))
            stops = (0.0, comic["sent"], comic["ready"], comic["noticed"])
            parts += [
                f'<rect class="{kind}" x="{x(start)}" y="{y + 3}" height="10" '
                f'width="{max(0.0, (stop - start) * scale):.1f}"/>'
                for kind, (start, stop) in zip(_KINDS, pairwise(stops), strict=True)
            ]
            marks: list[tuple[str, float]] = [
                ("send", comic["sent"]),
                *(("check", at) for at in comic["checks"]),
            ]
            parts += [
                f'<line class="{kind}" x1="{x(at)}" x2="{x(at)}" y1="{y + 1}" y2="{y + 15}"/>'
                for kind, at in marks
            ]
        top = bottom + 46
    parts.append(_text(14, top - 8, below, kind="small"))
    return _picture(title, description, top + 4, parts)


def ends_of(comics: Sequence[Mapping[str, Any]]) -> str:
    """Return in words when the comics of a timeline were there."""
    ends = [float(comic["noticed"]) for comic in comics]
    return f"the mean comic after {fmean(ends):.0f} s, the last after {max(ends):.0f} s"


def _picture(title: str, description: str, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-labelledby="title description">\n<title id="title">{html.escape(title)}</title>\n'
        f'<desc id="description">{html.escape(description)}</desc>\n<style>{_STYLE}</style>\n'
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>'
    )
    return "\n".join([head, _text(14, 26, title, kind="h"), *parts, "</svg>\n"])


def _text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>'


def _dot(number: int, x: float, y: float) -> str:
    """Return a point in the shape of its line."""
    if number == 0:
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    shapes: dict[int, list[tuple[float, float]]] = {
        1: [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2: [(0, -5.5), (5, 4), (-5, 4)],
        3: [(0, -6), (6, 0), (0, 6), (-6, 0)],
    }
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shapes[number])
    return f'<polygon class="dot" points="{path}"/>'


def _decades(points: Points) -> list[float]:
    """Return the powers of ten around all points."""
    least = math.floor(math.log10(min(y for _, y in points)))
    most = math.ceil(math.log10(max(y for _, y in points)))
    return [10.0**power for power in range(least, max(most, least + 1) + 1)]


def _even(most: float) -> list[float]:
    """Return steps from 0 that are easy to read, of which the last is `most` or more."""
    decade = 10.0 ** math.floor(math.log10(most / _STEPS))
    step = next(factor * decade for factor in (1, 2, 5, 10) if factor * decade * _STEPS >= most)
    return [step * number for number in range(math.ceil(most / step) + 1)]
