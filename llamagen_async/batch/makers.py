"""The part of a client with which stories of any type are sent, waited for and fetched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from llamagen_async.models import Animation, AnyGeneration, ComicGeneration
from llamagen_async.requests import (
    AnimationRequest,
    AnyRequest,
    ChangeRequest,
    ComicRequest,
    ContinueRequest,
    UpdateRequest,
)
from llamagen_async.scheduling.circuit import Outage
from llamagen_async.scheduling.submission import SubmissionHooks

__all__ = ["AnimationsPort", "ComicsPort", "download", "submit", "wait"]


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

    def recall_end(self, comic: ComicGeneration) -> None:
        """Take in how a comic ended, before it is changed."""
        ...

    def resume_change(self, request: ChangeRequest, answer: ComicGeneration, *, age: float) -> None:
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
