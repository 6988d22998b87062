"""`index.html`: a page to look at a folder of comics with.

A pure function from records to text. The page stands alone: no script, no network, only relative
links to the pictures beside it. All text in it is escaped, wherever it came from. The style is in
`gallery_style`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

from llamagen_async._version import __version__
from llamagen_async.cli.results.gallery_style import STYLE
from llamagen_async.cli.results.records import RESULTS, Picture, Record
from llamagen_async.cli.run.progress import STATE_WORDS
from llamagen_async.cli.text import counted, lasting, shortened
from llamagen_async.models import BatchState

__all__ = ["INDEX", "is_foreign", "render"]

INDEX: Final = "index.html"
"""The page's file name."""
_MARK: Final = '<meta name="generator" content="llamagen-async'
"""By this a page of ours is known."""
_LANGUAGE: Final = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*")
_WIDE: Final = 1.4
"""From this width to height on, a panel is wide."""
_TALL: Final = 0.85
"""Up to this width to height, a panel is tall."""
_LONG: Final = 420
"""Characters from which on a story is shown by its beginning; all of it unfolds."""
_ALT: Final = 160
"""Characters of the words in a picture's place: a story may be as long as a book."""


def render(
    records: Sequence[Record],
    *,
    title: str,
    facts: Sequence[tuple[str, str]] = (),
    counts: Mapping[BatchState, int] | None = None,
) -> str:
    """Return the page.

    Args:
        records: What to show, in this order.
        title: The page's heading.
        facts: Numbers to show at the top: what, and how much.
        counts: How many stories there are of each state, if not all of them are shown.
    """
    shown = Counter(record.state for record in records)
    counts = shown if counts is None else counts
    states = [
        f"{number} {STATE_WORDS[state]}"
        for state in _ORDER
        if (number := counts.get(state, 0)) or state is BatchState.SUCCEEDED
    ]
    number = sum(counts.values())
    total = counted(number, "story")
    more = (
        f"<p>Only the latest {len(records)} are shown here; {RESULTS} has all of them.</p>"
        if number > len(records)
        else ""
    )
    tiles = "".join(
        f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for name, value in facts
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="robots" content="noindex">',
            '<link rel="icon" href="data:,">',
            f'{_MARK} {__version__}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            f"<header><h1>{escape(title)}</h1>",
            f'<p class="lead">{total}: {", ".join(states)}{_latest(records)}</p>{more}',
            f"<dl>{tiles}</dl>" if tiles else "",
            _filter([state for state in _ORDER if shown[state]]),
            "</header>",
            "<main>",
            *(_card(record, number) for number, record in enumerate(records, 1)),
            "</main>",
            "<footer>Made with llamagen-async. Click a picture to see it alone.</footer>",
            "</body>",
            "</html>",
            "",
        ]
    )


def is_foreign(folder: Path) -> bool:
    """Return whether there is an `index.html` in the folder that was not made here."""
    path = folder / INDEX
    return path.exists() and _MARK not in path.read_text("utf-8", errors="replace")


_ORDER: Final = (
    BatchState.SUCCEEDED,
    BatchState.FAILED,
    BatchState.UNCERTAIN,
    BatchState.RUNNING,
    BatchState.SENDING,
    BatchState.QUEUED,
)


def _latest(records: Sequence[Record]) -> str:
    """Return when the latest run began, if that is known."""
    run = max((record.run for record in records), default="")
    try:
        began = datetime.fromisoformat(run)
    except ValueError:
        return ""
    utc = began.astimezone(UTC) if began.tzinfo else began.replace(tzinfo=UTC)
    return f' <time datetime="{utc:%Y-%m-%dT%H:%MZ}">{utc:%Y-%m-%d %H:%M} UTC</time>'


def _filter(states: Sequence[BatchState]) -> str:
    """Return what to choose the states with that are shown; the style sheet does the work."""
    if len(states) < 2:  # noqa: PLR2004 - one state is no choice
        return ""
    choices = [("all", "all"), *((state.value, STATE_WORDS[state]) for state in states)]
    return (
        '<fieldset class="show"><legend>Show</legend>'
        + "".join(
            f'<label class="{kind}"><input type="radio" name="show" id="show-{kind}"'
            f"{' checked' if kind == 'all' else ''}><span>{escape(word)}</span></label>"
            for kind, word in choices
        )
        + "</fieldset>"
    )


