"""What comes back from the API, as frozen attrs classes that are read with tolerance.

Every field but `id` and `status` may be missing, new ones appear, and two dialects of status
words are spoken (the documented one and production's). Nothing of that is an error; the whole
answer always stays in `raw`. No I/O.
"""

from __future__ import annotations

import enum
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, cast

import attrs

from llamagen_async.requests import ComicRequest

__all__ = [
    "Animation",
    "BatchItem",
    "BatchState",
    "ComicGeneration",
    "GenerationStatus",
    "GenerationUsage",
    "Page",
    "Panel",
    "Usage",
]

_logger = logging.getLogger(__name__)


class GenerationStatus(enum.StrEnum):
    """Where a generation stands."""

    PENDING = "PENDING"
    """Accepted and waiting for its turn."""
    PROCESSING = "PROCESSING"
    """Being drawn."""
    SUCCEEDED = "SUCCEEDED"
    """Done: the pictures are there."""
    FAILED = "FAILED"
    """Ended without a comic; final."""
    CANCELLED = "CANCELLED"
    """Stopped; final."""

    @property
    def is_final(self) -> bool:
        """Whether it will never change again."""
        return self in _FINAL

    @classmethod
    def parse(cls, word: object) -> GenerationStatus:
        """Read a status word of either dialect, in any case.

        A word that is not known means "not done yet", with one warning for each such word.
        """
        if word is None:
            return cls.PENDING
        text = str(word).strip().upper()
        status = _WORDS.get(text)
        if status is None:
            status = cls.PROCESSING
            if text not in _warned:
                _warned.add(text)
                _logger.warning("unknown generation status %r is taken for 'not done yet'", text)
        return status


_FINAL: Final = frozenset(
    {GenerationStatus.SUCCEEDED, GenerationStatus.FAILED, GenerationStatus.CANCELLED}
)
_WORDS: Final[dict[str, GenerationStatus]] = {
    **{status.value: status for status in GenerationStatus},
    "LOADING": GenerationStatus.PROCESSING,
    "PROCESSED": GenerationStatus.SUCCEEDED,
    "COMPLETED": GenerationStatus.SUCCEEDED,
    "CANCELED": GenerationStatus.CANCELLED,
}
_warned: set[str] = set()


@attrs.frozen
class Panel:
    """One panel of a page."""

    panel: int
    """Its number on the page, as the server counts."""
    asset_url: str | None = None
    """Where its picture is."""
    caption: str | None = None
    """The text that goes with it."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    """The panel as the server sent it."""

    @classmethod
    def parse(cls, value: object, position: int) -> Self:
        """Read a panel; `position` is its number when the server gives none."""
        raw = _mapping(value)
        return cls(
            panel=_integer(raw.get("panel"), position),
            asset_url=_text(raw.get("assetUrl")) or _text(raw.get("image")),
            caption=_text(raw.get("caption")),
            raw=raw,
        )


@attrs.frozen
class Page:
    """One page of a comic."""

    page: int
    """Its number, as the server counts."""
    panels: tuple[Panel, ...] = ()
    """Its panels in reading order."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    """The page as the server sent it."""

    @classmethod
    def parse(cls, value: object, position: int) -> Self:
        """Read a page; `position` is its number when the server gives none."""
        raw = _mapping(value)
        panels = tuple(Panel.parse(panel, n) for n, panel in enumerate(_list(raw.get("panels"))))
        return cls(page=_integer(raw.get("page"), position), panels=panels, raw=raw)


@attrs.frozen
class GenerationUsage:
    """What one generation was charged."""

    amount: float | None = None
    """How much, in `unit`."""
    unit: str | None = None
    """What `amount` counts, such as credits."""
    total_comics: int | None = None
    """How many comics were counted."""
    redraw_panels: int | None = None
    """How many redrawn panels were counted."""

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """Read the `usage` object of a generation, if there is one."""
        raw = _mapping(value)
        if not raw:
            return None
        return cls(
            amount=_number(raw.get("amount")),
            unit=_text(raw.get("unit")),
            total_comics=_optional_integer(raw.get("total_comics")),
            redraw_panels=_optional_integer(raw.get("redraw_panels")),
        )


@attrs.frozen(init=False, repr=False, eq=False)  # those that inherit have their own
class _Generation:
    """What a comic and an animation have in common."""

    id: str
    """The server's name for it."""
    status: GenerationStatus
    """Where it stands."""
    output: str | None = None
    """Where the result is, once it has succeeded."""
    created_at: datetime | None = None
    """When the server accepted it."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, kw_only=True)
    """The whole answer."""

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.status.is_final

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.status is GenerationStatus.SUCCEEDED

    @property
    def failure_reason(self) -> str | None:
        """What the server says about a failure, if it says anything."""
        for name in ("failureReason", "failure_reason", "error", "message", "msg", "detail"):
            value = self.raw.get(name)
            if isinstance(value, Mapping):
                value = cast("Mapping[str, Any]", value).get("message")
            if text := _text(value):
                return text
        return None


@attrs.frozen
class ComicGeneration(_Generation):
    """A comic, at any time of its life."""

    prompt: str | None = attrs.field(default=None, kw_only=True)
    """The story, if the server repeats it."""
    pages: tuple[Page, ...] = attrs.field(default=(), kw_only=True)
    """Its pages, once it has succeeded."""
    usage: GenerationUsage | None = attrs.field(default=None, kw_only=True)
    """What it was charged, if the server says so."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a generation as the API returns it.

        Raises:
            ValueError: There is no id in it.
        """
        raw = _mapping(value)
        pages = _list(raw.get("comics")) or _old_pages(raw.get("comicData"))
        return cls(
            id=_id(raw),
            status=GenerationStatus.parse(raw.get("status")),
            output=_text(raw.get("output")),
            created_at=_instant(raw.get("createdAt")),
            prompt=_text(raw.get("prompt")),
            pages=tuple(Page.parse(page, n) for n, page in enumerate(pages)),
            usage=GenerationUsage.parse(raw.get("usage")),
            raw=raw,
        )

    @property
    def asset_urls(self) -> tuple[str, ...]:
        """All pictures: each panel's in reading order, then `output` if it is another one."""
        urls = [panel.asset_url for page in self.pages for panel in page.panels]
        return tuple(dict.fromkeys(url for url in (*urls, self.output) if url))


