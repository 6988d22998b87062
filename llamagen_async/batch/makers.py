"""The part of a client with which stories of any type are sent, waited for and fetched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypedDict

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.outcomes import is_final
from llamagen_async.batch.protocol import StoryReader, StoryStore
from llamagen_async.batch.task import BatchTask
from llamagen_async.errors import LlamaGenError
from llamagen_async.models import Animation, AnyGeneration, ComicGeneration
from llamagen_async.observing import GENERATION_ID, Observer
from llamagen_async.requests import (
    AnimationRequest,
    AnyRequest,
    ComicRequest,
    ContinueRequest,
    RequestType,
    UpdateRequest,
)
from llamagen_async.requests.files import UploadStore, files_of
from llamagen_async.scheduling.circuit import Outage
from llamagen_async.scheduling.submission import SubmissionHooks

__all__ = [
    "AnimationsPort",
    "ComicsPort",
    "completed",
    "download",
    "newest",
    "recall_end",
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

    @property
    def observer(self) -> Observer | None:
        """The observer of the client, if there is one."""
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

    async def wait_for_completion(
        self,
        id: str,
        *,
        timeout: float,
        urgent: bool,
        after: ComicGeneration | None,
        age: float,
        progress: Callable[[ComicGeneration], None],
    ) -> ComicGeneration:
        """Return the generation when it has succeeded, after a change of it if there was one."""
        ...

    async def download(
        self,
        comic: ComicGeneration,
        folder: str | os.PathLike[str],
        *,
        timeout: float,
        urgent: bool,
        again: bool,
    ) -> list[Path]:
        """Fetch a comic's pictures into a folder, only those that are not there or all."""
        ...

    async def download_changed(
        self,
        comic: ComicGeneration,
        folder: Path,
        *,
        again: AnyRequest | bool,
        timeout: float,
        urgent: bool,
    ) -> list[Path]:
        """Fetch the pictures that are not there, and those that may have changed."""
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


class _How(TypedDict):
    """The arguments of all methods that submit a story."""

    urgent: bool
    wait_for_quota: bool
    hooks: SubmissionHooks[AnyGeneration]


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


async def completed(
    comics: ComicsPort, journal: StoryStore, task: BatchTask, *, wait_for_quota: bool
) -> AnyRequest:
    """Return a story's request as it is sent: whatever has to be done first is done here.

    Args:
        comics: The client's comics.
        journal: Where the story is kept.
        task: The story.
        wait_for_quota: Whether uploads may wait for tomorrow's quota.
    """
    assert task.request is not None
    if task.row.type.is_change:
        await recall_end(comics, journal, task.row)
    return await with_uploads(
        comics, task.request, journal, urgent=task.row.urgent, wait_for_quota=wait_for_quota
    )


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
    how: _How = {"urgent": urgent, "wait_for_quota": wait_for_quota, "hooks": hooks}
    match request:
        case ComicRequest():
            await comics.create(request, **how)
        case AnimationRequest():
            await comics.animations.create(request, **how)
        case ContinueRequest():
            await comics.continue_write(target or "", request, **how)
        case UpdateRequest():
            await comics.update_panel(target or "", request, **how)


async def wait(
    comics: ComicsPort,
    journal: StoryReader,
    task: BatchTask,
    *,
    timeout: float,
    progress: Callable[[ComicGeneration], None],
) -> AnyGeneration:
    """Return the comic or animation of a story when it has succeeded.

    Args:
        comics: The client's comics.
        journal: The journal.
        task: The story, accepted.
        timeout: Seconds to wait at most.
        progress: Called with the comic whenever it was seen unfinished.
    """
    generation, row = task.generation, task.row
    assert generation is not None
    GENERATION_ID.set(generation.id)
    if isinstance(generation, Animation):
        makers = comics.animations
        return await makers.wait_for_completion(generation.id, timeout=timeout, urgent=False)
    after, age = None, 0.0
    # Answered with another id, it is a comic of its own, which has not ended before.
    if task.is_resumed and row.type.is_change and generation.id == row.target:
        after = await _before(journal, row) or generation
        age = max(0.0, time.time() - (row.accepted_at or 0.0))
    return await comics.wait_for_completion(
        generation.id, timeout=timeout, urgent=False, after=after, age=age, progress=progress
    )


async def download(
    comics: ComicsPort, generation: AnyGeneration, folder: Path, *, timeout: float, urgent: bool
) -> list[Path]:
    """Fetch the pictures of a comic that are not there, or the video of an animation."""
    if isinstance(generation, Animation):
        return await comics.animations.download(generation, folder, timeout=timeout, urgent=urgent)
    return await comics.download(generation, folder, timeout=timeout, urgent=urgent, again=False)


async def recall_end(comics: ComicsPort, journal: StoryReader, row: Row) -> None:
    """Tell the client how a comic was before a change that is about to be sent.

    So a check that still shows that state is not taken for the end of the change.
    """
    if (comic := await _before(journal, row)) is not None:
        comics.recall_end(comic)


async def _before(journal: StoryReader, row: Row) -> ComicGeneration | None:
    """Return a comic as it was before its change; `None` if the journal has not seen its end."""
    last = None if row.target is None else await journal.newest(row.target, failed=True)
    comic = None if last is None else last.generation
    return comic if isinstance(comic, ComicGeneration) else None


async def newest(journal: StoryReader, generation: AnyGeneration) -> AnyGeneration:
    """Return a comic as it is after its last change: all its stories have the same files."""
    row = await journal.newest(generation.id)
    return (row and BatchTask.of(row).generation) or generation
