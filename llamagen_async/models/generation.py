"""Comics and animations, as the API returns them."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, Self, cast

import attrs

from llamagen_async.foreign import clean_text
from llamagen_async.models.order import arranged
from llamagen_async.models.places import PLACES, fields_of, pages_of
from llamagen_async.models.reading import (
    integer_of,
    is_url,
    list_of,
    mapping_of,
    number_of,
    text_of,
    url_of,
)
from llamagen_async.observing import logger_of
from llamagen_async.validation import generation_id, shown

__all__ = [
    "Animation",
    "AnyGeneration",
    "ComicGeneration",
    "GenerationStatus",
    "GenerationUsage",
    "Page",
    "Panel",
]

_logger = logger_of(__name__)

_REASONS: Final = (
    *("failureReason", "failure_reason", "error", "errorMessage", "message", "msg", "detail"),
    *("reason", "errors", "description"),
)
"""The names under which a failed generation may have its reason, the plainest ones first."""
_MOST_REASONS: Final = 3
"""Reasons of a list that are told."""
_INNER_REASONS: Final = ("message", "msg", "detail")
"""The names that the reason may have within an object of these."""


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
    def parse(cls, word: object, *, has_result: bool = False) -> GenerationStatus:
        """Read a status word of either dialect, in any case.

        Args:
            word: The word. One that is missing or not known means "not done yet", with one warning
                for each that is not known.
            has_result: Whether all of the result is there: then such a word means "done", because
                nobody could ever collect what was paid for otherwise.
        """
        if word is None:
            return cls.SUCCEEDED if has_result else cls.PENDING
        if isinstance(word, str) and word in _WORDS:
            return _WORDS[word]
        is_plain = isinstance(word, str | int | float)
        text = clean_text(str(word) if is_plain else type(word).__name__, _LONGEST_WORD).upper()
        status = _WORDS.get(text)
        if status is None:
            status = cls.SUCCEEDED if has_result else cls.PROCESSING
            if (text, status) not in _warned and len(_warned) < _MOST_WORDS:
                _warned.add((text, status))
                meaning = "done: all of the result is there" if has_result else "not done yet"
                _logger.warning("unknown generation status %r is taken for %r", text, meaning)
        return status


_WORDS: Final[dict[str, GenerationStatus]] = {
    **{status.value: status for status in GenerationStatus},
    "LOADING": GenerationStatus.PROCESSING,
    "QUEUED": GenerationStatus.PENDING,
    "PROCESSED": GenerationStatus.SUCCEEDED,
    "COMPLETED": GenerationStatus.SUCCEEDED,
    "CANCELED": GenerationStatus.CANCELLED,
    "ERROR": GenerationStatus.FAILED,
}
_LONGEST_WORD: Final = 40
"""Characters of a status word that are read."""
_MOST_WORDS: Final = 20
"""Unknown status words that are told of; an API has few."""
_warned: set[tuple[str, GenerationStatus]] = set()


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
        """Read a panel, which may be its picture's URL only.

        Args:
            value: The panel.
            position: Its number when the server gives none.
        """
        raw = mapping_of({"assetUrl": value} if is_url(value) else value)
        return cls(
            panel=integer_of(raw.get("panel"), position),
            asset_url=url_of(raw.get("assetUrl")) or url_of(raw.get("image")),
            caption=text_of(raw.get("caption")),
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
        raw = mapping_of(value)
        panels: object = raw.get("panels")
        several = list_of(panels) or ([panels] if mapping_of(panels) or is_url(panels) else [])
        return cls(
            page=integer_of(raw.get("page"), position),
            panels=arranged(tuple(map(Panel.parse, several, count())), "panel", Panel),
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
        raw = mapping_of(value)
        if not raw:
            return None
        return cls(
            amount=number_of(raw.get("amount")),
            unit=text_of(raw.get("unit")),
            total_comics=integer_of(raw.get("total_comics"), None),
            redraw_panels=integer_of(raw.get("redraw_panels"), None),
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
    def _heading(self) -> str:
        """The id and the state on one line, with the reason of a failure."""
        reason = self.failure_reason if self.is_done and not self.succeeded else None
        return f"{self.id}: {self.status.lower()}{f', {reason}' if reason else ''}"

    @property
    def failure_reason(self) -> str | None:
        """The server's reason for a failure, if it gives one, on one line; `raw` has all of it."""
        fields = fields_of(self.raw)
        for name in _REASONS:
            if text := clean_text(_words(fields.get(name))):
                return text
        code = text_of(mapping_of(fields.get("error")).get("code"))
        return clean_text(code) if code else None


