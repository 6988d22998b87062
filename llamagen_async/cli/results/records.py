"""The result of each story as plain data: `results.jsonl` and the gallery are made of it.

Nothing here talks to a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, cast

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import Story, own_key
from llamagen_async.cli.errors import describe_error
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.downloads.download import asset_names
from llamagen_async.models import AnyGeneration, BatchItem, BatchState, ComicGeneration
from llamagen_async.requests import AnyRequest, ComicRequest, RequestType, UpdateRequest
from llamagen_async.requests.any_request import fields_of, type_of

__all__ = [
    "LISTED",
    "SANDBOX_ASSETS",
    "PanelFile",
    "Reason",
    "Record",
    "line_of",
    "prompt_of",
]

LISTED: Final = 20
"""Comics that are named one by one on the screen, at most."""

SANDBOX_ASSETS: Final = "/_sandbox/"
"""Part of the URL of every picture that the bundled sandbox draws. The sandbox is not imported for
it, because it takes longer to load than the rest of the command line."""

_NO_FILES: Final = (
    "the comic is done, its pictures are not here: the same command again fetches them"
)

_TITLES: Final = ("panelPrompt", "prompt", "promptUrl", "caption")
"""The fields that say in words what a story is about, the most precise one first."""

Reason = tuple[str, str]
"""A sentence that says why a story is not done, and the name of the error's class."""


@attrs.frozen
class PanelFile:
    """The picture of one panel."""

    file: str
    """The picture's file, relative to the folder; empty if it was not downloaded."""
    caption: str = ""
    """The text that goes with it."""


@attrs.frozen
class Record:
    """The result of one story."""

    index: int
    """The story's position in the input of the newest run that asked for it, from 0."""
    state: BatchState
    """How it ended, or where it stood when the run ended."""
    label: str = ""
    """The file and line in which the story stands."""
    id: str | None = None
    """The id of the generation, once it was accepted."""
    prompt: str = ""
    """The story."""
    request: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)
    """All fields of the request, so that it can be given to `batch` again."""
    files: tuple[str, ...] = ()
    """Every picture, relative to the folder."""
    pages: tuple[tuple[PanelFile, ...], ...] = ()
    """The panels of each page."""
    seconds: float | None = None
    """How long the comic took at the server, by the server's clock, as far as was noticed."""
    error: str | None = None
    """The reason why it did not succeed, or why its pictures are missing."""
    error_type: str | None = None
    """The kind of that error."""
    key: str | None = None
    """Its key in the journal, if it is in one."""
    journal: str = ""
    """The journal's file, as seen from the folder; empty if the story is in none that is left."""
    sent_at: str | None = None
    """The time in UTC at which it was last sent, as far as the journal knows."""
    ended_at: str | None = None
    """The time in UTC at which its end was noticed."""
    is_sandbox: bool = False
    """Whether the bundled sandbox drew the pictures."""
    type: str = RequestType.COMIC.value
    """The type of the request."""
    digest: str = ""
    """The hash by which a journal knows the story, in hex; only of one that is in none. It can't be
    made of `request`, in which there may be a cast."""
    given: object = attrs.field(default=None, hash=False)
    """The fields or the line that were given, if they were refused as no valid story."""

    @property
    def name(self) -> str:
        """The name by which the story is known: the key that it was given, or else its line."""
        return own_key(self.key) or self.label

    @property
    def is_done(self) -> bool:
        """Whether the comic is there, with its pictures."""
        return self.state is BatchState.SUCCEEDED and self.error is None

    def to_json(self) -> dict[str, Any]:
        """Return the content of a line of `results.jsonl`."""
        fields = attrs.asdict(self)
        if not self.digest:
            del fields["digest"]
        return fields

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
                tuple(PanelFile(**panel) for panel in page) for page in fields["pages"]
            )
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError("not a result") from error

    @classmethod
    def of_story(cls, number: int, label: str, story: Story | None, state: BatchState) -> Self:
        """Make a record of a story of which the journal knows nothing."""
        request = story.request if story else None
        return cls(
            number,
            state,
            label,
            prompt=prompt_of(request),
            request=json.loads(story.text) if story else {},
            key=story.key if story else None,
            type=(story.type if story else RequestType.COMIC).value,
            digest=story.digest.hex() if story else "",
        )

    @classmethod
    def of_item(cls, item: BatchItem, *, folder: Path | None) -> Self:
        """Make a record of an item that a batch yields."""
        comic, files = item.generation, [path.name for path in item.files]
        return cls(
            index=item.index,
            state=item.state,
            id=comic.id if comic else None,
            prompt=prompt_of(item.request),
            request=fields_of(item.request) if item.request else {},
            files=tuple(files),
            pages=_pages(comic, files) if comic and folder else (),
            key=item.key,
            is_sandbox=_is_sandbox(comic),
            type=(type_of(item.request) if item.request else RequestType.COMIC).value,
        )

    @classmethod
    def of_row(
        cls, row: Row, *, speed: float, passing: Reason | None = None, journal: str = ""
    ) -> Self:
        """Make a record of a row of the journal.

        Args:
            row: The story as the journal has it.
            speed: How many times faster than real time the server's clock runs.
            passing: The reason why it is not done, if that is nothing that the journal keeps,
                because the next run may do better.
            journal: The journal's file, as seen from the folder.

        Raises:
            ValueError: The row is damaged.
        """
        comic, files = row.generation, row.files
        request = row.fields
        reason = passing
        if row.state is BatchState.SUCCEEDED:
            if reason is None and row.files_text is None:
                reason = _NO_FILES, ""
        elif error := row.error(None, comic):
            reason = describe_error(error, id_=row.generation_id), type(error).__name__
        return cls(
            index=row.id - 1 if row.position is None else row.position,
            # The program that was sending it has ended.
            state=BatchState.UNCERTAIN if row.state is BatchState.SENDING else row.state,
            label=row.label,
            id=row.generation_id,
            prompt=next((str(request[name]) for name in _TITLES if request.get(name)), ""),
            request=request,
            files=files,
            pages=_pages(comic, files) if comic else (),
            error=reason[0] if reason else None,
            error_type=(reason[1] or None) if reason else None,
            key=row.key,
            journal=journal,
            is_sandbox=_is_sandbox(comic),
            type=row.type.value,
        ).timed(row, speed)

    def timed(self, row: Row, speed: float) -> Self:
        """Return the record with the times that the journal has, and with what it changes."""
        return attrs.evolve(
            self,
            request=row.fields,
            seconds=_seconds_of(row, speed),
            sent_at=_utc(row.sent_at),
            ended_at=_utc(row.ended_at),
        )


