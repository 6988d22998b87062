"""The observation of an attempt: whether it left, on which connection, with whose key."""

from __future__ import annotations

import asyncio
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from llamagen_async.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    ServerError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.transport import APIRequest, FormFile, HTTPTransport, UnsentCancelledError
from tests.support.exchange import (
    BOTH,
    CREATE,
    KEY,
    STATUS,
    assert_secret,
    fails,
    hang,
    reply_ok,
)
from tests.support.rawserver import Received, answer, raw_server, unused_port

# A user's hooks.


def hooked(name: str) -> aiohttp.ClientSession:
    """Return a session with a hook that raises, and that holds what no error may show."""
    config = aiohttp.TraceConfig()

    async def broken(_session: object, _trace: SimpleNamespace, params: Any) -> None:
        raise RuntimeError(f"the hook broke {vars(params) if hasattr(params, '__dict__') else ''}")

    getattr(config, name).append(broken)
    return aiohttp.ClientSession(trace_configs=[config])


@BOTH
@pytest.mark.parametrize(
    ("name", "retriable"),
    [
        ("on_request_start", False),
        ("on_connection_create_start", True),
        ("on_connection_create_end", True),
        ("on_request_headers_sent", True),
    ],
)
async def test_a_hook_that_fails_before_the_head_is_written_sends_nothing(
    name: str, retriable: bool, request_: APIRequest
) -> None:
    async with raw_server(reply_ok) as server, hooked(name) as session:
        transport = HTTPTransport(server.url, KEY, session=session)
        error = await fails(transport, request_, sent=False, retriable=retriable)
    assert server.received == []
    assert "RuntimeError" in str(error)


