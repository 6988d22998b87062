"""Comics and animations alike: how they are checked, waited for and fetched."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar, cast
from urllib.parse import quote

import attrs

from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.core import ClientCore
from llamagen_async.downloads.download import asset_names, download_assets
from llamagen_async.errors import (
    APIError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
)
from llamagen_async.forecasting import Profile
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.models.places import fields_of, fields_with, tells
from llamagen_async.observing import GENERATION_ID, logger_of
from llamagen_async.plans import RequestKind
from llamagen_async.requests import (
    AnimationRequest,
    AnyRequest,
    ComicRequest,
    ContinueRequest,
    UpdateRequest,
)
from llamagen_async.scheduling import GenerationWait, SubmissionHooks, tell_accepted
from llamagen_async.transport import APIRequest
from llamagen_async.validation import check_flags, check_hook, checked_id, checked_path, seconds

__all__ = ["Billed", "Generations", "whole_request"]

_LEAST_REAL: Final = 60.0
"""Real seconds that pictures are given of their timeout, whatever the speed."""

_MOST_PLACES: Final = 3
"""Places of an answer that a message names at most."""

_PLAIN: Final = frozenset((str, int, float, bool))
"""The types of values in a request's body that name no file."""

_logger = logger_of(__name__)

_G = TypeVar("_G", ComicGeneration, Animation)
_R = TypeVar("_R", ComicRequest, ContinueRequest, UpdateRequest, AnimationRequest)


@attrs.frozen(eq=False)
class Billed(Generic[_G]):
    """A billed request, and what else is known of it."""

    request: APIRequest
    """The request as it is sent."""
    parse: Callable[[object], _G]
    """Reads the decoded body of its answer."""
    story: AnyRequest
    """The user's request."""
    profile: Profile
    """Features of the generation that decide how long it takes."""


