"""`client.comics`: what is refused before it costs anything, and what is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    ComicRequest,
    GenerationStatus,
    InvalidRequestError,
    NotFoundError,
    Pagination,
    Plan,
    QuotaExhaustedError,
    RateLimit,
    WaitTimeoutError,
)
from llamagen_async.sandbox import Durations, SandboxService
from tests.support.machine import Machine
from tests.support.scripted import ROOMY, Recorder, minute, now
from tests.support.scripted_assets import PNG, ScriptedAssets, png

pytestmark = pytest.mark.virtual_time

BAD_IDS = ["a\0", "\ud800", "", "  ", ".", "..", None, 3, b"x"]


async def test_a_create_sends_what_was_asked_for_and_nothing_else() -> None:
    """The body holds the given fields in the API's spelling; no default is made up."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        await client.comics.create("a story")
        comic = await client.comics.create(
            "another",
            size="512x768",
            pagination=Pagination(2, 3),
            comic_roles=[{"name": "Cat"}],
            extra={"mood": "dark"},
        )
        assert comic.status is GenerationStatus.PENDING
        assert comic.prompt == "another"
        assert not comic.is_done
    assert [request.json for request in network.requests] == [
        {"prompt": "a story"},
        {
            "prompt": "another",
            "size": "512x768",
            "pagination": {"totalPages": 2, "panelsPerPage": 3},
            "comicRoles": [{"name": "Cat"}],
            "mood": "dark",
        },
    ]
    assert {(request.method, request.path) for request in network.requests} == {
        ("POST", "/comics/generations")
    }


async def test_a_whole_request_is_sent_as_it_is() -> None:
    """`ComicRequest` says everything; a field beside it would be ambiguous and is refused."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        await client.comics.create(ComicRequest("x", fix_panel_num=2))
        with pytest.raises(InvalidRequestError, match=r"^style: got 'ink'"):
            await client.comics.create(ComicRequest("x"), style="ink")
    assert [request.json for request in network.requests] == [{"prompt": "x", "fixPanelNum": 2}]


@pytest.mark.parametrize(
    ("prompt", "fields", "named"),
    [
        (None, {}, "prompt"),
        ("", {}, "prompt"),
        (5, {}, "prompt"),
        ("x", {"size": "1x1"}, "size"),
        ("x", {"promt": "y"}, "promt"),
        ("x", {"fix_panel_num": 0}, "fix_panel_num"),
        ({"prompt": ""}, {}, "prompt"),
        ({"prompt": "x"}, {"style": "ink"}, "style"),
    ],
)
async def test_bad_input_is_refused_before_it_costs_anything(
    prompt: Any, fields: dict[str, Any], named: str
) -> None:
    """The field is named, and no request was spent, with both ways to create."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        for create in (client.comics.create, client.comics.create_and_wait):
            with pytest.raises(InvalidRequestError) as caught:
                await create(prompt, **fields)
            assert caught.value.field == named
        assert (await client.limits()).windows[0].used == 0
    assert not network.requests


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_an_id_is_text(bad: Any) -> None:
    """A value that can't be an id is refused before anything is sent."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        for ask in (client.comics.get, client.comics.wait_for_completion):
            with pytest.raises(InvalidRequestError, match=r"^id: got"):
                await ask(bad)
    assert not network.requests


@pytest.mark.parametrize(
    ("id_", "path"),
    [("c/../x", "c%2F..%2Fx"), ("a b?c#d", "a%20b%3Fc%23d"), ("ä", "%C3%A4"), ("%2e", "%252e")],
)
async def test_an_id_stays_one_part_of_the_path(id_: str, path: str) -> None:
    """An id with slashes or other special characters leads to no other path."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        with pytest.raises(NotFoundError):
            await client.comics.get(id_)
    assert [request.path for request in network.requests] == [f"/comics/generations/{path}"]


