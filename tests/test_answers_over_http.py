"""Odd answers that come over a socket: what the caller of each method gets in the end."""

from __future__ import annotations

import logging
from pathlib import Path

import aiohttp
import pytest

from llamagen_async import (
    APIError,
    InvalidResponseError,
    LlamaGenClient,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.models import ComicGeneration
from tests.support.rawserver import Handler, RawServer, Received, answer, raw_server
from tests.support.wired import Answer, Piece, Request, WiredConnector, packed

PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 100
SPEED = 20.0
"""A minute in three seconds: no answer is late, however busy the machine is."""


def replying(*contents: bytes) -> Handler:
    """Answer each request with the next content, the last one again and again."""
    left = list(contents)

    async def handler(received: Received) -> None:
        if "/a.png" in received.head:
            await received.reply(answer(PICTURE, content_type="image/png"))
            return
        content = left.pop(0) if len(left) > 1 else left[0]
        await received.reply(answer(content.replace(b"HOST", _host(received))))

    return handler


def _host(received: Received) -> bytes:
    return f"http://{received.header('Host')}".encode()


def client_of(server: RawServer) -> LlamaGenClient:
    return LlamaGenClient(
        "sk-test-0123456789",
        plan="paid",
        base_url=server.url,
        quota="memory",
        speed=SPEED,
        max_retries=0,
    )


async def test_an_id_behind_a_warning_of_the_servers_language_is_not_lost() -> None:
    content = b'<br />Notice: x in api.php on line 3 {"id": "c1", "status": "LOADING"}'
    async with raw_server(replying(content)) as server, client_of(server) as client:
        assert (await client.comics.create("x")).id == "c1"
        assert (await client.animations.create("x")).id == "c1"


async def test_a_create_without_an_id_says_what_came_instead() -> None:
    async with raw_server(replying(b'{"id": {"x": 1}}')) as server, client_of(server) as client:
        with pytest.raises(SubmissionUncertainError, match=r"no id in it, but \{'x': 1\}"):
            await client.comics.create("x")


@pytest.mark.parametrize("status", ["302 Found", "303 See Other"])
async def test_a_create_that_is_redirected_to_its_comic_is_sent_once(status: str) -> None:
    """Such a server has done what was asked for: to send it again would pay for another comic."""

    async def handler(received: Received) -> None:
        headers = {"Location": "/v1/comics/generations/c7"}
        await received.reply(answer(b"", status=status, headers=headers))

    async with raw_server(handler) as server, client_of(server) as client:
        with pytest.raises(SubmissionUncertainError) as caught:
            await client.comics.create_and_wait("x", timeout=60.0)
        assert caught.value.id == "c7"
        assert [one.head.split()[0] for one in server.received] == ["POST"]


@pytest.mark.parametrize("status", ["204 No Content", "202 Accepted"])
async def test_a_change_that_is_accepted_without_content_is_certain(status: str) -> None:
    """Nobody could go on with a comic whose change was paid for, and called uncertain."""

    async def handler(received: Received) -> None:
        await received.reply(answer(b"", status=status))

    async with raw_server(handler) as server, client_of(server) as client:
        assert (await client.comics.continue_write("c1", "It rains")).id == "c1"
        assert not (await client.comics.update_panel("c1", panel=0, prompt="x")).is_done
        with pytest.raises(SubmissionUncertainError):
            await client.comics.create("x")


MANY = {f"X-{number}": "x" for number in range(300)}


@pytest.mark.parametrize("headers", [{"Content-Security-Policy": "x" * 20_000}, MANY])
async def test_an_answer_with_a_long_header_or_many_is_read(headers: dict[str, str]) -> None:
    """Networks add policies and the like that are longer and more than aiohttp reads by default."""

    async def handler(received: Received) -> None:
        await received.reply(answer(headers=headers))

    async with raw_server(handler) as server, client_of(server) as client:
        assert (await client.comics.create("x")).id == "c1"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"code": 402, "msg": "buy more credits"}', "buy more credits"),
        (b'{"taskId": "c7", "status": "PENDING"}', "c7"),
        (b'"c7"', "c7"),
        (b"id=c7&status=PENDING", "id=c7"),
        (b"<xml><id>c7</id></xml>", "<id>c7"),
        (b"[{'id': 'c7'}]", "'c7'"),
    ],
)
async def test_a_create_without_an_id_shows_the_beginning_of_its_answer(
    body: bytes, words: str
) -> None:
    """An id that nobody knows to be one is not lost, nor what the server says instead."""
    async with raw_server(replying(body)) as server, client_of(server) as client:
        with pytest.raises(SubmissionUncertainError, match=words):
            await client.comics.create("x")


