"""Access to the routes: for whom a hook allows, or else for this machine itself only.

What a route does may cost its owner money. So without a hook only requests count as allowed that
come from a program on this machine, by no proxy, and to a name of this machine: a web page from
elsewhere that a browser here shows can't make such a request.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from llamagen_async.web.messages import HTTPProblem, WebRequest

__all__ = ["Authorize", "check_access", "loopback_problem"]

Authorize = Callable[[Any], bool | Awaitable[bool]]
"""A hook: is given the framework's request, and returns whether it is allowed, or raises."""

_FORWARDED: Final = ("x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host", "via")
"""Headers that a proxy adds: then it is not known where the request comes from."""
_HOW: Final = (
    "this server has no authorize= hook, so it answers this machine only: pass "
    "create_app(authorize=...) a function that is given the request and returns whether it is "
    "allowed"
)


async def check_access(request: WebRequest, authorize: Authorize | None) -> None:
    """Make sure that a request is allowed.

    Raises:
        HTTPProblem: It is not.
    """
    if authorize is None:
        problem = loopback_problem(request)
        if problem is not None:
            raise HTTPProblem(403, "not_authorized", f"{problem}; {_HOW}")
        return
    try:
        allowed = authorize(request.native)
        if inspect.isawaitable(allowed):
            allowed = await allowed
    except PermissionError as error:
        raise HTTPProblem(403, "not_authorized", str(error) or "not allowed") from error
    if not allowed:
        raise HTTPProblem(403, "not_authorized", "the authorize= hook does not allow this request")


def loopback_problem(request: WebRequest) -> str | None:
    """Return why a request is not one of a program on this machine; `None` if it is."""
    if not _is_loopback(request.peer):
        return f"the request comes from {request.peer or 'an unknown address'}"
    for name in _FORWARDED:
        if name in request.headers:
            return f"the request comes by a proxy ({name})"
    if not _is_local_name(f"//{request.headers.get('host', '')}"):
        return "the request is for another host (host)"
    origin = request.headers.get("origin")
    if origin is not None and not _is_local_name(origin):
        return "the request comes from a page of another host (origin)"
    return None


@lru_cache
def _is_local_name(url: str) -> bool:
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return False
    return name == "localhost" or (name or "").endswith(".localhost") or _is_loopback(name)


@lru_cache
def _is_loopback(address: str | None) -> bool:
    try:
        ip = ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
