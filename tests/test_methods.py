"""Every method: what it sends, what it counts as, and what it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    Animation,
    ComicGeneration,
    InvalidRequestError,
    LlamaGenClient,
    RequestKind,
)
from llamagen_async.scheduling import RequestReport
from tests.support.scripted import ROOMY, Network, Recorder

pytestmark = pytest.mark.virtual_time

Method = Callable[..., Awaitable[Any]]

METHODS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "create": ("comics.create", ("x",), {}),
    "create_and_wait": ("comics.create_and_wait", ("x",), {}),
    "get": ("comics.get", ("c",), {}),
    "wait_for_completion": ("comics.wait_for_completion", ("c",), {}),
    "continue_write": ("comics.continue_write", ("c", "x"), {}),
    "continue_and_wait": ("comics.continue_and_wait", ("c", "x"), {}),
    "update_panel": ("comics.update_panel", ("c",), {"panel": 0, "prompt": "x"}),
    "update_panel_and_wait": ("comics.update_panel_and_wait", ("c",), {"panel": 0, "prompt": "x"}),
    "upload": ("comics.upload", (b"x",), {}),
    "animations.create": ("animations.create", ("x",), {}),
    "animations.create_and_wait": ("animations.create_and_wait", ("x",), {}),
    "animations.get": ("animations.get", ("c",), {}),
    "animations.wait_for_completion": ("animations.wait_for_completion", ("c",), {}),
}
"""A good call of each method that sends something: its place, and what is given."""
TAKE_A_STORY = [
    *("create", "create_and_wait", "continue_write", "continue_and_wait"),
    *("animations.create", "animations.create_and_wait"),
]


def method_of(client: LlamaGenClient, name: str) -> Method:
    resource, _, method = METHODS[name][0].partition(".")
    found: Method = getattr(getattr(client, resource), method)
    return found


async def refused(name: str, field: str, *given: Any, **fields: Any) -> InvalidRequestError:
    """Call a method; return its refusal, after which nothing was sent and nothing is counted."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        with pytest.raises(InvalidRequestError) as caught:
            await method_of(client, name)(*given, **fields)
        assert caught.value.field == field
        assert caught.value.allowed
        assert (await client.limits()).windows[0].used == 0
        assert client.stats().requests == {}
    assert not network.requests
    return caught.value


@pytest.mark.parametrize("name", [*TAKE_A_STORY, "update_panel", "update_panel_and_wait"])
async def test_a_field_that_is_none_is_refused(name: str) -> None:
    """A mistyped name is told with the right one."""
    _, given, fields = METHODS[name]
    error = await refused(name, "extras", *given, **fields, extras={})
    assert "did you mean 'extra'" in error.allowed
    await refused(name, "extra", *given, **fields, extra=5)


@pytest.mark.parametrize("name", [*TAKE_A_STORY, "update_panel", "update_panel_and_wait"])
async def test_a_field_beside_a_whole_request_is_refused(name: str) -> None:
    _, given, fields = METHODS[name]
    whole = {"prompt": "x", **fields}
    await refused(name, "extra", *given[:1] * name.startswith(("co", "up")), whole, extra={})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"panel": -1, "prompt": "x"}, "panel"),
        ({"panel": 0}, "prompt"),
        ({"panel": 0, "page": "1", "prompt": "x"}, "page"),
        ({"prompt": "x"}, "panel"),
    ],
)
@pytest.mark.parametrize("name", ["update_panel", "update_panel_and_wait"])
async def test_a_redraw_says_what_and_where(name: str, fields: dict[str, Any], field: str) -> None:
    await refused(name, field, "c", **fields)