def _card(record: Record, number: int) -> str:
    language = record.request.get("language")
    lang = (
        f' lang="{language}"' if isinstance(language, str) and _LANGUAGE.fullmatch(language) else ""
    )
    bare = "" if record.files else " bare"
    return "\n".join(
        part
        for part in (
            f'<article class="{record.state.value}{bare}" id="story-{number}">',
            f'<div class="about"><p class="number">{number}</p>',
            _story(record.prompt or record.place or "(no story)", lang),
            f'<ul class="facts">{_facts(record)}</ul>',
            f"{_trouble(record)}</div>",
            f'<div class="pages"{lang}>{_pages(record)}</div>' if record.files else "",
            "</article>",
        )
        if part
    )


def _story(text: str, lang: str) -> str:
    if len(text) <= _LONG:
        return f'<h2{lang} dir="auto">{escape(text)}</h2>'
    return (
        f'<h2{lang} dir="auto">{escape(shortened(text, _LONG // 2))}</h2>'
        "<details><summary>The whole story</summary>"
        f'<p{lang} dir="auto">{escape(text)}</p></details>'
    )


def _facts(record: Record) -> str:
    request = record.request
    panels = sum(map(len, record.pages))
    facts: list[tuple[str, str]] = [(f"state {record.state.value}", STATE_WORDS[record.state])]
    if isinstance(size := request.get("size"), str):
        facts.append(("", size.replace("x", " × ", 1)))  # noqa: RUF001 - it is a product
    if panels:
        pages = f" on {counted(len(record.pages), 'page')}" if len(record.pages) > 1 else ""
        facts.append(("", f"{counted(panels, 'panel')}{pages}"))
    if isinstance(style := request.get("style"), str):
        facts.append(("", style))
    if isinstance(language := request.get("language"), str):
        facts.append(("", language))
    if record.seconds is not None and record.state is BatchState.SUCCEEDED:
        facts.append(("", f"took {lasting(record.seconds)}"))
    if record.id:
        facts.append(("id", record.id))
    return "".join(
        f'<li class="{kind}">{escape(text)}</li>' if kind else f"<li>{escape(text)}</li>"
        for kind, text in facts
    )


def _trouble(record: Record) -> str:
    text = record.error
    if text is None and record.state is BatchState.RUNNING:
        text = (
            "It went on at the server when the run ended: look with "
            f"llamagen-async status {record.id}"
        )
    elif text is None and record.state is BatchState.UNCERTAIN:
        text = "The run ended before the answer came: it may have been accepted and charged."
    elif text is None and record.state is BatchState.QUEUED:
        text = "The run ended before it was sent."
    return f'<p class="trouble">{escape(text)}</p>' if text else ""


def _pages(record: Record) -> str:
    ratio = _ratio(record)
    pages = [[panel for panel in page if panel.file] for page in record.pages]
    if not any(pages):
        pages = [[Picture(file) for file in record.files]]
    shown: list[str] = []
    for number, panels in enumerate(pages, 1):
        if not panels:
            continue
        heading = f"Page {number} of {len(pages)}" if len(pages) > 1 else ""
        label = f"<figcaption>{heading}</figcaption>" if heading else ""
        pictures = "".join(
            _picture(panel, f"{heading}, panel {n}".lstrip(", ").capitalize(), record)
            for n, panel in enumerate(panels, 1)
        )
        columns = _columns(len(panels), ratio)
        shape = " tall" if ratio <= _TALL else " wide" if ratio >= _WIDE else ""
        form = f"c{columns} r{len(panels) % columns}{shape}"
        shown.append(f'<figure class="{form}"><div>{pictures}</div>{label}</figure>')
    return "".join(shown)


def _picture(panel: Picture, place: str, record: Record) -> str:
    text = shortened(panel.caption or record.prompt, _ALT)
    alt = escape(f"{place}: {text}" if text else place)
    href = escape(quote(panel.file))
    width, height = _size(record) or (0, 0)
    size = f' width="{width}" height="{height}"' if width else ""
    title = f' title="{escape(panel.caption)}"' if panel.caption else ""
    return (
        f'<a href="{href}"{title}>'
        f'<img src="{href}" alt="{alt}" loading="lazy" decoding="async"{size}></a>'
    )


def _columns(panels: int, ratio: float) -> int:
    """Return how many panels stand side by side, so that a page looks like one."""
    if panels == 1:
        return 1
    if ratio >= _WIDE:  # wide panels stand one above another, or in pairs
        return 1 if panels == 2 else 2  # noqa: PLR2004
    return 3 if panels == 3 or panels > 4 else 2  # noqa: PLR2004


def _ratio(record: Record) -> float:
    size = _size(record)
    return size[0] / size[1] if size else 1.0


def _size(record: Record) -> tuple[int, int] | None:
    size = cast("Any", record.request.get("size"))
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size) if isinstance(size, str) else None
    if match is None or not int(match[1]) or not int(match[2]):
        return None
    return int(match[1]), int(match[2])