@BOTH
@pytest.mark.parametrize("slept", [7 * 3600.0, -7 * 3600.0, 31.0])
async def test_what_the_machine_slept_through_before_it_left_is_not_sent(
    slept: float, request_: APIRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of its slot may be over, and others have the slot: it needs another one."""
    ahead = 0.0
    monkeypatch.setattr("llamagen_async.transport.attempt.wall_time", lambda: time.time() + ahead)

    async def sleep(*_: object) -> None:
        nonlocal ahead
        ahead = slept

    config = aiohttp.TraceConfig()
    config.on_connection_create_start.append(sleep)
    async with raw_server(reply_ok) as server:
        async with aiohttp.ClientSession(trace_configs=[config]) as session:
            transport = HTTPTransport(server.url, KEY, session=session, timeout=30.0)
            error = await fails(transport, request_, sent=False, retriable=True)
            assert "slept" in str(error)
            ahead, slept = 0.0, 9.0
            assert (await transport.send(request_)).body == {"id": "c1"}
        assert len(server.received) == 1


async def test_a_hook_that_fails_while_the_body_is_written_may_have_sent_it() -> None:
    async with raw_server(reply_ok) as server, hooked("on_request_chunk_sent") as session:
        await fails(HTTPTransport(server.url, KEY, session=session), sent=True)


@BOTH
@pytest.mark.parametrize("name", ["on_request_end", "on_response_chunk_received"])
async def test_a_hook_that_fails_after_the_answer_does_not_lose_it(
    name: str, request_: APIRequest
) -> None:
    async with raw_server(reply_ok) as server, hooked(name) as session:
        transport = HTTPTransport(server.url, KEY, session=session)
        assert (await transport.send(request_)).body == {"id": "c1"}


async def test_a_hook_that_fails_of_a_failure_changes_nothing_about_it() -> None:
    port = await unused_port()
    async with hooked("on_request_exception") as session:
        await fails(HTTPTransport(f"http://127.0.0.1:{port}", KEY, session=session), sent=False)


async def test_a_hook_that_hangs_is_given_up_in_time() -> None:
    config = aiohttp.TraceConfig()

    async def hangs(*_arguments: object) -> None:
        await asyncio.Event().wait()

    config.on_request_start.append(hangs)
    async with (
        raw_server(reply_ok) as server,
        aiohttp.ClientSession(trace_configs=[config]) as session,
    ):
        transport = HTTPTransport(server.url, KEY, session=session, timeout=0.05)
        assert isinstance(await fails(transport, sent=False), APITimeoutError)


# A user's middlewares.


async def test_the_middlewares_of_a_session_apply_and_the_answer_is_read_all_the_same() -> None:
    seen: list[str] = []

    async def logs(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers["X-Request"] = "1"
        response = await handler(request)
        seen.append(await response.text())
        return response

    async with (
        raw_server(reply_ok) as server,
        aiohttp.ClientSession(middlewares=(logs,)) as session,
    ):
        transport = HTTPTransport(server.url, KEY, session=session)
        assert (await transport.send(CREATE)).body == {"id": "c1"}
    assert seen == ['{"id": "c1"}']
    assert server.received[0].header("X-Request") == "1"


@pytest.mark.parametrize("error", [RuntimeError("no"), LookupError("no"), KeyError("no")])
async def test_a_middleware_that_fails_before_it_passes_the_request_on_sends_nothing(
    error: Exception,
) -> None:
    async def broken(*_arguments: object) -> aiohttp.ClientResponse:
        raise error

    async with (
        raw_server(reply_ok) as server,
        aiohttp.ClientSession(middlewares=(broken,)) as session,
    ):
        await fails(HTTPTransport(server.url, KEY, session=session), sent=False, retriable=False)
    assert server.received == []


async def test_a_middleware_that_fails_after_the_answer_does_not_lose_it() -> None:
    async def broken(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        await handler(request)
        raise RuntimeError("after it was paid")

    async with (
        raw_server(reply_ok) as server,
        aiohttp.ClientSession(middlewares=(broken,)) as session,
    ):
        transport = HTTPTransport(server.url, KEY, session=session)
        assert (await transport.send(CREATE)).body == {"id": "c1"}


@BOTH
async def test_a_middleware_that_sends_again_is_stopped(request_: APIRequest) -> None:
    async def retries(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response = await handler(request)
        return response if response.ok else await handler(request)

    async def unavailable(received: Received) -> None:
        await received.reply(answer(b"{}", status="503 Unavailable"))

    async with (
        raw_server(unavailable) as server,
        aiohttp.ClientSession(middlewares=(retries,)) as session,
    ):
        with pytest.raises(ServerError) as caught:
            await HTTPTransport(server.url, KEY, session=session).send(request_)
    assert len(server.received) == 1
    assert_secret(caught.value)


async def test_what_a_middleware_requests_itself_is_not_taken_for_the_request() -> None:
    """A token is fetched through the same session, and then the API can't be reached."""
    port = await unused_port()
    async with raw_server(reply_ok) as tokens:

        async def fetches(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            async with session.get(tokens.url, middlewares=()) as response:
                await response.read()
            return await handler(request)

        async with aiohttp.ClientSession(middlewares=(fetches,)) as session:
            transport = HTTPTransport(f"http://127.0.0.1:{port}", KEY, session=session)
            await fails(transport, sent=False)
    assert len(tokens.received) == 1
    assert KEY not in tokens.received[0].head


# A user's connector.


class ProxyError(Exception):
    """As connectors for SOCKS raise it: of no kind that aiohttp knows."""


class Broken(aiohttp.TCPConnector):
    """A connector that raises what it is given."""

    error: BaseException = ProxyError("general SOCKS server failure")

    async def _create_connection(self, *_arguments: object) -> Any:
        raise self.error


@BOTH
@pytest.mark.parametrize(
    ("error", "retriable"),
    [
        (ProxyError("general SOCKS server failure"), True),
        (ProxyError(f"Authorization: Bearer {KEY}"), True),
        (OSError(None, f"Bearer {KEY}"), True),
        (EOFError(), True),
        (TimeoutError(), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (UnicodeError("label empty or too long"), False),
        (AttributeError("'NoneType' object has no attribute"), False),
        (asyncio.CancelledError(), True),
        (ExceptionGroup("many", [OSError("one")]), True),
    ],
)
async def test_whatever_a_connector_raises_has_sent_nothing(
    error: BaseException, retriable: bool, request_: APIRequest
) -> None:
    connector = Broken()
    connector.error = error
    async with aiohttp.ClientSession(connector=connector) as session:
        transport = HTTPTransport("https://api.example", KEY, session=session)
        await fails(transport, request_, sent=False, retriable=retriable)


async def test_a_connector_that_is_closed_cancels_nobody() -> None:
    """Whoever waits in it for a connection gets an error, and its task is not cancelled."""
    arrived = asyncio.Event()

    async def hold(received: Received) -> None:
        arrived.set()
        await hang(received)

    connector = aiohttp.TCPConnector(limit=1)
    async with raw_server(hold) as server, aiohttp.ClientSession(connector=connector) as session:
        transport = HTTPTransport(server.url, KEY, session=session)
        first = asyncio.create_task(transport.send(STATUS))
        await arrived.wait()
        second = asyncio.create_task(fails(transport, sent=False))
        await asyncio.sleep(0)
        await session.close()
        assert "closed" in str(await second)
        with pytest.raises(APIConnectionError):
            await first


async def test_cancelling_tells_whether_anything_has_left() -> None:
    arrived = asyncio.Event()

    async def hold(received: Received) -> None:
        arrived.set()
        await hang(received)

    connector = aiohttp.TCPConnector(limit=1)
    async with raw_server(hold) as server, aiohttp.ClientSession(connector=connector) as session:
        transport = HTTPTransport(server.url, KEY, session=session)
        on_its_way = asyncio.create_task(transport.send(CREATE))
        await arrived.wait()
        waiting = asyncio.create_task(transport.send(CREATE))
        await asyncio.sleep(0)
        for task in (waiting, on_its_way):
            task.cancel()
        with pytest.raises(UnsentCancelledError):
            await waiting
        with pytest.raises(asyncio.CancelledError) as caught:
            await on_its_way
    assert not isinstance(caught.value, UnsentCancelledError)


# The key, and other headers.


async def received_head(session: aiohttp.ClientSession) -> Received:
    async with raw_server(reply_ok) as server:
        await HTTPTransport(server.url, KEY, session=session).send(CREATE)
    (received,) = server.received
    return received


async def test_netrc_does_not_replace_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login joe password secret\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with aiohttp.ClientSession(trust_env=True) as session:
        received = await received_head(session)
    assert received.header("Authorization") == f"Bearer {KEY}"


async def test_the_credentials_of_a_session_do_not_replace_the_key() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        session = aiohttp.ClientSession(auth=aiohttp.BasicAuth("joe", "secret"))
    async with session:
        assert (await received_head(session)).header("Authorization") == f"Bearer {KEY}"


async def test_default_headers_and_cookies_are_kept_but_for_those_of_the_api() -> None:
    defaults = {
        "authorization": "Basic c2VjcmV0",
        "Accept": "text/html",
        "Accept-Encoding": "br",
        "Content-Type": "text/plain",
        "X-Team": "comics",
    }
    async with aiohttp.ClientSession(
        headers=defaults,
        cookies={"a": "1"},
        cookie_jar=aiohttp.CookieJar(unsafe=True),
    ) as session:
        received = await received_head(session)
    heads = {name: received.header(name) for name in defaults}
    assert heads == {
        "authorization": f"Bearer {KEY}",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Content-Type": "application/json",
        "X-Team": "comics",
    }
    assert received.header("Cookie") == "a=1"
    assert received.head.lower().count("authorization:") == 1


@pytest.mark.parametrize(
    "settings",
    [{"headers": {"Content-Type": "application/json"}}, {"skip_auto_headers": ["Content-Type"]}],
)
async def test_an_upload_says_where_its_parts_begin_whatever_a_session_says(settings: Any) -> None:
    file = FormFile("a.png", b"\x89PNG", "image/png")
    upload = APIRequest(RequestKind.UPLOAD, "POST", "/comics/upload", form=file)
    async with raw_server(reply_ok) as server, aiohttp.ClientSession(**settings) as session:
        await HTTPTransport(server.url, KEY, session=session).send(upload)
    (received,) = server.received
    kind, _, boundary = (received.header("Content-Type") or "").partition("; boundary=")
    assert kind == "multipart/form-data"
    assert received.body.startswith(f"--{boundary}\r\n".encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Host", "other.example"),
        ("Expect", "100-continue"),
        ("X-Team", "comics\r\nX-Other: 1"),
        ("X-Team", "\ud800"),
    ],
)
async def test_default_headers_with_which_nothing_can_be_sent_are_refused(
    name: str, value: str
) -> None:
    async with aiohttp.ClientSession(headers={name: value}) as session:
        with pytest.raises(InvalidRequestError, match=rf"^session: .*{name}"):
            HTTPTransport("https://api.example", KEY, session=session)


@pytest.mark.parametrize("value", ["a\r\nb", "a\0b", "\ud800"])
async def test_a_header_that_can_not_be_sent_is_found_before_anything_is(value: str) -> None:
    async def adds(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers["X-Team"] = value
        return await handler(request)

    async with (
        raw_server(reply_ok) as server,
        aiohttp.ClientSession(middlewares=(adds,)) as session,
    ):
        transport = HTTPTransport(server.url, KEY, session=session)
        error = await fails(transport, sent=False, retriable=False)
    assert "X-Team" in str(error)
    assert server.received == []


@pytest.mark.parametrize("session", ["no session", 7, aiohttp.ClientSession, object()])
def test_what_is_no_session_is_refused(session: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^session: .*aiohttp\.ClientSession"):
        HTTPTransport("https://api.example", KEY, session=session)


async def test_a_session_that_can_not_be_observed_is_refused() -> None:
    configs: Any = (aiohttp.TraceConfig(),)
    async with aiohttp.ClientSession(trace_configs=configs) as session:
        with pytest.raises(InvalidRequestError, match=r"^session: .*trace_configs"):
            HTTPTransport("https://api.example", KEY, session=session)
