"""`client.comics`: validate, build, submit, wait."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Final, Unpack

import attrs

from llamagen_async.animations import Animations
from llamagen_async.batch.batch import Batch
from llamagen_async.batch.budget import estimate_of
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import RequestLike
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.comic_changes import ComicChanges
from llamagen_async.core import ClientCore
from llamagen_async.generations import Billed, whole_request
from llamagen_async.models import ComicGeneration, Upload, Usage
from llamagen_async.plans import RequestKind
from llamagen_async.prices import Estimate, PriceList, Prices
from llamagen_async.redraw import Redraw, RedrawOptions, journal_in, redraw_panel
from llamagen_async.requests import (
    AnyRequest,
    ComicFields,
    ComicRequest,
    UpdateFields,
    UpdateRequest,
)
from llamagen_async.requests.defaults import Defaults
from llamagen_async.requests.files import UploadStore
from llamagen_async.scheduling import Outage, SubmissionHooks
from llamagen_async.transport import APIRequest
from llamagen_async.uploads import FileLike, check_files, form_file, upload_request
from llamagen_async.validation import (
    check_flags,
    checked_path,
    checked_text,
    whole_number,
)

__all__ = ["Comics"]


class Comics(ComicChanges):
    """Comics: create them, check them, wait for them, download their pictures.

    Made by `LlamaGenClient`; use it as `client.comics`.
    """

    def __init__(self, core: ClientCore, animations: Animations) -> None:
        super().__init__(core)
        self.animations: Final = animations
        """The client's animations, which a batch may have, too."""

    async def create(
        self,
        prompt: str | ComicRequest | Mapping[str, Any] | None = None,
        *,
        max_wait: float | None = None,
        wait_for_quota: bool = False,
        urgent: bool = True,
        hooks: SubmissionHooks[ComicGeneration] | None = None,
        **fields: Unpack[ComicFields],
    ) -> ComicGeneration:
        """Start a comic. This is billed, and never sent twice.

        Args:
            prompt: The story, or a whole request.
            max_wait: Seconds that it may wait for a free slot; if that is known to take longer, it
                raises at once. `None` waits for any minute, but not for tomorrow. An outage of the
                server is held out as long, and without it as long as `max_retries` take.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            urgent: Whether somebody waits for it; if not, others go first.
            hooks: Told of each step before anything else is done, for a program that keeps a
                record of its own; who gives hooks is taken to wait for the comic afterwards, and
                for the end of any outage.
            **fields: The fields of `ComicRequest`.

        Returns:
            The accepted generation, usually not done yet.

        Raises:
            InvalidRequestError: A field is not allowed; nothing was sent.
            QuotaExhaustedError: It would wait too long for a slot; nothing was sent.
            APIConnectionError: The server can't be reached; nothing was sent.
            SubmissionUncertainError: The answer was lost; it may have been accepted and charged.
            APIError: The server refused it.
        """
        return await self._accepted(
            self._new(prompt, fields),
            max_wait=max_wait,
            wait_for_quota=wait_for_quota,
            urgent=urgent,
            hooks=hooks,
        )

    async def get(
        self,
        id: str,
        *,
        page: int | None = None,
        panel: int | None = None,  # the API's word
    ) -> ComicGeneration:
        """Return a comic as it stands now, for one request.

        Args:
            id: The generation's id.
            page: Only this page, from 0 (vendor's clients).
            panel: Only this panel of the page, from 0 (vendor's clients).

        Raises:
            NotFoundError: There is no such comic.
        """
        picked = {
            name: whole_number(name, value, at_least=0)
            for name, value in (("page", page), ("panel", panel))
            if value is not None
        }
        comic = await self._read(id, {name: str(value) for name, value in picked.items()})
        return _part(comic, **picked)

    async def create_and_wait(
        self,
        prompt: str | ComicRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        **fields: Unpack[ComicFields],
    ) -> ComicGeneration:
        """Start a comic and return it finished: `create`, then `wait_for_completion`.

        Args:
            prompt: The story, or a whole request.
            timeout: Seconds that it may wait for a free slot, and then for its end.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            **fields: The fields of `ComicRequest`.

        Raises:
            LlamaGenError: As `create` and `wait_for_completion`.

        If it is cancelled while it waits, the comic goes on; its id is in the log.
        """
        return await self._finished(
            self._new(prompt, fields), timeout, wait_for_quota=wait_for_quota
        )

    async def upload(
        self, file: FileLike, filename: str | None = None, *, content_type: str | None = None
    ) -> Upload:
        """Upload a picture or a document, whose URL can stand in a request. Costs no credits.

        Args:
            file: Its path, its content, or an open file. What is on disk is sent piece by piece,
                and what is open is not closed.
            filename: The name that the server is told; the file's own if not given.
            content_type: The media type that the server is told; what its first bytes, or else its
                name, say if not given.

        Raises:
            InvalidRequestError: It is no file, can't be read, is empty or larger than 10 MB.
                Nothing was sent.
            LlamaGenError: It was not uploaded, or nobody knows whether it was.
        """
        form = await form_file(file, filename, content_type)
        return await self._core.send(upload_request(form), Upload.parse)

    async def uploaded(
        self, request: AnyRequest, store: UploadStore, *, urgent: bool, wait_for_quota: bool
    ) -> AnyRequest:
        """Return a request with the URLs of its files, each uploaded before if that is needed.

        Batches and queues call it before they send a request; an outage is held out.

        Args:
            request: Any request.
            store: What remembers uploads for the next run.
            urgent: Whether somebody waits for it; if not, others go first.
            wait_for_quota: Wait for tomorrow's quota instead of raising.

        Raises:
            InvalidRequestError: A file can't be uploaded; the error has its field and its path.
            LlamaGenError: It was not uploaded.
        """
        return await self._core.uploads.completed(
            request,
            store,
            urgent=urgent,
            wait_for_quota=wait_for_quota,
            outage_timeout=math.inf,
        )

    def batch(
        self,
        requests: Iterable[RequestLike] | AsyncIterable[RequestLike],
        *,
        out: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        journal: str | os.PathLike[str] | None = None,
        resend_uncertain: bool = False,
        start_over: bool = False,
        budget: float | None = None,
        prices: PriceList | None = None,
        defaults: ComicRequest | Mapping[str, Any] | None = None,
    ) -> Batch:
        """Generate many comics at once; iterate over the result to run it.

        An outage of the server is held out, however long it is: see `Batch.progress`.

        Items come in order of completion. What one comic fails of is that item's `error`; an
        error that concerns all (401, 402, 403, a journal that can't be written) stops new creates,
        and what was started is still collected.

        With a journal, a batch that was ended in any way goes on when it is run again: what is
        done is not done again, what runs at the server is collected (also if it is no longer in
        `requests`: it was paid for, and comes after the others), what was not sent is sent.

        Args:
            requests: Prompts, requests, mappings of fields or `BatchStory`s; read only as far as
                needed. A mapping may have a `key`, such as an order number: the same key is the
                same story. Others are told apart by their content, and equal ones are counted. A
                story may also be a continuation, a redraw (each `of` another story's key, or of a
                comic by its `id`) or an animation, by its `type`. Changes of a comic wait for it
                and for each other.
            out: A folder for the pictures; `None` fetches none.
            timeout: Seconds to wait for each comic's end, once it was accepted, and then for its
                pictures.
            wait_for_quota: Wait for tomorrow's quota instead of giving the rest back unsent.
            journal: A SQLite file in which everything is written down before it happens; made if
                it is not there.
            resend_uncertain: Send those again of which the journal does not know whether they were
                accepted. They may be paid for twice.
            start_over: Go on with a journal that is new, lost or older than what the files beside
                it know. What only they know may be paid for again.
            budget: The most credits that all runs with this journal may spend. What a story costs
                is reserved before it is sent, and counted as the server says where it does. A
                story for which there is no room stays unsent with a `BudgetReachedError`; so does
                one whose price nobody knows.
            prices: Prices that you know; others are those of the vendor's page, which has few.
            defaults: What all comics have in common, such as their characters and their preset: a
                mapping of fields without a prompt, or a request, whose prompt is left out. A
                story's own fields win; characters and places are merged by name. What was sent
                before is not sent again because they are others now.

        Raises:
            InvalidRequestError: An argument is not allowed.
            JournalError: (when iterating) The journal can't be opened, another process works with
                it, it is about another server or key, or the files beside it (such as
                `results.jsonl`) know comics that it does not. Nothing was sent.
        """
        check_flags(
            wait_for_quota=wait_for_quota,
            resend_uncertain=resend_uncertain,
            start_over=start_over,
        )
        return Batch(
            requests,
            self,
            Journal(journal, self._core.account, out=out, start_over=start_over),
            out=out,
            timeout=timeout,
            wait_for_quota=wait_for_quota,
            resend_uncertain=resend_uncertain,
            budget=budget,
            prices=prices,
            defaults=None if defaults is None else _common(defaults),
        )

    async def redraw(
        self,
        out: str | os.PathLike[str],
        key: str,
        request: UpdateRequest | Mapping[str, Any] | None = None,
        *,
        journal: str | os.PathLike[str] | None = None,
        again: bool = False,
        resend_uncertain: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        budget: float | None = None,
        prices: PriceList | None = None,
        **fields: Unpack[UpdateFields],
    ) -> Redraw:
        """Have one panel of a batch's comic drawn again, and its picture replaced. This is billed.

        The new picture has the name of the old one, which is kept beside it (`ID-p01-03.png` as
        `ID-p01-03.1.png`); nothing else in the folder is touched. The redraw is written down in the
        journal before it is sent: however this ends, the same call again goes on, and pays no
        second time.

        Args:
            out: The folder of the batch's pictures.
            key: The story: its key, its comic's id, its line such as `stories.jsonl:7`, its
                position from 0, or the beginning of a key or id that no other one has.
            request: A whole request, instead of its fields.
            journal: The batch's journal; `journal.db` in `out` if it is not given.
            again: Draw it once more, although the very same redraw was done before.
            resend_uncertain: Send it again if nobody knows whether it was accepted before. It may
                be paid for twice.
            timeout: Seconds to wait for its end, once it was accepted, and then for its picture.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            budget: The most credits that all runs with this journal may spend.
            prices: Prices that you know, such as `{"redraw": 100}`: the vendor's page has none for
                it. The journal has it then, and the budget of a later batch counts it.
            **fields: The fields of `UpdateRequest`, as for `update_panel`.

        Raises:
            InvalidRequestError: There is no such journal, story or panel; nothing was sent.
            BudgetReachedError: The budget does not pay for it, or its price is not known.
            SubmissionUncertainError: The answer was lost, now or in an earlier call.
            LlamaGenError: As for `update_panel` and `wait_for_completion`.
        """
        change = whole_request(UpdateRequest, request, fields, first_is=None)
        checked_text("key", key)
        options = RedrawOptions.checked(
            again=again,
            resend_uncertain=resend_uncertain,
            timeout=timeout,
            wait_for_quota=wait_for_quota,
            budget=budget,
            prices=prices,
        )
        folder = checked_path("out", out)
        path = await journal_in(folder, journal)
        async with Journal(path, self._core.account, out=folder) as opened:
            return await redraw_panel(self, opened, folder, key, change, options)

    @property
    def outage(self) -> Outage | None:
        """The outage of the server that is going on; `None` if there is none."""
        return self._core.outage

    async def usage(self) -> Usage:
        """Return what the key has used, as the server counts; this is a request, too."""
        return await self._core.usage()

    def estimate(
        self,
        requests: RequestLike | Iterable[RequestLike],
        *,
        prices: PriceList | None = None,
    ) -> Estimate:
        """Return what requests would draw and cost. Nothing is sent.

        Args:
            requests: A request or many, as `create` or `batch` takes them; a generator is used up.
            prices: Prices that you know; others are those of the vendor's page, which has few.

        Raises:
            InvalidRequestError: A request or a price is not allowed.
        """
        return estimate_of(requests, Prices.parse(prices))

    def _new(
        self, prompt: str | ComicRequest | Mapping[str, Any] | None, fields: ComicFields
    ) -> Billed[ComicGeneration]:
        story = whole_request(ComicRequest, prompt, fields)
        request = APIRequest(RequestKind.CREATE, "POST", self._path, json=story.to_payload())
        given = filter(None, (story.model, story.size, story.upscale))
        panels = str(story.pagination or story.fix_panel_num)
        return Billed(request, self._model.parse, story, ("comic", panels, *map(str, given)))


def _part(comic: ComicGeneration, page: int = 0, panel: int = 0) -> ComicGeneration:
    """Return a comic, or the part of one that was asked for, with the place of its pictures."""
    # A server that does not know the query answers with all pages and panels.
    is_one_of_each = all(len(one.panels) == 1 for one in comic.pages)
    place = (page if len(comic.pages) == 1 else 0, panel if is_one_of_each else 0)
    return comic if place == comic.begins_at else attrs.evolve(comic, begins_at=place)


def _common(given: ComicRequest | Mapping[str, Any]) -> Defaults:
    """Return what all comics of a batch have in common, with files that are there."""
    defaults = Defaults.parse(given).with_absolute_paths()
    check_files(defaults.merged("a story"))
    return defaults
