"""A picture of where the time of a batch went: a line for each comic, all requests below."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

__all__ = ["Comic", "draw"]

_WIDTH: Final = 900
_LEFT: Final = 60
_ROW: Final = 16
_STYLE: Final = """
text{font:12px system-ui,sans-serif;fill:#333}.h{font-weight:600;font-size:14px}
.run{fill:#4c8bf5}.late{fill:#e8833a}.check{stroke:#222;stroke-width:1.5}
.asked{fill:#d8dde6}.grid{stroke:#e3e6ea}.send{stroke:#2a9d55;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#ddd}.check{stroke:#fff}.grid{stroke:#333}
.asked{fill:#39404a}}
"""


@attrs.define
class Comic:
    """The times of one comic's events, in seconds from the start."""

    sent: float
    ready: float
    noticed: float | None = None
    checks: list[float] = attrs.field(factory=list[float])


def draw(clients: Mapping[str, Sequence[Comic]]) -> str:
    """Return an SVG with one block for each client."""
    longest = max(comic.noticed or comic.ready for comics in clients.values() for comic in comics)
    scale = (_WIDTH - _LEFT - 20) / longest
    parts: list[str] = []
    top = 60

    def x(seconds: float) -> str:
        return f"{_LEFT + seconds * scale:.1f}"

    for name, comics in clients.items():
        end = max(comic.noticed or 0.0 for comic in comics)
        title = f"{html.escape(name)}: {len(comics)} comics in {end:.0f} s"
        parts.append(f'<text class="h" x="10" y="{top}">{title}</text>')
        top += 12
        bottom = top + _ROW * (len(comics) + 1)
        for minute in range(int(longest // 60) + 1):
            at = x(minute * 60.0)
            parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>')
            parts.append(f'<text x="{at}" y="{bottom + 28}">{minute} min</text>')
        for number, comic in enumerate(comics):
            y = top + number * _ROW
            noticed = comic.noticed or comic.ready
            parts.append(f'<text x="10" y="{y + 11}">{number + 1}</text>')
            parts.extend(
                f'<rect class="{kind}" x="{x(start)}" y="{y + 3}" height="{_ROW - 6}" '
                f'width="{max(0.0, (stop - start) * scale):.1f}"/>'
                for kind, start, stop in (
                    ("asked", 0.0, comic.sent),
                    ("run", comic.sent, comic.ready),
                    ("late", comic.ready, noticed),
                )
            )
            parts.extend(
                f'<line class="check" x1="{x(at)}" x2="{x(at)}" y1="{y + 1}" y2="{y + _ROW - 1}"/>'
                for at in comic.checks
            )
        y = top + len(comics) * _ROW
        for comic in comics:
            for kind, ats in (("send", [comic.sent]), ("check", comic.checks)):
                parts.extend(
                    f'<line class="{kind}" x1="{x(at)}" x2="{x(at)}" y1="{y + 4}" y2="{y + 14}"/>'
                    for at in ats
                )
        top = bottom + 62
    legend = (
        '<rect class="asked" x="10" y="14" width="14" height="10"/><text x="28" y="23">waits to '
        'be sent</text><rect class="run" x="140" y="14" width="14" height="10"/><text x="158" '
        'y="23">being drawn</text><rect class="late" x="250" y="14" width="14" height="10"/>'
        '<text x="268" y="23">ready, not noticed</text><line class="check" x1="400" x2="400" '
        'y1="12" y2="26"/><text x="408" y="23">status check</text><line class="send" x1="505" '
        'x2="505" y1="12" y2="26"/><text x="513" y="23">create (bottom row: all requests)</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top - 20}">'
        f"<style>{_STYLE}</style>{legend}{''.join(parts)}</svg>\n"
    )
