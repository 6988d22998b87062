"""aiohttp sessions for the API: a client's own, and one that a user passes in.

Each request goes out on a connection of its own, at most some in a second. A connection that waits
for its next request may get an answer that nobody asked for, such as a proxy's 408 before it closes
the connection or a 429 that comes twice; whatever is sent on it next would be taken to be answered
by that.
"""

from __future__ import annotations

import re
from typing import Final

import aiohttp

from llamagen_async.errors import InvalidRequestError
from llamagen_async.transport.attempt import OBSERVER, UNFIT

__all__ = ["check_session", "observe", "own_session"]

_FRAMING: Final = ("Content-Encoding", "Content-Length", "Expect", "Host", "Transfer-Encoding")
"""Headers that belong to one request and would spoil any other."""


def own_session() -> aiohttp.ClientSession:
    """Return a session for requests to the API, made in the running event loop."""
    return aiohttp.ClientSession(
        # No limit here: how much is sent is decided elsewhere, and waiting for a connection would
        # use up the request's time.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[OBSERVER],
    )


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
    """Have a user's session tell attempts what becomes of them; it stays so."""
    # The last one to be told: what fails in the user's own hooks has not left then.
    if OBSERVER not in session.trace_configs:
        session.trace_configs.append(OBSERVER)
