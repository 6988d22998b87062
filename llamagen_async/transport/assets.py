"""Opening pictures and videos with aiohttp: no key, redirects followed, failures told apart.

Assets live on other hosts than the API. Their URLs may be signed, so that whoever has one can read
the picture: no message shows more than host and path. Nothing here writes a file or tries again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Final

import aiohttp
import attrs
from yarl import URL

from llamagen_async.errors import InvalidRequestError, InvalidResponseError, LlamaGenError
from llamagen_async.transport.address import proxy_for
from llamagen_async.transport.decoding import clean_text
from llamagen_async.transport.failures import connection_error
from llamagen_async.transport.message import AssetStream

__all__ = ["asset_location", "open_asset"]

_MAX_REDIRECTS: Final = 5
"""Redirects that are followed, at most."""
_ENCODED: Final = r"[!#-;=?-\[\]_a-z~]+"
"""A URL that needs no encoding: printable ASCII but for blanks and `"<>\\^`{|}`."""
_CHUNK: Final = 1 << 18
"""Bytes of the largest piece that is handed on."""


@contextlib.asynccontextmanager
async def open_asset(
    session: aiohttp.ClientSession,
    url: str,
    *,
    headers: Mapping[str, str],
    inactivity: float,
    proxy: str | None,
) -> AsyncGenerator[AssetStream, None]:
    """Open `url` with a GET while the result is entered.

    Args:
        session: Sends the request; its middlewares do not apply.
        url: An http or https URL.
        headers: The request's headers; they never hold a key.
        inactivity: Seconds without a byte, or without a connection, after which it is given up.
        proxy: The proxy's URL; `""` is what the session says, `None` what the environment says.

    Raises:
        InvalidRequestError: The URL is not http or https.
        APIConnectionError: No answer came.
        InvalidResponseError: There are more than five redirects, or one leads to something other
            than http or https.
    """
    location = asset_location(url)
    failure: LlamaGenError
    try:
        response = await session.get(
            # A signed URL is valid as it is written, and not otherwise.
            URL(url, encoded=re.fullmatch(_ENCODED, url) is not None),
            # As it is, not compressed: lengths and ranges then mean the bytes of the file.
            headers={**headers, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, connect=inactivity, sock_read=inactivity),
            max_redirects=_MAX_REDIRECTS + 1,  # aiohttp counts the answers, not the redirects
            raise_for_status=False,
            proxy=proxy_for(URL(url), proxy),
            middlewares=(),
        )
    except aiohttp.TooManyRedirects as error:
        what = f"more than {_MAX_REDIRECTS} redirects"
        failure = InvalidResponseError(error.status, None, f"{location}: {what}")
    except aiohttp.RedirectClientError:
        what = "a redirect to something other than http or https"
        failure = InvalidResponseError(302, None, f"{location}: {what}")
    except Exception as error:  # noqa: BLE001  # whatever a user's session raises
        failure = connection_error(error, location)
    else:
        try:
            yield _Stream(response.status, response.headers, response, location)
        finally:
            # Closes the connection if there is more to come, else keeps it for the next one.
            response.release()
        return
    # Raised out here, so that it does not carry aiohttp's error and with it the URL.
    raise failure


def asset_location(url: str) -> str:
    """Return the host and path of an asset's URL: they may be shown, its query may not.

    Raises:
        InvalidRequestError: The URL is not http or https.
    """
    try:
        parsed = URL(url)
        location = f"{parsed.host_port_subcomponent or ''}{parsed.raw_path}"
        valid = parsed.scheme in ("http", "https") and bool(parsed.host)
    except (ValueError, TypeError):
        location, valid = "", False
    if not valid:
        raise InvalidRequestError("url", clean_text(location, 80), "an http or https URL")
    return clean_text(location, 120)


@attrs.frozen
class _Stream:
    """An open asset."""

    status: int
    headers: Mapping[str, str]
    response: aiohttp.ClientResponse
    location: str

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                chunk = await self.response.content.read(_CHUNK)
            except Exception as error:  # noqa: BLE001  # whatever a user's session raises
                failure = connection_error(error, self.location)
            else:
                if not chunk:
                    return
                yield chunk
                continue
            raise failure
