"""aiohttp connections that end in memory, so that real bytes travel in virtual time.

Everything above the socket is the real thing: the client's transport, aiohttp with its parser, and
what both do with answers that drip, break off, are packed, or are none.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler

__all__ = ["Answer", "Piece", "Request", "Wire", "WiredConnector", "packed"]


@attrs.frozen
class Request:
    """One request as it came in, whole."""

    method: str
    path: str
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body) if self.body else {}


@attrs.frozen
class Piece:
    """A part of an answer; the next one is asked for when the client has got it."""

    after: float
    """Seconds since the part before it, or since the request."""
    content: bytes | None = None
    """The bytes; `None` closes the connection."""


Answer = Iterable[Piece]
Serve = Callable[[Request], Answer]


class Wire(asyncio.Transport):
    """One connection, from a client that thinks it is a socket to a function that answers."""

    def __init__(self, protocol: ResponseHandler, serve: Serve, peer: str = "203.0.113.1") -> None:
        super().__init__()
        self._protocol = protocol
        self._serve = serve
        self._peer = peer
        self._received = b""
        self._pieces: Iterator[Piece] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._received += bytes(data)
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._pieces or self._is_closed:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if len(body) < int(headers.get("content-length", 0)):
            return
        method, path, _ = first.split(" ")
        self._pieces = iter(self._serve(Request(method, path, headers, body)))
        self._next()

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._peer, 443) if name == "peername" else default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def _next(self) -> None:
        piece = next(self._pieces, None) if self._pieces is not None else None
        if piece is None:
            return  # nothing more comes, and the connection stays
        self._timer = asyncio.get_running_loop().call_later(piece.after, self._deliver, piece)

    def _deliver(self, piece: Piece) -> None:
        if self._is_closed:
            return
        if piece.content is None:
            self.close()
            return
        if piece.content:
            self._protocol.data_received(piece.content)
        self._next()


class WiredConnector(aiohttp.BaseConnector):
    """Connects every request to a function.

    Args:
        serve: Answers a request.
        connect: Called for each connection; raises an `OSError` if there is none.
    """

    def __init__(self, serve: Serve, connect: Callable[[], None] = lambda: None) -> None:
        super().__init__(force_close=True)
        self._serve = serve
        self._connect = connect

    async def _create_connection(self, req: Any, *_: Any) -> ResponseHandler:
        try:
            self._connect()
        except OSError as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        protocol = ResponseHandler(asyncio.get_running_loop())
        protocol.connection_made(Wire(protocol, self._serve))
        return protocol


def packed(
    status: int, headers: dict[str, str], body: bytes, *, says_length: bool = True
) -> tuple[bytes, bytes]:
    """Return head and body of an answer as bytes."""
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    if says_length:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), body
