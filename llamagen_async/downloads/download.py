"""Pictures and videos onto disk: whole or not at all, and nowhere but in the folder given.

Each asset is written to a hidden temporary file in the same folder, checked, and then renamed, so
that a file under its final name is always complete. No key is sent to the hosts of assets, and no
message shows a URL's query, which may be a signature. Downloads do not count against the limits.

Whatever may be over later is held out until the time given is up (see `fetch`). 80 MB of memory are
enough, whatever hosts send: 32 answers are read at the same time, some hundred kilobytes of each.

A file that is there already is kept if the server's answer says that it is the same: same name,
same length, and not modified since the file was written (`Last-Modified`). Without that header it
is fetched again, because a redrawn panel has the same name and might have the same length.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
import weakref
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from llamagen_async.downloads.fetch import Fetch, Renew, Terms, URLs
from llamagen_async.downloads.media_types import distinct_stems
from llamagen_async.downloads.part_file import TEMPORARY, in_thread
from llamagen_async.downloads.transfer import Transfer
from llamagen_async.errors import InvalidRequestError, LlamaGenError
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.transport.message import AssetSource

__all__ = [
    "LARGEST_ASSET",
    "asset_names",
    "download_assets",
    "output_name",
    "panel_name",
    "panel_pictures",
    "sweep",
]

LARGEST_ASSET: Final = 200_000_000
"""Bytes of the largest asset that is accepted."""

_MOST_AT_ONCE: Final = 32
"""Assets that one source fetches at the same time, however many comics they are of."""
_MOST_ASSETS: Final = 1_000
"""Assets of one download, at most: a comic has up to 400 panels (vendor's own clients)."""
_ABANDONED: Final = 86_400.0
"""Seconds after the last write from which on a temporary file is nobody's: no download takes a
day."""
_bounds: Final[weakref.WeakKeyDictionary[AssetSource, asyncio.Semaphore]] = (
    weakref.WeakKeyDictionary()
)


def asset_names(generation: ComicGeneration | Animation) -> list[tuple[str, str]]:
    """Name all pictures of a comic, or the video of an animation.

    Returns:
        Pairs of URL and file name without extension, as many as `generation.asset_urls` and in
        the same order: `<id>-p01-02` for the second panel of the first page, counted from 1 in
        reading order, also of one page or panel of a comic; `<id>-output` for `output` if it is
        another picture; `<id>-video` for a video.
    """
    if isinstance(generation, Animation):
        return [(url, f"{generation.id}-video") for url in generation.asset_urls]
    names: dict[str, str] = {}
    for url, name in panel_pictures(generation):
        names.setdefault(url, name)
    if generation.output:
        names.setdefault(generation.output, output_name(generation.id))
    return list(names.items())


def panel_pictures(comic: ComicGeneration) -> Iterator[tuple[str, str]]:
    """Yield the URL and the name of each panel's picture; several panels may have one URL."""
    first_page, first_panel = comic.begins_at
    for page_number, page in enumerate(comic.pages, first_page):
        for panel_number, panel in enumerate(page.panels, first_panel):
            if panel.asset_url:
                yield panel.asset_url, panel_name(comic.id, page_number, panel_number)


def panel_name(id_: str, page: int, panel: int) -> str:
    """Name the picture of a panel, without extension.

    Args:
        id_: The comic's id.
        page: The page's number, from 0.
        panel: The panel's number on its page, from 0.
    """
    return f"{id_}-p{page + 1:02}-{panel + 1:02}"


def output_name(id_: str) -> str:
    """Name the picture of the whole of a comic with this id, without extension."""
    return f"{id_}-output"


async def download_assets(
    urls: Sequence[tuple[str, str]],
    folder: Path,
    *,
    source: AssetSource,
    timeout: float,
    renew: Renew | None = None,
    concurrency: int = 8,
    speed: float = 1.0,
    largest: int = LARGEST_ASSET,
    keeps_old: bool = False,
) -> list[Path]:
    """Fetch assets into a folder, several at a time.

    What has arrived of one is kept and resumed where the server allows it. One asset's failure does
    not stop the others: all are tried, and then the first failure is raised. On cancellation,
    complete files stay and incomplete ones are removed.

    Args:
        urls: Pairs of URL and file name without extension. The names are made safe and unique.
        folder: The folder of the files; made if it is missing.
        source: Opens the URLs, such as `HTTPAssets`.
        timeout: Seconds of the event loop for all of it; lost connections, busy hosts and failing
            ones are held out that long.
        renew: Asks the API once for the URLs as they are now, if one is refused.
        concurrency: How many at the same time; all calls with one source have 32 together.
        speed: How many times faster than real time the waits between attempts pass.
        largest: Bytes above which an asset is refused.
        keeps_old: Fetch each asset whatever is there, and keep what is there, if it is another one,
            under another name (see `versions`).

    Returns:
        The files, in the order of `urls`.

    Raises:
        InvalidRequestError: A URL is not http or https, or leads inside a network, there are more
            than a thousand, or `concurrency` is less than 1.
        APIConnectionError: A connection failed until time was up.
        APIError: A server refused, or what it sent is no picture or video, or too large.
        OSError: A file cannot be written; the error names it, and no part of it is left.
    """
    if concurrency < 1:
        raise InvalidRequestError("concurrency", concurrency, "a whole number of at least 1")
    if len(urls) > _MOST_ASSETS:
        raise InvalidRequestError("urls", len(urls), f"up to {_MOST_ASSETS:,} assets of one comic")
    until = asyncio.get_running_loop().time() + timeout
    stems = await in_thread(_prepare, folder, urls)
    free_altogether = _bounds.setdefault(source, asyncio.Semaphore(_MOST_AT_ONCE))
    terms = Terms(URLs(renew), until, speed, (asyncio.Semaphore(concurrency), free_altogether))

    async def fetch(url: str, name: str, stem: str) -> Path | Exception:
        try:
            transfer = Transfer(source, folder, stem, largest, keeps_old=keeps_old)
            return await Fetch(transfer, url, name, terms).run()
        except (LlamaGenError, OSError) as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(fetch(*asset, stem)) for asset, stem in zip(urls, stems, strict=True)
        ]
    files: list[Path] = []
    for task in tasks:
        result = task.result()
        if isinstance(result, Exception):
            raise result
        files.append(result)
    return files


def _prepare(folder: Path, urls: Sequence[tuple[str, str]]) -> list[str]:
    """Make the folder, name the files and remove what a killed process left of them."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = distinct_stems(stem for _, stem in urls)
    sweep(folder, frozenset(stems), now=time.time())
    return stems


def sweep(folder: Path, stems: Collection[str], *, now: float) -> None:
    """Remove the temporary files of these names that a killed process left a day ago or earlier.

    Args:
        folder: The folder of the files.
        stems: Names of files to be; temporary files of others are left alone.
        now: Unix time in seconds.
    """
    for entry in os.scandir(folder):
        match = re.fullmatch(TEMPORARY, entry.name) if entry.name.endswith(".part") else None
        if match is None or match["stem"] not in stems:
            continue
        with contextlib.suppress(OSError):  # somebody else was quicker
            if now - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                Path(entry.path).unlink()
