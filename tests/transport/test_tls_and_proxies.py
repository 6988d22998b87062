"""The way to a host: certificates in ssl's own words, and proxies with and without a tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from llamagen_async.errors import APIConnectionError
from llamagen_async.plans import RequestKind
from llamagen_async.transport import HTTPAssets, HTTPTransport, is_retriable
from tests.support.exchange import CREATE, KEY, STATUS, assert_secret, reply_ok
from tests.support.rawserver import Handler, RawServer, Received, answer, raw_server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextlib.asynccontextmanager
async def tls_server(authority: trustme.CA, *names: str) -> AsyncIterator[RawServer]:
    """Serve with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    async with raw_server(reply_ok, tls=context) as server:
        yield server


@contextlib.asynccontextmanager
async def trusting(authority: trustme.CA) -> AsyncIterator[aiohttp.ClientSession]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def refused(transport: HTTPTransport) -> APIConnectionError:
    with pytest.raises(APIConnectionError) as caught:
        await transport.send(CREATE)
    await transport.aclose()
    assert not caught.value.request_sent
    assert "nothing was sent" in str(caught.value)
    assert_secret(caught.value)
    return caught.value


# Certificates.


async def test_an_unknown_authority_is_told_in_ssls_words_and_not_tried_again(
    authority: trustme.CA,
) -> None:
    async with tls_server(authority, "localhost") as server:
        error = await refused(HTTPTransport(f"https://localhost:{server.port}", KEY))
    assert "unable to get local issuer certificate" in str(error)
    assert "SSL_CERT_FILE" in str(error)
    assert "session=" in str(error)
    for kind in RequestKind:
        assert not is_retriable(error, kind)


async def test_a_certificate_of_another_host_is_told_so(authority: trustme.CA) -> None:
    async with tls_server(authority, "other.example") as server, trusting(authority) as session:
        url = f"https://localhost:{server.port}"
        error = await refused(HTTPTransport(url, KEY, session=session))
    assert "Hostname mismatch" in str(error)
    assert "base_url" in str(error)
    assert "SSL_CERT_FILE" not in str(error)
    assert not error.retriable


async def test_a_fingerprint_that_does_not_fit_is_told_so(authority: trustme.CA) -> None:
    connector = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(b"\0" * 32))
    async with (
        tls_server(authority, "localhost") as server,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        url = f"https://localhost:{server.port}"
        error = await refused(HTTPTransport(url, KEY, session=session))
    assert "not the expected one" in str(error)
    assert not error.retriable


async def test_a_server_that_speaks_no_tls_is_told_so() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    error = await refused(HTTPTransport(f"https://127.0.0.1:{port}", KEY))
    listening.close()
    assert "its TLS is not accepted" in str(error)
    assert "base_url" in str(error)
    assert not error.retriable


async def test_a_network_that_cuts_tls_off_is_told_in_words() -> None:
    """Firewalls do, as soon as they have read the name of the host."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(9_999)
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await refused(HTTPTransport(f"https://127.0.0.1:{port}", KEY))
    assert "(the connection was dropped while TLS began)" in str(error)
    assert is_retriable(error, RequestKind.CREATE)


async def test_a_server_that_closes_in_the_middle_of_tls_may_come_back() -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    listening = await asyncio.start_server(closes, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    error = await refused(HTTPTransport(f"https://127.0.0.1:{port}", KEY))
    listening.close()
    assert error.retriable


TRUSTS = """
import asyncio, sys
from llamagen_async.transport import APIRequest, HTTPTransport
from llamagen_async.plans import RequestKind

async def main():
    transport = HTTPTransport(sys.argv[1], "key-key-key")
    print((await transport.send(APIRequest(RequestKind.STATUS, "GET", "/x"))).body)
    await transport.aclose()

asyncio.run(main())
"""


@pytest.mark.once
async def test_the_file_that_the_message_names_is_the_cure(
    authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with tls_server(authority, "localhost") as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", TRUSTS, f"https://localhost:{server.port}"),
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            stdout=subprocess.PIPE,
        )
        stdout, _ = await process.communicate()
    assert stdout.decode().strip() == "{'id': 'c1'}"


# Proxies.


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def tunnel_to(port: int) -> Handler:
    """Return a handler of a proxy that makes a tunnel to that port, whatever it is asked for."""

    async def handler(received: Received) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await received.reply(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

        await asyncio.gather(copy(received.reader, writer), copy(reader, received.writer))

    return handler


async def test_a_request_takes_a_tunnel_of_its_own_through_the_given_proxy(
    authority: trustme.CA,
) -> None:
    async with (
        tls_server(authority, "api.example") as server,
        raw_server(tunnel_to(server.port)) as proxy,
        trusting(authority) as session,
    ):
        url = proxy.url.replace("//", "//joe:secret@")
        transport = HTTPTransport("https://api.example", KEY, session=session, proxy=url)
        for request in (STATUS, CREATE):
            assert (await transport.send(request)).body == {"id": "c1"}
    assert [received.connection for received in server.received] == [1, 2]
    assert len(proxy.received) == 2
    for received in proxy.received:
        assert received.head.startswith("CONNECT api.example:443 ")
        login = b64encode(b"joe:secret").decode()
        assert received.header("Proxy-Authorization") == f"Basic {login}"
        assert KEY not in received.head


@pytest.mark.parametrize(
    ("status", "retriable"),
    [("407 Proxy Authentication Required", False), ("502 Bad Gateway", True)],
)
async def test_a_proxy_of_the_environment_that_refuses_has_sent_nothing(
    status: str, retriable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(received: Received) -> None:
        await received.reply(answer(b"", status=status))

    async with raw_server(refuse) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = await refused(HTTPTransport("https://api.example", KEY))
    assert proxy.received[0].head.startswith("CONNECT api.example:443 ")
    assert KEY not in proxy.received[0].head
    assert proxy.received[0].header("X-Request-Id") is None  # a session of ours keeps nothing
    assert status[:3] in str(error)
    assert error.retriable is retriable


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(reply_ok) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    error = await refused(HTTPTransport("https://api.example", KEY))
    assert "the proxy" in str(error)
    assert error.retriable


async def test_a_loopback_server_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    async with raw_server(reply_ok) as server:
        transport = HTTPTransport(server.url, KEY)
        assert (await transport.send(CREATE)).body == {"id": "c1"}
        await transport.aclose()


async def test_pictures_take_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def picture(received: Received) -> None:
        await received.reply(answer(b"picture", content_type="image/png"))

    async with raw_server(picture) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        transport = HTTPTransport("https://api.example", KEY)
        assets = HTTPAssets(transport)
        async with assets.open_asset("http://cdn.example/a.png") as asset:
            assert b"".join([chunk async for chunk in asset.chunks()]) == b"picture"
        await assets.aclose()
        await transport.aclose()
    assert proxy.received[0].head.startswith("GET http://cdn.example/a.png ")
