"""How notebooks show comics, animations and stories: as HTML in which everything is escaped.

Nothing is fetched here: the browser loads the pictures, and only from addresses of the web.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Final

from llamagen_async.models.generation import Animation, AnyGeneration, ComicGeneration, Panel

if TYPE_CHECKING:
    from llamagen_async.models.batch import BatchItem

__all__ = ["animation_html", "comic_html", "item_html"]

_WEB: Final = ("https://", "http://")
"""The beginnings of addresses that are shown and linked."""
_WIDTH: Final = 240
"""Pixels of a panel's width at most: four stand side by side in a notebook."""
_ROW: Final = "display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start"
_PANEL: Final = f"margin:0;max-width:{_WIDTH}px"


def comic_html(comic: ComicGeneration) -> str:
    """Return a comic's panels with their captions, or how far it has come."""
    pages = [_page([_panel(one) for one in page.panels]) for page in comic.pages if page.panels]
    if not pages and comic.output:
        pages = [_page([_figure(_picture(comic.output, "the comic"), None)])]
    return _block(_heading(comic), *pages)


def animation_html(animation: Animation) -> str:
    """Return an animation's video, or how far it has come."""
    url = animation.video_url
    video = ""
    if url:
        video = _nowhere("video")
        if _is_web(url):
            video = f'<video src="{escape(url)}" controls preload="none" width="480"></video>'
    return _block(_heading(animation), video)


def item_html(item: BatchItem) -> str:
    """Return what has become of a story: its comic, the reason for having none, and its files."""
    name = f"{item.index}" if item.key is None else f"{item.index} ({item.key})"
    error = "" if item.error is None else _text(str(item.error))
    one = item.generation
    shown = ""
    if one is not None:
        shown = animation_html(one) if isinstance(one, Animation) else comic_html(one)
    files = _text("Files: " + ", ".join(map(str, item.files))) if item.files else ""
    return _block(_text(f"Story {name}: {item.state}"), error, shown, files)


def _heading(generation: AnyGeneration) -> str:
    reason = generation.failure_reason if generation.is_done and not generation.succeeded else None
    state = generation.status.lower()
    return _text(f"{generation.id}: {state}{f', {reason}' if reason else ''}")


def _panel(panel: Panel) -> str:
    number = f"Panel {panel.panel}"
    if not panel.asset_url:
        return _figure(f"<em>{number} is not drawn yet</em>", panel.caption)
    return _figure(_picture(panel.asset_url, panel.caption or number), panel.caption)


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
    text = f'<figcaption dir="auto">{escape(caption)}</figcaption>' if caption else ""
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
