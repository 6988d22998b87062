"""One generation of the sandbox: what was asked, when it is ready, and how the API shows it.

Everything about a generation is decided when it is accepted; its state is a function of the time.
Pictures are described here and drawn in `pictures`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import attrs

from llamagen_async.models import GenerationStatus
from llamagen_async.sandbox.settings import Dialect

__all__ = [
    "ANIMATION_PRICE",
    "ASSETS",
    "PANEL_PRICE",
    "WORDS",
    "Drawing",
    "Run",
    "SandboxGeneration",
    "generation_id",
    "has_expired",
    "panels_on_pages",
]

_T = TypeVar("_T")

ASSETS: Final = "/_sandbox/assets"
"""The path below the public URL at which pictures are served."""

PANEL_PRICE: Final = 150
"""Credits of a panel, also of a further or a redrawn one. The vendor's page has 150 for each output
comic, and an example in which four panels are four of them; that a change costs the same is the
sandbox's choice."""
ANIMATION_PRICE: Final = 600
"""Credits of an animation: the sandbox's choice."""
_PANELS_ON_A_PAGE: Final = 6
"""The number of panels on a full page, if a request gives no pagination: the sandbox's choice."""
_DEFAULT_PANELS: Final = 4
"""The number of panels if a request gives none, as at the real API."""
_QUEUED_SHARE: Final = 0.1
"""The share of a generation's duration in which it is shown as queued: the sandbox's choice."""
_QUEUED_AT_MOST: Final = 5.0
"""The most seconds for which a generation is shown as queued: the sandbox's choice."""
WORDS: Final[Mapping[Dialect, Mapping[GenerationStatus, str]]] = {
    "documented": {status: status.value for status in GenerationStatus},
    "production": {
        GenerationStatus.PENDING: "LOADING",
        GenerationStatus.PROCESSING: "LOADING",
        GenerationStatus.SUCCEEDED: "PROCESSED",
        GenerationStatus.FAILED: "FAILED",
    },
}
"""The status words of each dialect."""


@attrs.frozen
class Drawing:
    """The content of one panel's picture."""

    caption: str
    """The text that goes with the picture."""
    number: int
    """The panel's number in the whole comic, from 1."""
    version: int = 0
    """The number of times that the panel was redrawn."""


@attrs.frozen
class Run:
    """One stretch of work on a generation: the first one, or that of a change."""

    started_at: float
    """The time of acceptance in seconds of the API's clock."""
    duration: float
    """Seconds from acceptance to the end."""
    failure: str | None = None
    """The reason for ending without a result; `None` if the run succeeds."""

    @property
    def ready_at(self) -> float:
        """The time of the end in seconds of the API's clock."""
        return self.started_at + self.duration

    @property
    def processing_at(self) -> float:
        """The time from which it is no longer queued, in seconds of the API's clock."""
        return self.started_at + min(self.duration * _QUEUED_SHARE, _QUEUED_AT_MOST)

    def status(self, now: float) -> GenerationStatus:
        """Return the status at a time."""
        if now >= self.ready_at:
            return GenerationStatus.FAILED if self.failure else GenerationStatus.SUCCEEDED
        is_queued = now < self.processing_at
        return GenerationStatus.PENDING if is_queued else GenerationStatus.PROCESSING


