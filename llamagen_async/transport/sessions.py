"""aiohttp sessions for the API: a client's own, and one that a user passes in.

Each request goes out on a connection of its own, at most some in a second. A connection that waits
for its next request may get an answer that nobody asked for, such as a proxy's 408 before it closes
the connection or a 429 that comes twice; whatever is sent on it next would be taken to be answered
by that.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import Final

import aiohttp

from llamagen_async.errors import APITimeoutError, ClientClosedError, InvalidRequestError
from llamagen_async.transport.attempt import OBSERVER, UNFIT
from llamagen_async.transport.message import (
    APIRequest,
    APIResponse,
    Transport,
    UnsentCancelledError,
)

__all__ = ["check_session", "fairly", "observe", "own_session", "share_of"]

_PART: Final = 4
"""The part of a session's connections that one of several keys may take is one in so many: while
requests of one hang, the others have the rest (chosen)."""

_FRAMING: Final = ("Content-Encoding", "Content-Length", "Expect", "Host", "Transfer-Encoding")
"""Headers that belong to one request and would spoil any other."""


def own_session() -> aiohttp.ClientSession:
    """Return a session for requests to the API, made in the running event loop."""
    return aiohttp.ClientSession(
        # How much is sent is decided elsewhere, and waiting for a connection uses up the request's
        # time; but thousands of keys at once could open more than the system lets a process have.
        connector=aiohttp.TCPConnector(limit=_most_connections(), force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[OBSERVER],
    )


def _most_connections() -> int:
    """Return half of the files that this process may open; 0 if there is no such limit."""
    try:
        resource = importlib.import_module("resource")  # not on Windows
    except ImportError:
        return 0
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 0 if soft == resource.RLIM_INFINITY else max(1, soft // 2)


def share_of(session: aiohttp.ClientSession) -> int:
    """Return the connections of a session that one of several keys may take; 0 for any number."""
    connector = session.connector
    limits = (connector.limit, connector.limit_per_host) if connector else ()
    least = min(filter(None, limits), default=0)
    return max(1, least // _PART) if least else 0


class _FairShare:
    """A transport of one key that takes no more than its share of what many keys share.

    Args:
        transport: Sends its requests.
        share: How many of them may be on their way.
        longest_wait: Seconds that another one waits for that.
    """

    def __init__(self, transport: Transport, share: int, longest_wait: float) -> None:
        self._transport = transport
        self._places = asyncio.Semaphore(share)
        self._longest_wait = longest_wait

    async def send(self, request: APIRequest) -> APIResponse:
        """Send a request; see `Transport.send`."""
        try:
            async with asyncio.timeout(self._longest_wait):
                await self._places.acquire()
        except TimeoutError:
            message = "all connections that one key may take are in use; nothing was sent"
            raise APITimeoutError(message, request_sent=False) from None
        except asyncio.CancelledError:
            raise UnsentCancelledError from None
        try:
            return await self._transport.send(request)
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()


def fairly(transport: Transport, session: aiohttp.ClientSession, longest_wait: float) -> Transport:
    """Return a transport of one key that leaves others of the session's connections to other keys.

    Args:
        transport: Sends the key's requests in the session.
        session: The session, which many keys share.
        longest_wait: Seconds that a request waits for the key's share, before it is not sent.
    """
    share = share_of(session)
    return _FairShare(transport, share, longest_wait) if share else transport


def check_session(session: object) -> aiohttp.ClientSession | None:
    """Return a session that a user has passed in, if requests can be sent and observed with it.

    Raises:
        InvalidRequestError: It is no session, or has settings with which nothing can be sent.
    """
    if session is None:
        return None
    if not isinstance(session, aiohttp.ClientSession):
        raise InvalidRequestError("session", type(session).__name__, "an aiohttp.ClientSession")
    for name, value in session.headers.items():
        if name.title() in _FRAMING or re.search(UNFIT, f"{name}{value}"):
            allowed = "default headers that every request may have"
            raise InvalidRequestError("session", f"the default header {name}", allowed)
    if not isinstance(session.trace_configs, list):
        given = f"trace_configs as a {type(session.trace_configs).__name__}"
        raise InvalidRequestError("session", given, "trace_configs as a list")
    return session


def observe(session: aiohttp.ClientSession) -> None:
    """Have a user's session tell attempts what becomes of them; it stays so.

    Raises:
        ClientClosedError: It was made in another event loop: nothing would ever be sent with it,
            which would look like a server that is away.
    """
    # The property of that name is deprecated, and what it returns is not.
    if getattr(session, "_loop", None) not in (None, asyncio.get_running_loop()):
        raise ClientClosedError(
            "the aiohttp session that was passed in belongs to another event loop; nothing was "
            "sent. Make it in the loop in which the client is used"
        )
    # The last one to be told: what fails in the user's own hooks has not left then.
    if OBSERVER not in session.trace_configs:
        session.trace_configs.append(OBSERVER)
