"""The sandbox over HTTP: real sockets, real pictures, a clock that runs fast."""

from __future__ import annotations

import asyncio
import io
import math
import sys
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from PIL import Image
from yarl import URL

from llamagen_async import __version__
from llamagen_async.errors import InvalidRequestError
from llamagen_async.sandbox import (
    DEMO_KEY,
    PAID_KEY,
    Durations,
    Fault,
    SandboxServer,
    SandboxService,
)
from llamagen_async.sandbox.server import MAX_BODY
from tests.support.sandbox import multipart, roomy_service

KEY = {"Authorization": f"Bearer {PAID_KEY}"}
FAST = 100_000.0
"""So fast that every comic is done before the next request arrives."""


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=KEY) as session:
        yield session


def quick_service(**options: Any) -> SandboxService:
    return roomy_service(durations=Durations.constant(0.001), **options)


async def create(session: aiohttp.ClientSession, server: SandboxServer, **fields: Any) -> str:
    fields.setdefault("prompt", "A cat finds a hat")
    async with session.post(f"{server.url}/comics/generations", json=fields) as response:
        assert response.status == 200
        return str((await response.json())["id"])


async def finished(session: aiohttp.ClientSession, server: SandboxServer, name: str) -> Any:
    async with session.get(f"{server.url}/comics/generations/{name}") as response:
        body = await response.json()
        assert body["status"] == "SUCCEEDED"
        return body


# The API over HTTP.


async def test_a_comic_is_made_and_its_pictures_are_real(session: aiohttp.ClientSession) -> None:
    async with SandboxServer(quick_service(), speed=FAST) as server:
        name = await create(session, server, size="512x768", fixPanelNum=2)
        body = await finished(session, server, name)
        for url, size in (
            (body["comics"][0]["panels"][1]["assetUrl"], (512, 768)),
            (body["output"], None),
        ):
            assert url.startswith(server.url.removesuffix("/v1"))
            async with aiohttp.request("GET", url) as response:
                content = await response.read()
            assert response.headers["Content-Type"] == "image/png"
            assert int(response.headers["Content-Length"]) == len(content)
            image = Image.open(io.BytesIO(content))
            assert image.size == (size or image.size)


async def test_the_url_is_on_loopback_and_has_the_version() -> None:
    async with SandboxServer(quick_service()) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.url.endswith("/v1")


async def test_the_server_calls_itself_a_sandbox(session: aiohttp.ClientSession) -> None:
    async with (
        SandboxServer(quick_service()) as server,
        session.get(f"{server.url}/comics/usage") as response,
    ):
        assert response.headers["Server"] == f"llamagen-async-sandbox/{__version__}"


async def test_limits_are_enforced_and_refusals_reach_the_client() -> None:
    async with (
        SandboxServer(SandboxService()) as server,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {DEMO_KEY}"}) as session,
    ):
        statuses: list[int] = []
        for _ in range(6):
            async with session.get(f"{server.url}/comics/usage") as response:
                statuses.append(response.status)
        assert statuses == [200] * 4 + [429] * 2
        assert 0 < int(response.headers["Retry-After"]) <= 60


async def test_query_and_method_reach_the_service(session: aiohttp.ClientSession) -> None:
    async with SandboxServer(quick_service(), speed=FAST) as server:
        name = await create(session, server)
        url = f"{server.url}/comics/generations/{name}"
        async with session.get(url, params={"page": "0", "panel": "2"}) as response:
            body = await response.json()
        assert [panel["panel"] for panel in body["comics"][0]["panels"]] == [2]
        async with session.delete(url) as response:
            assert response.status == 405
        async with session.patch(url, json={"action": "continueWrite", "prompt": "x"}) as response:
            assert response.status == 200


async def test_files_can_be_uploaded(session: aiohttp.ClientSession) -> None:
    content_type, body = multipart()
    form = aiohttp.FormData()
    form.add_field("file", b"1234", filename="a.png", content_type="image/png")
    async with SandboxServer(quick_service()) as server:
        url = f"{server.url}/comics/upload"
        async with session.post(url, data=form) as response:
            assert (await response.json())["size"] == 4
        async with session.post(url, data=body, headers={"Content-Type": content_type}) as response:
            assert (await response.json())["fileName"] == "hat.png"


async def test_a_body_that_is_too_large_is_a_413(session: aiohttp.ClientSession) -> None:
    async with SandboxServer(quick_service()) as server:
        url = f"{server.url}/comics/upload"
        async with session.post(url, data=io.BytesIO(b"x" * (MAX_BODY + 1))) as response:
            assert response.status == 413
        assert server.service.stats(0.0)["keys"][PAID_KEY]["total"] == 0


