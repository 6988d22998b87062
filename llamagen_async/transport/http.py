"""The aiohttp edge: one request out, one answer in, and failures told apart.

The key travels in a header of each request, never on the session, and appears in no message, repr
or chained exception: aiohttp's own errors hold the request's headers, so they stay in here.
A request is never sent twice; when and whether to send is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import json
import re
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from llamagen_async._version import __version__
from llamagen_async.clock import seconds
from llamagen_async.errors import (
    APIError,
    ClientClosedError,
    InvalidRequestError,
    InvalidResponseError,
)
from llamagen_async.transport.decoding import clean_text, decode
from llamagen_async.transport.failures import SecondAttemptError, connection_error
from llamagen_async.transport.message import APIRequest, APIResponse

__all__ = ["HTTPTransport", "normalize_base_url"]

_LARGEST: Final = 20_000_000
"""Bytes of the largest answer that is read, so that no server can fill the memory."""
_KEEPALIVE: Final = 2.0
"""Seconds for which an idle connection is used again. Servers close idle ones after 5 s and more;
staying well below keeps a billed request from going out on a connection that is just closing."""
_STREAMED: Final = 1 << 20
"""Bytes from which a body is given as a file: aiohttp warns of larger ones in one piece."""
_TELLING: Final = 8
"""Characters that a key must have to be taken out of answers: a shorter one could be any word."""
_METHODS: Final = ("GET", "POST", "PATCH", "PUT", "DELETE")
_PATH: Final = r"/[!\"$->@-\[\]-~]*"
"""Visible ASCII without what ends a path (`?`, `#`) or what some take for a slash (`\\`)."""
_AGENT: Final = f"llamagen-async/{__version__}"
_ALLOWED_URL: Final = "https://host, or http:// on a loopback host, without user, query or fragment"


class HTTPTransport:
    """Sends requests with aiohttp.

    The session is made on first use inside the running event loop. A session that is passed in is
    used and never closed; its own middlewares do not apply, because the guard against silent
    re-sending takes their place.

    Args:
        base_url: The API's URL, with or without `/v1`.
        api_key: The key, sent as `Authorization: Bearer`.
        timeout: Seconds for one whole request; half of it is for getting a connection, so that a
            request that was never sent is told from one that was.
        session: An `aiohttp.ClientSession` to use instead of an own one.

    Raises:
        InvalidRequestError: The URL, the key or the timeout is not allowed.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: float = 30.0,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self._base_url = normalize_base_url(base_url)
        self._host = URL(self._base_url).host_port_subcomponent or ""
        _check_key(api_key)
        timeout = seconds("timeout", timeout)
        self._key = api_key.encode()
        headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "User-Agent": _AGENT,
        }
        # Of the kind that aiohttp would make of them for each request.
        self._headers = CIMultiDict(headers)
        self._json_headers = CIMultiDict({**headers, "Content-Type": "application/json"})
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=timeout / 2)
        self._session = session
        self._owned = session is None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r})"

    @property
    def base_url(self) -> str:
        """The API's URL, with `/v1` and without a trailing slash."""
        return self._base_url

    async def send(self, request: APIRequest) -> APIResponse:
        """Send `request` once and return the decoded answer.

        Raises:
            APIError: The server answered with something other than success; its subclasses say
                with what. `InvalidResponseError` if it is not JSON, a redirect, or over 20 MB.
            APIConnectionError: No answer came; `request_sent` is `False` only if no connection
                was made. `APITimeoutError` if time was up.
            InvalidRequestError: The method is unknown, the path could leave the API's own paths,
                there are two bodies, or JSON can't hold the body; nothing was sent.
            ClientClosedError: The transport is closed or belongs to another event loop.
        """
        session = self._open_session()
        url = _url(self._base_url, request)
        guard = _OneAttempt()
        has_body = request.json is not None or request.form is not None
        try:
            async with session.request(
                request.method,
                url,
                params=request.params,
                data=_body(request) if has_body else None,
                headers=self._headers if request.json is None else self._json_headers,
                timeout=self._timeout,
                allow_redirects=False,
                raise_for_status=False,
                auto_decompress=True,
                middlewares=(guard,),
            ) as response:
                status, headers = response.status, response.headers
                content = await self._read(response)
        except (aiohttp.ClientError, OSError) as error:
            failure = connection_error(error, self._host)
        else:
            try:
                return decode(status, headers, content, now=_utcnow)
            except APIError:
                # Some servers repeat the key that they refuse.
                if len(self._key) < _TELLING or self._key not in content:
                    raise
            return decode(status, headers, content.replace(self._key, b"[key]"), now=_utcnow)
        # Raised out here, so that it does not carry aiohttp's error and with it the headers.
        raise failure

    @property
    def is_loopback(self) -> bool:
        """Whether the API is on this machine, as the sandbox is."""
        return _is_loopback(URL(self._base_url).host or "")

    def lend_connector(self) -> aiohttp.BaseConnector | None:
        """Return the connector of the session that was passed in; `None` if none was.

        Raises:
            ClientClosedError: The transport is closed or belongs to another event loop.
        """
        return None if self._owned else self._open_session().connector

    def proxy_for(self, url: URL) -> URL | None:  # noqa: ARG002  # all go through the session's
        """Return the proxy on the way to a picture: the same one as to the API."""
        if self._owned or self._session is None:
            return None
        # Those of a user's session have no public names.
        proxy = getattr(self._session, "_default_proxy", None)
        auth = getattr(self._session, "_default_proxy_auth", None)
        if proxy and auth:
            return URL(proxy).with_user(auth.login).with_password(auth.password)
        return URL(proxy) if proxy else None

    async def aclose(self) -> None:
        """Close the session unless it was passed in. Nothing can be sent afterwards.

        If this is cut short, calling it again finishes it.
        """
        self._closed = True
        if self._session is not None and self._owned:
            await self._session.close()
        self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ClientClosedError("the client is closed; nothing was sent")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientClosedError(
                "the client was first used in another event loop and belongs to it; nothing was "
                "sent. Make one client for each loop"
            )
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # No limit here: how much is sent is decided elsewhere, and waiting for a
                # connection would use up the request's time.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        if self._session.closed:
            raise ClientClosedError("the aiohttp session that was passed in is closed")
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the body; one that is too large is refused before or while it is read."""
        body = response.content
        if body.is_eof():
            content = body.read_nowait()  # it came together with the head
            if len(content) <= _LARGEST:
                return content
        elif (response.content_length or 0) <= _LARGEST:
            size = 0
            chunks: list[bytes] = []
            while chunk := await body.readany():
                size += len(chunk)
                if size > _LARGEST:
                    break
                chunks.append(chunk)
            else:
                return b"".join(chunks)
        response.close()
        raise InvalidResponseError(
            response.status, None, f"the answer is larger than {_LARGEST // 1_000_000} MB"
        )


class _OneAttempt:
    """An aiohttp client middleware that lets a request out once; make one for each request.

    aiohttp sends an idempotent request again when the kept-alive connection that it chose turns
    out to be dropped. The first request may have arrived, and both would count against the limit.
    A middleware is called for each attempt, and the error that it raises ends the request.
    """

    _used = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Pass the first attempt on and refuse the second.

        Raises:
            SecondAttemptError: This is the second attempt.
        """
        if self._used:
            raise SecondAttemptError
        self._used = True
        return await handler(request)


