"""Opening pictures and videos with aiohttp: no key, redirects followed, failures told apart.

Assets live on other hosts than the API. Their URLs may be signed, so that whoever has one can read
the picture: no message shows more than host and path. Nothing here writes a file or tries again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

import aiohttp
from yarl import URL

from llamagen_async.errors import InvalidRequestError, InvalidResponseError, LlamaGenError
from llamagen_async.transport.decoding import clean_text
from llamagen_async.transport.failures import connection_error
from llamagen_async.transport.message import AssetStream

__all__ = ["asset_place", "open_asset"]

_MAX_REDIRECTS: Final = 5
_CHUNK: Final = 1 << 18
"""Bytes of the largest piece that is handed on."""


def open_asset(
    session: aiohttp.ClientSession, url: str, *, headers: Mapping[str, str], inactivity: float
) -> AbstractAsyncContextManager[AssetStream]:
    """Open `url` with a GET when the result is entered.

    Args:
        session: What to send with; its middlewares do not apply.
        url: An http or https URL.
        headers: The request's headers; they never hold a key.
        inactivity: Seconds without a byte, or without a connection, after which it is given up.

    Raises:
        InvalidRequestError: It is not an http or https URL.
        APIConnectionError: No answer came (on entering).
        InvalidResponseError: There are more than five redirects, or one leads to something other
            than http or https (on entering).
    """
    place = asset_place(url)
    timeout = aiohttp.ClientTimeout(total=None, connect=inactivity, sock_read=inactivity)
    # As it is, not compressed: lengths and ranges then mean the bytes of the file.
    return _Opening(session, url, place, {**headers, "Accept-Encoding": "identity"}, timeout)


def asset_place(url: str) -> str:
    """Return host and path of an asset's URL, which may be shown; its query may not.

    Raises:
        InvalidRequestError: It is not an http or https URL.
    """
    try:
        parsed = URL(url)
        place = f"{parsed.host_port_subcomponent or ''}{parsed.raw_path}"
        valid = parsed.scheme in ("http", "https") and bool(parsed.host)
    except (ValueError, TypeError):
        place, valid = "", False
    if not valid:
        raise InvalidRequestError("url", clean_text(place, 80), "an http or https URL")
    return clean_text(place, 120)


class _Stream:
    """An open asset."""

    def __init__(self, response: aiohttp.ClientResponse, place: str) -> None:
        self._response = response
        self._place = place

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                chunk = await self._response.content.read(_CHUNK)
            except (aiohttp.ClientError, OSError) as error:
                failure = connection_error(error, self._place)
            else:
                if not chunk:
                    return
                yield chunk
                continue
            raise failure


class _Opening:
    """Sends the request on entering, and gives the connection back on leaving."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        place: str,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> None:
        self._session = session
        self._url = url
        self._place = place
        self._headers = headers
        self._timeout = timeout
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> AssetStream:
        failure: LlamaGenError
        try:
            self._response = await self._session.get(
                # A signed URL is valid as it is written, and not otherwise.
                URL(self._url, encoded=_is_encoded(self._url)),
                headers=self._headers,
                timeout=self._timeout,
                max_redirects=_MAX_REDIRECTS + 1,  # aiohttp counts the answers, not the jumps
                raise_for_status=False,
                middlewares=(),
            )
        except aiohttp.TooManyRedirects as error:
            failure = self._lost(error.status, f"more than {_MAX_REDIRECTS} redirects")
        except aiohttp.RedirectClientError:
            failure = self._lost(302, "a redirect to something other than http or https")
        except (aiohttp.ClientError, OSError) as error:
            failure = connection_error(error, self._place)
        else:
            return _Stream(self._response, self._place)
        raise failure

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            # Closes the connection if there is more to come, else keeps it for the next one.
            self._response.release()

    def _lost(self, status: int, what: str) -> InvalidResponseError:
        return InvalidResponseError(status, None, f"{self._place}: {what}")


def _is_encoded(url: str) -> bool:
    return url.isascii() and url.isprintable() and not any(mark in url for mark in ' "<>\\^`{|}')
