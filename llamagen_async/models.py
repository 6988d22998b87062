"""Answers of the API, as frozen attrs classes that are read with tolerance.

Every field but `id` and `status` may be missing, new ones appear, and two dialects of status
words are in use (the documented one and production's). None of that is an error; the whole answer
always stays in `raw`. No I/O.
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import attrs

from llamagen_async.foreign import clean_text
from llamagen_async.requests import ComicRequest
from llamagen_async.validation import generation_id, shown

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
_D = TypeVar("_D")


class GenerationStatus(enum.StrEnum):
    """How far a generation has come."""

    is_final: bool
    """Whether the generation will never change again."""

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

    def __init__(self, word: str) -> None:
        self.is_final = word in ("SUCCEEDED", "FAILED", "CANCELLED")

    @classmethod
    def parse(cls, word: object) -> GenerationStatus:
        """Read a status word of either dialect, in any case.

        A word that is not known means "not done yet", with one warning for each such word.
        """
        if word is None:
            return cls.PENDING
        is_plain = isinstance(word, str | int | float)
        text = clean_text(str(word) if is_plain else type(word).__name__, _LONGEST_WORD).upper()
        status = _WORDS.get(text)
        if status is None:
            status = cls.PROCESSING
            if text not in _warned and len(_warned) < _MOST_WORDS:
                _warned.add(text)
                _logger.warning("unknown generation status %r is taken for 'not done yet'", text)
        return status


_WORDS: Final[dict[str, GenerationStatus]] = {
    **{status.value: status for status in GenerationStatus},
    "LOADING": GenerationStatus.PROCESSING,
    "PROCESSED": GenerationStatus.SUCCEEDED,
    "COMPLETED": GenerationStatus.SUCCEEDED,
    "CANCELED": GenerationStatus.CANCELLED,
}
_LARGEST_NUMBER: Final = 10**15
"""The largest number that is read: more is no count, and no file's name could hold it."""
_LONGEST_WORD: Final = 40
"""Characters of a status word that are read."""
_MOST_WORDS: Final = 20
"""Unknown status words that are told of; an API has few."""
_warned: set[str] = set()


@attrs.frozen
class Panel:
    """One panel of a page."""

    panel: int
    """The panel's number on its page, as the server counts."""
    asset_url: str | None = None
    """URL of the panel's picture."""
    caption: str | None = None
    """Text that goes with the picture."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, hash=False)
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
    """The page's number, as the server counts."""
    panels: tuple[Panel, ...] = ()
    """Panels of the page in reading order."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, hash=False)
    """The page as the server sent it."""

    @classmethod
    def parse(cls, value: object, position: int) -> Self:
        """Read a page; `position` is its number when the server gives none."""
        raw = _mapping(value)
        return cls(
            page=_integer(raw.get("page"), position),
            panels=tuple(map(Panel.parse, _list(raw.get("panels")), count())),
            raw=raw,
        )


@attrs.frozen
class GenerationUsage:
    """Charge for one generation."""

    amount: float | None = None
    """The charge, in `unit`."""
    unit: str | None = None
    """Unit of `amount`, such as credits."""
    total_comics: int | None = None
    """Number of comics that were charged."""
    redraw_panels: int | None = None
    """Number of redrawn panels that were charged."""

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """Read the `usage` object of a generation, if there is one."""
        raw = _mapping(value)
        if not raw:
            return None
        return cls(
            amount=_number(raw.get("amount")),
            unit=_text(raw.get("unit")),
            total_comics=_integer(raw.get("total_comics"), None),
            redraw_panels=_integer(raw.get("redraw_panels"), None),
        )


@attrs.frozen(init=False, repr=False, eq=False)  # those that inherit have their own
class _Generation:
    """Fields that a comic and an animation have in common."""

    id: str
    """The id that the server gave the generation."""
    status: GenerationStatus
    """How far the generation has come."""
    output: str | None = None
    """URL of the result, once the generation has succeeded."""
    created_at: datetime | None = None
    """Time at which the server accepted the request."""
    raw: Mapping[str, Any] = attrs.field(
        factory=dict[str, Any], repr=False, hash=False, kw_only=True
    )
    """The whole answer."""

    @property
    def is_done(self) -> bool:
        """Whether the generation has ended, well or not."""
        return self.status.is_final

    @property
    def succeeded(self) -> bool:
        """Whether the generation has ended well."""
        return self.status is GenerationStatus.SUCCEEDED

    @property
    def failure_reason(self) -> str | None:
        """The server's reason for a failure, if it gives one, on one line; `raw` has all of it."""
        for name in ("failureReason", "failure_reason", "error", "message", "msg", "detail"):
            value = self.raw.get(name)
            if isinstance(value, Mapping):
                value = cast("Mapping[str, Any]", value).get("message")
            if text := clean_text(_text(value) or ""):
                return text
        return None


