"""What a journal holds of a story and of an error, as text that survives a restart. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, Self, cast

import attrs

from llamagen_async.errors import (
    APIError,
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
)
from llamagen_async.models import ComicGeneration
from llamagen_async.requests import ComicRequest

__all__ = ["RequestLike", "Story", "checked_key", "dump_error", "fields_of", "load_error"]

RequestLike = str | ComicRequest | Mapping[str, Any]
"""What one story may be given as. A mapping may have a `key` of the user's own."""

_KEY: Final = "key"
_LONGEST_KEY: Final = 500
_ALLOWED_KEY: Final = f"text or a whole number, up to {_LONGEST_KEY} characters"
_API_ERRORS: Final[dict[str, type[APIError]]] = {
    error.__name__: error
    for error in (
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
}


@attrs.frozen
class Story:
    """One story as a journal knows it."""

    request: ComicRequest
    """What is asked for."""
    key: str | None
    """The user's own name for it."""
    text: str
    """The request as JSON, ready to be read back."""
    digest: bytes
    """Stands for its content: two stories with the same one ask for the same."""

    @classmethod
    def parse(cls, given: RequestLike, key: object = None) -> Self:
        """Check what was given.

        Args:
            given: The story; a mapping's `key` is the user's own name for it and is not sent.
            key: The user's own name, if it is not in the mapping.

        Raises:
            InvalidRequestError: A field or the key is not allowed.
        """
        if isinstance(given, Mapping) and _KEY in given:
            fields = dict(given)
            key = fields.pop(_KEY)
            given = fields
        request = ComicRequest.parse(given)
        # Through JSON and back: names that are numbers can't be sorted among others.
        content = json.loads(json.dumps(request.to_payload()))
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return cls(
            request,
            None if key is None else checked_key(key),
            json.dumps(fields_of(request), separators=(",", ":")),
            hashlib.sha256(canonical.encode()).digest()[:16],
        )


def checked_key(key: object) -> str:
    """Return a key as text.

    Raises:
        InvalidRequestError: It is not one.
    """
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not key.strip() or len(key) > _LONGEST_KEY:
        raise InvalidRequestError(_KEY, key, _ALLOWED_KEY)
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(_KEY, key, _ALLOWED_KEY) from None
    return key


def fields_of(request: ComicRequest) -> dict[str, Any]:
    """Return a request as `ComicRequest.parse` reads it back."""
    # New fields stay apart: on the way in, unknown names are taken for typing errors.
    known = attrs.evolve(request, extra={}).to_payload()
    return {**known, "extra": dict(request.extra)} if request.extra else known


def dump_error(error: BaseException) -> str:
    """Return what is kept of an error: its kind and its words, and not the server's whole body."""
    kept: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, APIError):
        kept |= {"status": error.status, "code": error.code, "message": error.message}
    elif isinstance(error, SubmissionUncertainError):
        kept["message"] = error.reason
    elif isinstance(error, InvalidRequestError):
        kept |= {"field": error.field, "value": repr(error.value)[:200], "allowed": error.allowed}
    return json.dumps(kept)


def load_error(
    text: str, request: ComicRequest | None, generation: ComicGeneration | None
) -> LlamaGenError:
    """Return the error that was kept; of a kind that is not known, its words.

    Raises:
        ValueError: It is not what `dump_error` returns.
    """
    kept = cast("dict[str, Any]", json.loads(text))
    try:
        name, message = kept["type"], str(kept["message"])
        if name == GenerationFailedError.__name__ and generation is not None:
            return GenerationFailedError(generation)
        if name == SubmissionUncertainError.__name__:
            return SubmissionUncertainError(request, message)
        if name == InvalidRequestError.__name__:
            return InvalidRequestError(kept["field"], kept["value"], kept["allowed"])
        if name in _API_ERRORS:
            return _API_ERRORS[name](kept["status"], kept["code"], message)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not an error") from error
    return LlamaGenError(message)
