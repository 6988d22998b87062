"""Data that crosses the transport: a request, its decoded answer, and who carries them.

`Transport` and `AssetSource` are the seams of this package: the aiohttp edge implements them over
the network, simulations implement them in virtual time. Nothing here does I/O, checks what it is
given, or holds the API key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import attrs

from llamagen_async.errors import APIError
from llamagen_async.plans import RequestKind

__all__ = [
    "APIRequest",
    "APIResponse",
    "AnsweredCancelledError",
    "AssetSource",
    "AssetStream",
    "FormFile",
    "Transport",
    "UnsentCancelledError",
]


@attrs.frozen
class FormFile:
    """One file of a multipart upload.

    The API takes reference images and documents under the field `file` (vendor's own clients).
    """

    filename: str
    """The name the server is told."""
    content: bytes | Path = attrs.field(repr=False)
    """The whole file, or where it is: then it is read when it is sent."""
    content_type: str = "application/octet-stream"
    """The MIME type of the content."""
    field: str = "file"
    """The form field that holds it."""


@attrs.frozen
class APIRequest:
    """One request to the API, before it has a host and a key."""

    kind: RequestKind
    """The kind of request, on which limits and retries depend."""
    method: str
    """The HTTP method, in capitals."""
    path: str
    """The path below the base URL, percent-encoded, such as `/comics/generations`."""
    params: Mapping[str, str] | None = attrs.field(default=None, kw_only=True, hash=False)
    """The query."""
    json: object = attrs.field(default=None, kw_only=True, repr=False, hash=False)
    """The JSON body; `None` is no body. Not together with `form`."""
    form: FormFile | None = attrs.field(default=None, kw_only=True)
    """The file of a multipart body."""
    generation_id: str | None = attrs.field(default=None, kw_only=True)
    """The generation that the answer has to be about; `None` if that is not known before."""


@attrs.frozen
class APIResponse:
    """One successful (2xx) answer, decoded."""

    status: int
    """The HTTP status."""
    headers: Mapping[str, str] = attrs.field(repr=False, hash=False)
    """The answer's headers; the aiohttp edge gives a mapping that ignores case."""
    body: object = attrs.field(hash=False)
    """The decoded JSON."""
    rate_limit: tuple[int | None, int | None] = (None, None)
    """How many requests the server says it allows, and how many of them are left, where its
    headers tell."""


class UnsentCancelledError(asyncio.CancelledError):
    """Sending was cancelled before anything of the request had left."""


class AnsweredCancelledError(asyncio.CancelledError):
    """Sending was cancelled while the answer came, and enough of it had come to know the outcome.

    Args:
        outcome: The answer, or the error that it stands for.
    """

    def __init__(self, outcome: APIResponse | APIError) -> None:
        super().__init__()
        self.outcome = outcome


class Transport(Protocol):
    """Carries one request out and one answer in.

    A transport never waits for a rate limit, never decides when to send, and never sends a request
    twice.
    """

    async def send(self, request: APIRequest) -> APIResponse:
        """Send `request` once.

        Raises:
            InvalidRequestError: The request can't be sent as it is; nothing left.
            APIError: The server answered with something other than success.
            APIConnectionError: No answer came; `request_sent` tells whether it may have arrived.
            UnsentCancelledError: It was cancelled, and provably did not arrive.
            AnsweredCancelledError: It was cancelled, and its outcome is known all the same.
        """
        ...

    async def aclose(self) -> None:
        """Give back what is held. Nothing can be sent afterwards."""
        ...


class AssetStream(Protocol):
    """The answer to one request for an asset: its head has come, its content is yet to be read."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, in a mapping that ignores case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content piece by piece.

        Raises:
            APIConnectionError: The content broke off.
        """
        ...


class AssetSource(Protocol):
    """Opens pictures and videos, which live on other hosts than the API and get no key."""

    def open_asset(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[AssetStream]:
        """Open `url` with a GET that carries no key, and follow its redirects.

        Raises:
            InvalidRequestError: It is not an http or https URL.
            APIConnectionError: No answer came.
            InvalidResponseError: Its redirects do not lead to an asset.
        """
        ...

    async def aclose(self) -> None:
        """Give back what is held. Nothing can be opened afterwards."""
        ...
