"""Finished comics: their continuation, the redrawing of a panel, and their pictures."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import quote

from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.downloads.download import asset_names, output_name, panel_name
from llamagen_async.downloads.media_types import distinct_stems
from llamagen_async.downloads.versions import pictures_of
from llamagen_async.forecasting import Profile
from llamagen_async.generations import Billed, Generations, whole_request
from llamagen_async.models import ComicGeneration
from llamagen_async.models.places import fields_of, refuses
from llamagen_async.plans import RequestKind
from llamagen_async.requests import (
    AnyRequest,
    ContinueFields,
    ContinueRequest,
    UpdateFields,
    UpdateRequest,
)
from llamagen_async.scheduling import SubmissionHooks
from llamagen_async.transport import APIRequest
from llamagen_async.validation import (
    InvalidRequestError,
    check_flags,
    checked_id,
    checked_path,
    whole_number,
)

__all__ = ["ComicChanges"]


class ComicChanges(Generations[ComicGeneration]):
    """The methods of `client.comics` that change a finished comic or fetch its pictures."""

    _path = "/comics/generations"
    _model = ComicGeneration

    async def continue_write(
        self,
        id: str,
        prompt: str | ContinueRequest | Mapping[str, Any] | None = None,
        *,
        max_wait: float | None = None,
        wait_for_quota: bool = False,
        urgent: bool = True,
        hooks: SubmissionHooks[ComicGeneration] | None = None,
        **fields: Unpack[ContinueFields],
    ) -> ComicGeneration:
        """Have a finished comic go on: more panels are drawn. This is billed, and never sent twice.

        `wait_for_completion` waits for their end afterwards, even if the server goes on showing
        the comic as it was for a while.

        Args:
            id: The comic's id.
            prompt: What happens next, or a whole request.
            max_wait: Seconds that it may wait for a free slot; as for `create`.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            urgent: Whether somebody waits for it; if not, others go first.
            hooks: Told of each step before anything else is done; as for `create`.
            **fields: The fields of `ContinueRequest`.

        Returns:
            The accepted generation, usually not done yet.

        Raises:
            SubmissionUncertainError: The answer was lost; it may have been accepted and charged.
                The error carries the id and the request.
            LlamaGenError: As for `create`.
        """
        return await self._accepted(
            self._continuation(id, prompt, fields),
            max_wait=max_wait,
            wait_for_quota=wait_for_quota,
            urgent=urgent,
            hooks=hooks,
        )

    async def continue_and_wait(
        self,
        id: str,
        prompt: str | ContinueRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        **fields: Unpack[ContinueFields],
    ) -> ComicGeneration:
        """Have a comic go on and return it finished: `continue_write`, `wait_for_completion`.

        Args:
            id: The comic's id.
            prompt: What happens next, or a whole request.
            timeout: Seconds that it may wait for a free slot, and then for its end.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            **fields: The fields of `ContinueRequest`.

        Raises:
            LlamaGenError: As `continue_write` and `wait_for_completion`.
        """
        return await self._finished(
            self._continuation(id, prompt, fields), timeout, wait_for_quota=wait_for_quota
        )

    async def update_panel(
        self,
        id: str,
        request: UpdateRequest | Mapping[str, Any] | None = None,
        *,
        max_wait: float | None = None,
        wait_for_quota: bool = False,
        urgent: bool = True,
        hooks: SubmissionHooks[ComicGeneration] | None = None,
        **fields: Unpack[UpdateFields],
    ) -> ComicGeneration:
        """Have one panel of a finished comic drawn again. This is billed, and never sent twice.

        `wait_for_completion` waits for its end afterwards, as after `continue_write`.

        Args:
            id: The comic's id.
            request: A whole request, instead of its fields.
            max_wait: Seconds that it may wait for a free slot; as for `create`.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            urgent: Whether somebody waits for it; if not, others go first.
            hooks: Told of each step before anything else is done; as for `create`.
            **fields: The fields of `UpdateRequest`: `panel` and `page`, from 0, and at least one of
                `prompt`, `panel_prompt`, `images` and `caption`.

        Returns:
            The accepted generation, usually not done yet.

        Raises:
            SubmissionUncertainError: As for `continue_write`.
            LlamaGenError: As for `create`.
        """
        return await self._accepted(
            self._update(id, request, fields),
            max_wait=max_wait,
            wait_for_quota=wait_for_quota,
            urgent=urgent,
            hooks=hooks,
        )

    async def update_panel_and_wait(
        self,
        id: str,
        request: UpdateRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        **fields: Unpack[UpdateFields],
    ) -> ComicGeneration:
        """Have one panel drawn again and return the comic: `update_panel`, `wait_for_completion`.

        Args:
            id: The comic's id.
            request: A whole request, instead of its fields.
            timeout: Seconds that it may wait for a free slot, and then for its end.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            **fields: The fields of `UpdateRequest`.

        Raises:
            LlamaGenError: As `update_panel` and `wait_for_completion`.
        """
        return await self._finished(
            self._update(id, request, fields), timeout, wait_for_quota=wait_for_quota
        )

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
                that it is the same (`Last-Modified`, and its length). `False` fetches what is
                missing, and leaves the rest as it is.

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
        panels = comic.pages[page].panels if page < len(comic.pages) else ()
        url = panels[panel].asset_url if panel < len(panels) else None
        if url is None:
            allowed = f"a panel of page {page} of {comic.id} that has a picture"
            raise InvalidRequestError("panel", panel, allowed)
        only = [(url, panel_name(comic.id, page, panel))]
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

    def recall_end(self, comic: ComicGeneration) -> None:
        """Take in how a comic ended that an earlier program has seen, before it is changed.

        So the end of the change is told from that one.

        Args:
            comic: The comic, finished.
        """
        self._core.open().scheduler.recall_end(comic)

    def _continuation(
        self,
        id_: str,
        prompt: str | ContinueRequest | Mapping[str, Any] | None,
        fields: ContinueFields,
    ) -> Billed[ComicGeneration]:
        story = whole_request(ContinueRequest, prompt, fields)
        return self._change(id_, RequestKind.CONTINUE, story)

    def _update(
        self, id_: str, request: UpdateRequest | Mapping[str, Any] | None, fields: UpdateFields
    ) -> Billed[ComicGeneration]:
        story = whole_request(UpdateRequest, request, fields, first_is=None)
        return self._change(id_, RequestKind.UPDATE, story)

    def _change(
        self, id_: str, kind: RequestKind, story: ContinueRequest | UpdateRequest
    ) -> Billed[ComicGeneration]:
        known = checked_id("id", id_)
        path = f"{self._path}/{quote(known, safe='')}"
        request = APIRequest(kind, "PATCH", path, json=story.to_payload(), generation_id=known)
        return Billed(request, partial(_changed, known), story, _profile_of(story))


def _profile_of(request: ContinueRequest | UpdateRequest) -> Profile:
    if isinstance(request, UpdateRequest):
        return ("redraw",)
    return ("continue", str(request.pagination or request.fix_panel_num))


def _changed(id_: str, value: object) -> ComicGeneration:
    """Read the answer to a change; one without an id is about the comic that was asked for.

    It is no error, which would be taken for the change and the old comic for the new one.
    """
    try:
        return ComicGeneration.parse(value)
    except ValueError:
        if refuses(fields_of(value)):
            raise
        return ComicGeneration.parse({**fields_of(value), "id": id_})
