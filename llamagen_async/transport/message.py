"""What crosses the transport: a request, its decoded answer, and who carries them.

`Transport` and `AssetSource` are the seams of this package: the aiohttp edge implements them over
the network, simulations implement them in virtual time. Nothing here does I/O, and nothing here
holds the API key.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import attrs

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import RequestKind

__all__ = ["APIRequest", "APIResponse", "AssetSource", "AssetStream", "FormFile", "Transport"]

_METHODS: Final = ("GET", "POST", "PATCH", "PUT", "DELETE")
_PATH: Final = r"/[!\"$->@-\[\]-~]*"
"""Visible ASCII without what ends a path (`?`, `#`) or what some take for a slash (`\\`)."""


def _method(_instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if value not in _METHODS:
        raise InvalidRequestError(attribute.name, value, f"one of {', '.join(_METHODS)}")


def _path(_instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if (
        not isinstance(value, str)
        or not re.fullmatch(_PATH, value)
        or ("/." in value and any(part in (".", "..") for part in value.split("/")))
    ):
        raise InvalidRequestError(
            attribute.name, value, "a percent-encoded path that starts with / and has no query"
        )


@attrs.frozen
class FormFile:
    """One file of a multipart upload.

    The API takes reference images and documents under the field `file` (vendor's own clients).
    """

    filename: str
    """The name the server is told."""
    content: bytes = attrs.field(repr=False)
    """All of it."""
    content_type: str = "application/octet-stream"
    """Its MIME type."""
    field: str = "file"
    """The form field that holds it."""


@attrs.frozen
class APIRequest:
    """One request to the API, before it has a host and a key.

    Raises:
        InvalidRequestError: The method is unknown, the path could leave the API's own paths, or
            there are two bodies.
    """

    kind: RequestKind
    """What it does, as far as limits and safety are concerned."""
    method: str = attrs.field(validator=_method)
    """The HTTP method, in capitals."""
    path: str = attrs.field(validator=_path)
    """The path below the base URL, percent-encoded, such as `/comics/generations`."""
    params: Mapping[str, str] | None = attrs.field(default=None, kw_only=True)
    """The query."""
    json: object = attrs.field(default=None, kw_only=True, repr=False)
    """The JSON body; `None` is no body."""
    form: FormFile | None = attrs.field(default=None, kw_only=True)
    """The file of a multipart body."""

    def __attrs_post_init__(self) -> None:
        if self.json is not None and self.form is not None:
            raise InvalidRequestError("form", self.form.filename, "nothing when json is given")


@attrs.frozen
class APIResponse:
    """One successful (2xx) answer, decoded."""

    status: int
    """The HTTP status."""
    headers: Mapping[str, str] = attrs.field(repr=False)
    """The answer's headers; the aiohttp edge gives a mapping that ignores case."""
    body: object
    """The decoded JSON."""


class Transport(Protocol):
    """Carries one request out and one answer in.

    It never waits for a rate limit, never decides when to send, never sends a request twice.
    """

    async def send(self, request: APIRequest) -> APIResponse:
        """Send `request` once.

        Raises:
            APIError: The server answered with something other than success.
            APIConnectionError: No answer came; `request_sent` tells whether it may have arrived.
        """
        ...

    async def aclose(self) -> None:
        """Give back what is held. Nothing can be sent afterwards."""
        ...


class AssetStream(Protocol):
    """The answer to one request for an asset: its head is here, its content is yet to come."""

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
