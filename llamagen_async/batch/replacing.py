"""The pictures of a story in its folder and in the journal; what is there already is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from llamagen_async.batch.folder import are_there
from llamagen_async.batch.makers import ComicsPort, download, newest
from llamagen_async.batch.protocol import StoryStore
from llamagen_async.batch.task import BatchTask
from llamagen_async.models import AnyGeneration, BatchState, ComicGeneration
from llamagen_async.requests import ContinueRequest, UpdateRequest

__all__ = ["fetch"]

_CHANGES = (ContinueRequest, UpdateRequest)


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
    urgent, request = task.row.urgent, task.request
    if isinstance(generation, ComicGeneration) and isinstance(request, _CHANGES):
        # What a change has drawn was fetched with the others.
        again = False if names else request
        files = await comics.download_changed(
            generation, out, again=again, timeout=timeout, urgent=urgent
        )
        if isinstance(request, UpdateRequest):
            await _record_redrawn(journal, generation, files, out)
    else:
        files = await download(comics, generation, out, timeout=timeout, urgent=urgent)
    task.files = tuple(files)
    return generation


async def _record_redrawn(
    journal: StoryStore, comic: ComicGeneration, files: Sequence[Path], out: Path
) -> None:
    """Give a comic's own story in the journal the comic as a redraw has left it."""
    row = await journal.find(generation_id=comic.id)
    if row is not None and row.state is BatchState.SUCCEEDED and row.files_text is not None:
        relative = [file.relative_to(out).as_posix() for file in files]
        states = (BatchState.SUCCEEDED,)
        await journal.change(row, states[0], origins=states, generation=comic, files=relative)
