"""How notebooks show comics, animations and stories: as HTML in which everything is escaped.

Nothing is fetched here: the browser loads the pictures, and only from addresses of the web.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Final

__all__ = ["animation_html", "comic_html", "item_html"]

_WEB: Final = ("https://", "http://")
"""The beginnings of addresses that are shown and linked."""
_WIDTH: Final = 215
"""Pixels of a panel's width: four stand side by side in the 900 of a notebook's page."""
_ROW: Final = "display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start"
_PANEL: Final = f"margin:0;width:{_WIDTH}px;max-width:100%"
_CAPTION: Final = "max-height:7.5em;overflow:auto;overflow-wrap:anywhere"
"""The style of a caption: of one that is longer than the picture is high, the rest is scrolled."""
_PLACE: Final = (
    "display:flex;aspect-ratio:1;align-items:center;justify-content:center;text-align:center;"
    "border:1px dashed;box-sizing:border-box"
)
"""The style of the place of a panel without a picture; its colour is that of the text."""


def comic_html(
    heading: str, pages: Iterable[Iterable[tuple[int, str | None, str | None]]], output: str | None
) -> str:
    """Return a comic's panels with their captions, below a heading.

    Args:
        heading: The comic's id and how far it has come.
        pages: Number, URL and caption of each panel of each page.
        output: URL of the whole, which is shown if there are no panels.
    """
    shown = [_page(figures) for page in pages if (figures := [_panel(*one) for one in page])]
    if not shown and output:
        shown = [_page([_figure(_picture(output, "the comic"), None)])]
    return _block(_text(heading), *shown)


def animation_html(heading: str, url: str | None) -> str:
    """Return an animation's video below a heading."""
    video = ""
    if url:
        video = _nowhere("video")
        if _is_web(url):
            video = f'<video src="{escape(url)}" controls preload="none" width="480"></video>'
    return _block(_text(heading), video)


def item_html(heading: str, error: Exception | None, shown: str, files: Iterable[Path]) -> str:
    """Return what has become of a story: the reason for having no comic, the comic, its files.

    Args:
        heading: The story's name and state.
        error: The reason, if there is one.
        shown: The comic or animation, as HTML.
        files: What is on disk.
    """
    names = ", ".join(map(str, files))
    reason = "" if error is None else _text(str(error))
    return _block(_text(heading), reason, shown, _text(f"Files: {names}") if names else "")


def _panel(number: int, url: str | None, caption: str | None) -> str:
    if not url:
        text = f"Panel {number} is not drawn yet"
        return _figure(f'<em style="{_PLACE}">{text}</em>', caption)
    return _figure(_picture(url, caption or f"Panel {number}"), caption)


def _picture(url: str, text: str) -> str:
    if not _is_web(url):
        return _nowhere("picture")
    address = escape(url)
    return (
        f'<a href="{address}" target="_blank" rel="noopener noreferrer">'
        f'<img src="{address}" alt="{escape(text)}" loading="lazy" referrerpolicy="no-referrer" '
        'style="max-width:100%"></a>'
    )


def _figure(picture: str, caption: str | None) -> str:
    text = ""
    if caption:
        text = f'<figcaption dir="auto" style="{_CAPTION}">{escape(caption)}</figcaption>'
    return f'<figure style="{_PANEL}">{picture}{text}</figure>'


def _page(figures: Iterable[str]) -> str:
    return f'<div style="{_ROW}">{"".join(figures)}</div>'


def _nowhere(kind: str) -> str:
    return f"<em>a {kind} without an address of the web</em>"


def _text(text: str) -> str:
    return f'<p dir="auto">{escape(text)}</p>'


def _block(*parts: str) -> str:
    return f"<div>{''.join(parts)}</div>"


def _is_web(url: str) -> bool:
    return url.lower().startswith(_WEB)