async def test_each_method_sends_its_own_request() -> None:
    """Method, path and body are those of the vendor's own clients."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create_and_wait("x", fix_panel_num=2)
        network.requests.clear()
        more = await client.comics.continue_write(comic.id, "more", fix_panel_num=1)
        assert (more.id, more.is_done) == (comic.id, False)
        await client.comics.wait_for_completion(comic.id)
        redrawn = await client.comics.update_panel(comic.id, page=0, panel=1, panel_prompt="p")
        assert (redrawn.id, redrawn.is_done) == (comic.id, False)
        await client.comics.upload(b"x", "x.bin")
        video = await client.animations.create("boat", video_options={"duration": 5})
        await client.animations.get(video.id)
    sent = [one for one in network.requests if one.kind is not RequestKind.STATUS]
    path = f"/comics/generations/{comic.id}"
    assert [(one.kind.value, one.method, one.path, one.json) for one in sent] == [
        ("continue", "PATCH", path,
         {"action": "continueWrite", "prompt": "more", "fixPanelNum": 1}),
        ("update", "PATCH", path,
         {"action": "regeneratePanel", "page": 0, "panel": 1, "panelPrompt": "p"}),
        ("upload", "POST", "/comics/upload", None),
        ("create", "POST", "/artworks/generations",
         {"prompt": "boat", "videoOptions": {"duration": 5}}),
    ]  # fmt: skip
    assert network.requests[-1].path == f"/artworks/generations/{video.id}"


async def test_every_kind_is_counted_and_reported() -> None:
    """The limiter, `stats()` and `on_request` know each of them."""
    reports: list[RequestReport] = []
    network = Recorder()
    async with network.client(ROOMY, on_request=reports.append) as client:
        comic = await client.comics.create_and_wait("x")
        await client.comics.continue_and_wait(comic.id, "more")
        await client.comics.update_panel_and_wait(comic.id, panel=0, prompt="p")
        await client.comics.upload(b"x")
        await client.comics.usage()
        counted = client.stats().requests
        assert {name: counted[name] for name in counted if name != "status"} == {
            "create": 1,
            "continue": 1,
            "update": 1,
            "upload": 1,
            "usage": 1,
        }
        assert client.stats().finished == 3
        assert {report.kind for report in reports} == set(RequestKind)
        assert len(reports) == client.stats().total


@pytest.mark.parametrize(
    ("name", "kind"), [("continue_write", "continue"), ("update_panel", "update")]
)
async def test_a_change_waits_for_its_slot(name: str, kind: str) -> None:
    """The window of the demo plan holds four requests, whatever they are."""
    network = Network(key="sandbox-demo")
    async with network.client("demo") as client:
        comic = await client.comics.create_and_wait("x")
        _, given, fields = METHODS[name]
        for _ in range(2):
            await method_of(client, name)(comic.id, *given[1:], **fields)
            await client.comics.wait_for_completion(comic.id)
    assert network.refused == 0
    assert len(network.of(RequestKind(kind))) == 2


async def test_a_whole_request_may_be_a_mapping_as_for_the_vendors_clients() -> None:
    """Code that comes from them is ported by adding `await`."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        comic = await client.comic.create({"prompt": "x", "fixPanelNum": 2})
        await client.comic.wait_for_completion(comic.id)
        await client.comic.continue_write(comic.id, {"prompt": "y"})
        await client.comic.wait_for_completion(comic.id)
        await client.comic.update_panel(comic.id, {"panelIndex": 0, "prompt": "z"})
        await client.animation.create({"prompt": "x", "videoOptions": {"aspect_ratio": "1:1"}})
    bodies = [one.json for one in network.requests if one.json is not None]
    assert bodies == [
        {"prompt": "x", "fixPanelNum": 2},
        {"action": "continueWrite", "prompt": "y"},
        {"action": "regeneratePanel", "panel": 0, "prompt": "z"},
        {"prompt": "x", "videoOptions": {"aspect_ratio": "1:1"}},
    ]


async def test_many_are_waited_for_at_once() -> None:
    """The standard library waits for many; the order is that of the ids."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        ids = [(await client.comics.create(story)).id for story in "abcde"]
        done = await asyncio.gather(*map(client.comics.wait_for_completion, ids))
        assert [comic.id for comic in done] == ids
        assert all(comic.succeeded for comic in done)


async def test_the_pace_of_a_key_is_told_without_a_request() -> None:
    network = Recorder()
    async with network.client(ROOMY) as client:
        await client.comics.create_and_wait("x")
        sent = len(network.requests)
        assert await client.pace() is not None
        assert len(network.requests) == sent


async def test_an_upload_is_told_what_it_is() -> None:
    """By the caller, as with the vendor's client, or else by its first bytes."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        await client.comics.upload(b"\x89PNG\r\n\x1a\n", content_type="image/apng")
        await client.comics.upload(b"\x89PNG\r\n\x1a\n")
    forms = [one.form for one in network.requests]
    assert [form.content_type for form in forms if form] == ["image/apng", "image/png"]


async def test_an_animation_is_created_waited_for_and_fetched(tmp_path: Path) -> None:
    """Animations have the words that comics have."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        assert client.animation is client.animations
        options: dict[str, Any] = {"duration": 5, "resolution": "720p"}
        video = await client.animations.create_and_wait("boat", video_options=options)
        assert isinstance(video, Animation)
        assert video.succeeded
        assert video.video_options == options
        again = await client.animations.wait_for_completion(video.id)
        assert again.video_url == video.video_url
        comic = ComicGeneration.parse({"id": "c", "status": "SUCCEEDED"})
        with pytest.raises(InvalidRequestError, match=r"^animation: got"):
            await client.animations.download(comic, tmp_path)  # type: ignore[arg-type]  # a comic
