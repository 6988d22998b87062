"""One generation of the sandbox: what was asked, when it is ready, and how it is shown.

Everything about it is decided when it is accepted; its state is a function of the time. It draws
no pictures: it says what is in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import attrs

from llamagen_async.models import GenerationStatus
from llamagen_async.sandbox.settings import Dialect

__all__ = ["ASSETS", "Drawing", "Generation", "Run", "generation_id", "panels_on_pages"]

_T = TypeVar("_T")

ASSETS: Final = "/_sandbox/assets"
"""Where pictures are served, below the public URL."""

_PANELS_ON_A_PAGE: Final = 6
_DEFAULT_PANELS: Final = 4
_QUEUED_SHARE: Final = 0.1
_QUEUED_AT_MOST: Final = 5.0
_WORDS: Final[Mapping[Dialect, Mapping[GenerationStatus, str]]] = {
    "documented": {status: status.value for status in GenerationStatus},
    "production": {
        GenerationStatus.PENDING: "LOADING",
        GenerationStatus.PROCESSING: "LOADING",
        GenerationStatus.SUCCEEDED: "PROCESSED",
        GenerationStatus.FAILED: "FAILED",
    },
}


@attrs.frozen
class Drawing:
    """What is in one panel's picture."""

    caption: str
    """The text that goes with it."""
    number: int
    """Its number in the whole comic, from 1."""
    version: int = 0
    """How often it was redrawn."""


@attrs.frozen
class Run:
    """One stretch of work on a generation: the first one, or that of a change."""

    started_at: float
    """When it was accepted, in seconds of the API's clock."""
    duration: float
    """Seconds until it is ready."""
    failure: str | None = None
    """Why it ends without a result, if it does."""

    @property
    def ready_at(self) -> float:
        """When it ends, in seconds of the API's clock."""
        return self.started_at + self.duration

    def status(self, now: float) -> GenerationStatus:
        """Return where it stands."""
        if now >= self.ready_at:
            return GenerationStatus.FAILED if self.failure else GenerationStatus.SUCCEEDED
        queued = min(self.duration * _QUEUED_SHARE, _QUEUED_AT_MOST)
        is_queued = now < self.started_at + queued
        return GenerationStatus.PENDING if is_queued else GenerationStatus.PROCESSING


@attrs.define
class Generation:
    """A comic or an animation, from its acceptance on. An animation has no pages."""

    id: str
    """The server's name for it."""
    key: str
    """The label of the key that it belongs to."""
    story: str
    """The prompt."""
    accepted_at: float
    """When it was accepted, in seconds of the API's clock."""
    run: Run
    """The newest stretch of work."""
    stream: str
    """Names the random numbers that belong to it."""
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
    changes: int = 0
    """How often it was continued or redrawn."""
    redrawn: int = 0
    """How many panels were redrawn."""
    first_seen_ready_at: float | None = None
    """When a status check first returned it as ended."""

    @property
    def is_animation(self) -> bool:
        """Whether its result is a video."""
        return not self.pages

    @property
    def panel_count(self) -> int:
        """How many panels it has."""
        return sum(map(len, self.pages))

    def restart(self, run: Run) -> None:
        """Put it back to running after a change."""
        self.run = run
        self.changes += 1
        self.first_seen_ready_at = None

    def see(self, now: float) -> None:
        """Note that a status check returned it at `now`."""
        if self.first_seen_ready_at is None and now >= self.run.ready_at:
            self.first_seen_ready_at = now

    def add_pages(self, sizes: Sequence[int], captions: Sequence[str]) -> None:
        """Append pages with so many panels each, captioned in reading order."""
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
        """Return what the picture of a panel is drawn from."""
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
    ) -> dict[str, Any]:
        """Return it as the API shows it at a time.

        Args:
            now: Seconds of the API's clock.
            dialect: Whose status words are used.
            epoch: The unix time of the clock's origin.
            public_url: What the URLs of pictures begin with.
            page: Show only this page, from 0.
            panel: Show only this panel of each page shown, from 0.

        Raises:
            IndexError: There is no such page or panel.
        """
        status = self.run.status(now)
        body: dict[str, Any] = {
            "id": self.id,
            "status": _WORDS[dialect][status],
            "createdAt": _iso(epoch + self.accepted_at),
            "prompt": self.story,
        }
        if self.options is not None:
            body["videoOptions"] = self.options
        if status is GenerationStatus.FAILED:
            body["failureReason"] = self.run.failure
        elif status is GenerationStatus.SUCCEEDED:
            base = f"{public_url}{ASSETS}/{self.id}"
            if self.is_animation:
                body["videoUrl"] = body["output"] = f"{base}/animation.gif"
            else:
                body["output"] = f"{base}/0.png{_version(self.changes)}"
                body["comics"] = self._pages_body(base, page, panel)
                body["usage"] = {
                    "amount": self.panel_count + self.redrawn,
                    "unit": "credits",
                    "total_comics": 1,
                    "redraw_panels": self.redrawn,
                }
        return body

    def stats(self, now: float) -> dict[str, Any]:
        """Return what became of it, ready for JSON."""
        status = self.run.status(now)
        return {
            "id": self.id,
            "key": self.key,
            "prompt": self.story,
            "accepted_at": self.accepted_at,
            "ready_at": self.run.ready_at,
            "first_seen_ready_at": self.first_seen_ready_at,
            "outcome": status.value.lower() if status.is_final else "running",
        }

    def _pages_body(self, base: str, page: int | None, panel: int | None) -> list[dict[str, Any]]:
        pages = list(enumerate(self.pages))
        return [
            {
                "page": page_number,
                "panels": [
                    {
                        "panel": number,
                        "assetUrl": f"{base}/{page_number}-{number}.png{_version(drawing.version)}",
                        "caption": drawing.caption,
                    }
                    for number, drawing in _picked(list(enumerate(drawings)), panel)
                ],
            }
            for page_number, drawings in _picked(pages, page)
        ]


def generation_id(prefix: str, seed: object) -> str:
    """Return an id that looks like one and depends on `seed` only."""
    return f"{prefix}_{hashlib.sha256(str(seed).encode()).hexdigest()[:20]}"


def panels_on_pages(payload: Mapping[str, Any]) -> list[int]:
    """Return how many panels each page of a valid create or continue request has."""
    pagination: Any = payload.get("pagination")
    if pagination is not None:
        return [pagination["panelsPerPage"]] * pagination["totalPages"]
    panels: int = payload.get("fixPanelNum") or _DEFAULT_PANELS
    full, rest = divmod(panels, _PANELS_ON_A_PAGE)
    return [_PANELS_ON_A_PAGE] * full + [rest] * bool(rest)


def _picked(items: list[_T], index: int | None) -> list[_T]:
    return items if index is None else [items[index]]


def _version(number: int) -> str:
    # A new picture needs a new URL, or whoever keeps files by URL shows the old one.
    return f"?v={number}" if number else ""


def _iso(unix_time: float) -> str:
    instant = datetime.fromtimestamp(unix_time, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