@attrs.frozen
class ComicGeneration(_Generation):
    """A comic, at any time of its life."""

    prompt: str | None = attrs.field(default=None, kw_only=True)
    """The story, if the server repeats it."""
    pages: tuple[Page, ...] = attrs.field(default=(), kw_only=True)
    """Pages of the comic, once it has succeeded."""
    usage: GenerationUsage | None = attrs.field(default=None, kw_only=True)
    """Charge for the comic, if the server says so."""
    begins_at: tuple[int, int] = attrs.field(default=(0, 0), kw_only=True)
    """The page and the panel, from 0, that are first in `pages`: of what `get(page=)` returns."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a generation as the API returns it.

        Raises:
            ValueError: There is no id in it.
        """
        raw = mapping_of(value)
        fields = raw if generation_id(raw.get("id")) else fields_of(value)
        pages: tuple[Page, ...] = ()
        if not PLACES.isdisjoint(fields):
            pages = arranged(tuple(map(Page.parse, pages_of(fields), count())), "page", Page)
        usage = fields.get("usage")
        return cls(
            *_common_fields(fields, lambda: _is_complete(pages, fields)),
            prompt=text_of(fields.get("prompt")),
            pages=pages,
            usage=GenerationUsage.parse(usage) if usage else None,
            raw=raw or fields,
        )

    @property
    def asset_urls(self) -> tuple[str, ...]:
        """URLs of all pictures: the panels' in reading order, then `output` if it is another."""
        urls = [panel.asset_url for page in self.pages for panel in page.panels]
        return tuple(dict.fromkeys(url for url in (*urls, self.output) if url))

    @property
    def missing_pictures(self) -> tuple[str, ...]:
        """Places in the answer at which a picture's URL should be and is none, with what is there.

        While a comic is being drawn that is usual.
        """
        if not self.pages:
            return (f"comics: {shown(fields_of(self.raw).get('comics'))}",)
        return tuple(
            f"comics[{i}].panels[{j}].assetUrl: {shown(panel.raw.get('assetUrl'))}"
            for i, page in enumerate(self.pages)
            for j, panel in enumerate(page.panels)
            if not panel.asset_url
        )

    def _repr_html_(self) -> str:
        """Return the panels with their captions, or how far the comic is, for notebooks."""
        from llamagen_async.models.html import comic_html  # noqa: PLC0415  # only notebooks need it

        pages = [[(one.panel, one.asset_url, one.caption) for one in p.panels] for p in self.pages]
        return comic_html(self._heading, pages, self.output)


@attrs.frozen
class Animation(_Generation):
    """An animation, at any time of its life."""

    video_url: str | None = attrs.field(default=None, kw_only=True)
    """URL of the video, once the animation has succeeded."""
    video_options: Mapping[str, Any] = attrs.field(
        factory=dict[str, Any], repr=False, hash=False, kw_only=True
    )
    """How the video is made, if the server repeats it."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read an animation as the API returns it.

        Raises:
            ValueError: There is no id in it.
        """
        raw = mapping_of(value)
        fields = raw if generation_id(raw.get("id")) else fields_of(value)
        video_url = url_of(fields.get("videoUrl")) or url_of(fields.get("output"))
        return cls(
            *_common_fields(fields, lambda: video_url is not None),
            video_url=video_url,
            video_options=mapping_of(fields.get("videoOptions")),
            raw=raw or fields,
        )

    @property
    def asset_urls(self) -> tuple[str, ...]:
        """The video's URL, if there is one."""
        return (self.video_url,) if self.video_url else ()

    @property
    def missing_pictures(self) -> tuple[str, ...]:
        """Place in the answer at which the video's URL should be and is none."""
        if self.video_url:
            return ()
        return (f"videoUrl: {shown(fields_of(self.raw).get('videoUrl'))}",)

    def _repr_html_(self) -> str:
        """Return the video, or how far it is, for notebooks."""
        from llamagen_async.models.html import animation_html  # noqa: PLC0415  # only notebooks need it

        return animation_html(self._heading, self.video_url)


AnyGeneration = ComicGeneration | Animation
"""A comic or an animation."""


def _words(value: object) -> str:
    """Return a reason, which may be text, an object with its text, or a list of these."""
    if isinstance(value, Mapping):
        inner = cast("Mapping[str, Any]", value)
        value = next(filter(None, map(inner.get, _INNER_REASONS)), None)
    several = list_of(value)[:_MOST_REASONS]
    return "; ".join(filter(None, map(_words, several))) if several else text_of(value) or ""


def _is_complete(pages: tuple[Page, ...], fields: Mapping[str, Any]) -> bool:
    """Whether a comic is all there: each panel has a picture, and so has the whole.

    `output` comes when a comic has succeeded (vendor's documentation).
    """
    panels = [panel for page in pages for panel in page.panels]
    return is_url(url_of(fields.get("output"))) and all(panel.asset_url for panel in panels)


def _common_fields(
    raw: Mapping[str, Any], has_result: Callable[[], bool]
) -> tuple[str, GenerationStatus, str | None, datetime | None]:
    """Return what all generations have: id, status, output and time of acceptance.

    Args:
        raw: The fields of the answer.
        has_result: Tells whether all of the result is there.
    """
    given, created, word = raw.get("id"), raw.get("createdAt"), raw.get("status")
    id_ = generation_id(given)
    if id_ is None:
        raise ValueError(f"there is no id in it, but {shown(given)}")
    created_at = None
    if isinstance(created, str):
        with contextlib.suppress(ValueError):
            created_at = datetime.fromisoformat(created)
            if created_at.tzinfo is None:
                created_at = created_at.replace(tzinfo=UTC)
    status = _WORDS.get(word) if isinstance(word, str) else None
    if status is None:
        status = GenerationStatus.parse(word, has_result=has_result())
    return id_, status, url_of(raw.get("output")), created_at