class Generations(Generic[_G]):
    """Generations of one sort, as the server keeps them."""

    _path: ClassVar[str]
    """The path of all of them."""
    _model: type[_G]
    """The class that reads them."""

    def __init__(self, core: ClientCore) -> None:
        self._core = core
        self.observer: Final = core.observer
        """An observer that is told what the client does; `None` if there is none."""

    async def wait_for_completion(
        self,
        id: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,  # the API's word
        urgent: bool = True,
        after: _G | None = None,
        age: float = 0.0,
        progress: Callable[[_G], None] | None = None,
    ) -> _G:
        """Return the finished generation, checking it no more often than useful.

        After a `continue_write` or `update_panel` of this client, it is that change whose end is
        waited for, even if the server goes on showing the old state for a while.

        Args:
            id: The generation's id.
            timeout: Seconds to wait at most, by the server's clock.
            urgent: Whether somebody waits for it; if not, others go first.
            after: The generation as it was before a change that another process has made (or the
                answer to that change, which tells less): then an end that is the same as before is
                not taken for the change's own, at first. The `raw` of one can be stored and sent.
            age: Real seconds since that change was accepted, as far as is known.
            progress: Called with the generation whenever a check has seen it unfinished: it may
                have some of its pictures. No check is made for its sake.

        Raises:
            GenerationFailedError: It ended without a result; the error carries the generation.
            WaitTimeoutError: Time is up; the generation goes on, the error carries the id.
            APIError: The key or the id is refused. An outage is held out, and for a while a server
                that does not know what it has accepted.
        """
        timeout = seconds("timeout", timeout)
        check_flags(urgent=urgent)
        request = self._status_request(id)
        given: object = after
        speed = self._core.settings.clock.speed
        if given is not None and (not isinstance(given, self._model) or given.id != id):
            allowed = f"the {self._model.__name__} of that id, as it was before"
            raise InvalidRequestError("after", given, allowed)
        if age != 0:
            age = seconds("age", age)
        check_hook("progress", progress, "a function of a generation")
        parse = partial(_about, self._model, id)
        return await self._core.wait(
            GenerationWait(id, request, parse, timeout, urgent, after, age * speed, progress)
        )

    async def _accepted(
        self,
        billed: Billed[_G],
        *,
        max_wait: float | None,
        wait_for_quota: bool,
        urgent: bool = True,
        hooks: SubmissionHooks[_G] | None = None,
        outage_timeout: float | None = None,
        will_wait: bool = False,
    ) -> _G:
        """Send a billed request, its files before it, and return what was accepted.

        Args:
            billed: The request.
            max_wait: As for `create`.
            wait_for_quota: As for `create`.
            urgent: As for `create`.
            hooks: As for `create`.
            outage_timeout: Seconds for which an outage is held out, if that is not as for `create`.
            will_wait: Whether it is waited for at once, also without hooks.
        """
        check_flags(urgent=urgent, wait_for_quota=wait_for_quota)
        if max_wait is not None:
            max_wait = seconds("max_wait", max_wait)
        if hooks is not None and not hasattr(hooks, "before_send"):
            raise InvalidRequestError("hooks", hooks, "an object with the methods of a hook")
        if outage_timeout is None:
            outage_timeout = math.inf if hooks is not None and max_wait is None else max_wait
        how: dict[str, Any] = {
            "urgent": urgent,
            "max_wait": max_wait,
            "wait_for_quota": wait_for_quota,
            "outage_timeout": outage_timeout,
        }
        request, story = billed.request, billed.story
        # Nearly all name no file.
        if not _PLAIN.issuperset(map(type, cast("dict[str, object]", request.json).values())):
            story = await self._core.uploads.completed(story, **how)
            request = attrs.evolve(request, json=story.to_payload())
        accepted: _G = await self._core.send(
            request,
            billed.parse,
            **how,
            hooks=hooks,
            story=story,
            profile=billed.profile,
            will_wait=will_wait or hooks is not None,
        )
        return accepted

    async def _finished(self, billed: Billed[_G], timeout: float, *, wait_for_quota: bool) -> _G:
        """Send a billed request; return the generation finished (as for `create_and_wait`)."""
        check_flags(wait_for_quota=wait_for_quota)
        timeout = seconds("timeout", timeout)
        name, observer = f"{billed.request.kind.value}_and_wait", self.observer
        with nullcontext() if observer is None else observer.operation(name):
            accepted = await self._accepted(
                billed,
                max_wait=None if wait_for_quota else timeout,
                wait_for_quota=wait_for_quota,
                outage_timeout=timeout,
                will_wait=True,
            )
            # The answer to a change may speak of the generation as it was.
            if accepted.succeeded and billed.request.generation_id is None:
                return accepted
            try:
                return await self.wait_for_completion(accepted.id, timeout=timeout)
            except LlamaGenError as error:
                if error.id is not None:
                    raise
                raise error.about(accepted.id) from error
            except BaseException as error:
                # Whoever ended this does not know the id, and it was paid for.
                tell_accepted(billed.request.kind, accepted, error)
                raise

    async def _read(self, id_: str, params: Mapping[str, str] | None = None) -> _G:
        """Return a generation, or a part of it, as it stands now."""
        request = self._status_request(id_, params)
        try:
            return await self._core.read(
                f"{request.path}?{params}",
                request,
                partial(_about, self._model, id_),
                whole=not params,
            )
        except LlamaGenError as error:
            raise error.about(id_) from error

    async def _download(
        self,
        name: str,
        generation: _G,
        folder: str | os.PathLike[str],
        *,
        timeout: float,
        urgent: bool,
        only: Sequence[tuple[str, str]] | None = None,
        keeps_old: bool = False,
    ) -> list[Path]:
        """Fetch the files of a finished generation; `name` is what its argument is called.

        `only` has pairs of URL and name, if these are fetched alone. With `keeps_old`, what is
        there is kept under another name, if it is another picture.
        """
        self._check_succeeded(name, generation)
        timeout = seconds("timeout", timeout)
        check_flags(urgent=urgent)
        path, clock = checked_path("folder", folder), self._core.settings.clock
        id_ = generation.id
        told: AbstractContextManager[object] = nullcontext()
        if self.observer is not None:
            told = self.observer.operation("download", generation_id=id_)

        async def checked() -> _G:
            return await self.wait_for_completion(generation.id, timeout=timeout, urgent=urgent)

        async def renew() -> list[tuple[str, str]]:
            return asset_names(await checked())

        whose = GENERATION_ID.set(id_)
        try:
            with told:
                if only is None and not generation.asset_urls:
                    generation = await checked()
                if only is None and not generation.asset_urls:
                    raise _without_pictures(name, generation)
                if only is None and (missing := generation.missing_pictures):
                    _logger.warning("%s %s has no picture at %s", name, id_, _few(missing))
                return await download_assets(
                    asset_names(generation) if only is None else only,
                    path,
                    source=self._core.open().assets,
                    # Files come in real time, however fast the server's clock runs.
                    timeout=max(clock.real(timeout), min(timeout, _LEAST_REAL)),
                    renew=renew,
                    speed=clock.speed,
                    keeps_old=keeps_old,
                )
        except LlamaGenError as error:
            raise error.about(id_) from error
        finally:
            GENERATION_ID.reset(whose)

    def _check_succeeded(self, name: str, generation: object) -> None:
        """Check an argument that has to be a generation with a result."""
        if not isinstance(generation, self._model):
            raise InvalidRequestError(name, generation, f"a {self._model.__name__}")
        if not generation.succeeded:
            raise InvalidRequestError(name, generation.status.value, f"a {name} that has succeeded")

    def _status_request(self, id_: object, params: Mapping[str, str] | None = None) -> APIRequest:
        known = checked_id("id", id_)
        path = f"{self._path}/{quote(known, safe='')}"
        # One page or panel may have an id of its own.
        whole = None if params else known
        return APIRequest(
            RequestKind.STATUS, "GET", path, params=params or None, generation_id=whole
        )


