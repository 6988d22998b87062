"""Requests and replies of the routes, whatever framework carries them. Plain data."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import attrs

__all__ = [
    "JSON",
    "PROBLEM",
    "HTTPProblem",
    "StreamEvent",
    "WebReply",
    "WebRequest",
    "below",
    "dump",
    "json_reply",
    "problem_reply",
    "read_body",
]

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"

_NUMBER: Final = re.compile(r"[0-9]{1,20}")

dump: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""Writes JSON without white space."""


class HTTPProblem(Exception):  # noqa: N818  # the standard's word (RFC 9457)
    """The end of a request with an answer that says what is wrong.

    Args:
        status: The HTTP status.
        code: A word for programs.
        detail: A sentence for people.
        headers: Further headers of the answer.
        **more: Further members of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: object,
    ) -> None:
        super().__init__(detail)
        self.status: Final = status
        self.code: Final = code
        self.detail: Final = detail
        self.headers: Final = dict(headers or {})
        self.more: Final = more


@attrs.frozen(eq=False)
class WebRequest:
    """One request, as a framework hands it in."""

    method: str
    """The method, in capitals."""
    path: tuple[str, ...]
    """The parts of the path below where the routes are mounted, decoded one by one."""
    root: str
    """The path at which the routes are mounted, without a slash at its end."""
    query: Mapping[str, str]
    """The query's fields."""
    headers: Mapping[str, str]
    """The headers; names in lower case are found."""
    peer: str | None
    """The address that the connection comes from; `None` if there is none."""
    chunks: AsyncIterable[bytes]
    """The body as it comes."""
    native: Any
    """The framework's own request."""


@attrs.frozen
class StreamEvent:
    """One server-sent event."""

    data: str | None = None
    """One line of JSON."""
    event: str | None = None
    """The event's type."""
    id: str | None = None
    """The name by which a reader that lost its connection goes on."""
    retry: int | None = None
    """Milliseconds after which such a reader is to come back."""


@attrs.frozen(eq=False)
class WebReply:
    """One answer: bytes, a file, or a stream of events."""

    status: int = 200
    body: bytes = b""
    media_type: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    file: Path | None = None
    """The file that is sent instead of `body`."""
    events: AsyncGenerator[StreamEvent, None] | None = None
    """The events that are sent instead of `body`."""


def below(root: str, encoded: str) -> tuple[str, ...]:
    """Return the parts of a path below where the routes are mounted.

    They are decoded one by one, as a key may have a slash in it.

    Args:
        root: The path at which the routes are mounted, without a slash at its end.
        encoded: The whole path, as it came.
    """
    return tuple(unquote(part) for part in encoded.split("/")[1 + root.count("/") :])


def json_reply(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> WebReply:
    """Return an answer of JSON, which nobody on the way may keep."""
    fresh = {"Cache-Control": "no-store", **(headers or {})}
    return WebReply(status, dump(value).encode("utf-8", "replace"), JSON, fresh)


def problem_reply(problem: HTTPProblem, title: str | None = None) -> WebReply:
    """Return an answer that says what is wrong (RFC 9457)."""
    content = {
        "type": "about:blank",
        "title": title or _phrase(problem.status),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        **problem.more,
    }
    reply = json_reply(content, problem.status, problem.headers)
    return attrs.evolve(reply, media_type=PROBLEM)


def _phrase(status: int) -> str:
    """Return the standard's words for a status, or its number: a hook may refuse by any."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return str(status)


def hook_reply(status: int, detail: str, headers: Mapping[str, str] | None) -> WebReply:
    """Return the answer to a request that the authorize hook has refused by an error."""
    code = "not_authorized" if status in (401, 403) else "error"
    return problem_reply(HTTPProblem(status, code, detail, headers=headers))


def mistake_reply() -> WebReply:
    """Return the answer to a request at which this server made a mistake."""
    return problem_reply(HTTPProblem(500, "mistake", "a mistake of this server; its log says more"))


async def read_body(request: WebRequest, most: int) -> bytes:
    """Return a request's body.

    Raises:
        HTTPProblem: It has more than `most` bytes.
    """
    too_large = HTTPProblem(413, "too_large", f"the body may have {most} bytes at most")
    length = request.headers.get("content-length", "")
    if (
        length.isascii()
        and length.isdigit()
        and (len(length) > len(str(most)) or int(length) > most)
    ):
        raise too_large
    body = bytearray()
    async for chunk in request.chunks:
        body += chunk
        if len(body) > most:
            raise too_large
    return bytes(body)
