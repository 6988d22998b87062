"""The picture of a panel that was drawn again, in the folder of its comic and in the journal."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llamagen_async.batch.folder import are_there
from llamagen_async.batch.makers import ComicsPort, download, newest
from llamagen_async.batch.protocol import StoryStore
from llamagen_async.batch.task import BatchTask
from llamagen_async.models import AnyGeneration, BatchState, ComicGeneration
from llamagen_async.requests import UpdateRequest

__all__ = ["fetch"]


async def fetch(
    comics: ComicsPort, journal: StoryStore, task: BatchTask, out: Path, *, timeout: float
) -> AnyGeneration | None:
    """Fetch the pictures or the video of a story that is done, of a redraw the one picture.

    Args:
        comics: The client's comics.
        journal: The journal.
        task: The story, which gets the files.
        out: The folder of the files.
        timeout: Seconds for all of it.

    Returns:
        The comic or animation whose files were fetched; `None` if they are there already.
    """
    generation, names = task.generation, task.row.files
    is_there: bool = bool(names) and await asyncio.to_thread(are_there, out, names)
    if is_there:
        task.files = tuple(out / name for name in names)
    if is_there or generation is None:
        return None
    if journal.has_changes:
        generation = await newest(journal, generation)
    files: list[Path] | None = None
    if isinstance(task.request, UpdateRequest) and isinstance(generation, ComicGeneration):
        files = await _replaced(
            comics,
            journal,
            generation,
            task.request,
            out,
            timeout=timeout,
            urgent=task.row.urgent,
        )
    elif names and isinstance(generation, ComicGeneration):
        known, urgent = [out / name for name in names], task.row.urgent
        files = await comics.download_redrawn(
            generation, out, panel=None, page=None, known=known, timeout=timeout, urgent=urgent
        )
    if files is None:
        files = await download(comics, generation, out, timeout=timeout, urgent=task.row.urgent)
    task.files = tuple(files)
    return generation


async def _replaced(
    comics: ComicsPort,
    journal: StoryStore,
    comic: ComicGeneration,
    request: UpdateRequest,
    out: Path,
    *,
    timeout: float,
    urgent: bool,
) -> list[Path] | None:
    """Fetch the picture of a redrawn panel and nothing else, and keep the one before.

    The comic's own story in the journal gets the comic as it is now. Ended at any instant and
    called again, it goes on.

    Returns:
        All pictures of the comic; `None` if its own story is not done, or the panel has none.
    """
    row = await journal.find(generation_id=comic.id)
    if row is None or row.state is not BatchState.SUCCEEDED or row.files_text is None:
        return None
    pictures = await comics.download_redrawn(
        comic,
        out,
        panel=request.panel,
        page=request.page,
        known=[out / name for name in row.files],
        timeout=timeout,
        urgent=urgent,
    )
    if pictures is not None:
        relative = [file.relative_to(out).as_posix() for file in pictures]
        states = (BatchState.SUCCEEDED,)
        await journal.change(row, states[0], origins=states, generation=comic, files=relative)
    return pictures