@attrs.frozen
class ComicGeneration(_Generation):
    """A comic, at any time of its life."""

    prompt: str | None = attrs.field(default=None, kw_only=True)
    """The story, if the server repeats it."""
    pages: tuple[Page, ...] = attrs.field(default=(), kw_only=True)
    """Pages of the comic, once it has succeeded."""
    usage: GenerationUsage | None = attrs.field(default=None, kw_only=True)
    """Charge for the comic, if the server says so."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a generation as the API returns it.

        Raises:
            ValueError: There is no id in it.
        """
        raw = _mapping(value)
        fields = _fields(raw)
        pages = _list(fields.get("comics"))
        if not pages and "comicData" in fields:
            pages = _old_pages(fields["comicData"])
        return cls(
            *_common_fields(fields),
            prompt=_text(fields.get("prompt")),
            pages=tuple(map(Page.parse, pages, count())),
            usage=GenerationUsage.parse(fields.get("usage")),
            raw=raw,
        )

    @property
    def asset_urls(self) -> tuple[str, ...]:
        """URLs of all pictures: the panels' in reading order, then `output` if it is another."""
        urls = [panel.asset_url for page in self.pages for panel in page.panels]
        return tuple(dict.fromkeys(url for url in (*urls, self.output) if url))


@attrs.frozen
class Animation(_Generation):
    """An animation, at any time of its life."""

    video_url: str | None = attrs.field(default=None, kw_only=True)
    """URL of the video, once the animation has succeeded."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read an animation as the API returns it.

        Raises:
            ValueError: There is no id in it.
        """
        raw = _mapping(value)
        fields = _fields(raw)
        video_url = _text(fields.get("videoUrl")) or _text(fields.get("output"))
        return cls(*_common_fields(fields), video_url=video_url, raw=raw)

    @property
    def asset_urls(self) -> tuple[str, ...]:
        """The video's URL, if there is one."""
        return (self.video_url,) if self.video_url else ()


@attrs.frozen
class Usage:
    """Use of a key, as the server counts. Any field may be missing."""

    api_usage_count: int | None = None
    """Requests used."""
    api_max_usage: int | None = None
    """Requests allowed."""
    credits: float | None = None
    """Credits left."""
    is_paid_plan: bool | None = None
    """Whether the key is on a paid plan."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, hash=False)
    """The whole answer."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read the answer of the usage endpoint."""
        raw = _mapping(value)
        paid = raw.get("isPaidPlan")
        return cls(
            api_usage_count=_integer(raw.get("apiUsageCount"), None),
            api_max_usage=_integer(raw.get("apiMaxUsage"), None),
            credits=_number(raw.get("credits")),
            is_paid_plan=paid if isinstance(paid, bool) else None,
            raw=raw,
        )


class BatchState(enum.StrEnum):
    """State of one story of a batch."""

    QUEUED = "queued"
    """Not sent, and nothing was spent. The next run with the same journal sends the story."""
    SENDING = "sending"
    """On its way."""
    RUNNING = "running"
    """Accepted; the server is drawing."""
    SUCCEEDED = "succeeded"
    """Done."""
    FAILED = "failed"
    """Ended without a comic: the server drew none, or does not accept the request."""
    UNCERTAIN = "uncertain"
    """Sent, and the answer was lost: it may have been accepted. Not sent again."""


@attrs.frozen
class BatchItem:
    """One story of a batch, once nothing more will happen to it in this run."""

    index: int
    """Position of the story in the input, from 0."""
    request: ComicRequest | None
    """The parsed request; `None` if the input is not a valid one."""
    state: BatchState
    """State at the end; `QUEUED` if nothing was sent."""
    generation: ComicGeneration | None = None
    """The comic, as the server last described it."""
    error: Exception | None = None
    """The reason for not having succeeded."""
    files: tuple[Path, ...] = ()
    """Pictures on disk, if `out` was given."""
    key: str | None = None
    """Name of the story: the user's own, or the one that the journal has made of its content.
    `None` if there is no name of the user's and the story is in no journal."""


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _fields(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the generation in an answer; an old answer to a create had it in `artwork`."""
    return _mapping(raw.get("artwork")) or raw if raw.get("id") is None else raw


def _old_pages(value: object) -> list[object]:
    """Return the pages of `comicData`, which old answers carry as a JSON string."""
    if isinstance(value, str):
        try:
            value = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            return []
    data = _mapping(value)
    return _list(data.get("pages")) or ([data] if data.get("panels") else [])


def _common_fields(
    raw: Mapping[str, Any],
) -> tuple[str, GenerationStatus, str | None, datetime | None]:
    """Return what all generations have: id, status, output and time of acceptance."""
    given, created = raw.get("id"), raw.get("createdAt")
    id_ = generation_id(given)
    if id_ is None:
        raise ValueError(f"there is no id in it, but {shown(given)}")
    created_at = None
    if isinstance(created, str):
        with contextlib.suppress(ValueError):
            created_at = datetime.fromisoformat(created)
            if created_at.tzinfo is None:
                created_at = created_at.replace(tzinfo=UTC)
    status = GenerationStatus.parse(raw.get("status"))
    return id_, status, _text(raw.get("output")), created_at


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= _LARGEST_NUMBER else None


def _integer(value: object, default: _D) -> int | _D:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[0-9]{1,18}\s*", value) else default
    number = _number(value)
    return default if number is None else int(number)