@pytest.mark.parametrize("number", [-1, 1.5, "0", True])
@pytest.mark.parametrize("name", ["page", "panel"])
async def test_a_page_or_panel_is_counted_from_0(name: str, number: Any) -> None:
    """Nothing but a whole number of at least 0 picks a page or a panel."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match=f"^{name}: got"):
            await client.comics.get("x", **{name: number})
    assert not network.requests


async def test_one_page_or_panel_can_be_asked_for() -> None:
    """`page` and `panel` travel in the query, also when they are 0."""
    network = Recorder(SandboxService(durations=Durations.constant(5), plans={"the-key": ROOMY}))
    async with network.client(ROOMY) as client:
        pages = Pagination(2, 3)
        comic = await client.comics.create_and_wait("x", pagination=pages)
        whole = await client.comics.get(comic.id)
        assert [len(page.panels) for page in whole.pages] == [3, 3]
        (page,) = (await client.comics.get(comic.id, page=1, panel=0)).pages
        assert page.page == 1
        assert [panel.panel for panel in page.panels] == [0]
    assert network.requests[-2].params is None
    assert network.requests[-1].params == {"page": "1", "panel": "0"}


@pytest.mark.parametrize("timeout", [0, -5, "60", None, True, float("nan")])
async def test_a_timeout_is_a_positive_number(timeout: Any) -> None:
    """A bad timeout is refused before the create, which would be paid for."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match=r"^timeout: got"):
            await client.comics.create_and_wait("x", timeout=timeout)
        with pytest.raises(InvalidRequestError, match=r"^timeout: got"):
            await client.comics.wait_for_completion("x", timeout=timeout)
    assert not network.requests


async def test_a_timeout_is_for_the_slot_and_then_for_the_end() -> None:
    """Waiting for a slot uses no time of the comic's; a slot that is too far away is no wait."""
    one = Plan("one", limits=RateLimit(1, per=60))
    network = Recorder(minute(50.0, plans={"the-key": one}))
    async with network.client(one) as client:
        await client.comics.create("x")
        comic = await client.comics.create_and_wait("y", timeout=100)
        assert comic.succeeded
        assert now() > 100
        await asyncio.sleep(120)
        with pytest.raises(WaitTimeoutError):
            await client.comics.create_and_wait("z", timeout=1)
        before = now()
        with pytest.raises(QuotaExhaustedError):
            await client.comics.create_and_wait("no slot in time", timeout=1)
        assert now() == before


async def test_a_comic_that_is_done_when_it_is_accepted_is_not_waited_for() -> None:
    """An answer that already holds the comic saves every check."""
    network = Recorder(body=lambda _sent, body: {**body, "status": "SUCCEEDED"})
    async with network.client(ROOMY) as client:
        assert (await client.comics.create_and_wait("x")).succeeded
    assert len(network.requests) == 1


async def test_the_usage_of_the_key_can_be_asked_for() -> None:
    """The server's own count takes one request, which counts as well."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        await client.comics.create("x")
        usage = await client.comics.usage()
        assert usage.api_usage_count == 2
        assert client.stats().requests == {"create": 1, "usage": 1}


async def test_only_a_finished_comic_is_downloaded() -> None:
    """A comic without pictures is refused before anything is fetched."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("x")
        with pytest.raises(InvalidRequestError, match=r"^comic: got 'PENDING'"):
            await client.comics.download(comic, "nowhere")


async def test_pictures_that_are_there_are_left_alone_if_that_is_wanted(tmp_path: Path) -> None:
    assets = ScriptedAssets([png()])
    async with Machine(tmp_path, assets=assets).open() as client:
        comic = await client.comics.create_and_wait("a cat", fix_panel_num=2)
        files = await client.comics.download(comic, tmp_path / "d")
        files[0].write_bytes(b"lettered")
        files[1].unlink()
        asked = len(assets.asked)
        assert await client.comics.download(comic, tmp_path / "d", again=False) == files
        assert (files[0].read_bytes(), files[1].read_bytes()) == (b"lettered", PNG)
        assert len(assets.asked) == asked + 1
        assert await client.comics.download(comic, tmp_path / "d") == files
        assert files[0].read_bytes() == PNG
        wrong: Any = "no"
        with pytest.raises(InvalidRequestError, match=r"^again: got 'no'"):
            await client.comics.download(comic, tmp_path / "d", again=wrong)
