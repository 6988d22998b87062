"""The part of a client with which stories of any type are sent, waited for and fetched."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.reading import JournalReader
from llamagen_async.batch.outcomes import is_final
from llamagen_async.errors import LlamaGenError
from llamagen_async.models import Animation, AnyGeneration, ComicGeneration
from llamagen_async.requests import (
    AnimationRequest,
    AnyRequest,
    ChangeRequest,
    ComicRequest,
    ContinueRequest,
    RequestType,
    UpdateRequest,
)
from llamagen_async.requests.files import files_of
from llamagen_async.scheduling.circuit import Outage
from llamagen_async.scheduling.submission import SubmissionHooks
from llamagen_async.uploads import UploadStore

__all__ = [
    "AnimationsPort",
    "ComicsPort",
    "download",
    "newest",
    "recall_end",
    "resume_change",
    "submit",
    "wait",
    "with_uploads",
]


class ComicsPort(Protocol):
    """The part of `client.comics` with which stories are sent, waited for and fetched."""

    @property
    def outage(self) -> Outage | None:
        """The outage of the server that is going on."""
        ...

    @property
    def animations(self) -> AnimationsPort:
        """The animations of the same client."""
        ...

    async def create(
        self,
        prompt: ComicRequest,
        *,
        urgent: bool,
        wait_for_quota: bool,
        hooks: SubmissionHooks[ComicGeneration],
    ) -> ComicGeneration:
        """Submit one request and return the accepted generation."""
        ...

    async def continue_write(
        self,
        id: str,
        prompt: ContinueRequest,
        *,
        urgent: bool,
        wait_for_quota: bool,
        hooks: SubmissionHooks[ComicGeneration],
    ) -> ComicGeneration:
        """Submit the continuation of a comic and return the accepted generation."""
        ...

    async def update_panel(
        self,
        id: str,
        request: UpdateRequest,
        *,
        urgent: bool,
        wait_for_quota: bool,
        hooks: SubmissionHooks[ComicGeneration],
    ) -> ComicGeneration:
        """Submit the redrawing of a panel and return the accepted generation."""
        ...

    async def uploaded(
        self, request: AnyRequest, store: UploadStore, *, urgent: bool, wait_for_quota: bool
    ) -> AnyRequest:
        """Return a request with the URLs of its files, which are uploaded if that is needed."""
        ...

    def recall_end(self, comic: ComicGeneration) -> None:
        """Take in how a comic ended, before it is changed."""
        ...

    def resume_change(
        self, request: ChangeRequest | None, answer: ComicGeneration, *, age: float
    ) -> None:
        """Expect the end of a change that an earlier program has sent."""
        ...

    async def wait_for_completion(
        self, id: str, *, timeout: float, urgent: bool
    ) -> ComicGeneration:
        """Return the generation when it has succeeded."""
        ...

    async def download(
        self,
        comic: ComicGeneration,
        folder: str | os.PathLike[str],
        *,
        timeout: float,
        urgent: bool,
    ) -> list[Path]:
        """Fetch a comic's pictures into a folder."""
        ...

    async def download_panel(
        self,
        comic: ComicGeneration,
        folder: str | os.PathLike[str],
        *,
        panel: int,
        page: int | None,
        timeout: float,
        urgent: bool,
    ) -> Path:
        """Fetch the picture of one panel, and keep the one that is there."""
        ...


class AnimationsPort(Protocol):
    """The part of `client.animations` with which stories are sent, waited for and fetched."""

    async def create(
        self,
        prompt: AnimationRequest,
        *,
        urgent: bool,
        wait_for_quota: bool,
        hooks: SubmissionHooks[Animation],
    ) -> Animation:
        """Submit one request and return the accepted animation."""
        ...

    async def wait_for_completion(self, id: str, *, timeout: float, urgent: bool) -> Animation:
        """Return the animation when it has succeeded."""
        ...

    async def download(
        self,
        animation: Animation,
        folder: str | os.PathLike[str],
        *,
        timeout: float,
        urgent: bool,
    ) -> list[Path]:
        """Fetch an animation's video into a folder."""
        ...


