"""Finished comics: their continuation, and the redrawing of a panel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Unpack
from urllib.parse import quote

from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.comic_pictures import ComicPictures
from llamagen_async.forecasting import Profile
from llamagen_async.generations import Billed, whole_request
from llamagen_async.models import ComicGeneration
from llamagen_async.models.places import fields_of, refuses
from llamagen_async.plans import RequestKind
from llamagen_async.requests import (
    ContinueFields,
    ContinueRequest,
    UpdateFields,
    UpdateRequest,
)
from llamagen_async.scheduling import SubmissionHooks
from llamagen_async.transport import APIRequest
from llamagen_async.validation import (
    checked_id,
)

__all__ = ["ComicChanges"]


class ComicChanges(ComicPictures):
    """The methods of `client.comics` that change a finished comic."""

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
