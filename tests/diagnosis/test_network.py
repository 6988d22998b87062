"""The way to a server, against real sockets: no step sends a request or a key."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from yarl import URL

from llamagen_async.diagnosis.network import reach
from tests.support.rawserver import RawServer, Received, answer, raw_server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


async def nothing(received: Received) -> None:
    raise AssertionError(f"a request came: {received.head}")


@contextlib.asynccontextmanager
async def tls_server(
    authority: trustme.CA, name: str, ends: datetime | None = None
) -> AsyncIterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_after=ends).configure_cert(context)
    async with raw_server(nothing, tls=context) as server:
        yield server


async def test_a_name_that_nobody_knows_is_the_first_to_fail() -> None:
    found = await reach(URL("https://no-such-host.invalid"))
    assert (found.failed_at, found.addresses) == ("name", ())
    assert found.reason


async def test_a_port_on_which_nobody_listens() -> None:
    async with raw_server(nothing) as server:
        pass
    found = await reach(URL(server.url))
    assert (found.failed_at, found.reason) == ("connection", "Connection refused")


async def test_plain_http_has_no_certificate() -> None:
    async with raw_server(nothing) as server:
        found = await reach(URL(server.url))
    assert (found.failed_at, found.tls) == (None, None)
    assert found.connected_in is not None


async def test_a_certificate_of_an_unknown_authority_in_ssls_words(authority: trustme.CA) -> None:
    async with tls_server(authority, "localhost") as server:
        found = await reach(URL(f"https://localhost:{server.port}"))
    assert found.failed_at == "tls"
    assert "unable to get local issuer certificate" in found.reason
    assert "SSL_CERT_FILE" in found.advice


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_that_is_trusted_tells_its_end(authority: trustme.CA) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    async with tls_server(authority, "localhost", ends) as server:
        found = await reach(URL(f"https://localhost:{server.port}"))
    assert found.failed_at is None
    assert found.certificate_ends == ends
    assert found.tls is not None
    assert found.tls.startswith("TLS")
    assert "trustme" in (found.issuer or "")


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_that_has_ended(authority: trustme.CA) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    async with tls_server(authority, "localhost", past) as server:
        found = await reach(URL(f"https://localhost:{server.port}"))
    assert "certificate has expired" in found.reason


@pytest.mark.usefixtures("trusted")
async def test_a_tunnel_through_a_proxy_with_a_password(authority: trustme.CA) -> None:
    """The proxy gets its password and no key; TLS is with the server behind it."""
    heads: list[str] = []

    async with tls_server(authority, "api.example") as server:

        async def tunnel(received: Received) -> None:
            heads.append(received.head)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await received.reply(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
                with contextlib.suppress(ConnectionError):
                    while data := await source.read(65536):
                        target.write(data)
                        await target.drain()
                target.close()

            try:
                await asyncio.gather(copy(received.reader, writer), copy(reader, received.writer))
            finally:
                writer.close()

        async with raw_server(tunnel) as proxy:
            url = URL(proxy.url).with_user("joe").with_password("s/e:c@ret")
            found = await reach(URL("https://api.example"), url)
    assert found.failed_at is None
    assert found.certificate_ends is not None
    (head,) = heads
    assert head.startswith("CONNECT api.example:443 ")
    assert b64encode(b"joe:s/e:c@ret").decode() in head


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (answer(b"", status="407 Proxy Authentication Required"), "status 407"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer as a proxy"),
        (b"x" * 70_000, "did not answer as a proxy"),
    ],
)
async def test_a_proxy_that_refuses_or_is_none(reply: bytes, words: str) -> None:
    async def refuse(received: Received) -> None:
        await received.reply(reply)
        received.drop()

    async with raw_server(refuse) as proxy:
        found = await reach(URL("https://api.example"), URL(proxy.url))
    assert found.failed_at == "proxy"
    assert words in found.reason
