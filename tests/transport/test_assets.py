"""No secret is sent to the hosts of pictures, and nothing inside a network is reached."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from llamagen_async.errors import (
    APIConnectionError,
    InvalidRequestError,
    LlamaGenError,
)
from tests.support.assets import Make, read
from tests.support.exchange import KEY
from tests.support.rawserver import Received, answer, raw_server
from tests.support.wired import Piece, Request, Wire

PUBLIC_API = "https://api.example"
SANDBOX_API = "http://127.0.0.1:9"
AUTH = pytest.mark.filterwarnings("ignore:.*(BasicAuth|auth):DeprecationWarning:")
HELLO = answer(b"hello", content_type="image/png")


async def hello(received: Received) -> None:
    await received.reply(HELLO)


class Names(AbstractResolver):
    """A resolver that gives out one address after another for each name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


# --- secrets ------------------------------------------------------------------------------------


async def test_nothing_of_a_users_session_goes_to_a_host_of_pictures(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither headers, cookies and credentials nor what its hooks and `~/.netrc` add."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hidden-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async def hooked(_session: Any, _context: Any, params: aiohttp.TraceRequestStartParams) -> None:
        params.headers["X-Trace"] = "hidden-hook"

    async def middle(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers["X-Middle"] = "hidden-middle"
        return await handler(request)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(hooked)
    jar = aiohttp.CookieJar(unsafe=True)
    jar.update_cookies({"sid": "hidden-cookie"})
    async with (
        raw_server(hello) as target,
        aiohttp.ClientSession(
            headers={"X-Secret": "hidden-header", "Authorization": "hidden-default"},
            cookies={"sid2": "hidden-cookie"},
            cookie_jar=jar,
            trust_env=True,
            trace_configs=[trace],
            middlewares=(middle,),
        ) as session,
    ):

        async def away(received: Received) -> None:
            headers = {"Location": f"{target.url}/b", "Set-Cookie": "theirs=1"}
            await received.reply(answer(b"", status="302 Found", headers=headers))

        async with raw_server(away) as server:
            assets = make(session=session)
            for _ in range(2):
                assert await read(assets, f"{server.url}/a", Range="bytes=0-") == b"hello"
            heads = [received.head for received in (*server.received, *target.received)]
            assert len(heads) == 4
            for head in heads:
                names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
                assert names == {"host", "user-agent", "range", "accept", "accept-encoding"}
                assert "hidden" not in head
                assert KEY not in head
            assert len(jar) == 2  # nor does theirs get into the user's session


@AUTH
async def test_an_auth_of_a_users_session_is_not_sent(make: Make) -> None:
    auth = aiohttp.BasicAuth("me", "hidden")
    async with raw_server(hello) as server, aiohttp.ClientSession(auth=auth) as session:
        await read(make(session=session), server.url)
    assert "uthorization" not in server.received[0].head


async def test_a_users_connector_is_used_and_left_open(make: Make) -> None:
    async with (
        raw_server(hello) as server,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Names("127.0.0.1"))
        ) as session,
    ):
        assets = make(session=session)
        assert await read(assets, f"http://cdn.example:{server.port}/a") == b"hello"
        await assets.aclose()
        assert session.connector is not None
        assert not session.connector.closed


# --- what is not reached ------------------------------------------------------------------------

HERE = [
    "127.0.0.1",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",  # full-width digits
]


