"""What became of each story, as plain data: what `results.jsonl` and the gallery are made of.

Nothing here talks to a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, cast

import attrs

from llamagen_async.batch.journal.codec import fields_of
from llamagen_async.batch.journal.rows import Row
from llamagen_async.cli.errors import sentence
from llamagen_async.downloads.download import asset_names
from llamagen_async.models import BatchItem, BatchState, ComicGeneration
from llamagen_async.requests import ComicRequest

__all__ = [
    "NO_PICTURES",
    "RESULTS",
    "Picture",
    "Record",
    "line_of",
    "prompt_of",
]

RESULTS: Final = "results.jsonl"
"""What became of every story of a folder, one JSON object a line."""

NO_PICTURES: Final = (
    "the comic is done, its pictures are not here: the same command again fetches them"
)
"""Why a comic is not done yet, if a run ended before they were fetched."""


@attrs.frozen
class Picture:
    """One panel."""

    file: str
    """Its file, relative to the folder; empty if it was not fetched."""
    caption: str = ""
    """The text that goes with it."""


@attrs.frozen
class Record:
    """What became of one story."""

    index: int
    """Its place among the stories of its run, from 0."""
    state: BatchState
    """How it ended, or where it stood when the run ended."""
    place: str = ""
    """Where it was written: file and line."""
    id: str | None = None
    """The server's name for it, once accepted."""
    prompt: str = ""
    """The story."""
    request: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """All fields of the request, so that it can be given to `batch` again."""
    files: tuple[str, ...] = ()
    """Every picture, relative to the folder."""
    pages: tuple[tuple[Picture, ...], ...] = ()
    """The panels of each page."""
    seconds: float | None = None
    """How long the comic took at the server, as far as was noticed."""
    error: str | None = None
    """Why it did not succeed, or why its pictures are missing."""
    error_type: str | None = None
    """The kind of that error."""
    run: str = ""
    """When its run began, in UTC."""
    key: str | None = None
    """Its name in the journal, if it is in one."""
    sent_at: str | None = None
    """When it was last sent, in UTC, as far as the journal knows."""

    @property
    def is_done(self) -> bool:
        """Whether the comic is there, with its pictures."""
        return self.state is BatchState.SUCCEEDED and self.error is None

    def to_json(self) -> dict[str, Any]:
        """Return what a line of `results.jsonl` holds."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a line of `results.jsonl`.

        Raises:
            ValueError: It is not one.
        """
        try:
            fields = {**cast("dict[str, Any]", value)}
            fields["state"] = BatchState(fields["state"])
            fields["files"] = tuple(fields["files"])
            fields["pages"] = tuple(
                tuple(Picture(**panel) for panel in page) for page in fields["pages"]
            )
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError("not a result") from error

    @classmethod
    def of_item(cls, item: BatchItem, *, folder: Path | None, seconds: float | None) -> Self:
        """Make a record of what a batch yields."""
        comic, files = item.generation, [path.name for path in item.files]
        return cls(
            index=item.index,
            state=item.state,
            id=comic.id if comic else None,
            prompt=prompt_of(item.request),
            request=fields_of(item.request) if item.request else {},
            files=tuple(files),
            pages=_pages(comic, files) if comic and folder else (),
            seconds=seconds,
            key=item.key,
        )

    @classmethod
    def of_row(cls, row: Row, *, note: Record | None, earlier: Record | None) -> Self:
        """Make a record of what a journal has.

        Args:
            row: The story as the journal has it.
            note: What this run knows of it.
            earlier: What an earlier run wrote of it.

        Raises:
            ValueError: The row is damaged.
        """
        comic, files = row.generation, row.files
        request = cast("dict[str, Any]", json.loads(row.request_text))
        error = row.error(None, comic)
        reason = (sentence(error, id_=row.generation_id), type(error).__name__) if error else None
        if reason is None and note is not None and note.error:
            reason = note.error, note.error_type or ""
        if row.state is not BatchState.SUCCEEDED:
            pass
        elif row.files_text is not None and (note is None or note.error is None):
            reason = None
        elif reason is None:
            reason = NO_PICTURES, ""
        known = note if note is not None and note.place else earlier or note
        took = [one.seconds for one in (note, earlier) if one and one.seconds is not None]
        return cls(
            index=known.index if known else row.id - 1,
            state=row.state,
            place=known.place if known else "",
            id=row.generation_id,
            prompt=str(request.get("prompt") or request.get("promptUrl") or ""),
            request=request,
            files=files,
            pages=_pages(comic, files) if comic else (),
            seconds=took[0] if took else None,
            error=reason[0] if reason else None,
            error_type=(reason[1] or None) if reason else None,
            run=(note or earlier or _NOBODY).run,
            key=row.key,
            sent_at=_utc(row.sent_at),
        )


_NOBODY: Final = Record(0, BatchState.QUEUED)


def prompt_of(request: ComicRequest | None) -> str:
    """Return what a request is called by: its story, or where the story is."""
    return (request.prompt or request.prompt_url or "") if request else ""


def line_of(value: Mapping[str, Any]) -> bytes:
    """Return a line of JSON."""
    text = f"{json.dumps(value, ensure_ascii=False, default=str)}\n"
    # Half a surrogate pair is no UTF-8; its escape is what JSON itself would write.
    return text.encode("utf-8", errors="backslashreplace")


def _utc(when: float | None) -> str | None:
    if when is None:
        return None
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")


def _pages(comic: ComicGeneration, files: Sequence[str]) -> tuple[tuple[Picture, ...], ...]:
    names = dict(zip((url for url, _ in asset_names(comic)), files, strict=False))
    return tuple(
        tuple(
            Picture(names.get(panel.asset_url or "", ""), panel.caption or "")
            for panel in page.panels
        )
        for page in comic.pages
    )
