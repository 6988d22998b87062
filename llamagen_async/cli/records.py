"""What became of each story, as plain data: what `results.jsonl` and the gallery are made of.

A folder that is used again keeps what it knew of comics that were paid for. Files appear whole or
not at all. Nothing here talks to a server.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, cast

import attrs

from llamagen_async.batch.download import asset_names
from llamagen_async.models import BatchItem, BatchState, ComicGeneration
from llamagen_async.requests import ComicRequest

__all__ = [
    "RESULTS",
    "UNSENT",
    "Picture",
    "Record",
    "load_records",
    "merged",
    "write_atomic",
    "write_records",
]

RESULTS: Final = "results.jsonl"
"""What became of every story of a folder, one JSON object a line."""
UNSENT: Final = "unsent.jsonl"
"""The stories of a folder that were not sent, ready to be given to `batch`."""


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
            request=fields_of(item.request),
            files=tuple(files),
            pages=_pages(comic, files) if comic and folder else (),
            seconds=seconds,
        )


def prompt_of(request: ComicRequest | None) -> str:
    """Return what a request is called by: its story, or where the story is."""
    return (request.prompt or request.prompt_url or "") if request else ""


def fields_of(request: ComicRequest | None) -> dict[str, Any]:
    """Return a request as `batch` reads it back."""
    if request is None:
        return {}
    # New fields stay apart: on the way in, unknown names are taken for typing errors.
    known = attrs.evolve(request, extra={}).to_payload()
    return {**known, "extra": dict(request.extra)} if request.extra else known


def load_records(folder: Path) -> list[Record]:
    """Return what earlier runs left in a folder; what can't be read is left out."""
    try:
        lines = (folder / RESULTS).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    records: list[Record] = []
    for line in lines:
        with contextlib.suppress(ValueError):
            records.append(Record.from_json(json.loads(line)))
    return records


def merged(earlier: Iterable[Record], latest: Sequence[Record]) -> list[Record]:
    """Return all records of a folder: nothing that was, or may have been, paid for is forgotten."""
    again = {_key(record) for record in latest}
    ids = {record.id for record in latest if record.id}

    def is_kept(record: Record) -> bool:
        if record.id:
            return record.id not in ids
        return record.state is BatchState.UNCERTAIN or _key(record) not in again

    return [*filter(is_kept, earlier), *latest]


def write_records(folder: Path, records: Sequence[Record]) -> int:
    """Write `results.jsonl` and, if some were not sent, `unsent.jsonl`.

    Returns:
        How many stories are in `unsent.jsonl`.
    """
    unsent = [one for one in records if one.state is BatchState.QUEUED and one.request]
    write_atomic(folder / RESULTS, _lines(record.to_json() for record in records))
    if unsent:
        write_atomic(folder / UNSENT, _lines(record.request for record in unsent))
    else:
        # An old one would have comics paid for a second time.
        (folder / UNSENT).unlink(missing_ok=True)
    return len(unsent)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    text = "".join(f"{json.dumps(value, ensure_ascii=False, default=str)}\n" for value in values)
    # Half a surrogate pair is no UTF-8; its escape is what JSON itself would write.
    return text.encode("utf-8", errors="backslashreplace")


def _key(record: Record) -> str:
    return json.dumps(record.request, sort_keys=True, default=str)


def _pages(comic: ComicGeneration, files: Sequence[str]) -> tuple[tuple[Picture, ...], ...]:
    names = dict(zip((url for url, _ in asset_names(comic)), files, strict=False))
    return tuple(
        tuple(
            Picture(names.get(panel.asset_url or "", ""), panel.caption or "")
            for panel in page.panels
        )
        for page in comic.pages
    )