def normalize_base_url(text: str) -> str:
    """Return the API's URL with `/v1` and without a trailing slash.

    `http://` is allowed only for loopback hosts (`localhost`, 127.0.0.0/8, `::1`), since the key
    would be readable on the way.

    Raises:
        InvalidRequestError: `text` is not a URL to which the key may be sent.
    """
    given = text.strip() if isinstance(text, str) else ""
    url = _parsed(given)
    host = url.host or ""
    if not host or not (url.scheme == "https" or (url.scheme == "http" and _is_loopback(host))):
        shown = _without_secrets(given) if isinstance(text, str) else type(text).__name__
        raise InvalidRequestError("base_url", shown, _ALLOWED_URL)
    base = f"{url.scheme}://{url.host_port_subcomponent}{url.raw_path}".rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


def _parsed(text: str) -> URL:
    """Parse with the parser that aiohttp connects with, so that no two can disagree."""
    if not text.isprintable() or re.search(r"[\s\\@?#]", text):
        return URL()
    try:
        url = URL(text)
        return url if url.port else URL()
    except ValueError:
        return URL()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_secrets(text: str) -> str:
    text = re.sub(r"^([^/]*//)?[^/]*@", r"\1***@", text)
    return clean_text(re.sub(r"[?#].*", "?...", text, flags=re.DOTALL), 80)


def _check_key(key: object) -> None:
    # What a bearer token may hold; a space or a line break in it is a mistake of copying.
    if not isinstance(key, str) or not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InvalidRequestError(
            "api_key", "(not shown)", "the key from the vendor's site, without spaces around it"
        )


def _url(base: str, request: APIRequest) -> URL:
    method, path = request.method, request.path
    if method not in _METHODS:
        raise InvalidRequestError("method", method, f"one of {', '.join(_METHODS)}")
    if (
        not isinstance(path, str)
        or not re.fullmatch(_PATH, path)
        or ("/." in path and not {".", ".."}.isdisjoint(path.split("/")))
    ):
        raise InvalidRequestError(
            "path", path, "a percent-encoded path that starts with / and has no query"
        )
    return URL(base + path, encoded=True)  # whoever made the path has encoded it


def _body(request: APIRequest) -> Any:
    if request.form is not None:
        if request.json is not None:
            raise InvalidRequestError("form", request.form.filename, "nothing when json is given")
        # Names are not percent-encoded, so what could end the header is taken out.
        form = aiohttp.FormData(quote_fields=False)
        form.add_field(
            request.form.field,
            io.BytesIO(request.form.content),
            filename=re.sub(r"[\x00-\x1f\x7f]", "_", request.form.filename).replace('"', "'"),
            content_type=request.form.content_type,
        )
        return form
    try:
        content = json.dumps(request.json, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = clean_text(str(error), 80)
        raise InvalidRequestError("json", request.path, f"what JSON can hold ({reason})") from None
    return io.BytesIO(content) if len(content) > _STREAMED else content


def _utcnow() -> datetime:
    return datetime.now(UTC)