def _about(model: type[_G], id_: str, value: object) -> _G:
    """Read the answer to a status check, which may leave out the id that it was asked for.

    Without an id, an answer that something has failed may be about anything.
    """
    try:
        generation = model.parse(value)
    except ValueError:
        fields = fields_of(value)
        if not tells(fields):
            raise
        generation = model.parse({**fields, "id": id_})
        if generation.is_done and not generation.asset_urls:
            raise
    if generation.id != id_ and (own := fields_with(value, id_)) is not None:
        return model.parse(own)
    return generation


def _without_pictures(name: str, generation: ComicGeneration | Animation) -> APIError:
    places = _few(generation.missing_pictures)
    return InvalidResponseError(
        HTTPStatus.OK.value,
        None,
        f"the {name} has succeeded, but where its pictures should be there is no URL ({places})",
        generation.raw,
        advice="it is paid for and not lost: fetch it again later, its id is all that it takes",
    )


def _few(places: Sequence[str]) -> str:
    more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
    return f"{', '.join(places[:_MOST_PLACES])}{more}"


def whole_request(
    cls: type[_R], first: Any, fields: Mapping[str, Any], *, first_is: str | None = "prompt"
) -> _R:
    """Return the request that was given as a whole, or else by its fields.

    Args:
        cls: The class of the request.
        first: The first argument: a whole request, or one field of it.
        fields: The keyword arguments.
        first_is: The field that the first argument may be; `None` if it is always a whole request.

    Raises:
        InvalidRequestError: A value is not allowed, or a field was given beside a whole request.
    """
    is_whole: bool = isinstance(first, cls | Mapping) if first_is else first is not None
    if not is_whole:
        return cls.parse({first_is: first, **fields} if first_is else fields)
    for name, value in fields.items():
        raise InvalidRequestError(name, value, "nothing beside a whole request")
    return cls.parse(first)