@attrs.define
class SandboxGeneration:
    """A comic or an animation, from its acceptance on. An animation has no pages."""

    id: str
    """The id in the API's answers."""
    key: str
    """The label of the key that the generation belongs to."""
    prompt: str
    """The text that was asked for, with that of all continuations."""
    accepted_at: float
    """The time of acceptance in seconds of the API's clock."""
    run: Run
    """The newest stretch of work."""
    stream: str
    """The name of the random numbers that belong to this generation."""
    size: tuple[int, int] = (1024, 1024)
    """Width and height of a panel's picture in pixels."""
    style: str | None = None
    """The drawing style that was asked for."""
    watermarked: bool = False
    """Whether the pictures carry the demo plan's watermark."""
    pages: list[list[Drawing]] = attrs.field(factory=list[list[Drawing]])
    """The panels of each page."""
    options: Any = None
    """The options of an animation, repeated as given."""
    shows_early: bool = False
    """Whether it was shown with the pictures that were drawn, while it ran."""
    changes: int = 0
    """The number of times that the generation was continued or redrawn."""
    before: SandboxGeneration | None = None
    """The generation as it was before the newest change."""
    redrawn: int = 0
    """The number of panels that were redrawn."""
    first_seen_ready_at: float | None = None
    """The time at which a status check first showed the end, in seconds of the API's clock."""

    @property
    def is_animation(self) -> bool:
        """Whether the result is a video."""
        return not self.pages

    @property
    def panel_count(self) -> int:
        """The number of panels on all pages."""
        return sum(map(len, self.pages))

    @property
    def charged(self) -> int:
        """The credits that a comic has cost so far, with all changes; 0 on the demo plan."""
        return 0 if self.watermarked else PANEL_PRICE * (self.panel_count + self.redrawn)

    def remember(self) -> None:
        """Keep what the generation is like now, before it is changed."""
        pages = [list(page) for page in self.pages]
        self.before = attrs.evolve(self, pages=pages, before=None)

    def restart(self, run: Run) -> None:
        """Put the generation back to running after a change."""
        self.run = run
        self.changes += 1
        self.first_seen_ready_at = None

    def record_check(self, now: float) -> None:
        """Remember that a status check showed the generation at `now`."""
        if self.first_seen_ready_at is None and now >= self.run.ready_at:
            self.first_seen_ready_at = now

    def add_pages(self, sizes: Sequence[int], captions: Sequence[str]) -> None:
        """Append pages of the given numbers of panels, captioned in reading order."""
        number = self.panel_count
        remaining = iter(captions)
        for size in sizes:
            page: list[Drawing] = []
            for _ in range(size):
                number += 1
                page.append(Drawing(next(remaining), number))
            self.pages.append(page)

    def redraw(self, page: int, panel: int, caption: str | None) -> None:
        """Replace one panel's picture, and its caption if there is a new one."""
        old = self.pages[page][panel]
        self.pages[page][panel] = attrs.evolve(
            old, caption=caption or old.caption, version=old.version + 1
        )
        self.redrawn += 1

    def seed(self, drawing: Drawing) -> str:
        """Return the seed from which a panel's picture is drawn."""
        return f"{self.id}/{drawing.number}/{drawing.version}"

    def body(
        self,
        now: float,
        *,
        dialect: Dialect,
        epoch: float,
        public_url: str,
        page: int | None = None,
        panel: int | None = None,
        links_expire: float | None = None,
        shows_empty: bool = False,
        shows_drawn: bool = False,
    ) -> dict[str, Any]:
        """Return the JSON in which the API shows the generation at a time.

        Args:
            now: Seconds of the API's clock.
            dialect: The source of the status words.
            epoch: The unix time of the clock's origin.
            public_url: The first part of the pictures' URLs.
            page: The only page to show, from 0; all if not given.
            panel: The only panel to show of each page, from 0; all if not given.
            links_expire: The unix time from which the pictures' URLs are refused, if there is one.
            shows_empty: Whether a running comic shows its panels, without URLs.
            shows_drawn: Whether a running comic shows the panels that are drawn by then.

        Raises:
            IndexError: There is no such page or panel.
        """
        status = self.run.status(now)
        body: dict[str, Any] = {
            "id": self.id,
            "status": WORDS[dialect][status],
            "createdAt": _iso(epoch + self.accepted_at),
            "prompt": self.prompt,
            # The vendor has no such field: readers can tell drawn stand-ins from real comics.
            "sandbox": True,
        }
        if self.options is not None:
            body["videoOptions"] = self.options
        if status is GenerationStatus.FAILED:
            body["failureReason"] = self.run.failure
        elif status is GenerationStatus.SUCCEEDED:
            base = f"{public_url}{ASSETS}/{self.id}"
            if self.is_animation:
                link = f"{base}/animation.gif{_query(0, links_expire)}"
                body["videoUrl"] = body["output"] = link
            else:
                body["output"] = f"{base}/0.png{_query(self.changes, links_expire)}"
                body["comics"] = self._pages_body(base, page, panel, links_expire)
                body["usage"] = {
                    "amount": self.charged,
                    "unit": "credits",
                    "total_comics": self.panel_count,
                    "redraw_panels": self.redrawn,
                }
        elif (shows_empty or shows_drawn) and not self.is_animation:
            base = f"{public_url}{ASSETS}/{self.id}"
            drawn = self._drawn(now) if shows_drawn else 0
            body["comics"] = self._pages_body(base, page, panel, links_expire, drawn)
        return body

    def stats(self, now: float) -> dict[str, Any]:
        """Return the generation's times and its outcome, ready for JSON."""
        outcome = "failed" if self.run.failure else "succeeded"
        return {
            "id": self.id,
            "key": self.key,
            "prompt": self.prompt,
            "accepted_at": self.accepted_at,
            "ready_at": self.run.ready_at,
            "first_seen_ready_at": self.first_seen_ready_at,
            "changes": self.changes,
            "redrawn": self.redrawn,
            "outcome": outcome if now >= self.run.ready_at else "running",
        }

    def _drawn(self, now: float) -> int:
        """Return how many panels are drawn at a time; a comic that is changed shows none."""
        run = self.run
        share = (now - run.processing_at) / max(run.ready_at - run.processing_at, 1e-9)
        return 0 if self.changes else int(max(0.0, share) * (self.panel_count + 1))

    def _pages_body(
        self,
        base: str,
        page: int | None,
        panel: int | None,
        expire: float | None,
        drawn: float = math.inf,
    ) -> list[dict[str, Any]]:
        """Return the pages; only the first panels have a picture: as many as are drawn."""

        def link(page_number: int, number: int, drawing: Drawing) -> str:
            if drawing.number > drawn:
                return ""
            return f"{base}/{page_number}-{number}.png{_query(drawing.version, expire)}"

        return [
            {
                "page": page_number,
                "panels": [
                    {
                        "panel": number,
                        "assetUrl": link(page_number, number, drawing),
                        "caption": drawing.caption,
                    }
                    for number, drawing in _numbered(drawings, only=panel)
                ],
            }
            for page_number, drawings in _numbered(self.pages, only=page)
        ]


