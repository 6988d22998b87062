"""Opening pictures and videos with aiohttp: no secrets sent, nothing inside reached.

Assets live on other hosts than the API, at addresses that the server names. They travel in a
session of their own: it shares the proxy with the API's session, and a user's connector with its
TLS, and neither headers, cookies, credentials nor `~/.netrc`. Their URLs may be signed, so that
whoever has one can read the picture: no message shows more than host and path. Plain http is
allowed, since nothing secret is sent.

What only this machine or its network can reach is not asked: each host, also that of a redirect,
is looked up first, and the address of each connection is checked before the first byte is sent on
it, so that a name that changes its address meanwhile gains nothing. Loopback is allowed if the API
is there, too. Through a proxy, or with a connector of another kind than aiohttp's own for TCP, the
connection ends at an address that cannot be seen from here: then a host that is an address, or a
name that this machine can look up, is checked, and the proxy has to see to the others. The same
goes for a program that gives each name an address of its own, see `stands_for_a_name`.

Nothing here writes a file or tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote

import aiohttp
import attrs
from aiohttp.connector import Connection
from yarl import URL

from llamagen_async._version import __version__
from llamagen_async.errors import (
    ClientClosedError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
)
from llamagen_async.transport.address import asset_location
from llamagen_async.transport.content import LONGEST_LINE, MOST_HEADERS
from llamagen_async.transport.failures import connection_error
from llamagen_async.transport.framing import keep_whole, left_in
from llamagen_async.transport.http import HTTPTransport
from llamagen_async.transport.message import AssetStream
from llamagen_async.transport.public import (
    Address,
    is_public,
    parse_host,
    stands_for_a_name,
    unwrapped,
)
from llamagen_async.transport.unpacking import HEAD, Unpacker, coding_of, is_packed

__all__ = ["HTTPAssets"]

_MAX_REDIRECTS: Final = 5
"""Redirects that are followed, at most."""
_REDIRECTS: Final = (301, 302, 303, 307, 308)
"""The statuses that send elsewhere (RFC 9110)."""
_UNENCODED: Final = r"[^!#-;=?-\[\]_a-z~]"
"""What stands in no URL: all but printable ASCII, and of that blanks and `"<>\\^`{|}`."""
_CHUNK: Final = 1 << 18
"""Bytes of the largest piece that is handed on, also of what is unpacked."""
_RESOLVING: Final = 5.0
"""Seconds for which a host is looked up before its connection is: that one is checked anyway."""
_KEEPALIVE: Final = 5.0
"""Seconds for which an idle connection is used again: as long as a comic's pictures follow one
another. One that was dropped meanwhile costs another connection, and nothing else."""
_AGENT: Final = f"llamagen-async/{__version__}"
_PUBLIC: Final = "an http or https URL of a public host"


class HTTPAssets:
    """Opens pictures and videos over the network; see `AssetSource`.

    Args:
        transport: The API's transport, whose proxy and user's connector are shared.
        inactivity: Seconds without a byte, or for connection and head, after which an answer is
            given up.
    """

    def __init__(self, transport: HTTPTransport, *, inactivity: float = 60.0) -> None:
        self._transport = transport
        self._inactivity = inactivity
        self._timeout = aiohttp.ClientTimeout(total=None, sock_read=inactivity)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._open = set[aiohttp.ClientResponse]()

    @contextlib.asynccontextmanager
    async def open_asset(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[AssetStream, None]:
        """Open `url` with a GET while the result is entered, and follow up to five redirects.

        Args:
            url: An http or https URL of a public host.
            headers: Further headers, such as `Range`; they never hold a key.

        Raises:
            InvalidRequestError: The URL, or one that it redirects to, is not such a URL.
            APIConnectionError: No answer came.
            InvalidResponseError: There are more than five redirects, or one leads to something
                other than http or https.
            ClientClosedError: The client is closed or belongs to another event loop.
        """
        location = asset_location(url)
        to = _as_written(url)
        status = 0
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._get(to, asset_location(str(to)), headers or {})
            status = response.status
            self._open.add(response)
            try:
                target = response.headers.get("Location")
                if response.status not in _REDIRECTS or not target:
                    stream = _Stream(response.status, response.headers, response, location)
                    try:
                        yield stream
                    finally:
                        await stream.aclose()
                    return
            finally:
                # Closes the connection if there is more to come, else keeps it for the next one.
                response.release()
                self._open.discard(response)
            to = _redirected(to, target, location)
        what = f"more than {_MAX_REDIRECTS} redirects"
        raise InvalidResponseError(status, None, f"{location}: {what}")

    async def aclose(self) -> None:
        """Close the session, but not a user's connector. Nothing can be opened afterwards.

        Whoever reads an asset meanwhile is told that it has broken off.

        If this is cut short, calling it again finishes it.
        """
        self._closed = True
        for response in self._open:
            response.close()
        if self._session is not None:
            await self._session.close()

    async def _get(
        self, url: URL, location: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send one GET and return the answer's head."""
        session = self._opened()
        await self._check(url, location)
        failure: LlamaGenError
        try:
            async with asyncio.timeout(self._inactivity):  # a head may come byte by byte
                return await session.get(
                    url,
                    # Not compressed: lengths and ranges then mean the bytes of the file.
                    headers={"User-Agent": _AGENT, **headers, "Accept-Encoding": "identity"},
                    proxy=self._transport.proxy_for(url),
                    timeout=self._timeout,
                    allow_redirects=False,
                    max_line_size=LONGEST_LINE,
                    max_field_size=LONGEST_LINE,
                    max_headers=MOST_HEADERS,
                )
        except _InsideError:
            failure = _refused(location)
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, aiohttp.InvalidURL):
                failure = InvalidRequestError("url", location, _PUBLIC)
            else:
                failure = connection_error(error, location)
        except Exception as error:  # noqa: BLE001  # of a hook or a connector, and it may hold the URL
            allowed = f"a URL that can be opened ({type(error).__name__})"
            failure = InvalidRequestError("url", location, allowed)
            if self._closed:
                failure = ClientClosedError("the client was closed")
        # Raised out here, so that it does not carry aiohttp's error and with it the URL.
        raise failure

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ClientClosedError("the client is closed")
        lent = self._transport.lend_connector()
        if self._session is None:
            guarded = _SandboxRequest if self._transport.is_loopback else _PublicRequest
            # What another connector connects to, such as a SOCKS proxy, is not the host itself.
            is_seen = lent is None or type(lent) is aiohttp.TCPConnector
            self._session = aiohttp.ClientSession(
                connector=lent or aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE),
                connector_owner=lent is None,
                cookie_jar=aiohttp.DummyCookieJar(),
                request_class=guarded if is_seen else _Request,
                auto_decompress=False,
            )
        return self._session

    async def _check(self, url: URL, location: str) -> None:
        """Refuse a host that is inside, before a connection is made to it.

        Raises:
            InvalidRequestError: The host is, or its name leads to, no public address.
        """
        host = url.raw_host or ""
        address = parse_host(host)
        addresses = await _resolve(host) if address is None else [address]
        allows_loopback = self._transport.is_loopback
        if not all(_is_allowed(one, host, allows_loopback=allows_loopback) for one in addresses):
            raise _refused(location)


class _InsideError(aiohttp.ClientError):
    """A connection leads to an address that is not public."""


class _Request(aiohttp.ClientRequest):
    """A request that is answered by its own answer, or by none.

    One that breaks is given up at once, and not when time is up.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send the request.

        Raises:
            aiohttp.ServerDisconnectedError: Something has come on the connection that nobody has
                asked for, such as the last picture once more. aiohttp takes another connection.
        """
        if conn.protocol is None or len(conn.protocol):
            raise aiohttp.ServerDisconnectedError
        keep_whole(conn)
        return await super().send(conn)


class _PublicRequest(_Request):
    """A request that goes out on no connection to an address that is not public."""

    allows_loopback = False

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send the request, if its connection may be used.

        Raises:
            _InsideError: It may not.
        """
        if self.proxy is None:
            peer = conn.transport.get_extra_info("peername") if conn.transport else None
            if not peer:
                raise aiohttp.ServerDisconnectedError
            to, host = ip_address(peer[0]), self.url.raw_host or ""
            if not _is_allowed(to, host, allows_loopback=self.allows_loopback):
                raise _InsideError
        return await super().send(conn)


class _SandboxRequest(_PublicRequest):
    """A request for a picture of an API that is on this machine itself."""

    allows_loopback = True


@attrs.frozen
class _Stream:
    """An open asset."""

    status: int
    headers: Mapping[str, str]
    response: aiohttp.ClientResponse
    location: str

    _begun: list[AsyncGenerator[bytes, None]] = attrs.field(
        init=False, factory=list[AsyncGenerator[bytes, None]]
    )
    """The generators that read it."""

    def chunks(self) -> AsyncIterator[bytes]:
        return self._begin(self._chunks())

    async def aclose(self) -> None:
        """Close the generators that nobody has read to the end: else the loop does, in tasks."""
        for one in self._begun:
            await one.aclose()

    def _begin(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self._begun.append(chunks)
        return chunks

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        coding = coding_of(self.headers.get("Content-Encoding", ""))
        chunks = self._begin(self._received())
        if coding:
            head = await _head_of(chunks)
            packed, chunks = is_packed(head), self._begin(_with(head, chunks))
            del head  # it may be large
            chunks = self._begin(self._unpacked(chunks, coding)) if packed else chunks
        async for chunk in chunks:
            yield chunk

    async def _received(self) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                chunk = await self.response.content.read(_CHUNK)
            except Exception as error:  # noqa: BLE001  # whatever a user's connector raises
                failure = connection_error(error, self.location)
                rest = left_in(self.response.content)
            else:
                if not chunk:
                    return
                yield chunk
                continue
            if rest:
                yield rest
            raise failure

    async def _unpacked(
        self, chunks: AsyncIterator[bytes], coding: str
    ) -> AsyncGenerator[bytes, None]:
        try:
            unpacker = Unpacker(coding, _CHUNK)
            async for chunk in chunks:
                for piece in unpacker.pieces(chunk):
                    yield piece
        except ValueError as error:
            raise self._invalid(str(error)) from None
        if not unpacker.is_whole:
            raise connection_error(aiohttp.ClientPayloadError(), self.location)

    def _invalid(self, what: str) -> InvalidResponseError:
        return InvalidResponseError(HTTPStatus.OK, None, f"{self.location}: {what}")


async def _head_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Return the first bytes, `HEAD` of them if there are so many."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= HEAD:
            break
    return head


async def _with(head: bytes, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the bytes that were read before, and then the others."""
    yield head
    del head
    async for chunk in chunks:
        yield chunk


def _as_written(text: str) -> URL:
    """Read a URL as it is written: a signed one is not valid otherwise.

    Only what can stand in no URL is encoded, or dropped where browsers drop it.
    """
    text = re.sub(r"[\t\r\n]", "", text.strip())
    _, begin, rest = re.split(r"\A((?:[^:/?#]+:)?(?://[^/?#]*)?)", text, maxsplit=1)
    if re.search(_UNENCODED, begin):
        begin = str(URL(begin)).removesuffix("/")  # names in other letters have one in ASCII
    rest = re.sub(_UNENCODED, lambda one: quote(one[0], errors="surrogateescape"), rest)
    return URL(begin + rest, encoded=True)


def _redirected(url: URL, target: str, location: str) -> URL:
    try:
        to = url.join(_as_written(target))
        asset_location(str(to))
    except ValueError:
        what = "a redirect to something other than http or https"
        raise InvalidResponseError(HTTPStatus.FOUND, None, f"{location}: {what}") from None
    return to


def _refused(location: str) -> InvalidRequestError:
    return InvalidRequestError("url", location, f"{_PUBLIC}: this one leads inside a network")


def _is_allowed(address: Address, host: str, *, allows_loopback: bool) -> bool:
    """Whether a connection may lead to `address`, for a URL with `host`."""
    if is_public(address) or (stands_for_a_name(address) and parse_host(host) is None):
        return True
    return allows_loopback and all(one.is_loopback for one in unwrapped(address))


async def _resolve(host: str) -> list[Address]:
    """Return the addresses that this machine knows for a name; none if it knows none now."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVING):
            found = await loop.getaddrinfo(host, None, type=1)
        return [ip_address(one[4][0]) for one in found]
    except (OSError, ValueError):
        return []