@pytest.mark.parametrize("host", HERE)
async def test_this_machine_is_not_reached_if_the_api_is_elsewhere(host: str, make: Make) -> None:
    async with raw_server(hello) as server:
        with pytest.raises(LlamaGenError, match="url") as caught:
            await read(make(PUBLIC_API), f"http://{host}:{server.port}/a?secret=1")
        assert server.connections == 0
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", HERE)
async def test_no_redirect_leads_to_this_machine(host: str, make: Make) -> None:
    """The first host is let through by its address, for this test."""
    async with raw_server(hello) as inside:

        async def away(received: Received) -> None:
            headers = {"Location": f"http://{host}:{inside.port}/a"}
            await received.reply(answer(b"", status="307 X", headers=headers))

        async with raw_server(away) as server:
            assets = make(PUBLIC_API)
            first = f"http://127.0.0.1:{server.port}/"
            check, checked = assets._check, []

            async def lenient(url: Any, location: str) -> None:
                checked.append(str(url))
                if str(url) != first:
                    await check(url, location)

            assets._check = lenient  # type: ignore[method-assign]  # the guard is tested elsewhere
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    "llamagen_async.transport.assets._PublicRequest", aiohttp.ClientRequest
                )
                with pytest.raises(InvalidRequestError, match="url"):
                    await read(assets, first)
        assert len(server.received) == 1
        assert len(checked) == 2
        assert inside.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "100.100.100.200",
        "224.0.0.1",
        "0",
        "[::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[::169.254.169.254]",
        "2852039166",
        "0xa9.0xfe.0xa9.0xfe",
    ],
)
@pytest.mark.parametrize("api", [PUBLIC_API, SANDBOX_API])
async def test_addresses_inside_a_network_are_never_reached(
    host: str, api: str, make: Make
) -> None:
    """Where the API is on this machine, only this machine is allowed beside the internet."""
    with pytest.raises(InvalidRequestError, match=r"public host: this one leads inside"):
        await read(make(api), f"http://{host}/latest/meta-data/")