async def test_statistics_need_no_key() -> None:
    async with SandboxServer(quick_service()) as server:
        url = f"{server.url.removesuffix('/v1')}/_sandbox/stats"
        async with aiohttp.request("GET", url) as response:
            stats = await response.json()
        assert stats["algorithm"] == "sliding"
        assert 0 < stats["now"] <= server.now()


async def test_dates_are_those_of_the_apis_clock(session: aiohttp.ClientSession) -> None:
    async with SandboxServer(quick_service(), speed=FAST) as server:
        earliest = server.service.epoch + server.now()
        async with session.get(f"{server.url}/comics/usage") as response:
            date = parsedate_to_datetime(response.headers["Date"]).timestamp()
        assert earliest - 1 <= date <= server.service.epoch + server.now()
        assert server.service.epoch == pytest.approx(time.time(), abs=60)


# Faults and closing.


async def test_a_drop_closes_the_connection_without_an_answer(
    session: aiohttp.ClientSession,
) -> None:
    async with SandboxServer(quick_service(faults=[Fault("drop")])) as server:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await create(session, server)
        assert server.service.stats(0.0)["keys"][PAID_KEY]["creates_accepted"] == 1


async def test_a_slow_answer_takes_its_time_on_the_apis_clock(
    session: aiohttp.ClientSession,
) -> None:
    faults = [Fault("delay", 500.0)]
    async with SandboxServer(quick_service(faults=faults), speed=FAST) as server:
        await create(session, server)
        assert server.now() >= 500.0


async def test_half_of_the_latency_passes_before_a_request_counts(
    session: aiohttp.ClientSession,
) -> None:
    async with SandboxServer(quick_service(), speed=FAST, latency=(400.0, 400.0)) as server:
        await create(session, server)
        assert server.service.stats(0.0)["generations"][0]["accepted_at"] >= 200.0
        assert server.now() >= 400.0


async def test_an_html_answer_reaches_the_client(session: aiohttp.ClientSession) -> None:
    async with (
        SandboxServer(quick_service(faults=[Fault("not-json")])) as server,
        session.get(f"{server.url}/comics/usage") as response,
    ):
        assert (response.status, response.content_type) == (200, "text/html")


async def test_closing_does_not_wait_for_slow_answers_and_leaves_no_task(
    session: aiohttp.ClientSession,
) -> None:
    service = quick_service(faults=[Fault("delay", 1e6)])
    before = asyncio.all_tasks()
    async with SandboxServer(service) as server:
        request = asyncio.create_task(create(session, server))
        while not service.stats(0.0)["generations"]:  # noqa: ASYNC110 - it takes no time
            await asyncio.sleep(0)
    with pytest.raises(aiohttp.ClientError):
        await request
    assert asyncio.all_tasks() <= before


async def test_a_server_can_be_entered_again_and_its_clock_goes_on() -> None:
    server = SandboxServer(quick_service(), speed=FAST)
    ended = 0.0
    for _ in range(2):
        assert server.now() == ended
        async with server, aiohttp.ClientSession(headers=KEY) as session:
            await create(session, server)
        ended = server.now()
    accepted = [one["accepted_at"] for one in server.service.stats(ended)["generations"]]
    assert 0 < accepted[0] < accepted[1] < ended


async def test_a_port_that_is_taken_is_an_error_that_leaves_nothing_open() -> None:
    async with SandboxServer(quick_service()) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="in use"):
            await SandboxServer(quick_service(), port=port).__aenter__()


@pytest.mark.parametrize("name", ["a%0Ab", "%00", "%F0%9F%90%88", "%FF", "a%2Fb", "%5C", "..%2F.."])
async def test_an_id_of_any_bytes_is_answered_as_the_api_would(
    session: aiohttp.ClientSession, name: str
) -> None:
    """By the service, and not by the web server in front of it."""
    async with SandboxServer(quick_service()) as server:
        url = URL(f"{server.url}/comics/generations/{name}", encoded=True)
        async with session.get(url) as response:
            assert (response.status, (await response.json())["error"]) == (404, "not_found")


async def test_the_document_is_at_the_address_that_the_server_names() -> None:
    async with SandboxServer(quick_service()) as server:
        for url in (server.openapi_url, f"{server.url}/openapi.json"):
            async with aiohttp.request("GET", url) as response:
                document = await response.json()
            assert document["servers"] == [{"url": server.url}]


async def test_a_link_that_has_expired_is_a_403(session: aiohttp.ClientSession) -> None:
    faults = [Fault("expired-links", 1e9, times=1), Fault("expired-links", 0)]
    async with SandboxServer(quick_service(faults=faults), speed=FAST) as server:
        name = await create(session, server)
        for expected in (200, 403):
            url = (await finished(session, server, name))["output"]
            async with session.get(url) as response:
                assert response.status == expected
        async with session.get(url.replace("expires=", "expires=x")) as response:
            assert response.status == 403


