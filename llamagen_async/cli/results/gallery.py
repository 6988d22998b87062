"""`index.html`: the page that shows a folder of comics.

A pure function from records to text. The page stands alone: no script, no network, only relative
links to the pictures beside it. All text in it is escaped, wherever it came from, and its policy
forbids scripts all the same. Only raster pictures and videos in the page's own folder are shown and
linked; other files are named. Its frame and its style are the files `gallery.html`,
`gallery_card.html` and `gallery.css`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import PurePosixPath
from string import Template
from typing import Any, Final, cast
from urllib.parse import quote

from llamagen_async._version import __version__
from llamagen_async.batch.journal.file_names import RESULTS
from llamagen_async.cli.errors import status_command
from llamagen_async.cli.results.records import PanelFile, Record
from llamagen_async.cli.results.states import STATE_WORDS
from llamagen_async.cli.text import format_duration, pluralize, shortened
from llamagen_async.downloads.media_types import PICTURES, VIDEOS
from llamagen_async.models import BatchState
from llamagen_async.requests import RequestType

__all__ = ["render"]

_LANGUAGE: Final = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*")
_WIDE: Final = 1.4
"""Width divided by height from which on a panel is wide."""
_TALL: Final = 0.85
"""Width divided by height up to which a panel is tall."""
_LONG: Final = 420
"""Characters from which on a story is shown by its beginning; all of it unfolds."""
_ALT: Final = 160
"""Characters of a picture's text alternative, at most: a story may be as long as a book."""


def render(
    records: Sequence[Record],
    *,
    title: str,
    facts: Sequence[tuple[str, str]] = (),
    counts: Mapping[BatchState, int] | None = None,
    began: datetime | None = None,
) -> str:
    """Return the page.

    Args:
        records: The stories to show, in this order.
        title: The page's heading.
        facts: Names and values of the numbers at the top.
        counts: How many stories there are of each state, if not all of them are shown.
        began: The time at which the latest run began, if the page is to say it.
    """
    shown = Counter(record.state for record in records)
    counts = shown if counts is None else counts
    number = sum(counts.values())
    states = [
        f"{counts.get(state, 0)} {STATE_WORDS[state]}"
        for state in _ORDER
        if counts.get(state, 0) or state is BatchState.SUCCEEDED
    ]
    only = f"Only the latest {len(records)} are shown here; {RESULTS} has all of them."
    tiles = "".join(
        f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for name, value in facts
    )
    return _template("gallery.html").substitute(
        version=__version__,
        title=escape(title),
        style=(style := _resource("gallery.css")),
        policy=_policy(style),
        counts=f"{pluralize(number, 'story')}: {', '.join(states)}",
        time=_time(began),
        sandbox=_sandbox(records),
        more=f"<p>{only}</p>" if number > len(records) else "",
        facts=f"<dl>{tiles}</dl>" if tiles else "",
        choices=_choices([state for state in _ORDER if shown[state]]),
        cards="".join(_card(record, number) for number, record in enumerate(records, 1)),
    )


_ORDER: Final = (
    BatchState.SUCCEEDED,
    BatchState.FAILED,
    BatchState.UNCERTAIN,
    BatchState.CANCELLED,
    BatchState.RUNNING,
    BatchState.SENDING,
    BatchState.QUEUED,
)


@cache
def _resource(name: str) -> str:
    return files("llamagen_async.cli.results").joinpath(name).read_text("utf-8").strip()


@cache
def _template(name: str) -> Template:
    return Template(f"{_resource(name)}\n")


