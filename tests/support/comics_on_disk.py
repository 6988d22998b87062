"""A journal with a comic that is done, and its pictures beside it, for tests of `export`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from llamagen_async.models import BatchState, ComicGeneration

__all__ = ["add_comic", "comic_of", "picture"]

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")


def picture(
    colour: object = "red", size: tuple[int, int] = (40, 30), kind: str = "PNG", **options: Any
) -> bytes:
    """Return a picture of one colour."""
    mode = options.pop("mode", "RGB")
    written = io.BytesIO()
    Image.new(mode, size, colour).save(written, kind, **options)  # type: ignore[arg-type]
    return written.getvalue()


def comic_of(id: str, pages: Sequence[int], captions: Sequence[str] = ()) -> ComicGeneration:
    """Return a comic with so many panels on each of its pages."""
    texts = iter(captions)
    return ComicGeneration.parse(
        {
            "id": id,
            "status": "SUCCEEDED",
            "prompt": "drawn",
            "comics": [
                {
                    "page": page,
                    "panels": [
                        {
                            "panel": panel,
                            "assetUrl": f"https://example.org/{id}/{page}/{panel}.png",
                            "caption": next(texts, None),
                        }
                        for panel in range(panels)
                    ],
                }
                for page, panels in enumerate(pages)
            ],
        }
    )


async def add_comic(
    journal: Journal,
    folder: Path,
    story: Story,
    *,
    id: str = "cmc_1",
    pages: Sequence[int] = (2,),
    captions: Sequence[str] = (),
    pictures: Sequence[bytes] | None = None,
    fetched: bool = True,
) -> Row:
    """Take a comic that is done into a journal, and write its pictures."""
    row, _ = await journal.add(story)
    comic = comic_of(id, pages, captions)
    states = tuple(BatchState)
    row = await journal.change(row, BatchState.SUCCEEDED, origins=states, generation=comic)
    if not fetched:
        return row
    names = [
        f"{id}-p{page + 1:02}-{panel + 1:02}.png"
        for page, panels in enumerate(pages)
        for panel in range(panels)
    ]
    given = pictures or [picture(COLOURS[number % 6]) for number in range(len(names))]
    for name, content in zip(names, given, strict=True):
        (folder / name).write_bytes(content)
    return await journal.change(row, BatchState.SUCCEEDED, origins=states, files=names)
