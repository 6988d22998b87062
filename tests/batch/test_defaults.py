"""Defaults of a batch, and files of its stories: given once, uploaded once, and paid once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    BatchState,
    ComicRequest,
    InvalidRequestError,
    RequestKind,
    ServerError,
)
from llamagen_async.batch.journal.story import Story
from llamagen_async.requests.defaults import Defaults
from llamagen_async.transport import APIRequest, APIResponse
from tests.support.journals import opened
from tests.support.machine import Machine, states

pytestmark = pytest.mark.virtual_time


class Recording(Machine):
    """A machine that keeps what it sends."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.bodies: list[Any] = []

    async def send(self, request: APIRequest) -> APIResponse:
        if request.kind is RequestKind.CREATE:
            self.bodies.append(request.json)
        return await super().send(request)

    @property
    def uploads(self) -> int:
        return len(self.of(RequestKind.UPLOAD))


def picture(folder: Path, name: str = "tom.png", content: bytes = b"\x89PNG\r\n\x1a\n") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


async def test_defaults_are_sent_with_each_story(tmp_path: Path) -> None:
    machine = Recording(tmp_path)
    defaults = {"preset": "neutral", "comicRoles": [{"name": "Tom", "dress": "a hat"}]}
    stories: list[Any] = [
        "s0",
        {"prompt": "s1", "preset": "render", "key": "k"},
        ComicRequest("s2", comic_roles=[{"name": "Ann"}]),
    ]
    items = await machine.batch(stories, defaults=defaults)
    assert states(items) == {BatchState.SUCCEEDED: 3}
    sent = {body["prompt"]: body for body in machine.bodies}
    assert [sent[f"s{n}"]["preset"] for n in range(3)] == ["neutral", "render", "neutral"]
    assert [role["name"] for role in sent["s2"]["comicRoles"]] == ["Tom", "Ann"]


async def test_only_comics_get_them(tmp_path: Path) -> None:
    """A change is of a comic that has them, and an animation has other fields."""
    machine = Recording(tmp_path)
    stories: list[Any] = [
        {"prompt": "s0", "key": "k", "fix_panel_num": 1},
        {"type": "continue", "of": "k", "prompt": "goes on", "fix_panel_num": 1},
        {"type": "animation", "prompt": "moves"},
    ]
    items = await machine.batch(stories, defaults={"preset": "neutral"})
    assert states(items) == {BatchState.SUCCEEDED: 3}
    assert [body.get("preset") for body in machine.bodies if body["prompt"] != "s0"] == [None]


async def test_other_defaults_pay_for_nothing_again(tmp_path: Path) -> None:
    """Stories that were sent stay as they are; others are sent with the new ones."""
    machine = Recording(tmp_path)
    stories: list[Any] = ["s0", {"prompt": "s1", "key": "k"}]
    await machine.batch(stories, defaults={"preset": "neutral"})
    for defaults in ({"preset": "render"}, None):
        items = await machine.batch(stories, defaults=defaults)
        assert states(items) == {BatchState.SUCCEEDED: 2}
    assert machine.stories == {"s0": 1, "s1": 1}


async def test_what_waits_in_the_journal_is_sent_with_the_newest_defaults(tmp_path: Path) -> None:
    machine = Recording(tmp_path)
    account = machine.open().account
    async with opened(machine.journal, account) as journal:
        old = Story.parse("s0", defaults=Defaults.parse({"preset": "neutral"}))
        row, _ = await journal.add(old)
        assert '"neutral"' in row.request_text
    await machine.batch(["s0"], defaults={"preset": "render"})
    assert [body["preset"] for body in machine.bodies] == ["render"]
    assert [text for (text,) in machine.rows("request")] == ['{"prompt":"s0","preset":"render"}']


async def test_a_character_on_disk_is_uploaded_once_for_all_stories_and_runs(
    tmp_path: Path,
) -> None:
    tom, copy = picture(tmp_path), picture(tmp_path, "copy.png")
    machine = Recording(tmp_path, latency=1.0)
    defaults = {"comic_roles": [{"name": "Tom", "image": tom}]}
    stories: list[Any] = [f"s{n}" for n in range(5)]
    stories += [{"prompt": f"own {n}", "images": [copy]} for n in range(5)]
    items = await machine.batch(stories, defaults=defaults)
    assert states(items) == {BatchState.SUCCEEDED: 10}
    assert machine.uploads == 1
    assert all(body["comicRoles"][0]["image"].startswith("http") for body in machine.bodies)
    await machine.batch([*stories, "a new one"], defaults=defaults)
    assert machine.uploads == 1
    assert machine.accepted == 11


async def test_a_file_that_is_not_there_stops_a_batch_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    """Of the defaults, which concern all stories."""
    machine = Recording(tmp_path)
    defaults = {"comic_roles": [{"name": "Tom", "image": tmp_path / "none.png"}]}
    with pytest.raises(InvalidRequestError, match=r"comic_roles\[0\]\.image: got .*No such file"):
        await machine.batch(["s0"], defaults=defaults)
    assert machine.sent == []


async def test_a_story_without_its_file_is_sent_by_the_run_that_finds_it(tmp_path: Path) -> None:
    """Nothing is refused for good, and the others are sent."""
    machine = Recording(tmp_path)
    stories: list[Any] = [{"prompt": "s0", "images": [tmp_path / "tom.png"]}, "s1"]
    items = await machine.batch(stories)
    assert states(items) == {BatchState.QUEUED: 1, BatchState.SUCCEEDED: 1}
    (unsent,) = [item for item in items if item.error]
    assert "No such file" in str(unsent.error)
    picture(tmp_path)
    assert states(await machine.batch(stories)) == {BatchState.SUCCEEDED: 2}
    assert machine.stories == {"s0": 1, "s1": 1}


async def test_an_outage_during_an_upload_is_held_out(tmp_path: Path) -> None:
    """However long it is, and the story is sent once afterwards."""
    down = ServerError(503, None, "down")

    def before(sent: Any) -> Exception | None:
        return down if sent.kind is RequestKind.UPLOAD and sent.n < 20 else None

    machine = Recording(tmp_path, before=before)
    items = await machine.batch([{"prompt": "s0", "images": [picture(tmp_path)]}])
    assert states(items) == {BatchState.SUCCEEDED: 1}
    assert machine.stories == {"s0": 1}


async def test_a_story_is_the_same_wherever_its_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is part of it as it was written, so that a moved folder pays for nothing again."""
    folders = [tmp_path / "a", tmp_path / "b"]
    digests: set[bytes] = set()
    for folder in folders:
        folder.mkdir()
        picture(folder)
        story = Story.parse({"prompt": "s0", "images": ["tom.png"]}, folder=folder)
        assert str(folder) in story.text
        monkeypatch.chdir(folder)
        same = Story.parse({"prompt": "s0", "images": [Path("tom.png")]})
        assert same.text == story.text
        digests |= {story.digest, same.digest}
    assert len(digests) == 1


def test_a_queue_takes_no_path_as_text() -> None:
    """Stories of a web backend come from others."""
    with pytest.raises(InvalidRequestError, match=r"images\[0\]: got '/etc/passwd'"):
        Story.parse({"prompt": "x", "images": ["/etc/passwd"]})


@pytest.mark.parametrize("defaults", [{"prompt": "x"}, {"presett": "x"}, "x", 5])
async def test_wrong_defaults_are_refused_at_once(tmp_path: Path, defaults: Any) -> None:
    async with Recording(tmp_path).open() as client:
        with pytest.raises(InvalidRequestError):
            client.comics.batch(["s0"], defaults=defaults)