async def with_uploads(
    comics: ComicsPort,
    request: AnyRequest,
    store: UploadStore,
    *,
    urgent: bool,
    wait_for_quota: bool,
) -> AnyRequest:
    """Return a request with the URLs of its files, each uploaded before if that is needed.

    Raises:
        LlamaGenError: A file was not uploaded; with another one, the next run may send the story.
    """
    if not files_of(request):
        return request
    try:
        return await comics.uploaded(request, store, urgent=urgent, wait_for_quota=wait_for_quota)
    except LlamaGenError as error:
        if not is_final(error, RequestType.COMIC):
            raise
        raise LlamaGenError(f"{error}; the story was not sent") from error  # it may be yet


async def submit(
    comics: ComicsPort,
    request: AnyRequest,
    target: str | None,
    *,
    urgent: bool,
    wait_for_quota: bool,
    hooks: SubmissionHooks[AnyGeneration],
) -> None:
    """Submit a request of any type; the answer comes to the hooks.

    Args:
        comics: The client's comics.
        request: The request.
        target: The id of the comic that it changes, if it is a change.
        urgent: Whether somebody waits for it interactively.
        wait_for_quota: Whether it may wait for tomorrow's quota.
        hooks: Told of each step.
    """
    match request:
        case ComicRequest():
            await comics.create(request, urgent=urgent, wait_for_quota=wait_for_quota, hooks=hooks)
        case AnimationRequest():
            await comics.animations.create(
                request, urgent=urgent, wait_for_quota=wait_for_quota, hooks=hooks
            )
        case ContinueRequest():
            await comics.continue_write(
                target or "", request, urgent=urgent, wait_for_quota=wait_for_quota, hooks=hooks
            )
        case UpdateRequest():
            await comics.update_panel(
                target or "", request, urgent=urgent, wait_for_quota=wait_for_quota, hooks=hooks
            )


async def wait(comics: ComicsPort, generation: AnyGeneration, *, timeout: float) -> AnyGeneration:
    """Return a comic or an animation when it has succeeded."""
    makers = comics.animations if isinstance(generation, Animation) else comics
    return await makers.wait_for_completion(generation.id, timeout=timeout, urgent=False)


async def download(
    comics: ComicsPort, generation: AnyGeneration, folder: Path, *, timeout: float, urgent: bool
) -> list[Path]:
    """Fetch the pictures of a comic or the video of an animation into a folder."""
    if isinstance(generation, Animation):
        return await comics.animations.download(generation, folder, timeout=timeout, urgent=urgent)
    return await comics.download(generation, folder, timeout=timeout, urgent=urgent)


async def recall_end(comics: ComicsPort, journal: JournalReader, row: Row) -> None:
    """Tell the client how a comic was before it is changed, as far as the journal has it.

    So a check that still shows that state is not taken for the end of the change.

    Args:
        comics: The client's comics.
        journal: The journal.
        row: The change.
    """
    before = None if row.target is None else await journal.newest(row.target, failed=True)
    if before is not None and isinstance(comic := before.generation, ComicGeneration):
        comics.recall_end(comic)


async def resume_change(
    comics: ComicsPort, journal: JournalReader, row: Row, request: AnyRequest | None
) -> None:
    """Have the client wait for the end of a change that an earlier program has sent.

    Args:
        comics: The client's comics.
        journal: The journal.
        row: The change, accepted.
        request: Its request; `None` if this version does not allow it any more.
    """
    answer = row.generation
    # Answered with another id, it is a comic of its own, which has not ended before.
    if isinstance(answer, ComicGeneration) and answer.id == row.target:
        await recall_end(comics, journal, row)
        age = max(0.0, time.time() - (row.accepted_at or 0.0))
        known = request if isinstance(request, ChangeRequest) else None
        comics.resume_change(known, answer, age=age)


async def newest(journal: JournalReader, generation: AnyGeneration) -> AnyGeneration:
    """Return a comic as it is after its last change: all its stories have the same files."""
    row = await journal.newest(generation.id)
    return (row and row.generation) or generation
