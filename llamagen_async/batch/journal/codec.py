"""Rows: how a journal keeps requests, answers and errors as text. No I/O."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final, Self, cast

import attrs

from llamagen_async.batch.journal.story import Story, request_in
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.foreign import clean_text
from llamagen_async.models import Animation, AnyGeneration, BatchState, ComicGeneration
from llamagen_async.requests import AnyRequest, RequestType
from llamagen_async.validation import shown

__all__ = [
    "COLUMNS",
    "AccountId",
    "Row",
    "dump_error",
    "dump_generation",
    "load_error",
]

_LONGEST_MESSAGE: Final = 1000
"""Characters that are kept of an error's words."""
_API_ERRORS: Final[tuple[type[APIError], ...]] = (
    APIError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditsError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
"""The errors that are read back as what they were."""

_CONNECTION_ERRORS: Final = (APIConnectionError, APITimeoutError)
"""Errors that know whether the request left, and are read back as what they were, too."""

_dump: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode
_NESTED: Final = 100
"""Objects and lists inside each other that are kept of an answer: a comic has six."""

_LATEST: Final = 1e11
"""Unix time that no clock of this millennium shows, in seconds."""

_MOST_CREDITS: Final = 1e16
"""Credits that nothing costs: more than the largest number that is read."""

COLUMNS: Final = (
    "id, key, digest, request, type, of_key, target, urgent, label, position, state, attempts, "
    "generation_id, generation, error, files, queued_at, sent_at, accepted_at, ended_at, credits, "
    "worker"
)
"""The columns of a `Row`, in the order of its fields."""


@attrs.frozen
class AccountId:
    """One API key at one server: the account whose generations a journal holds."""

    base_url: str
    """The server's address."""
    account: str
    """A hash of the key, from which the key can't be found."""

    @classmethod
    def of(cls, api_key: str, base_url: str) -> Self:
        """Return the account of a key at a server; the key itself is not kept."""
        text = "\x1f".join(("llamagen_async journal", api_key, base_url))
        return cls(base_url, hashlib.sha256(text.encode()).hexdigest()[:32])


def _flag(value: object) -> bool:
    if value not in (0, 1):
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return bool(value)


@attrs.frozen
class Row:
    """One story as the journal has it.

    Raises:
        ValueError, TypeError: It is not as it was written.
    """

    serial: int
    """The number of the read that gave this row: a higher one is newer."""
    id: int
    """The row's number in the journal."""
    key: str
    """The story's name: the user's own, or one made of its content and of how many stories with
    the same content came before it."""
    digest: bytes
    """A hash of the request's content."""
    request_text: str = attrs.field(repr=False)
    """The story as JSON: a request's fields, its type unless it is a comic, and what it changes."""
    type: RequestType = attrs.field(converter=RequestType)
    """The type of the request."""
    of: str | None
    """The key of the story whose comic is changed; `None` if the request changes none, or one that
    is named by its id."""
    target: str | None
    """The id of the comic that is changed; `None` if there is none yet, or none is changed."""
    urgent: bool = attrs.field(converter=_flag)
    """Whether somebody waits for it interactively."""
    label: str
    """Where the story stands in its file, such as `stories.jsonl:7`; empty if nobody said."""
    position: int | None
    """The story's number in the input of the newest batch that asked for it, from 0."""
    state: BatchState = attrs.field(converter=BatchState)
    """How far the story has come."""
    attempts: int
    """How often the request was about to be sent."""
    generation_id: str | None
    """The server's id of the comic, once it was accepted."""
    generation_text: str | None = attrs.field(repr=False)
    """The server's last answer about the comic, as JSON."""
    error_text: str | None
    """Why the story failed, as JSON."""
    files_text: str | None
    """The comic's pictures, as JSON: paths relative to the output folder."""
    queued_at: float
    """Unix time at which the story was added, in seconds."""
    sent_at: float | None
    """Unix time at which the request was last about to be sent."""
    accepted_at: float | None
    """Unix time at which the server's answer came."""
    ended_at: float | None
    """Unix time at which the comic's end was seen."""
    credits: float | None = None
    """Credits that the story has cost, when it was last sent: the estimate until the server has
    said; `None` if it was not sent, or nobody knows."""
    worker: str | None = None
    """The worker of a shared journal that takes the story to its end; empty if it was given up
    until somebody asks, and `None` if it waits, has ended, or the journal has one owner."""
    since: float | None = attrs.field(default=None, eq=False, repr=False)
    """Time of the event loop's clock since which it waits, if that is not since it was read."""

    def __attrs_post_init__(self) -> None:
        texts = (self.key, self.request_text, self.label)
        others = (
            *(self.of, self.target, self.generation_id),
            *(self.generation_text, self.error_text, self.files_text, self.worker),
        )
        is_text = all(isinstance(text, str) for text in texts)
        is_text = is_text and all(text is None or isinstance(text, str) for text in others)
        if not (is_text and isinstance(self.digest, bytes)):
            raise TypeError("a text or a digest is something else")
        for when in (self.queued_at, self.sent_at, self.accepted_at, self.ended_at):
            if when is not None and not 0 <= when < _LATEST:
                raise ValueError(f"{when} is no time")
        if self.credits is not None and not 0 <= self.credits < _MOST_CREDITS:
            raise ValueError(f"{self.credits} is no number of credits")

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the request, as they are written down.

        Raises:
            ValueError: The row is damaged.
        """
        fields = _loaded(self.request_text)
        if not isinstance(fields, dict):
            raise ValueError("the request has no fields")  # noqa: TRY004  # of a damaged row
        return cast("dict[str, Any]", fields)

    @property
    def request(self) -> AnyRequest:
        """The request.

        Raises:
            InvalidRequestError: This version does not allow it any more.
            ValueError: The row is damaged.
        """
        return request_in(_loaded(self.request_text))

    @property
    def story(self) -> Story:
        """The story, as if it stood in an input.

        Raises:
            InvalidRequestError: This version does not allow it any more.
            ValueError: The row is damaged.
        """
        target = None if self.of is not None else self.target
        names = self.request_text, self.digest, self.label, self.type, self.of, target
        return Story(self.request, self.key, *names)

    @property
    def generation(self) -> AnyGeneration | None:
        """The server's last answer about the comic or animation, or `None` before the first one.

        Raises:
            ValueError: The row is damaged.
        """
        if self.generation_text is None:
            return None
        is_video = self.type is RequestType.ANIMATION
        model = Animation if is_video else ComicGeneration
        return model.parse(_loaded(self.generation_text))

    def changed(self, state: BatchState, values: Mapping[str, Any]) -> Self:
        """Return the row as it would be, had a change been written."""
        return attrs.evolve(
            self,
            serial=self.serial + 1,
            state=state,
            generation_id=values["generation_id"] or self.generation_id,
            generation_text=values["generation"] or self.generation_text,
            error_text=values["error"],
            files_text=values["files"] or self.files_text,
            accepted_at=self.accepted_at or values["accepted_at"],
            ended_at=values["ended_at"] or self.ended_at,
            credits=self.credits if values["credits"] is None else values["credits"],
        )

    def values(self) -> dict[str, Any]:
        """Return how far the story has come, as it is written to the row's columns."""
        return {
            "id": self.id,
            "state": self.state.value,
            "attempts": 0,
            "generation_id": self.generation_id,
            "generation": self.generation_text,
            "error": self.error_text,
            "files": self.files_text,
            "sent_at": None,
            "accepted_at": self.accepted_at,
            "ended_at": self.ended_at,
            "credits": self.credits,
            "worker": self.worker,
        }

    @property
    def files(self) -> tuple[str, ...]:
        """The comic's pictures, as paths relative to the output folder.

        Raises:
            ValueError, TypeError: The row is damaged.
        """
        names: object = [] if self.files_text is None else _loaded(self.files_text)
        if not isinstance(names, list):
            raise TypeError("the files are no list")
        for name in cast("list[object]", names):
            if not isinstance(name, str) or not name or {"..", "/"} & {*PurePath(name).parts}:
                raise ValueError(f"{name!r} is no file in the folder")
        return tuple(cast("list[str]", names))

    def check(self, generation: AnyGeneration | None) -> None:
        """Make sure that the row's parts agree.

        Args:
            generation: The server's last answer, as it is in the row.

        Raises:
            ValueError: The row is damaged.
        """
        id_ = None if generation is None else generation.id
        is_accepted = self.state in (BatchState.RUNNING, BatchState.SUCCEEDED)
        if id_ != self.generation_id or (is_accepted and id_ is None):
            raise ValueError(f"generation {self.generation_id} has an answer about {id_}")
        assert self.files is not None

    def error(
        self, request: AnyRequest | None, generation: AnyGeneration | None
    ) -> LlamaGenError | None:
        """Return why the story failed, or `None` if it did not.

        Args:
            request: The story's request, for the error.
            generation: The server's last answer, for the error.

        Raises:
            ValueError: The row is damaged.
        """
        if self.error_text is not None:
            return load_error(self.error_text, request, generation)
        if self.state is BatchState.FAILED and generation is not None:
            return GenerationFailedError(generation)
        return None


def dump_generation(generation: AnyGeneration) -> str:
    """Return the server's answer as JSON, or what a journal needs of one that can't be kept."""
    with contextlib.suppress(ValueError, RecursionError):
        text = _dump(generation.raw)
        # Whoever reads it may be deeper in the stack, so it has to be far from the limit.
        if text.count("[") + text.count("{") <= _NESTED or not _is_deep(generation.raw):
            return text
    return _dump({"id": generation.id, "status": generation.status.value})


def _loaded(text: str) -> object:
    """Return the JSON of a row.

    Raises:
        ValueError: The row is damaged.
    """
    try:
        loaded: object = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return loaded


def _is_deep(value: object, left: int = _NESTED) -> bool:
    if isinstance(value, Mapping):
        value = list(cast("Mapping[str, object]", value).values())
    if not isinstance(value, list):
        return False
    return left == 0 or any(_is_deep(one, left - 1) for one in cast("list[object]", value))


def dump_error(error: BaseException) -> str:
    """Return an error's kind and words as JSON, without the server's whole body."""
    message = clean_text(str(error), _LONGEST_MESSAGE)
    kept: dict[str, Any] = {"type": type(error).__name__, "message": message}
    if isinstance(error, APIError):
        names = "status", "code", "message", "request_id", "advice"
        kept |= {name: getattr(error, name) for name in names}
    elif isinstance(error, APIConnectionError):
        kept["request_sent"] = error.request_sent
    elif isinstance(error, SubmissionUncertainError):
        kept["message"] = error.reason
    elif isinstance(error, WaitTimeoutError):
        kept |= {"id": error.id, "waited": error.waited, "last_error": error.last_error}
    elif isinstance(error, InvalidRequestError):
        kept |= {"field": error.field, "value": shown(error.value), "allowed": error.allowed}
    if isinstance(error, APIError | SubmissionUncertainError) and error.id is not None:
        kept["id"] = error.id  # it may be paid for, and stand nowhere else
    return json.dumps(kept)


def load_error(
    text: str, request: AnyRequest | None, generation: AnyGeneration | None
) -> LlamaGenError:
    """Return the error that `dump_error` wrote; an unknown kind becomes a `LlamaGenError`.

    Raises:
        ValueError: The text is not one that `dump_error` wrote.
    """
    kept: Any = _loaded(text)
    try:
        name, message = kept["type"], str(kept["message"])
        if name == GenerationFailedError.__name__ and generation is not None:
            return GenerationFailedError(generation)
        if name == SubmissionUncertainError.__name__:
            uncertain = SubmissionUncertainError(request, message)
            uncertain.id = kept.get("id")
            return uncertain
        if name == WaitTimeoutError.__name__:
            return WaitTimeoutError(kept["id"], kept["waited"], kept["last_error"])
        if name == InvalidRequestError.__name__:
            return InvalidRequestError(kept["field"], kept["value"], kept["allowed"])
        for lost in _CONNECTION_ERRORS:
            if name == lost.__name__:
                return lost(message, request_sent=bool(kept.get("request_sent", True)))
        for kind in _API_ERRORS:
            if name == kind.__name__:
                more = {name: kept[name] for name in ("request_id", "advice") if kept.get(name)}
                refusal = kind(kept["status"], kept["code"], message, **more)
                refusal.id = kept.get("id")
                return refusal
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not an error") from error
    return LlamaGenError(message)