@attrs.frozen
class Animation(_Generation):
    """An animation, at any time of its life."""

    video_url: str | None = attrs.field(default=None, kw_only=True)
    """Where the video is, once it has succeeded."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read an animation as the API returns it.

        Raises:
            ValueError: There is no id in it.
        """
        raw = _mapping(value)
        output = _text(raw.get("output"))
        return cls(
            id=_id(raw),
            status=GenerationStatus.parse(raw.get("status")),
            output=output,
            created_at=_instant(raw.get("createdAt")),
            video_url=_text(raw.get("videoUrl")) or output,
            raw=raw,
        )

    @property
    def asset_urls(self) -> tuple[str, ...]:
        """The video's URL, if there is one."""
        return (self.video_url,) if self.video_url else ()


@attrs.frozen
class Usage:
    """What the key has used, as the server counts. Any field may be missing."""

    api_usage_count: int | None = None
    """Requests used."""
    api_max_usage: int | None = None
    """Requests allowed."""
    credits: float | None = None
    """Credits left."""
    is_paid_plan: bool | None = None
    """Whether the key is on a paid plan."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    """The whole answer."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read the answer of the usage endpoint."""
        raw = _mapping(value)
        paid = raw.get("isPaidPlan")
        return cls(
            api_usage_count=_optional_integer(raw.get("apiUsageCount")),
            api_max_usage=_optional_integer(raw.get("apiMaxUsage")),
            credits=_number(raw.get("credits")),
            is_paid_plan=paid if isinstance(paid, bool) else None,
            raw=raw,
        )


class BatchState(enum.StrEnum):
    """Where one story of a batch stands."""

    QUEUED = "queued"
    """Not sent: nothing was spent on it. The next run with the same journal sends it."""
    SENDING = "sending"
    """On its way."""
    RUNNING = "running"
    """Accepted; the server is drawing."""
    SUCCEEDED = "succeeded"
    """Done."""
    FAILED = "failed"
    """Ended without a comic, for good: the server drew none, or does not accept the request."""
    UNCERTAIN = "uncertain"
    """Sent, and the answer was lost: it may have been accepted. Not sent again."""


@attrs.frozen
class BatchItem:
    """One story of a batch, when nothing more will happen to it in this run."""

    index: int
    """Its place in the input, from 0."""
    request: ComicRequest | None
    """What was asked for; `None` if the input itself is not a valid request."""
    state: BatchState
    """How it ended; `QUEUED` if it was not sent at all."""
    generation: ComicGeneration | None = None
    """The comic, as far as it came."""
    error: Exception | None = None
    """Why it did not succeed."""
    files: tuple[Path, ...] = ()
    """The pictures on disk, if they were asked for."""
    key: str | None = None
    """Its name in the journal: the user's own, or one made of its content; `None` if it is not in
    there, because it is no valid request or nothing was sent any more."""


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _old_pages(value: object) -> list[object]:
    """Return the pages of `comicData`, which old answers carry as a JSON string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    data = _mapping(value)
    return _list(data.get("pages")) or ([data] if data.get("panels") else [])


def _id(raw: Mapping[str, Any]) -> str:
    value = raw.get("id")
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value):
        raise ValueError("there is no id in it")
    return str(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def _optional_integer(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
        return int(value)
    number = _number(value)
    return None if number is None else int(number)


def _integer(value: object, default: int) -> int:
    number = _optional_integer(value)
    return default if number is None else number


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def walk_panels(pages: tuple[Page, ...]) -> Iterator[tuple[Page, Panel]]:
    """Yield every panel of `pages` in reading order, with its page."""
    for page in pages:
        for panel in page.panels:
            yield page, panel
