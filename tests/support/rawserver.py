"""A server on loopback that answers with whatever bytes a test wants, and counts what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs


@attrs.define
class Received:
    """One request as it came in."""

    head: str
    body: bytes
    number: int
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    async def reply(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def drop(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


Handler = Callable[[Received], Awaitable[None]]


@attrs.define
class RawServer:
    host: str
    port: int
    received: list[Received] = attrs.field(factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def answer(
    body: bytes = b'{"id": "c1"}',
    *,
    status: str = "200 OK",
    content_type: str | None = "application/json",
    headers: dict[str, str] | None = None,
    length: int | None = -1,
) -> bytes:
    """Spell an HTTP answer; `length` -1 is the true one, `None` leaves the header out."""
    lines = [f"HTTP/1.1 {status}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def raw_server(
    handler: Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve `handler` until the block ends; it is called for each request."""
    open_connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        server.connections += 1
        connection = server.connections
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length:")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                number = len(server.received) + 1
                received = Received(head, body, number, connection, reader, writer)
                server.received.append(received)
                await handler(received)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            open_connections.discard(task)
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512, ssl=tls)
    host, port = listening.sockets[0].getsockname()[:2]
    server = RawServer(host, port)
    try:
        yield server
    finally:
        listening.close()
        tasks = list(open_connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def unused_port() -> int:
    """Return a port on which nobody listens."""
    listening = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    return port
