"""The picture of a panel that was drawn again, in the folder of its comic and in the journal."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.makers import ComicsPort, download
from llamagen_async.downloads.download import asset_names, panel_name
from llamagen_async.downloads.media_types import distinct_stems
from llamagen_async.models import AnyGeneration, BatchState, ComicGeneration
from llamagen_async.requests import AnyRequest, UpdateRequest

__all__ = ["fetch"]


async def fetch(
    comics: ComicsPort,
    journal: Journal,
    generation: AnyGeneration,
    request: AnyRequest | None,
    out: Path,
    *,
    timeout: float,
    urgent: bool,
) -> list[Path]:
    """Fetch the pictures or the video of a story that is done, of a redraw the one picture.

    Args:
        comics: The client's comics.
        journal: The journal.
        generation: The comic or the animation.
        request: The story's request; `None` if this version does not allow it any more.
        out: The folder of the files.
        timeout: Seconds for all of it.
        urgent: Whether somebody waits for it.
    """
    if isinstance(request, UpdateRequest) and isinstance(generation, ComicGeneration):
        files = await _replaced(
            comics, journal, generation, request, out, timeout=timeout, urgent=urgent
        )
        if files is not None:
            return files
    return await download(comics, generation, out, timeout=timeout, urgent=urgent)


async def _replaced(
    comics: ComicsPort,
    journal: Journal,
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

    Args:
        comics: The client's comics.
        journal: The journal.
        comic: The comic, redrawn.
        request: The redraw.
        out: The folder of the comic's pictures.
        timeout: Seconds for the picture.
        urgent: Whether somebody waits for it.

    Returns:
        All pictures of the comic; `None` if some others are not there, so that all are to be
        fetched.
    """
    page, panel = request.page or 0, request.panel
    row = await journal.find(generation_id=comic.id)
    if row is None or row.state is not BatchState.SUCCEEDED or row.files_text is None:
        return None
    names = [name for _, name in asset_names(comic)]
    redrawn = panel_name(comic.id, page, panel)
    there = {Path(name).stem: out / name for name in row.files}
    files = {name: there.get(stem) for name, stem in zip(names, distinct_stems(names), strict=True)}
    others = [file for name, file in files.items() if name != redrawn]
    if redrawn not in files or not await asyncio.to_thread(_are_there, others):
        return None
    files[redrawn] = await comics.download_panel(
        comic, out, page=page, panel=panel, timeout=timeout, urgent=urgent
    )
    pictures = [file for file in files.values() if file is not None]
    relative = [file.relative_to(out).as_posix() for file in pictures]
    states = (BatchState.SUCCEEDED,)
    await journal.change(row, states[0], origins=states, generation=comic, files=relative)
    return pictures


def _are_there(files: list[Path | None]) -> bool:
    return all(file is not None and file.is_file() for file in files)