def prompt_of(request: AnyRequest | None) -> str:
    """Return the title of a request: its story, or where the story is."""
    if isinstance(request, ComicRequest):
        return str(request.prompt or request.prompt_url or "")
    if isinstance(request, UpdateRequest):
        return request.panel_prompt or request.prompt or request.caption or ""
    return request.prompt if request else ""


def _seconds_of(row: Row, speed: float) -> float | None:
    """Return how long a comic took by the server's clock; `None` if nobody knows.

    A comic whose end came later than a run waits was noticed by another run: the time between the
    two runs says nothing about the comic.
    """
    if row.accepted_at is None or row.ended_at is None:
        return None
    seconds = (row.ended_at - row.accepted_at) * speed
    return round(seconds, 3) if 0 <= seconds <= DEFAULT_TIMEOUT else None


def line_of(value: Mapping[str, Any]) -> bytes:
    """Return a line of JSON."""
    text = f"{json.dumps(value, ensure_ascii=False, default=str)}\n"
    # Half a surrogate pair is no UTF-8; its escape is what JSON itself would write.
    return text.encode("utf-8", errors="backslashreplace")


def _utc(when: float | None) -> str | None:
    if when is None:
        return None
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")


def _is_sandbox(comic: AnyGeneration | None) -> bool:
    return comic is not None and any(SANDBOX_ASSETS in url for url in comic.asset_urls)


def _pages(comic: AnyGeneration, files: Sequence[str]) -> tuple[tuple[PanelFile, ...], ...]:
    if not isinstance(comic, ComicGeneration):
        return ()
    names = dict(zip((url for url, _ in asset_names(comic)), files, strict=False))
    return tuple(
        tuple(
            PanelFile(names.get(panel.asset_url or "", ""), panel.caption or "")
            for panel in page.panels
        )
        for page in comic.pages
    )
