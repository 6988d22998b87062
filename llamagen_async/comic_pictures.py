"""Pictures of comics: all of one, one panel's, and those that a change has drawn."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.downloads.download import (
    asset_names,
    output_name,
    panel_name,
    panel_pictures,
)
from llamagen_async.downloads.media_types import distinct_stems
from llamagen_async.downloads.versions import pictures_of
from llamagen_async.generations import Generations
from llamagen_async.models import ComicGeneration
from llamagen_async.requests import AnyRequest, ContinueRequest, UpdateRequest
from llamagen_async.validation import (
    InvalidRequestError,
    check_flags,
    checked_path,
    whole_number,
)

__all__ = ["ComicPictures"]


class ComicPictures(Generations[ComicGeneration]):
    """The methods of `client.comics` that fetch the pictures of a comic."""

    _path = "/comics/generations"
    _model = ComicGeneration

    async def download(
        self,
        comic: ComicGeneration,
        folder: str | os.PathLike[str],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        urgent: bool = True,
        again: bool = True,
    ) -> list[Path]:
        """Fetch all pictures of a finished comic into `folder` and return their paths.

        Files appear whole or not at all, and no secret goes to another host. Lost connections, busy
        hosts and failing ones are held out until time is up. If a host refuses a picture, its URL
        may be too old: then the comic is checked once, for the URLs as they are now.

        Args:
            comic: The comic.
            folder: The folder of the files; made if it is missing.
            timeout: Seconds for all pictures together.
            urgent: Whether somebody waits for it; if not, others go first with their checks.
            again: Whether what is there is fetched again and written over, unless its host says
                that it is the same (`Last-Modified`, and its length); one of another kind, such as
                `.jpg`, gets another name. `False` fetches what is missing, and leaves the rest.

        Raises:
            InvalidRequestError: The comic has not succeeded, or a URL leads inside a network.
            APIError: A picture can't be had.
            APIConnectionError: A picture's host was not there until time was up.
            OSError: The folder can't be written to.
        """
        check_flags(urgent=urgent, again=again)
        if again:
            return await self._download("comic", comic, folder, timeout=timeout, urgent=urgent)
        self._check_succeeded("comic", comic)
        path = checked_path("folder", folder)
        return await self.download_changed(comic, path, again=False, timeout=timeout, urgent=urgent)

    async def download_panel(
        self,
        comic: ComicGeneration,
        folder: str | os.PathLike[str],
        *,
        panel: int,
        page: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        urgent: bool = True,
    ) -> Path:
        """Fetch the picture of one panel into `folder`, such as after it was drawn again.

        The picture that `download` has put there is replaced, and kept beside the new one: what was
        `ID-p01-03.png` is `ID-p01-03.1.png` then, or has the next number that is free.

        Args:
            comic: A comic that has succeeded.
            folder: The folder of the files; made if it is missing.
            panel: The panel's number on its page, from 0.
            page: The page's number, from 0; the first one if it is not given.
            timeout: Seconds for the file; as for `download`.
            urgent: As for `download`.

        Raises:
            InvalidRequestError: It has no such panel, or no picture of it.
            LlamaGenError: As for `download`.
            OSError: A file can't be written.
        """
        self._check_succeeded("comic", comic)
        page = whole_number("page", 0 if page is None else page, at_least=0)
        panel = whole_number("panel", panel, at_least=0)
        name = panel_name(comic.id, page, panel)
        only = [asset for asset in panel_pictures(comic) if asset[1] == name]
        if not only:
            allowed = f"a panel of page {page} of {comic.id} that has a picture"
            raise InvalidRequestError("panel", panel, allowed)
        (file,) = await self._download(
            "comic", comic, folder, timeout=timeout, urgent=urgent, only=only, keeps_old=True
        )
        return file

    async def download_changed(
        self,
        comic: ComicGeneration,
        folder: Path,
        *,
        again: AnyRequest | bool,
        whole: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        urgent: bool = True,
    ) -> list[Path]:
        """Fetch the pictures that are not there, and those that may have changed, and lose none.

        The others are left alone: somebody may have lettered or cut them since. A picture that
        another one takes the place of is kept, as `download_panel` does.

        Args:
            comic: The comic as it is now.
            folder: The folder of its pictures.
            again: The continuation or redraw whose pictures were not fetched since: what it has
                drawn is fetched again, the picture of the whole or a panel. `True`: all are.
            whole: Whether the picture of the whole is fetched again in any case.
            timeout: Seconds for the files.
            urgent: As for `download`.

        Returns:
            All pictures, in the order of `download`.
        """
        download = partial(
            self._download, "comic", comic, folder, timeout=timeout, urgent=urgent, keeps_old=True
        )
        named = asset_names(comic)
        if again is True or not named:
            return await download()
        drawn: set[str] = set()
        if whole or isinstance(again, ContinueRequest):
            drawn.add(output_name(comic.id))
        if isinstance(again, UpdateRequest):
            drawn.add(panel_name(comic.id, again.page or 0, again.panel))
        stems = distinct_stems(name for _, name in named)
        there = await asyncio.to_thread(pictures_of, folder, stems)
        fetched = await download(
            only=[
                asset
                for asset, stem in zip(named, stems, strict=True)
                if asset[1] in drawn or stem not in there
            ]
        )
        there |= {file.stem: file for file in fetched}
        return [there[stem] for stem in stems]