def generation_id(prefix: str, seed: object) -> str:
    """Return an id in the usual form that depends on `seed` only."""
    return f"{prefix}_{hashlib.sha256(str(seed).encode()).hexdigest()[:20]}"


def panels_on_pages(payload: Mapping[str, Any]) -> list[int]:
    """Return the number of panels on each page of a valid create or continue request."""
    pagination: Any = payload.get("pagination")
    if pagination is not None:
        return [pagination["panelsPerPage"]] * pagination["totalPages"]
    panels: int = payload.get("fixPanelNum") or _DEFAULT_PANELS
    full, rest = divmod(panels, _PANELS_ON_A_PAGE)
    return [_PANELS_ON_A_PAGE] * full + [rest] * bool(rest)


def _numbered(items: Sequence[_T], *, only: int | None) -> list[tuple[int, _T]]:
    """Return all items with their indexes, or only the one at an index."""
    return list(enumerate(items)) if only is None else [(only, items[only])]


def has_expired(query: Mapping[str, str], unix_time: float) -> bool:
    """Whether a picture's URL with that query is refused from now on."""
    try:
        return unix_time >= float(query.get("expires", "inf"))
    except ValueError:
        return True


def _query(version: int, expire: float | None) -> str:
    # A new picture needs a new URL, or a client that keeps files by URL shows the old one.
    parts = [f"v={version}"] * bool(version)
    if expire is not None:
        parts.append(f"expires={math.floor(expire * 1000) / 1000}")
    return f"?{'&'.join(parts)}" if parts else ""


def _iso(unix_time: float) -> str:
    instant = datetime.fromtimestamp(unix_time, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
