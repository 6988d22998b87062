"""`client.animations`: validate, build, submit, wait."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.forecasting import Profile
from llamagen_async.generations import Billed, Generations, whole_request
from llamagen_async.models import Animation
from llamagen_async.plans import RequestKind
from llamagen_async.requests import AnimationFields, AnimationRequest
from llamagen_async.scheduling import SubmissionHooks
from llamagen_async.transport import APIRequest

__all__ = ["Animations"]


class Animations(Generations[Animation]):
    """Animations: create them, check them, wait for them, download their videos.

    Made by `LlamaGenClient`; use it as `client.animations`.
    """

    _path = "/artworks/generations"
    _model = Animation

    async def create(
        self,
        prompt: str | AnimationRequest | Mapping[str, Any] | None = None,
        *,
        max_wait: float | None = None,
        wait_for_quota: bool = False,
        urgent: bool = True,
        hooks: SubmissionHooks[Animation] | None = None,
        **fields: Unpack[AnimationFields],
    ) -> Animation:
        """Start an animation. This is billed, and never sent twice.

        Args:
            prompt: What happens in the video, or a whole request.
            max_wait: Seconds that it may wait for a free slot; as for `client.comics.create`.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            urgent: Whether somebody waits for it; if not, others go first.
            hooks: Told of each step before anything else is done; as for `client.comics.create`.
            **fields: The fields of `AnimationRequest`.

        Returns:
            The accepted generation, usually not done yet.

        Raises:
            InvalidRequestError: A field is not allowed; nothing was sent.
            LlamaGenError: As for `client.comics.create`.
        """
        return await self._accepted(
            self._new(prompt, fields),
            max_wait=max_wait,
            wait_for_quota=wait_for_quota,
            urgent=urgent,
            hooks=hooks,
        )

    async def get(self, id: str) -> Animation:
        """Return an animation as it stands now, for one request.

        Args:
            id: The generation's id.

        Raises:
            NotFoundError: There is no such animation.
        """
        return await self._read(id)

    async def create_and_wait(
        self,
        prompt: str | AnimationRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_quota: bool = False,
        **fields: Unpack[AnimationFields],
    ) -> Animation:
        """Start an animation and return it finished: `create`, then `wait_for_completion`.

        Args:
            prompt: What happens in the video, or a whole request.
            timeout: Seconds that it may wait for a free slot, and then for its end.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            **fields: The fields of `AnimationRequest`.

        Raises:
            LlamaGenError: As `create` and `wait_for_completion`.

        If it is cancelled while it waits, the animation goes on; its id is in the log.
        """
        return await self._finished(
            self._new(prompt, fields), timeout, wait_for_quota=wait_for_quota
        )

    async def download(
        self,
        animation: Animation,
        folder: str | os.PathLike[str],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        urgent: bool = True,
    ) -> list[Path]:
        """Fetch the video of a finished animation into `folder` and return its path.

        Args:
            animation: The animation.
            folder: The folder of the file; made if it is missing.
            timeout: Seconds for all of it.
            urgent: Whether somebody waits for it; if not, others go first with their checks.

        Raises:
            InvalidRequestError: The animation has not succeeded, so there is nothing to fetch.
            LlamaGenError, OSError: As for `client.comics.download`.
        """
        return await self._download("animation", animation, folder, timeout=timeout, urgent=urgent)

    def _new(
        self, prompt: str | AnimationRequest | Mapping[str, Any] | None, fields: AnimationFields
    ) -> Billed[Animation]:
        story = whole_request(AnimationRequest, prompt, fields)
        request = APIRequest(RequestKind.CREATE, "POST", self._path, json=story.to_payload())
        return Billed(request, self._model.parse, story, _profile(story))


def _profile(request: AnimationRequest) -> Profile:
    """Return what decides how long an animation takes, from coarse to fine."""
    options = request.video_options
    if options is None:
        return ("animation",)
    return ("animation", f"{options.duration} s", str(options.resolution))
