"""The way to a server, step by step: its name, the connection, the proxy's tunnel, TLS.

No request to the API is sent, and no key. Each step has a few seconds; the first one that fails is
the last.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import socket
import ssl
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

import attrs
from yarl import URL

from llamagen_async.foreign import clean_text
from llamagen_async.transport import failure_words

__all__ = ["Reach", "reach"]

_TIMEOUT: Final = 10.0
"""Real seconds that one step may take (chosen)."""
_LONGEST_HEAD: Final = 65_536
"""Bytes of a proxy's answer at most."""
_PLAIN: Final = (OSError, ConnectionRefusedError, ConnectionResetError, PermissionError)
"""Failures of the system that its error number describes."""
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@attrs.define
class Reach:
    """How far one gets on the way to a server."""

    host: str
    """The host that was connected to: the server's, or the proxy's."""
    addresses: tuple[str, ...] = ()
    """Addresses of that host's name."""
    connected_in: float | None = None
    """Seconds until there was a connection."""
    tunnel_in: float | None = None
    """Seconds until the proxy had made a tunnel."""
    tls: str | None = None
    """Version of TLS that was agreed on."""
    issuer: str | None = None
    """Name of the authority that signed the server's certificate."""
    certificate_ends: datetime | None = None
    """Time at which the server's certificate ends."""
    failed_at: str | None = None
    """The step that failed: `name`, `connection`, `proxy` or `tls`."""
    reason: str = ""
    """The reason for which it failed, in the system's or ssl's own words."""
    advice: str = ""
    """Advice about that, where there is any."""


class _StepError(Exception):
    """A step failed; the text says why."""


async def reach(url: URL, proxy: URL | None = None) -> Reach:
    """Go the way to a server as far as it leads.

    Args:
        url: The API's URL.
        proxy: The proxy on the way, if there is one.
    """
    target = proxy or url
    found = Reach(target.host or "")
    step = "name"
    try:
        found.addresses = await _addresses(target)
        step, began = "connection", time.perf_counter()
        async with _connected(target) as (reader, writer):
            found.connected_in = time.perf_counter() - began
            if proxy is not None and proxy.scheme == "https":
                step = "proxy"
                await _secure(writer, proxy)
            if url.scheme == "https":
                if proxy is not None:
                    step, began = "proxy", time.perf_counter()
                    await _tunnel(reader, writer, url, proxy)
                    found.tunnel_in = time.perf_counter() - began
                step = "tls"
                await _secure(writer, url)
                _take_certificate(found, writer)
    except (OSError, TimeoutError, ssl.SSLError, _StepError) as error:
        found.failed_at = step
        found.reason, found.advice = _words(error)
    return found


async def _addresses(target: URL) -> tuple[str, ...]:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_TIMEOUT):
        known = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(one[4][0]) for one in known))


@contextlib.asynccontextmanager
async def _connected(target: URL) -> AsyncGenerator[_Streams, None]:
    async with asyncio.timeout(_TIMEOUT):
        reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # there is nothing left to say


async def _secure(writer: asyncio.StreamWriter, url: URL) -> None:
    async with asyncio.timeout(_TIMEOUT):
        await writer.start_tls(ssl.create_default_context(), server_hostname=url.host)


async def _tunnel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: URL, proxy: URL
) -> None:
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host
    lines = [f"CONNECT {host}:{url.port} HTTP/1.1", f"Host: {host}:{url.port}"]
    if proxy.user is not None:
        login = f"{unquote(proxy.raw_user or '')}:{unquote(proxy.raw_password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(_TIMEOUT):
        await writer.drain()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise _StepError("the proxy did not answer as a proxy does") from None
    answer = re.match(rb"HTTP/1\.[01] (\d{3})", head[:_LONGEST_HEAD])
    if answer is None:
        raise _StepError("the proxy did not answer as a proxy does")
    if answer[1] != b"200":
        raise _StepError(f"the proxy refused with status {answer[1].decode()}")


def _take_certificate(found: Reach, writer: asyncio.StreamWriter) -> None:
    tls: Any = writer.get_extra_info("ssl_object")
    certificate: dict[str, Any] = tls.getpeercert() or {}
    found.tls = tls.version()
    names = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    issuer = names.get("organizationName") or names.get("commonName")
    found.issuer = clean_text(issuer, 80) if issuer else None
    if ends := certificate.get("notAfter"):
        found.certificate_ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)


def _words(error: Exception) -> tuple[str, str]:
    if isinstance(error, _StepError):
        return str(error), ""
    if isinstance(error, TimeoutError) and not error.args:
        return f"nothing came within {_TIMEOUT:g} s", ""
    if type(error) in _PLAIN and isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno), ""  # asyncio's own words name the address once more
    return failure_words(error)