def _policy(style: str) -> str:
    """Return what the page may load: its pictures and videos, and this very style."""
    # Firefox takes no file for the page's own origin, so files are allowed by their scheme.
    own = "'self' file:"
    # Between the tags the style stands on lines of its own.
    digest = b64encode(sha256(f"\n{style}\n".encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src {own} data:; media-src {own}; "
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _time(began: datetime | None) -> str:
    if began is None:
        return ""
    utc = began.astimezone(UTC)
    return f' <time datetime="{utc:%Y-%m-%dT%H:%MZ}">{utc:%Y-%m-%d %H:%M} UTC</time>'


def _sandbox(records: Sequence[Record]) -> str:
    """Return a warning that the pictures are not the vendor's, as far as they are not."""
    drawn = [record.is_sandbox for record in records if record.files]
    if not any(drawn):
        return ""
    which = "These pictures were" if all(drawn) else "Some of these pictures were"
    return (
        f'<p class="sandbox">{which} drawn by the sandbox of llamagen-async, a stand-in for the '
        "API: they cost nothing, and LlamaGen draws others.</p>"
    )


def _choices(states: Sequence[BatchState]) -> str:
    """Return the buttons that show one state alone; the style sheet does the work."""
    if len(states) < 2:  # noqa: PLR2004  # one state is no choice
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
    title = record.prompt or record.label or "(no story)"
    return _template("gallery_card.html").substitute(
        classes=record.state.value if record.files else f"{record.state.value} without-files",
        number=number,
        story=_story(title, lang),
        facts=_facts(record),
        problem=_problem(record),
        pages=f'<div class="pages"{lang}>{_pages(record)}</div>' if record.files else "",
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
    if change := _change(record):
        facts.append(("", change))
    if isinstance(size := request.get("size"), str):
        facts.append(("", size.replace("x", " × ", 1)))  # noqa: RUF001  # it is a product
    if panels:
        pages = f" on {pluralize(len(record.pages), 'page')}" if len(record.pages) > 1 else ""
        facts.append(("", f"{pluralize(panels, 'panel')}{pages}"))
    if isinstance(style := request.get("style"), str):
        facts.append(("", style))
    if isinstance(language := request.get("language"), str):
        facts.append(("", language))
    if record.seconds is not None and record.state is BatchState.SUCCEEDED:
        facts.append(("", f"took {format_duration(record.seconds)}"))
    if record.id:
        facts.append(("id", record.id))
    return "".join(
        f'<li class="{kind}">{escape(text)}</li>' if kind else f"<li>{escape(text)}</li>"
        for kind, text in facts
    )


def _change(record: Record) -> str:
    """Return in words what a story is, if it is more than a comic of its own."""
    if record.type == RequestType.ANIMATION:
        return "animation"
    request = record.request
    of = request.get("of") or request.get("id")
    if record.type == RequestType.CONTINUE:
        return f"continuation of {of}"
    if record.type != RequestType.UPDATE_PANEL:
        return ""
    page, panel = request.get("page") or 0, request.get("panel")
    if not (isinstance(page, int) and isinstance(panel, int)):
        return f"redraw of {of}"
    # The API counts from 0, and this page from 1.
    return f"redraw of page {page + 1}, panel {panel + 1} of {of}"


def _problem(record: Record) -> str:
    text = record.error
    if text is None and record.state is BatchState.RUNNING:
        is_animation = record.type == RequestType.ANIMATION
        command = status_command(record.id or "", is_animation=is_animation)
        text = f"It went on at the server when the run ended: check it with {command}"
    elif text is None and record.state is BatchState.UNCERTAIN:
        text = "The run ended before the answer came: it may have been accepted and charged."
    elif text is None and record.state is BatchState.QUEUED:
        text = "The run ended before it was sent."
    return f'<p class="problem">{escape(text)}</p>' if text else ""


def _pages(record: Record) -> str:
    ratio = _ratio(record)
    pages = [[panel for panel in page if panel.file] for page in record.pages]
    if not any(pages):
        pages = [[PanelFile(file) for file in record.files]]
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


def _picture(panel: PanelFile, place: str, record: Record) -> str:
    text = shortened(panel.caption or record.prompt, _ALT)
    alt = escape(f"{place}: {text}" if text else place)
    href = escape(quote(panel.file))
    width, height = _size(record) or (0, 0)
    size = f' width="{width}" height="{height}"' if width else ""
    kind = _kind(panel.file)
    if kind is None:
        name = escape(panel.file)
        return f'<p class="other">{alt}<br>{name} is no picture that a page can show</p>'
    title = f' title="{escape(panel.caption)}"' if panel.caption else ""
    if kind in VIDEOS:
        return f'<video src="{href}" aria-label="{alt}"{title} controls preload="metadata"></video>'
    return (
        f'<a href="{href}"{title}>'
        f'<img src="{href}" alt="{alt}" loading="lazy" decoding="async"{size}></a>'
    )


def _kind(file: str) -> str | None:
    """Return the extension of a picture or video beside the page; `None` if it is something else.

    A folder may hold what older versions, or somebody else, have put there.
    """
    extension = PurePosixPath(file).suffix.lower()
    is_beside = re.fullmatch(r"[^/\\\x00-\x1f]+", file) is not None
    return extension if is_beside and extension in PICTURES | VIDEOS else None


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
