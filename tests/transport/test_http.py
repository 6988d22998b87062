"""The aiohttp edge: what is sent, how answers are read, cancelling, closing and settings."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    ClientClosedError,
    InvalidRequestError,
    InvalidResponseError,
    RateLimitError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.transport import APIRequest, FormFile, HTTPTransport
from tests.support.exchange import (
    CREATE,
    KEY,
    STATUS,
    assert_secret,
    failure,
    hang,
    hang_in_the_body,
    reply_ok,
)
from tests.support.rawserver import Handler, Received, answer, raw_server

# What is sent and what comes back.


async def test_a_request_carries_the_key_the_query_and_the_body() -> None:
    async with raw_server(reply_ok) as server:
        transport = HTTPTransport(server.url, KEY)
        response = await transport.send(
            APIRequest(RequestKind.STATUS, "GET", "/comics/generations/a%2Fb", params={"page": "0"})
        )
        assert response.status == 200
        assert response.body == {"id": "c1"}
        assert response.headers["content-TYPE"] == "application/json"
        await transport.send(CREATE)
        await transport.aclose()
    status, create = server.received
    assert status.head.startswith("GET /v1/comics/generations/a%2Fb?page=0 HTTP/1.1\r\n")
    assert status.header("Authorization") == f"Bearer {KEY}"
    assert status.header(
        "User-Agent",
    ).startswith("llamagen-async/")  # type: ignore[union-attr]
    assert status.header("Content-Type") is None
    assert create.head.startswith("POST /v1/comics/generations HTTP/1.1\r\n")
    assert create.header("Content-Type") == "application/json"
    assert json.loads(create.body) == {"prompt": "é"}
    assert server.connections == 2  # nothing can wait on a connection that was never used


async def test_a_body_over_a_megabyte_is_sent_whole_and_without_a_warning() -> None:
    async with raw_server(reply_ok) as server:
        transport = HTTPTransport(server.url, KEY)
        prompt = "x" * 3_000_000
        await transport.send(
            APIRequest(RequestKind.CREATE, "POST", "/comics/generations", json={"prompt": prompt})
        )
        await transport.aclose()
    assert json.loads(server.received[0].body) == {"prompt": prompt}


async def test_a_file_is_uploaded_as_multipart() -> None:
    got: dict[str, Any] = {}

    async def upload(request: web.Request) -> web.Response:
        form = await request.post()
        field = form["file"]
        assert isinstance(field, web.FileField)
        got.update(name=field.filename, type=field.content_type, content=field.file.read())
        field.file.close()
        return web.json_response({"fileUrl": "u"})

    app = web.Application(client_max_size=4 << 20)
    app.router.add_post("/v1/comics/upload", upload)
    async with TestServer(app) as server:
        transport = HTTPTransport(str(server.make_url("/")), KEY)
        file = FormFile('a "b"\r\nX: é.png', b"\x89PNG" * 500_000, "image/png")
        response = await transport.send(
            APIRequest(RequestKind.UPLOAD, "POST", "/comics/upload", form=file)
        )
        await transport.aclose()
    assert response.body == {"fileUrl": "u"}
    assert got == {"name": "a 'b'__X: é.png", "type": "image/png", "content": file.content}


@pytest.mark.parametrize("body", [{"a": {1, 2}}, {"a": float("nan")}, {"a": object()}])
async def test_a_body_that_json_cannot_hold_costs_nothing(
    loopback: HTTPTransport, body: object
) -> None:
    with pytest.raises(InvalidRequestError, match="json"):
        await loopback.send(APIRequest(RequestKind.CREATE, "POST", "/a", json=body))


@pytest.mark.parametrize(
    "path",
    [
        "comics",
        "",
        "/comics/../keys",
        "/comics/.",
        "/a b",
        "/a?b=1",
        "/a#b",
        "/a\\b",
        "/a\nb",
        "/ä",
        None,
        7,
    ],
)
async def test_a_path_that_leaves_the_api_is_refused(loopback: HTTPTransport, path: Any) -> None:
    with pytest.raises(InvalidRequestError, match="path"):
        await loopback.send(APIRequest(RequestKind.STATUS, "GET", path))


async def test_an_encoded_id_stays_in_its_path() -> None:
    async with raw_server(reply_ok) as server:
        transport = HTTPTransport(server.url, KEY)
        await transport.send(APIRequest(RequestKind.STATUS, "GET", "/comics/..%2Fkeys"))
        await transport.aclose()
    assert server.received[0].head.startswith("GET /v1/comics/..%2Fkeys HTTP/1.1\r\n")


async def test_two_bodies_are_refused(loopback: HTTPTransport) -> None:
    file = FormFile("a.png", b"x")
    with pytest.raises(InvalidRequestError, match="form"):
        await loopback.send(APIRequest(RequestKind.UPLOAD, "POST", "/a", json={}, form=file))


async def test_an_unknown_method_is_refused(loopback: HTTPTransport) -> None:
    with pytest.raises(InvalidRequestError, match="method"):
        await loopback.send(APIRequest(RequestKind.STATUS, "FETCH", "/a"))


async def test_an_answer_in_pieces_is_put_together() -> None:
    async def slow(received: Received) -> None:
        data = answer(b'{"id": "c1", "x": "' + b"y" * 30_000 + b'"}')
        for start in range(0, len(data), 7000):
            await received.reply(data[start : start + 7000])
            await asyncio.sleep(0)

    async with raw_server(slow) as server:
        transport = HTTPTransport(server.url, KEY)
        response = await transport.send(STATUS)
        await transport.aclose()
    assert response.body == {"id": "c1", "x": "y" * 30_000}


async def test_requests_at_the_same_time_do_not_wait_for_each_other() -> None:
    everybody = asyncio.Barrier(150)

    async def together(received: Received) -> None:
        await everybody.wait()
        await received.reply(answer())

    async with raw_server(together) as server:
        transport = HTTPTransport(server.url, KEY)
        await asyncio.gather(*(transport.send(STATUS) for _ in range(150)))
        await transport.aclose()


# Answers that are errors.


async def test_an_error_status_becomes_its_error() -> None:
    async def limited(received: Received) -> None:
        await received.reply(
            answer(
                b'{"message": "slow down"}',
                status="429 Too Many Requests",
                headers={"Retry-After": "3"},
            )
        )

    error, count = await failure(limited, CREATE)
    assert isinstance(error, RateLimitError)
    assert (error.retry_after, error.message, count) == (3.0, "slow down", 1)


async def test_a_retry_after_date_without_a_date_is_measured_by_our_own_clock() -> None:
    async def limited(received: Received) -> None:
        date = {"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"}
        await received.reply(answer(b"", status="429 Too Many Requests", headers=date))

    error, _ = await failure(limited)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 0.0


async def test_a_key_that_the_server_repeats_is_taken_out() -> None:
    async def echo(received: Received) -> None:
        body = json.dumps({"message": received.header("Authorization")}).encode()
        await received.reply(answer(body, status="401 Unauthorized"))

    error, _ = await failure(echo)
    assert isinstance(error, AuthenticationError)
    assert error.message == "Bearer [key]"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("request_", [STATUS, CREATE])
async def test_a_redirect_is_never_followed(status: str, request_: APIRequest) -> None:
    async with raw_server(reply_ok) as elsewhere:

        async def away(received: Received) -> None:
            await received.reply(
                answer(b"", status=status, headers={"Location": f"{elsewhere.url}/{KEY}"})
            )

        error, count = await failure(away, request_)
    assert isinstance(error, InvalidResponseError)
    assert count == 1
    assert elsewhere.received == []


async def test_a_page_of_html_is_an_invalid_response() -> None:
    async def page(received: Received) -> None:
        await received.reply(answer(b"<html>hi</html>", content_type="text/html"))

    error, _ = await failure(page)
    assert isinstance(error, InvalidResponseError)
    assert error.body == "<html>hi</html>"


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_answer_over_10_mb_is_refused_and_the_connection_closed(chunked: bool) -> None:
    sent = 0

    async def giant(received: Received) -> None:
        nonlocal sent
        chunks = {"Transfer-Encoding": "chunked"}
        await received.reply(
            answer(b"", length=None, headers=chunks) if chunked else answer(b"", length=10**10)
        )
        piece = b"x" * 100_000
        for _ in range(10_000):
            await received.reply(b"186a0\r\n" + piece + b"\r\n" if chunked else piece)
            sent += len(piece)

    error, _ = await failure(giant)
    assert isinstance(error, InvalidResponseError)
    assert "larger than 10 MB" in error.message
    assert error.body is None
    assert sent < 60_000_000


async def test_a_small_answer_that_unpacks_to_a_giant_one_is_refused() -> None:
    packed = zlib.compress(b"x" * 30_000_000)

    async def bomb(received: Received) -> None:
        await received.reply(answer(packed, headers={"Content-Encoding": "deflate"}))

    error, _ = await failure(bomb)
    assert isinstance(error, InvalidResponseError)
    assert "larger than 10 MB" in error.message


# Cancelling and closing.


@pytest.mark.parametrize("handler", [hang, hang_in_the_body])
async def test_cancelling_passes_through_and_gives_the_connection_back(handler: Handler) -> None:
    arrived = asyncio.Event()

    async def first_hangs(received: Received) -> None:
        if received.number == 1:
            arrived.set()
            await handler(received)
        await received.reply(answer())

    connector = aiohttp.TCPConnector(limit=1)
    async with (
        raw_server(first_hangs) as server,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        transport = HTTPTransport(server.url, KEY, session=session)
        task = asyncio.create_task(transport.send(STATUS))
        await arrived.wait()
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # With a single connection allowed, this would hang if the first one were still held.
        response = await asyncio.wait_for(transport.send(STATUS), 5)
        assert response.status == 200
    assert server.connections == 2


async def test_closing_ends_what_is_under_way_and_refuses_the_rest() -> None:
    arrived = asyncio.Event()

    async def wait(received: Received) -> None:
        arrived.set()
        await hang(received)

    async with raw_server(wait) as server:
        transport = HTTPTransport(server.url, KEY)
        task = asyncio.create_task(transport.send(CREATE))
        await arrived.wait()
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(APIConnectionError) as caught:
            await task
        with pytest.raises(ClientClosedError):
            await transport.send(CREATE)
    assert caught.value.request_sent
    assert_secret(caught.value)


async def test_a_transport_that_was_never_used_closes_quietly() -> None:
    await HTTPTransport("https://api.example", KEY).aclose()


async def test_a_session_that_is_passed_in_and_closed_is_named() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    transport = HTTPTransport("https://api.example", KEY, session=session)
    with pytest.raises(ClientClosedError, match="session"):
        await transport.send(STATUS)


async def test_settings_of_a_session_that_is_passed_in_do_not_change_what_errors_are() -> None:
    async def refused(received: Received) -> None:
        await received.reply(answer(b"{}", status="404 Not Found"))

    async with (
        raw_server(refused) as server,
        aiohttp.ClientSession(raise_for_status=True) as session,
    ):
        transport = HTTPTransport(server.url, KEY, session=session)
        with pytest.raises(APIError) as caught:
            await transport.send(STATUS)
        assert KEY not in repr(session.headers)
    assert caught.value.status == 404
    assert_secret(caught.value)


async def test_another_event_loop_is_refused(loopback: HTTPTransport) -> None:
    await loopback.send(STATUS)
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(loopback.send(STATUS))
        except ClientClosedError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "another event loop" in str(caught[0])


def test_a_transport_can_be_made_outside_of_an_event_loop() -> None:
    assert HTTPTransport("https://api.example", KEY).base_url == "https://api.example/v1"


# Settings.


def test_repr_shows_neither_key_nor_headers() -> None:
    shown = repr(HTTPTransport("https://api.example", KEY))
    assert shown == "HTTPTransport('https://api.example/v1')"


@pytest.mark.parametrize(
    "key",
    ["", " ", f"{KEY}\n{KEY}", KEY + "é", KEY + "\u4e2d", f"{KEY} {KEY}", "\0", "''", None, 5],
)
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: Any) -> None:
    with pytest.raises(InvalidRequestError, match="api_key") as caught:
        HTTPTransport("https://api.example", key)
    assert_secret(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "5"])
def test_a_timeout_must_be_a_positive_number(timeout: Any) -> None:
    with pytest.raises(InvalidRequestError, match="timeout"):
        HTTPTransport("https://api.example", KEY, timeout=timeout)


@pytest.mark.parametrize("given", [f" {KEY}\n", f'"{KEY}"', f"'{KEY}'", f"\t' {KEY} '\r\n"])
async def test_white_space_and_quotes_around_a_key_are_taken_off(given: str) -> None:
    async with raw_server(reply_ok) as server:
        transport = HTTPTransport(server.url, given)
        await transport.send(STATUS)
        await transport.aclose()
    assert server.received[0].header("Authorization") == f"Bearer {KEY}"