async def test_a_name_that_leads_inside_is_refused_before_a_connection(make: Make) -> None:
    async with raw_server(hello) as server:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(_host: str, port: Any, **_hints: Any) -> Any:
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            ]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "getaddrinfo", getaddrinfo)
            with pytest.raises(InvalidRequestError, match="inside"):
                await read(make(PUBLIC_API), f"http://cdn.example:{server.port}/")
        assert server.connections == 0


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [("198.18.0.5", False), ("fc00::5", False), ("fd00::5", True), ("198.20.0.5", False)],
)
async def test_a_program_that_answers_each_name_with_an_address_of_its_own_is_used(
    address: str, is_refused: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a program sees to where it goes, as a proxy does; an address itself is not for it."""

    def serve(_request: Request) -> Iterator[Piece]:
        yield Piece(0.0, HELLO)

    async def connect(*_: Any) -> ResponseHandler:
        protocol = ResponseHandler(asyncio.get_running_loop())
        protocol.connection_made(Wire(protocol, serve, address))
        return protocol

    async def getaddrinfo(_host: str, port: Any, **_hints: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", connect)
    assets = make(PUBLIC_API)
    if is_refused:
        with pytest.raises(InvalidRequestError, match="inside"):
            await read(assets, "http://cdn.example/")
    else:
        assert await read(assets, "http://cdn.example/") == b"hello"
    literal = f"http://[{address}]/" if ":" in address else f"http://{address}/"
    if address != "198.20.0.5":
        with pytest.raises(InvalidRequestError, match="inside"):
            await read(assets, literal)


@pytest.mark.parametrize("own_session", [True, False])
async def test_a_name_that_changes_its_address_gains_nothing(
    own_session: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is public when it is asked for, and this machine when it is connected to."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: Any, **_hints: Any) -> Any:
        asked.append(host)
        address = "8.8.8.8" if len(asked) % 2 and own_session else "127.0.0.1"
        if not own_session:
            raise socket.gaierror(-2, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with raw_server(hello) as server:
        options: dict[str, Any] = {}
        if not own_session:
            connector = aiohttp.TCPConnector(resolver=Names("127.0.0.1"))
            options["session"] = aiohttp.ClientSession(connector=connector)
        assets = make(PUBLIC_API, **options)
        with pytest.raises(InvalidRequestError, match="inside"):
            await read(assets, f"http://cdn.example:{server.port}/")
        assert server.received == []
        if not own_session:
            await options["session"].close()
    assert asked == ["cdn.example"] * (2 if own_session else 1)


async def test_a_connection_that_is_used_again_is_checked_too(make: Make) -> None:
    """The API's own connection to a private address is no way in."""
    async with raw_server(hello) as server:
        connector = aiohttp.TCPConnector(resolver=Names("127.0.0.1"))
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(f"http://cdn.example:{server.port}/") as response:
                await response.read()
            assets = make(PUBLIC_API, session=session)
            with pytest.raises(InvalidRequestError, match="inside"):
                await read(assets, f"http://cdn.example:{server.port}/")
        assert len(server.received) == 1


@pytest.mark.parametrize("host", ["8.8.8.8", "cdn.invalid", "[2606:4700::1]", "134744072"])
async def test_names_and_addresses_of_the_internet_are_let_through(host: str, make: Make) -> None:
    """A name that this machine does not know may be known to who connects."""
    asked: list[str | None] = []

    class Recording(aiohttp.TCPConnector):
        async def connect(self, req: aiohttp.ClientRequest, *_args: Any, **_options: Any) -> Any:
            asked.append(req.url.raw_host)
            raise aiohttp.ServerDisconnectedError

    async with aiohttp.ClientSession(connector=Recording()) as session:
        with pytest.raises(APIConnectionError):
            await read(make(PUBLIC_API, session=session), f"http://{host}/")
    assert set(asked) == {host.strip("[]")}  # aiohttp tries a lost connection twice


async def test_the_sandbox_is_reached_if_the_api_is_on_this_machine(make: Make) -> None:
    async with raw_server(hello) as server:
        for host in ("127.0.0.1", "localhost"):
            assert await read(make(), f"http://{host}:{server.port}/") == b"hello"


# --- proxies ------------------------------------------------------------------------------------


@AUTH
async def test_pictures_go_through_the_proxy_of_a_users_session(make: Make) -> None:
    """The proxy may be on this machine, and it gets the credentials that are meant for it."""
    async with raw_server(hello) as proxy:
        session = aiohttp.ClientSession(proxy=proxy.url, proxy_auth=aiohttp.BasicAuth("me", "pass"))
        async with session:
            assets = make(PUBLIC_API, session=session)
            assert await read(assets, "http://cdn.invalid/a?sig=1") == b"hello"
    (received,) = proxy.received
    assert received.head.startswith("GET http://cdn.invalid/a?sig=1 HTTP/1.1\r\n")
    credentials = base64.b64encode(b"me:pass").decode()
    assert received.header("Proxy-Authorization") == f"Basic {credentials}"
    assert received.header("Authorization") is None


@pytest.mark.parametrize("own_session", [True, False])
async def test_pictures_go_through_the_proxy_of_the_environment(
    own_session: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect that the proxy hands on leads no further inside than any other."""
    to = {"Location": "http://169.254.169.254/latest/"}

    async def forward(received: Received) -> None:
        is_bad = "bad" in received.head
        await received.reply(answer(b"", status="302 X", headers=to) if is_bad else HELLO)

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with raw_server(forward) as proxy, aiohttp.ClientSession(trust_env=True) as session:
        monkeypatch.setenv("http_proxy", proxy.url)
        assets = make(PUBLIC_API, session=None if own_session else session)
        assert await read(assets, "http://cdn.invalid/a") == b"hello"
        with pytest.raises(InvalidRequestError, match="inside"):
            await read(assets, "http://cdn.invalid/bad")
        assert len(proxy.received) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2852039166", "[::1]", "10.1.2.3"])
async def test_a_proxy_is_not_asked_for_what_is_inside(host: str, make: Make) -> None:
    async with raw_server(hello) as proxy, aiohttp.ClientSession(proxy=proxy.url) as session:
        with pytest.raises(InvalidRequestError, match="inside"):
            await read(make(PUBLIC_API, session=session), f"http://{host}/")
        assert proxy.connections == 0
