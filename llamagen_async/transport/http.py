"""The aiohttp edge: one request out, one answer in, and failures told apart.

The key travels in a header of each request, never on the session, and appears in no message, repr
or chained exception: aiohttp's own errors and their frames hold the request's headers, so they stay
in here. A request is never sent twice; when and whether to send is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import copy
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from llamagen_async._version import __version__
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    ClientClosedError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
)
from llamagen_async.foreign import clean_text
from llamagen_async.transport.address import (
    check_proxy,
    is_loopback,
    is_vendors,
    normalize_base_url,
    proxy_for,
)
from llamagen_async.transport.attempt import COMING, Attempt, RefusedError
from llamagen_async.transport.content import LARGEST, LONGEST_LINE, MOST_HEADERS, unpacked
from llamagen_async.transport.decoding import SUCCESS, decode
from llamagen_async.transport.failures import attempt_error
from llamagen_async.transport.message import (
    AnsweredCancelledError,
    APIRequest,
    APIResponse,
    FormFile,
    Transport,
    UnsentCancelledError,
)
from llamagen_async.transport.secret import Secret, check_key
from llamagen_async.transport.sessions import check_session, fairly, observe, own_session
from llamagen_async.transport.time_limit import time_limit
from llamagen_async.validation import HiddenText, seconds

__all__ = ["HTTPTransport"]

_STREAMED: Final = 1 << 20
"""Bytes from which a body is given as a file: aiohttp warns of larger ones in one piece."""
_SLOWEST_UPLOAD: Final = 20_000
"""Bytes a second from which on a line is fast enough to upload (chosen: a bad mobile one)."""
_LONGEST: Final = 600.0
"""Seconds of the longest request: a slot is held for 900."""
_METHODS: Final = ("GET", "POST", "PATCH", "PUT", "DELETE")
_PATH: Final = r"/[!\"$->@-\[\]-~]*"
"""Visible ASCII without what ends a path (`?`, `#`) or what some take for a slash (`\\`)."""
_AGENT: Final = f"llamagen-async/{__version__}"
_reached: Final = set[str]()
"""The hosts to which this process has ever had a connection."""


class HTTPTransport:
    """Sends requests with aiohttp, each on a connection of its own.

    The session is made on first use inside the running event loop. A session that is passed in is
    used as it is, with its connector, proxy, cookies and middlewares, and never closed.

    Args:
        base_url: The API's URL, with or without `/v1`.
        api_key: The key, sent as `Authorization: Bearer`.
        timeout: Seconds for one whole request; half of it is for getting a connection, so that a
            request that was never sent is told from one that was. An upload gets more, by its size.
        session: An `aiohttp.ClientSession` to use instead of an own one.
        proxy: The URL of a proxy; `""` for none. `None` is what the session says, and for an own
            session `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.

    Raises:
        InvalidRequestError: The URL, the key, the timeout, the session or the proxy is not allowed.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: float = 30.0,
        session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
    ) -> None:
        api_key = HiddenText.of(api_key) or ""  # a report of an error may show the variables here
        self._base_url = normalize_base_url(base_url)
        url = URL(self._base_url)
        self._host = url.host_port_subcomponent or ""
        self._take(api_key)
        # Of the kind that aiohttp would make of them for each request. The key is added last, where
        # no user's hook, middleware or `~/.netrc` can take its place.
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",  # what can be unpacked piece by piece
            "User-Agent": _AGENT,
        }
        self._headers = CIMultiDict(headers)
        self._json_headers = CIMultiDict({**headers, "Content-Type": "application/json"})
        self._timeout = seconds("timeout", timeout)
        self._connecting = aiohttp.ClientTimeout(total=None, connect=timeout / 2)
        self._session = check_session(session)
        self._owned = session is None
        self._lender: HTTPTransport | None = None
        self._given_proxy = check_proxy(proxy)
        self._proxy = self.proxy_for(url) if self._owned or self._given_proxy else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self, '_base_url', '')!r})"

    @property
    def base_url(self) -> str:
        """The API's URL, with `/v1` and without a trailing slash."""
        return self._base_url

    async def send(self, request: APIRequest) -> APIResponse:
        """Send `request` once and return the decoded answer.

        Raises:
            APIError: The server answered with something other than success; its subclasses say
                with what. `InvalidResponseError` if it is not JSON, a redirect, or over 10 MB.
            APIConnectionError: No answer came; `request_sent` is `False` only if nothing of the
                request left. `APITimeoutError` if time was up.
            InvalidRequestError: The method is unknown, the path could leave the API's own paths,
                there are two bodies, or JSON can't hold the body; nothing was sent.
            ClientClosedError: The transport is closed or belongs to another event loop.
            UnsentCancelledError: It was cancelled before anything of the request had left.
            AnsweredCancelledError: It was cancelled while the answer to a billed request came,
                and enough of it had come to know the outcome.
        """
        session = self._open_session()
        connector = session.connector
        # Those of a user's session have no public name.
        others: tuple[aiohttp.ClientMiddlewareType, ...] = getattr(session, "_middlewares", ())
        attempt = Attempt(
            self._authorization,
            pools=not (connector and connector.force_close),
            has_others=bool(others),
        )
        failure: LlamaGenError | asyncio.CancelledError | None = None
        url = _url(self._base_url, request)
        has_body = request.json is not None or request.form is not None
        body: Any = _body(request) if has_body else None
        limit = self._timeout
        headers = self._headers if request.json is None else self._json_headers
        if request.form is not None:
            # Else a user's session may say what its own requests hold, which is no form.
            headers = CIMultiDict([*headers.items(), ("Content-Type", body.content_type)])
            limit = min(limit + _size(request.form) / _SLOWEST_UPLOAD, max(limit, _LONGEST))
        attempt.within = limit
        coming = COMING.set(attempt)
        try:
            # Around all of it, since aiohttp's own timeout begins after a user's hooks.
            async with (
                time_limit(limit),
                session.request(
                    request.method,
                    url,
                    params=request.params,
                    data=body,
                    headers=headers,
                    proxy=self._proxy,
                    timeout=self._connecting,
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=False,  # it would unpack a small answer to a giant one
                    max_line_size=LONGEST_LINE,
                    max_field_size=LONGEST_LINE,
                    max_headers=MOST_HEADERS,
                    middlewares=(*others, attempt),  # ours is the innermost
                ) as attempt.given,
            ):
                if attempt.given is not attempt.response:
                    await attempt.take(attempt.given)  # a middleware answers in its own way
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # a user's hooks', too
            failure = self._failure(attempt, error)
        finally:
            attempt.error = None
            COMING.reset(coming)
            if attempt.has_left:
                _reached.add(self._host)
        was_cancelled = isinstance(failure, asyncio.CancelledError)
        if attempt.response is not None and (request.kind.is_billed or not was_cancelled):
            content, lack = self._content(attempt, attempt.response)
            failure = failure or lack
            outcome: APIResponse | APIError | None = None
            try:
                outcome = decode(
                    attempt.response.status,
                    attempt.response.headers,
                    content,
                    now=_utcnow,
                    secret=self._secret,
                    is_billed=request.kind.is_billed,
                )
            except APIError as error:
                # Of an answer that is not whole there may be enough; else that is what to tell.
                if failure is None or attempt.response.status not in SUCCESS:
                    outcome = error.with_traceback(None)
            del content
            attempt.received.clear()
            if outcome is not None and was_cancelled:
                failure = AnsweredCancelledError(outcome)  # it may know the id of something paid
            elif isinstance(outcome, APIResponse):
                return outcome
            else:
                failure = outcome or failure
        assert failure is not None
        # Raised out here, so that it carries neither aiohttp's error nor its frames, and does not
        # keep the whole answer alive. No variable here shows what was sent or what has come.
        raise failure

    def with_key(self, api_key: str) -> Transport:
        """Return a transport for another key, which shares the session and does not close it."""
        api_key = HiddenText.of(api_key) or ""  # see `__init__`
        other = copy.copy(self)
        other._take(api_key)  # noqa: SLF001  # it is of this class
        other._lender = self._lender or self  # noqa: SLF001  # it is of this class
        return fairly(other, self._open_session(), self._timeout / 2)

    def _take(self, api_key: str) -> None:
        self._key = check_key(api_key)
        self._secret = Secret(self._key)
        self._authorization = HiddenText(f"Bearer {self._key}")

    @property
    def is_loopback(self) -> bool:
        """Whether the API is on this machine, as the sandbox is."""
        return is_loopback(URL(self._base_url).host or "")

    def lend_connector(self) -> aiohttp.BaseConnector | None:
        """Return the connector of the session that was passed in; `None` if none was.

        Raises:
            ClientClosedError: The transport is closed or belongs to another event loop.
        """
        return None if self._owned else self._open_session().connector

    def proxy_for(self, url: URL) -> URL | None:
        """Return the proxy on the way to a picture, by the settings that hold for the API."""
        if self._owned or self._given_proxy is not None:
            return proxy_for(url, self._given_proxy)
        # Those of a user's session have no public names.
        proxy = getattr(self._session, "_default_proxy", None)
        auth = getattr(self._session, "_default_proxy_auth", None)
        if proxy and auth:
            return URL(proxy).with_user(auth.login).with_password(auth.password)
        if not proxy and self._session is not None and self._session.trust_env:
            return proxy_for(url)
        return URL(proxy) if proxy else None

    async def aclose(self) -> None:
        """Close the session unless it was passed in. Nothing can be sent afterwards.

        If this is cut short, calling it again finishes it.
        """
        self._closed = True
        if self._session is not None and self._owned and self._lender is None:
            await self._session.close()
        self._session = None

    def _failure(
        self, attempt: Attempt, error: Exception | asyncio.CancelledError
    ) -> APIConnectionError | asyncio.CancelledError | None:
        """Return how an attempt has ended; `None` if its answer had come before."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is None or task.cancelling():
                left = attempt.may_have_arrived
                return asyncio.CancelledError() if left else UnsentCancelledError()
            # A connector that is closed cancels whoever waits in it, and nobody else has.
            error = RefusedError("the connection was closed meanwhile")
        # What fails after the answer does not lose it: it may know the id of something paid.
        if attempt.has_ended:
            return None
        return attempt_error(
            attempt,
            error,
            self._host,
            self._key,
            was_reached=self._host in _reached or is_vendors(self._base_url),
        )

    def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ClientClosedError("the client is closed; nothing was sent")
        if self._lender is not None:
            return self._lender._open_session()  # noqa: SLF001  # it is of this class
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientClosedError(
                "the client was first used in another event loop and belongs to it; nothing was "
                "sent. Make one client for each loop"
            )
        if self._session is None:
            self._session = own_session()
        if self._session.closed:
            raise ClientClosedError("the aiohttp session that was passed in is closed")
        if not self._owned:
            observe(self._session)
        return self._session

    def _content(
        self, attempt: Attempt, answer: aiohttp.ClientResponse
    ) -> tuple[bytes, LlamaGenError | None]:
        """Return the body, unpacked, and why that is not all of it, if it is not."""
        content = attempt.content
        is_whole, is_unpacked = len(content) <= LARGEST, True
        content = content[:LARGEST]
        content, is_unpacked = unpacked(content, answer.headers.get("Content-Encoding"))
        is_whole = is_whole and (is_unpacked or len(content) < LARGEST)
        if not is_whole:
            text = f"the answer is larger than {LARGEST // 1_000_000} MB"
            return content, InvalidResponseError(answer.status, None, text)
        if not is_unpacked:
            return content, APIConnectionError(f"the answer from {self._host} is incomplete")
        return content, None


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
        # Names are not percent-encoded: what could end the header, or has no bytes, is taken out.
        name = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "_", request.form.filename)
        form = aiohttp.FormData(quote_fields=False)
        form.add_field(
            request.form.field,
            _opened(request.form.content),
            filename=name.replace('"', "'"),
            content_type=request.form.content_type,
        )
        return form()
    try:
        content = json.dumps(request.json, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = clean_text(str(error), 80)
        raise InvalidRequestError("json", request.path, f"what JSON can hold ({reason})") from None
    return io.BytesIO(content) if len(content) > _STREAMED else content


def _size(form: FormFile) -> int:
    """Return the bytes of a file; 0 if it is not there any more, which its opening tells."""
    if isinstance(form.content, bytes):
        return len(form.content)
    try:
        return form.content.stat().st_size
    except OSError:
        return 0


def _opened(content: bytes | Path) -> io.BytesIO:
    """Return a file as it is now: what is written to it while it is sent would be in it by half."""
    if isinstance(content, bytes):
        return io.BytesIO(content)
    try:
        with content.open("rb") as file:
            # Of one that has grown since it was measured, as much as any server refuses.
            return io.BytesIO(file.read(2 * LARGEST))
    except OSError as error:
        allowed = f"a file that can be read ({error.strerror or error})"
        raise InvalidRequestError("file", str(content), allowed) from None


def _utcnow() -> datetime:
    return datetime.now(UTC)