async def test_leaving_a_server_that_never_opened_does_nothing() -> None:
    await SandboxServer(quick_service()).__aexit__(None, None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"speed": 0.0},
        {"speed": math.inf},
        {"latency": (2.0, 1.0)},
        {"latency": (-1.0, 0.0)},
        {"latency": (0.0, math.inf)},
    ],
)
async def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        SandboxServer(quick_service(), **options)


# Pictures.


async def test_pictures_are_there_only_when_the_comic_is_done(
    session: aiohttp.ClientSession,
) -> None:
    async with SandboxServer(roomy_service(), speed=1.0) as server:
        name = await create(session, server)
        url = f"{server.url.removesuffix('/v1')}/_sandbox/assets/{name}/0-0.png"
        async with session.get(url) as response:
            assert response.status == 404
            assert (await response.json())["error"] == "not_found"


@pytest.mark.parametrize(
    ("wanted", "status", "first", "last"),
    [
        ("bytes=0-9", 206, 0, 9),
        ("bytes=5-", 206, 5, None),
        ("bytes=-7", 206, -7, None),
        ("bytes=3-999999999", 206, 3, None),
        ("lines=1-2", 200, 0, None),
        (None, 200, 0, None),
    ],
)
async def test_a_part_of_a_picture_can_be_asked_for(
    session: aiohttp.ClientSession, wanted: str | None, status: int, first: int, last: int | None
) -> None:
    async with SandboxServer(quick_service(), speed=FAST) as server:
        name = await create(session, server, size="512x768")
        body = await finished(session, server, name)
        url = body["comics"][0]["panels"][0]["assetUrl"]
        async with session.get(url) as response:
            whole = await response.read()
        async with session.get(url, headers={"Range": wanted} if wanted else {}) as response:
            part = await response.read()
        assert response.status == status
        assert part == whole[first : None if last is None else last + 1]
        if status == 206:
            start = first % len(whole)
            shown = f"bytes {start}-{start + len(part) - 1}/{len(whole)}"
            assert response.headers["Content-Range"] == shown


@pytest.mark.parametrize("wanted", ["bytes=999999999-", "bytes=9-3", "bytes=-"])
async def test_a_range_that_is_not_there_is_a_416(
    session: aiohttp.ClientSession, wanted: str
) -> None:
    async with SandboxServer(quick_service(), speed=FAST) as server:
        body = await finished(session, server, await create(session, server, size="512x768"))
        url = body["comics"][0]["panels"][0]["assetUrl"]
        async with session.get(url, headers={"Range": wanted}) as response:
            assert response.status == 416
            assert response.headers["Content-Range"].startswith("bytes */")


async def test_without_pillow_the_answer_names_the_extra(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SandboxServer(quick_service(), speed=FAST) as server:
        body = await finished(session, server, await create(session, server))
        monkeypatch.setitem(sys.modules, "llamagen_async.sandbox.pictures.drawing", None)
        async with session.get(body["output"]) as response:
            assert response.status == 501
            assert "llamagen-async[sandbox]" in (await response.json())["message"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_is_not_packed_as_it_says_is_a_400(
    session: aiohttp.ClientSession, encoding: str
) -> None:
    async with SandboxServer(quick_service()) as server:
        headers = {"Content-Encoding": encoding}
        url = f"{server.url}/comics/generations"
        async with session.post(url, data=b'{"prompt": "a"}', headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["error"] == "invalid_body"


@pytest.mark.parametrize("name", ["9" * 5000, "0-" + "9" * 5000, "\u0663", "0-\u00b2", "99999"])
async def test_a_picture_of_an_odd_number_is_a_404(
    session: aiohttp.ClientSession, name: str
) -> None:
    async with SandboxServer(quick_service(), speed=FAST) as server:
        comic = await create(session, server)
        await finished(session, server, comic)
        url = server.url.replace("/v1", f"/_sandbox/assets/{comic}/{name}.png")
        async with session.get(url) as response:
            assert response.status == 404


async def test_a_story_with_half_a_character_is_drawn(session: aiohttp.ClientSession) -> None:
    async with SandboxServer(quick_service(), speed=FAST) as server:
        url = f"{server.url}/comics/generations"
        async with session.post(url, data=b'{"prompt": "a \\ud83d cat"}') as response:
            comic = (await response.json())["id"]
        picture = (await finished(session, server, comic))["output"]
        async with session.get(picture) as response:
            assert response.status == 200