async def test_a_page_of_html_is_not_repeated() -> None:
    page = b"<!DOCTYPE html><p>Sign in to this network</p>"
    async with raw_server(replying(page)) as server, client_of(server) as client:
        with pytest.raises(SubmissionUncertainError, match="not JSON") as caught:
            await client.comics.create("x")
    assert "Sign in" not in str(caught.value)


async def test_an_error_without_known_words_shows_its_beginning() -> None:
    body = b'{"errors": {"prompt": ["is too long"]}}'

    async def handler(received: Received) -> None:
        await received.reply(answer(body, status="422 Unprocessable"))

    async with raw_server(handler) as server, client_of(server) as client:
        with pytest.raises(APIError, match=r"422: no reason given, but .*is too long"):
            await client.comics.create("x")


UNREADABLE = [
    (b'{"id": "c1", "status": "PROC', "broken (Unterminated string"),
    (b'{"message": "ok"}', "there is no id in it"),
    (b'{"id": "another", "status": "SUCCEEDED"}', "about generation 'another'"),
]


@pytest.mark.parametrize(("content", "words"), UNREADABLE)
async def test_an_unreadable_answer_says_what_is_wrong_with_it(content: bytes, words: str) -> None:
    async with raw_server(replying(content)) as server, client_of(server) as client:
        with pytest.raises(InvalidResponseError) as refused:
            await client.comics.get("c1")
        assert words in str(refused.value)
        assert refused.value.id == "c1"


@pytest.mark.virtual_time
@pytest.mark.parametrize(("content", "words"), UNREADABLE)
async def test_a_wait_whose_answers_are_unreadable_says_so_in_the_end(
    content: bytes, words: str
) -> None:
    """Such answers may be those of something in between, so others are asked for until then."""

    def serve(_request: Request) -> Answer:
        yield Piece(0.1, b"".join(packed(200, {"Content-Type": "application/json"}, content)))

    async with (
        aiohttp.ClientSession(connector=WiredConnector(serve)) as session,
        LlamaGenClient(
            "sk-test-0123456789",
            plan="paid",
            base_url="https://unreadable.invalid/v1",
            session=session,
            quota="memory",
            max_retries=0,
        ) as client,
    ):
        with pytest.raises(WaitTimeoutError) as caught:
            await client.comics.wait_for_completion("c1", timeout=2_000.0)
        assert words in str(caught.value)


async def test_a_comic_without_a_picture_is_checked_once_and_then_told_of(tmp_path: Path) -> None:
    """The server may say that it is done a moment before it has the URLs."""
    empty = b'{"id": "c1", "status": "SUCCEEDED", "comics": [{"panels": [{"assetUrl": ""}]}]}'
    whole = empty.replace(b'""', b'"HOST/a.png"')
    comic = ComicGeneration.parse({"id": "c1", "status": "SUCCEEDED", "comics": 7})
    async with raw_server(replying(empty, whole)) as server, client_of(server) as client:
        with pytest.raises(APIError) as caught:
            await client.comics.download(comic, tmp_path)
        assert "comics[0].panels[0].assetUrl: ''" in str(caught.value)
        assert caught.value.id == "c1"
        assert len(await client.comics.download(comic, tmp_path)) == 1


async def test_a_panel_without_a_picture_is_told_of_and_the_others_are_fetched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_server(replying(b"{}")) as server, client_of(server) as client:
        panels = [{"assetUrl": f"{server.url}/a.png"}, {"assetUrl": 5}, {}]
        comic = ComicGeneration.parse(
            {"id": "c1", "status": "SUCCEEDED", "comics": [{"panels": panels}]}
        )
        with caplog.at_level(logging.WARNING):
            assert len(await client.comics.download(comic, tmp_path)) == 1
    assert "comics[0].panels[1].assetUrl: 5, comics[0].panels[2].assetUrl: None" in caplog.text
